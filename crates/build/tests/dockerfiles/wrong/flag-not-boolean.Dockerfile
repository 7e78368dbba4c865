FROM debian
COPY --link=perhaps a b
