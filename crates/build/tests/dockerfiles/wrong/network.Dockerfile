FROM debian
RUN --network=bridge true
