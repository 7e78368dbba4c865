FROM debian
RUN --security=none true
