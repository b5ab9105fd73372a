# Two commands: `make run` and `make test`. Both do their own set-up on a fresh Debian 12 machine with rustup, as root.

ONCE ?=
# Series of Debian kernels for test-kernels, e.g. "5.10 newest"; all four without.
KERNELS ?=
# How long each fuzz target runs.
FUZZ_SECONDS ?= 30

.PHONY: run test test-all test-kernels fuzz image bench check docs manifests setup

# The lab with the agent in it; ONCE=1 ends when both BIG-IPs are healthy.
run: setup
	cargo build --release --package vtep-agent --package vtep-lab
	target/release/vtep-lab demo --agent target/release/vtep-agent $(if $(ONCE),--once)

test: setup
	cargo test --workspace

# What takes longer than CI has time for goes here, too. What is skipped is part of test-kernels, wanting devices of other kernels, or of image.
test-all: test fuzz test-kernels image
	cargo test --package vtep-agent --test agent -- --ignored --skip geneve::devices:: --skip vlan:: --skip image::

# The datapath's tests on Debian's kernels, in virtual machines.
test-kernels: setup
	scripts/test-kernels $(KERNELS)

# The image, built without a daemon, and tried out in the lab as the manifest runs it.
image: setup
	scripts/image

# Targets of fuzz/ from the committed seeds; what they find by themselves stays in fuzz/target. The release compiler has the sanitizer,
# behind a door that RUSTC_BOOTSTRAP opens.
fuzz: setup
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	@set -e; for target in document lists frames; do \
		mkdir -p fuzz/target/corpus/$$target; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

# Formatting, lints and documentation, all without warnings.
check: setup
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	target/tools/bin/hadolint Dockerfile
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

bench: setup
	cargo bench --package vtep-agent

# What is written from the program itself: docs/configuration.md.
docs: setup
	UPDATE_DOCS=1 cargo test --package vtep-agent --test docs configuration

# The plain manifests, from the chart; a test holds them equal.
manifests: setup
	{ echo '# The chart deploy/helm/vtep-agent with its defaults, by `make manifests`.'; \
	target/tools/bin/helm template vtep-agent deploy/helm/vtep-agent --namespace kube-system; } >deploy/vtep-agent.yaml

setup:
	@scripts/setup
