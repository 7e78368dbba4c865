FROM debian
RNU a
COPY --form=x a b
ENV X
