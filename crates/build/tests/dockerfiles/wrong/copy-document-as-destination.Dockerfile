FROM debian
COPY a <<EOF
x
EOF
