//! Compiles the eBPF programs (`ebpf/`) into `OUT_DIR`. `kernel::tap` and `kernel::features` embed the objects.

fn main() {
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "tap");
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "large");
}
