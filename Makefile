# Begin with `make run` and `make test`. As root on a fresh Debian 12 machine with rustup, both install the tools that they need.

ONCE ?=
# The series of Debian kernels for test-kernels, for example "5.10 newest". If empty, all four.
KERNELS ?=
export KERNELS
# How many seconds each fuzz target runs.
FUZZ_SECONDS ?= 30
# Platforms of the image. If empty, this machine's.
PLATFORMS ?=
export PLATFORMS
# The minor release of Kubernetes for test-cluster: one that scripts/setup-cluster knows.
KUBERNETES ?= 1.35
# How many tests run at once. Most of their time they wait, so it is more than the machine has cores.
TEST_THREADS ?= $(shell expr 3 \* $$(nproc))

# `setup` builds bpf-linker in the background while it holds this lock, and cargo compiles meanwhile what needs none.
export BPF_LINKER_LOCK := $(CURDIR)/target/bpf-linker.lock

.PHONY: run test test-all test-kernels test-arm64 test-cluster test-stranger setup-cluster fuzz image reproducible release bench check lint advisories docs man \
	manifests setup setup-run

# Starts the lab with the agent. With ONCE=1 it ends when both BIG-IPs are healthy. It runs the programs that `make test` builds: the `--test`
# target brings the features that tests add to dependencies, so that nothing is built twice. A release build takes several times as long.
run: setup-run
	cargo build --workspace --bins --test check
	target/debug/vtep-lab demo --agent target/debug/vtep-agent $(if $(ONCE),--once)

test: setup
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace

# Also runs the tests that take too long for CI. The skipped ones need devices of other kernels (test-kernels) or the image (image).
test-all: test fuzz test-kernels test-cluster reproducible
	cargo test --package vtep-agent --test agent -- --ignored --skip geneve::devices:: --skip vlan:: --skip image::
	cargo test --package vtep-agent --test cluster -- --ignored --skip leftovers:: --skip stranger::

# Runs the datapath's tests on Debian's kernels, in virtual machines.
test-kernels: setup
	scripts/test-kernels $(KERNELS)

# Runs the agent's commands, and the datapath's tests on one of Debian's kernels, for arm64 on this machine. Emulated, so it takes long.
test-arm64: setup
	scripts/test-arm64

# Installs the image in a real Kubernetes, in the lab. One test runs at a time: each has a cluster of its own.
test-cluster: image setup-cluster
	KUBERNETES=$(KUBERNETES) cargo test --package vtep-agent --test cluster -- --nocapture --test-threads 1

# The path of somebody who has only dist/: from the previous release to this one, through a fault, to the removal. Needs `make release`.
test-stranger: image setup-cluster
	cargo test --package vtep-agent --test cluster stranger:: -- --ignored --nocapture

# Brings containerd and the servers of Kubernetes, which it builds with Go: once, in some minutes.
setup-cluster:
	@scripts/setup-cluster $(KUBERNETES)

# Builds the image without a daemon as target/image.tar, and tests it in the lab as the manifest runs it. PLATFORMS=linux/amd64,linux/arm64 makes
# one for both, from this machine.
image: setup
	scripts/image

# Builds the image twice, in two folders with other surroundings, and fails if the images differ.
reproducible: setup
	scripts/reproducible

# Makes a release in dist/, and publishes nothing: docs/release.md.
release: setup
	scripts/release $(VERSION)

# Runs the targets of fuzz/ from the committed seeds. Inputs that they find stay in fuzz/target. RUSTC_BOOTSTRAP lets the release compiler
# use the sanitizer.
fuzz: setup
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	@set -e; for target in document gitops lists objects frames rest tmsh; do \
		mkdir -p fuzz/target/corpus/$$target; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

# Checks formatting, lints, documentation, and the dependencies (deny.toml). Any warning is an error.
check: setup
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	target/tools/bin/hadolint Dockerfile
	shellcheck --external-sources --severity=warning $$(grep -l '^#!.*bash' scripts/*) scripts/*.sh
	target/tools/bin/cargo-deny --workspace check --hide-inclusion-graph bans licenses sources
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

# The workflows of CI, by actionlint; the chart, by kube-score and Checkov; the manifest for krew, by krew's validator. It is not part of check: it
# builds three of them with Go.
lint: setup
	"$$(scripts/go-tool github.com/rhysd/actionlint/cmd/actionlint@v1.7.12)" -shellcheck shellcheck
	scripts/lint-chart
	scripts/lint-krew

# Known vulnerabilities and abandoned crates among the dependencies. It is not part of check: it fetches RustSec's database.
advisories: setup
	target/tools/bin/cargo-deny --workspace check advisories

# Measures for half an hour, and fails if a ratio is worse than in benches/baseline.json. With UPDATE_BASELINE=1 the measured ratios become
# the new baseline. A benchmark that fails does not hide the others: what each of them found follows at the end.
bench: setup
	@mkdir -p target/tmp && rm -f target/tmp/bench-summary
	@VTEP_BENCH_SUMMARY=$(CURDIR)/target/tmp/bench-summary cargo bench --package vtep-agent --no-fail-fast; status=$$?; \
	if [ -s target/tmp/bench-summary ]; then echo; echo "Compared with benches/baseline.json:"; cat target/tmp/bench-summary; fi; \
	[ $$status = 0 ] || exit 1

# Writes docs/configuration.md from the command line of the program, and docs/compatibility.md from its tables. Takes the walk of docs/walk.md,
# and leaves its pictures and its recording in target/walk.
docs: setup
	UPDATE_DOCS=1 cargo test --package vtep-agent --test docs configuration
	UPDATE_DOCS=1 cargo test --package vtep-core --test compatibility
	cargo test --package vtep-agent --test agent walk:: -- --ignored

# Writes the man pages to target/man/man1, from the same command line.
man: setup
	cargo run --package vtep-agent -- man target/man/man1

# Writes the plain manifests from the chart, without the labels of a release of Helm, and the chart's README from its values. Tests check that
# they are up to date.
manifests: setup
	{ echo '# The chart deploy/helm/vtep-agent with its defaults, by `make manifests`.'; \
	target/tools/bin/helm template vtep-agent deploy/helm/vtep-agent --namespace kube-system --skip-tests | \
	grep -v -e '    helm.sh/chart:' -e '    app.kubernetes.io/managed-by:'; } >deploy/vtep-agent.yaml
	UPDATE_DOCS=1 cargo test --package vtep-agent --test deploy the_readme_of_the_chart

setup:
	@scripts/setup

# What `make run` needs, without the browser and the tools of the tests.
setup-run:
	@scripts/setup run
