//! Compiles the eBPF programs (`ebpf/`) and leaves the objects in `OUT_DIR`: `kernel::tap` and `kernel::features` embed them.

fn main() {
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "tap");
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "large");
}
