//! Compiles the lab's datapath (`ebpf/`) and leaves the object in `OUT_DIR` for `datapath` to embed. It takes the VNI from the agent's own
//! eBPF crate.

fn main() {
    println!("cargo::rerun-if-changed=../../ebpf/src/lib.rs");
    ebpf_toolchain::compile("ebpf", "vtep-lab-ebpf", "datapath");
}
