# Two commands: `make run` and `make test`. Both do their own set-up on a fresh Debian 12 machine with rustup, as root.

ONCE ?=

.PHONY: run test test-all bench check setup

# The lab with the agent in it; ONCE=1 ends when both BIG-IPs are healthy.
run: setup
	cargo build --release --package vtep-agent --package vtep-lab
	target/release/vtep-lab demo --agent target/release/vtep-agent $(if $(ONCE),--once)

test: setup
	cargo test --workspace

# What takes longer than CI has time for goes here, too.
test-all: test

# Formatting, lints and documentation, all without warnings.
check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

bench: setup
	cargo bench --package vtep-agent

setup:
	@scripts/setup
