# Two commands matter: `make demo` and `make test`. Both do all the set-up themselves.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PREFIX ?= /usr/local
DESTDIR ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET_DIR)/release

.PHONY: all build fast demo test unit-test product-test real-builds guest-test lint deny bench install uninstall setup clean

all: build

setup:
	@scripts/setup

build: setup
	@scripts/build release

# The same, built in a fraction of the time; run the product tests on it with `make product-test BIN=target/fast`.
fast: setup
	@scripts/build fast

demo: build
	@scripts/demo $(BIN)

test: build unit-test product-test

unit-test:
	cargo test --locked --no-fail-fast --workspace --exclude corten-tests

product-test:
	CORTEN_BIN=$(abspath $(BIN)) cargo test --locked --no-fail-fast -p corten-tests

# Builds of real programs, with the package registries of their languages; takes minutes.
real-builds:
	CORTEN_BIN=$(abspath $(BIN)) cargo test --locked -p corten-tests --test real_builds -- --ignored --test-threads 1

# In a virtual machine with Debian's kernel and control groups of version 2 only; KERNEL=linux-image-... for another one.
guest-test: build
	@scripts/setup guest
	CORTEN_BIN=$(abspath $(BIN)) tests/guest/run $(KERNEL)

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

deny:
	@scripts/deny

bench: build
	@scripts/setup bench
	bench/run $(BIN)

install:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/usr/lib/systemd/system \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 $(BIN)/corten $(BIN)/corten-shim $(BIN)/corten-oci $(DESTDIR)$(PREFIX)/bin/
	sed 's|@BIN@|$(PREFIX)/bin|' dist/corten.service | install -m 644 /dev/stdin $(DESTDIR)/usr/lib/systemd/system/corten.service
	sed 's|@BIN@|$(PREFIX)/bin|' dist/corten-registry.service | install -m 644 /dev/stdin $(DESTDIR)/usr/lib/systemd/system/corten-registry.service
	install -m 644 dist/corten.socket $(DESTDIR)/usr/lib/systemd/system/corten.socket
	$(BIN)/corten completion bash | install -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/share/bash-completion/completions/corten
	$(BIN)/corten completion zsh | install -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_corten
	$(BIN)/corten completion fish | install -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/corten.fish

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,corten corten-shim corten-oci) \
	  $(DESTDIR)/usr/lib/systemd/system/corten.service $(DESTDIR)/usr/lib/systemd/system/corten.socket \
	  $(DESTDIR)/usr/lib/systemd/system/corten-registry.service \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions/corten $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_corten \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/corten.fish

clean:
	cargo clean
