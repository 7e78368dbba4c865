FROM debian
COPY --from=a --from=b a b
