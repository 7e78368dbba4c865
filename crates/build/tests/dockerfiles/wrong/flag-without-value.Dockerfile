FROM debian
RUN --mount true
