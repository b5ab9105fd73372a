//! Compiles the tap (`ebpf/`) and leaves the object in `OUT_DIR` for `probe::tap` to embed.

fn main() {
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "tap");
}
