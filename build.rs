//! Compiles the eBPF programs (`ebpf/`) and leaves the objects in `OUT_DIR`: `probe::tap` and `node::features` embed them.

fn main() {
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "tap");
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "large");
}
