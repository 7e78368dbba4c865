FROM debian
RUN --mount=from=$X,target=/x true
