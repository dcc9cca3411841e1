# The two commands that a newcomer needs are `make demo` and `make test`.

CARGO ?= cargo
TREE ?= .
SIZE ?= 256MiB

.PHONY: help deps build demo test lint bench posix soak

help:
	@echo "make demo    build, start a group on this machine, back up this checkout, hurt the group, restore, compare"
	@echo "make test    formatting, lints, all tests, the simulator's fixed seeds, a real mount"
	@echo "make posix   pjdfstest and a million operations of fsx on a real mount (root)"
	@echo "make soak    ten thousand seeds of the simulator, the commit rule searched deeper, mounts killed by the hundred: hours"
	@echo "make bench   measure this machine"
	@echo "make build   build the program"
	@echo "make lint    formatting and lints only"

deps:
	@packaging/build-deps.sh

build: deps
	$(CARGO) build --locked -p barfs

demo: build
	$(CARGO) run --locked -q -p barfs -- demo --check --tree $(TREE) --size $(SIZE)

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

test: lint
	.ci/test

posix: deps
	fs/tests/posix/run all

soak: deps
	replication/sim/soak
	$(CARGO) test --locked -p barfs-fs --test kill --test lost_power --test stress --test large -- --ignored --nocapture
	$(CARGO) test --locked -p barfs --test lost_power -- --ignored --nocapture
	PROPTEST_CASES=2000 HOSTILE_TIMES=100 $(CARGO) test --locked -p barfs-fs --test model --test local --test hostile_bytes

bench: build
	$(CARGO) run --locked -q -p barfs -- bench crypto
	$(CARGO) run --locked -q -p barfs -- bench rsm
	$(CARGO) run --locked -q -p barfs -- bench group
	$(CARGO) run --locked -q -p barfs -- bench mount
