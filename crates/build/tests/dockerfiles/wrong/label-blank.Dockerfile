FROM debian
LABEL =x
