//! What the agent does every few milliseconds allocates nothing. Needs root. It is one test in a program of its own, because it counts the
//! allocations of all threads.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use vtep_agent::kernel::{map_image::MapImage, vtep_map::VtepMap};
use vtep_lab::{BPF_FS, Lab};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const LOOKS: u32 = 10_000;

#[test]
fn a_look_of_the_sentinel_allocates_nothing() -> Result<()> {
    let lab = Lab::start()?;
    for vtep in lab.topology.vteps() {
        lab.cilium.put_vtep(vtep.key(), vtep.value())?;
    }
    let mut look = VtepMap::open(Path::new(BPF_FS))?.look().context("a look")?;
    let mut buffer = MapImage::empty();
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut looked = || -> Result<()> {
        ensure!(look.is_unchanged(&mut buffer) == Some(true) && look.is_pinned(), "nothing has changed");
        Ok(())
    };
    // The first may prepare something.
    looked()?;
    let before = dhat::HeapStats::get().total_blocks;
    for _ in 0..LOOKS {
        looked()?;
    }
    let allocated = dhat::HeapStats::get().total_blocks - before;
    ensure!(allocated == 0, "{LOOKS} looks have allocated {allocated} times");
    drop(Box::new(LOOKS));
    ensure!(dhat::HeapStats::get().total_blocks > before, "the counter counts");
    Ok(())
}
