FROM debian
ARG =x
