//! Compiles the lab's datapath (`ebpf/`) and leaves the object in `OUT_DIR` for `datapath` to embed.

fn main() {
    ebpf_toolchain::compile("ebpf", "vtep-lab-ebpf", "datapath");
}
