# syntax=docker/dockerfile:1
# check=skip=JSONArgsRecommended;error=true
ARG DEBIAN=13
ARG GO_VERSION

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION:-1.26} AS Build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY --link go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build,id=go-$TARGETARCH,sharing=locked \
    # the modules rarely change
    go mod download
COPY --exclude=**/*_test.go --exclude="a b" . .
RUN --mount=type=cache,target=/go/pkg/mod GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /out/app ./cmd/app

FROM debian:${DEBIAN} AS certificates
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

FROM scratch
COPY --from=certificates --chown=0:0 /etc/ssl/certs /etc/ssl/certs
COPY --from=build --chmod=0755 /out/app /app
USER 65532:65532
EXPOSE 8080/tcp 9090
HEALTHCHECK --interval=30s --timeout=3s --start-period=1m --start-interval=500ms --retries=3 CMD ["/app", "health"]
ENTRYPOINT ["/app"]
CMD ["serve"]
