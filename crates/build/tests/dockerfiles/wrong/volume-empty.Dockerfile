FROM debian
VOLUME ["a", " "]
