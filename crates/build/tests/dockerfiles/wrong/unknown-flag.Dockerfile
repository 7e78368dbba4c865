FROM debian
COPY --chwon=1:1 a b
