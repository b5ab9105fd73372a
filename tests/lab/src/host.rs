//! A host of the lab: one network namespace, and operations inside it.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::process::{CommandExt, parent_id},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::{
    prctl::set_pdeathsig,
    signal::{SigSet, Signal},
};

use crate::{mac::Mac, namespace::Namespace};

const NFT: &str = "/usr/sbin/nft";

/// One network namespace of the lab. Clones share it, and other threads may have them.
#[derive(Debug, Clone)]
pub struct Host {
    name: Arc<str>,
    namespace: Arc<Namespace>,
}

/// A network device, as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub mac: Mac,
}

impl Host {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let host = Self { name: name.into(), namespace: Arc::new(Namespace::new()?) };
        // No IPv6: its discovery would be the only traffic that no test causes.
        for (setting, value) in [
            ("ipv6/conf/all/disable_ipv6", "1"),
            ("ipv6/conf/default/disable_ipv6", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/ip_forward", "0"),
        ] {
            host.sysctl(setting, value)?;
        }
        host.ip("link set lo up")?;
        Ok(host)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace's file, for `nsenter --net=`. It is valid while this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.namespace.path()
    }

    /// Runs a closure on a fresh thread inside this host, and waits for it.
    ///
    /// Sockets that it creates remain in the host's network. The closure must start no process, because that would die with the thread;
    /// see [`Host::command`].
    ///
    /// # Errors
    ///
    /// The closure's error, or that the namespace could not be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.run(work)
    }

    /// A command that will run inside this host. It is killed when the *thread* that starts it ends, and so with the lab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let namespace = Arc::clone(&self.namespace);
        let lab = std::process::id();
        let mut command = Command::new(program);
        let prepare = move || -> io::Result<()> {
            set_pdeathsig(Signal::SIGKILL)?;
            // The lab may have ended before the line above.
            if parent_id() != lab {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // The program may wait for signals in a thread of its own, and so inherit them blocked.
            SigSet::empty().thread_set_mask()?;
            namespace.enter()
        };
        #[expect(unsafe_code, reason = "the only way to choose a child's network namespace without a helper process")]
        // SAFETY: the closure makes four system calls and allocates nothing.
        unsafe {
            command.pre_exec(prepare);
        }
        command
    }

    /// Runs lines of an `ip -batch`; returns their output.
    ///
    /// # Errors
    ///
    /// The first line that fails, in iproute2's words.
    pub fn ip(&self, lines: &str) -> Result<String> {
        self.batch("ip", lines)
    }

    /// Runs lines of a `bridge -batch`; returns their output.
    ///
    /// # Errors
    ///
    /// The first line that fails, in iproute2's words.
    pub fn bridge(&self, lines: &str) -> Result<String> {
        self.batch("bridge", lines)
    }

    /// Index and MAC of a device.
    ///
    /// # Errors
    ///
    /// The device does not exist.
    pub fn link(&self, device: &str) -> Result<Link> {
        let output = self.command("ip").args(["-json", "link", "show", "dev", device]).output();
        let json = succeeded("ip", output)?;
        let links: serde_json::Value = serde_json::from_str(&json).context("ip prints JSON")?;
        let index = links[0]["ifindex"].as_u64().and_then(|index| u32::try_from(index).ok());
        let mac = links[0]["address"].as_str().and_then(|mac| mac.parse().ok());
        let (Some(index), Some(mac)) = (index, mac) else { bail!("{device} has no index or no MAC: {json}") };
        Ok(Link { index, mac })
    }

    /// Sets `/proc/sys/net/<setting>` of this host.
    ///
    /// # Errors
    ///
    /// The setting does not exist, or does not accept the value.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{setting}");
        self.run(|| fs::write(&path, value).with_context(|| format!("failed to set {path} to {value}")))
    }

    /// Adds or deletes rules of its firewall.
    ///
    /// # Errors
    ///
    /// `nft` refused them.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let output = self.command(NFT).arg(rules).output().context("failed to run nft")?;
        ensure!(output.status.success(), "nft {rules}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn batch(&self, program: &str, lines: &str) -> Result<String> {
        let mut child = self
            .command(program)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {program} (is iproute2 installed?)"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A failed program has already printed the reason.
            let _ = stdin.write_all(lines.as_bytes());
        }
        succeeded(program, child.wait_with_output())
            .with_context(|| format!("a line failed on {}: {}", self.name, lines.trim()))
    }
}

/// The output of a finished program.
fn succeeded(program: &str, output: io::Result<Output>) -> Result<String> {
    let output = output.with_context(|| format!("failed to run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
