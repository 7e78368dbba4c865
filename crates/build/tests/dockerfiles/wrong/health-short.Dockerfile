FROM debian
HEALTHCHECK --timeout=10us CMD true
