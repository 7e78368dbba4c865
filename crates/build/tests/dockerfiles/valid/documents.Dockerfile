FROM alpine
RUN <<EOF
set -e
# no comment: this line belongs to the script
apk add curl

EOF
RUN <<-"SCRIPT" python3
	print("tabs go, $variables stay")
	SCRIPT
COPY <<one.txt <<'two.txt' three.txt /files/
$HOME is replaced
one.txt
$HOME is not
two.txt
RUN cat <<A 3<<B && echo done
a
A
b
B
RUN echo "not << here" '<<EOF'
RUN ["cat", "<<EOF"]
ONBUILD RUN <<EOF
echo later
EOF
CMD echo <<EOF
