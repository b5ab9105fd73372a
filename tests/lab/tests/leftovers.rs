//! Labs do not affect each other or the machine, and leave nothing behind, in whatever way they end.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::maps::MapInfo;
use vtep_lab::{Lab, ping, proxy};

/// The kernel frees maps and namespaces a moment after their last user.
const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn labs_live_side_by_side() -> Result<()> {
    let both = Barrier::new(2);
    let lab = |delete: bool| -> Result<()> {
        let lab = Lab::builder().fill_map(true).start();
        // This also runs after a failure, because the other thread would wait for ever.
        both.wait();
        let lab = lab?;
        if delete {
            lab.cilium.delete_vtep([10, 1, 6, 0])?;
        }
        both.wait();
        let seen = ping(&lab.pod, None, lab.bigips[0].addresses.self_ip.addr(), 3, Duration::from_millis(10))?;
        assert_eq!(seen.received, if delete { 0 } else { 3 });
        Ok(())
    };
    thread::scope(|scope| {
        let labs = [false, true].map(|delete| scope.spawn(move || lab(delete)));
        labs.map(|lab| lab.join().map_err(|_| anyhow::anyhow!("a lab panicked"))?).into_iter().collect()
    })
}

#[test]
fn one_thread_starts_one_lab_after_another() -> Result<()> {
    for _ in 0..2 {
        let lab = Lab::builder().fill_map(true).start()?;
        assert_eq!(lab.cilium.vtep_entries()?.len(), 2);
        drop(lab);
        let mounts = fs::read_to_string("/proc/thread-self/mounts")?;
        assert!(!mounts.contains("tmpfs /mnt tmpfs"), "{mounts}");
    }
    Ok(())
}

#[test]
fn a_lab_changes_nothing_in_the_machines_network_or_mounts() -> Result<()> {
    let before = machine()?;
    let lab = Lab::builder().l7_proxy(true).fill_map(true).api_host(true).second(true).start()?;
    ensure!(ping(&lab.pod, None, lab.bigips[0].addresses.self_ip.addr(), 1, Duration::ZERO)?.is_complete());
    assert_eq!(machine()?, before, "while it runs");
    drop(lab);
    assert_eq!(machine()?, before, "after it");
    Ok(())
}

#[test]
fn children_end_with_the_thread_that_started_them() -> Result<()> {
    let lab = Lab::start()?;
    let node = lab.node.clone();
    let child = thread::spawn(move || node.command("sleep").arg("1000").spawn());
    let mut child = child.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    assert!(!child.wait()?.success());
    Ok(())
}

#[test]
fn a_proxy_leads_into_a_host() -> Result<()> {
    let lab = Lab::builder().cilium_running(false).start()?;
    let listener = lab.node.run(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let door = proxy(&lab.node, listener.local_addr()?.port())?;
    let mut client = TcpStream::connect(door.address)?;
    client.write_all(b"question")?;
    client.shutdown(Shutdown::Write)?;
    let (mut server, _) = listener.accept()?;
    let mut text = String::new();
    server.read_to_string(&mut text)?;
    assert_eq!(text, "question");
    server.write_all(b"answer")?;
    drop(server);
    text.clear();
    client.read_to_string(&mut text)?;
    assert_eq!(text, "answer");
    let address = door.address;
    drop(door);
    eventually("a closed proxy still listens", || Ok(TcpStream::connect(address).is_err()))
}

#[test]
fn a_killed_lab_leaves_nothing() -> Result<()> {
    let before = machine()?;
    let mut lab = Command::new(env!("CARGO_BIN_EXE_vtep-lab")).arg("up").stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(lab.stdout.take().context("the lab's output is piped")?).lines();
    while !lines.next().context("the lab ended early")??.contains("Ctrl-C") {}
    assert_eq!(machine()?, before, "while it runs");

    let process = PathBuf::from(format!("/proc/{}", lab.id()));
    let namespaces = namespaces_of(&process)?;
    let maps = bpf_maps_of(&process)?;
    assert!(namespaces.len() >= 6, "a mount namespace, and a network namespace for each host: {namespaces:?}");
    assert!(maps.len() >= 4, "{maps:?}");
    lab.kill()?;
    lab.wait()?;

    assert_eq!(machine()?, before, "after it");
    eventually("a process is left in one of its namespaces", || Ok(used_namespaces()?.is_disjoint(&namespaces)))?;
    eventually("one of its maps is left", || Ok(maps.iter().all(|map| MapInfo::from_id(*map).is_err())))
}

/// Links, addresses and routes of the machine, and its mounts.
fn machine() -> Result<String> {
    let mut text = String::new();
    for arguments in [&["-brief", "link"][..], &["-brief", "address"], &["route"], &["rule"], &["netns"]] {
        text += &String::from_utf8(Command::new("ip").args(arguments).output()?.stdout)?;
    }
    // The mounts of the first thread, because the test's own thread has the lab's mounts.
    text += &fs::read_to_string("/proc/self/mounts")?;
    Ok(text)
}

/// Namespaces that another process has open or is in, but this one does not.
fn namespaces_of(process: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut namespaces: BTreeSet<_> = fs::read_dir(process.join("fd"))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("net:"))
        .collect();
    namespaces.insert(fs::read_link(process.join("ns/mnt"))?);
    namespaces.remove(&fs::read_link("/proc/self/ns/net")?);
    Ok(namespaces)
}

/// Network and mount namespaces of every thread of the machine.
fn used_namespaces() -> Result<BTreeSet<PathBuf>> {
    let mut used = BTreeSet::new();
    for process in fs::read_dir("/proc")?.filter_map(Result::ok) {
        // A process may end during the read.
        let Ok(threads) = fs::read_dir(process.path().join("task")) else { continue };
        for thread in threads.filter_map(Result::ok) {
            used.extend(
                ["net", "mnt"].iter().filter_map(|kind| fs::read_link(thread.path().join("ns").join(kind)).ok()),
            );
        }
    }
    Ok(used)
}

/// The ids of the maps that a process has open.
fn bpf_maps_of(process: &Path) -> Result<BTreeSet<u32>> {
    let mut maps = BTreeSet::new();
    for descriptor in fs::read_dir(process.join("fdinfo"))? {
        let info = fs::read_to_string(descriptor?.path())?;
        let id: Option<u32> = info.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
        maps.extend(id);
    }
    Ok(maps)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
