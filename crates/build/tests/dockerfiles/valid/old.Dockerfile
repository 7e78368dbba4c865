from centos:7
maintainer Somebody <somebody@example.org>
env PATH_TO_THE   thing with blanks
Env A=1 B="two words" C='$A' D=a\ b E=
label org.example="x" two='y'
add https://example.org/x.tar.gz /tmp/
volume /data /logs
VOLUME ["/more"]
expose 80 443/tcp 8000-8010
stopsignal SIGTERM
run yum -y update ; \
# a comment at the start
  # and one behind blanks
yum clean all
onbuild copy . /app
entrypoint exec top -b
cmd [ "a", 'no json' ]
