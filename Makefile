CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where a system's tools are; not every way to become root has them on the path.
export PATH := $(PATH):/usr/sbin:/sbin
SHELL := bash
export TIMEFORMAT := took %0lR

# A part of the tests that fails keeps no other from being run.
MAKEFLAGS += --keep-going
.NOTPARALLEL:
.PHONY: demo test lint test-crates test-cluster test-providers bench scale doc readme install packages

demo: packages
	$(CARGO) build -q -p gnt-cli
	scripts/demo $(TARGET)/debug/gnt-disk

test: lint test-crates test-providers

test-crates: test-packages
	time $(CARGO) test -q --workspace --no-run
	time $(CARGO) test --workspace --no-fail-fast

# What takes longer than CI allows: clusters of guests, and a large simulated one.
test-cluster: test-packages
	time $(CARGO) build -q -p gnt-cli -p gnt-testbed
	time $(CARGO) test -p gnt-testbed --test cluster -- --ignored --test-threads 1
	time $(MAKE) scale

test-providers: packages
	sh providers/test.sh

lint: packages
	$(CARGO) fmt --all --check
	time $(CARGO) clippy -q --workspace --all-targets -- -D warnings
	time RUSTDOCFLAGS="-D warnings" $(CARGO) doc -q --workspace --no-deps

# A node with 10,000 disks in a cluster of 1,000 nodes is drained, in simulated time.
scale:
	$(CARGO) test -p gnt-cmdlib --lib -- --ignored --nocapture ten_thousand

bench: packages
	$(CARGO) bench -p gnt-benches

doc:
	$(CARGO) doc --workspace --no-deps --open

# What README says of each template, from what drivers say.
readme:
	UPDATE_README=1 $(CARGO) test -q -p gnt-bdev --test readme

PREFIX ?= /usr/local
PROVIDERS := $(DESTDIR)$(PREFIX)/share/gnt-disk/providers
# All the others are scripts. Modes are not the clone's: a provider that others can change is refused.
TEXTS := $(addprefix providers/ext/,README.md common.sh parameters.list)
install:
	$(CARGO) build -q --release -p gnt-cli
	install -D $(TARGET)/release/gnt-disk $(DESTDIR)$(PREFIX)/sbin/gnt-disk
	install -d $(PROVIDERS)/ext
	install -m 755 $(filter-out $(TEXTS),$(wildcard providers/ext/*)) $(PROVIDERS)/ext
	install -m 644 $(TEXTS) $(PROVIDERS)/ext
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@SBIN@|$(PREFIX)/sbin|' dist/gnt-disk.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/gnt-disk.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/gnt-disk.service
	$(DESTDIR)$(PREFIX)/sbin/gnt-disk man $(DESTDIR)$(PREFIX)/share/man/man8

packages:
	@scripts/packages

test-packages:
	@scripts/packages test
