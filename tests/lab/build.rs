//! Compiles the lab's datapath (`ebpf/`) into `OUT_DIR`, where `datapath` embeds it. The VNI comes from the agent's own eBPF crate.

fn main() {
    println!("cargo::rerun-if-changed=../../ebpf/src/lib.rs");
    ebpf_toolchain::compile("ebpf", "vtep-lab-ebpf", "datapath");
}
