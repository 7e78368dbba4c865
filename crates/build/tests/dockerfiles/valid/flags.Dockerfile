FROM --platform=linux/amd64 debian
ADD --keep-git-dir=true --link https://github.com/example/project.git#v1:sub /src
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d --unpack=false https://example.org/a.tar /a
COPY --parents=true a/./b/*.txt /to/
COPY --from=0 --chown=$USER:${GROUP:-staff} -- --odd-name /
RUN --network=none --security=insecure --device=vendor.example/class=name,required true
RUN --mount=type=secret,id=token,env=TOKEN,required=true --mount=type=ssh --mount=type=tmpfs,target=/t,size=64m \
  --mount=type=bind,from=busybox,source=/bin,target=/busybox,rw "--mount=target=/x" make
HEALTHCHECK NONE
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN
CMD
