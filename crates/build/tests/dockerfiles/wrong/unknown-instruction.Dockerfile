FROM debian
RUN true
COPPY a b
