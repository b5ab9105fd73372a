//! What a user would write without the agent: a shell loop around `bpftool`.

use std::process::{Child, Stdio};

use anyhow::Result;
use vtep_lab::{Lab, Vtep};

/// A loop that writes missing and wrong entries again. It ends with its measurement.
pub(crate) struct ShellLoop(Child);

impl ShellLoop {
    /// With `pause` between two comparisons, in the words of `sleep`; without one, as fast as it can.
    pub(crate) fn start(lab: &Lab, pause: Option<&str>) -> Result<Self> {
        let pin = lab.cilium.vtep_pin().display().to_string();
        let mut script = format!("while :; do\nentries=$(bpftool -j map dump pinned {pin})\n");
        for vtep in lab.topology.vteps() {
            script += &entry(&pin, &vtep);
        }
        script += &pause.map_or_else(String::new, |pause| format!("sleep {pause}\n"));
        script += "done\n";
        let mut command = lab.node.command("sh");
        Ok(Self(command.args(["-c", &script]).stdout(Stdio::null()).spawn()?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for ShellLoop {
    /// A `bpftool` or `sleep` that it has started ends by itself within a second.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compares one entry with the dump, and writes it if it is not there.
fn entry(pin: &str, vtep: &Vtep) -> String {
    let json = |bytes: &[u8]| bytes.iter().map(|byte| format!("\"{byte:#04x}\"")).collect::<Vec<_>>().join(",");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let (key, value) = (vtep.key(), vtep.value());
    format!(
        "case \"$entries\" in *'\"key\":[{}],\"value\":[{}]'*) ;; *) bpftool map update pinned {pin} key hex {} value hex {} ;; esac\n",
        json(&key),
        json(&value),
        hex(&key),
        hex(&value),
    )
}
