CARGO ?= cargo
# Where a system's tools are; not every way to become root has them on the path.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo test lint bench doc install packages

demo: packages
	$(CARGO) build -q -p gnt-cli
	scripts/demo target/debug/gnt-disk

test: packages lint
	$(CARGO) test --workspace --no-fail-fast
	sh providers/test.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc -q --workspace --no-deps

bench: packages
	$(CARGO) bench -p gnt-benches

doc:
	$(CARGO) doc --workspace --no-deps --open

PREFIX ?= /usr/local
install:
	$(CARGO) build -q --release -p gnt-cli
	install -D target/release/gnt-disk $(DESTDIR)$(PREFIX)/sbin/gnt-disk
	install -d $(DESTDIR)$(PREFIX)/share/gnt-disk/providers
	cp -r providers/ext $(DESTDIR)$(PREFIX)/share/gnt-disk/providers/
	$(DESTDIR)$(PREFIX)/sbin/gnt-disk man $(DESTDIR)$(PREFIX)/share/man/man8

packages:
	@scripts/packages
