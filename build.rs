//! Compiles the eBPF programs (`ebpf/`) into `OUT_DIR`. `kernel::tap` embeds the object.

fn main() {
    ebpf_toolchain::compile("ebpf", "vtep-agent-ebpf", "tap");
}
