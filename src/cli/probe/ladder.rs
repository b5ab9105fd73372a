//! The ladder that `probe` prints for each VTEP: rungs from the node outwards. Each rung is printed as soon as it is decided.

use std::io::{self, Write};

use vtep_core::{
    diagnosis::Verdict,
    report::status::{EntryState, Probe, Seen, Status, VtepStatus},
    tunnel::vtep_probes::ProbeState,
};

use crate::cli::style::{BAD, BOLD, GOOD, SOFT, fold, paint};

/// The position of the output: the number of complete VTEPs, and of printed rungs of the next one.
#[derive(Default)]
pub(super) struct Ladder {
    vteps: usize,
    rungs: usize,
}

struct Rung {
    name: &'static str,
    /// `None` if the rung has no result.
    holds: Option<bool>,
    detail: String,
    /// Waiting longer will not change it.
    is_decided: bool,
}

/// Whether every rung is decided.
pub(super) fn has_told(vtep: &VtepStatus) -> bool {
    rungs(vtep).iter().all(|rung| rung.is_decided)
}

impl Ladder {
    /// Prints the next rungs, up to the first that is not decided.
    pub(super) fn climb(&mut self, out: &mut impl Write, status: &Status) -> io::Result<()> {
        self.print(out, status, false)
    }

    /// Prints all remaining rungs, decided or not.
    pub(super) fn finish(&mut self, out: &mut impl Write, status: &Status) -> io::Result<()> {
        self.print(out, status, true)
    }

    fn print(&mut self, out: &mut impl Write, status: &Status, all: bool) -> io::Result<()> {
        while let Some(vtep) = status.vteps.get(self.vteps) {
            if self.rungs == 0 {
                let VtepStatus { cidr, endpoint, mac, name, .. } = vtep;
                let name = name.as_ref().map(|name| format!("{} ", paint(BOLD, name))).unwrap_or_default();
                writeln!(out, "{name}{} at {endpoint}, {mac}", paint(BOLD, cidr))?;
            }
            let rungs = rungs(vtep);
            for Rung { name, holds, detail, .. } in rungs[self.rungs..].iter().take_while(|rung| all || rung.is_decided)
            {
                let mark = match holds {
                    Some(true) => paint(GOOD, "✓"),
                    Some(false) => paint(BAD, "✗"),
                    None => paint(SOFT, "·"),
                };
                writeln!(out, "  {mark} {name:<9} {detail}")?;
                self.rungs += 1;
            }
            out.flush()?;
            if self.rungs < rungs.len() {
                return Ok(());
            }
            verdict(out, vtep)?;
            *self = Self { vteps: self.vteps + 1, rungs: 0 };
        }
        Ok(())
    }
}

fn verdict(out: &mut impl Write, vtep: &VtepStatus) -> io::Result<()> {
    let VtepStatus { verdict, cause, hint, .. } = vtep;
    match (cause, hint) {
        (Some(cause), Some(hint)) => {
            let text = fold(&format!("  {verdict}, {cause}: {hint}"), "  ");
            writeln!(out, "{}", paint(BAD, text))
        }
        (None, _) | (_, None) if *verdict == Verdict::Unknown => writeln!(out, "  {verdict}: too early to tell"),
        (None, _) | (_, None) => writeln!(out, "  {}", paint(GOOD, verdict)),
    }
}

fn rungs(vtep: &VtepStatus) -> [Rung; 6] {
    let VtepStatus { datapath, probes, seen, .. } = vtep;
    let map = Rung {
        name: "map",
        holds: match datapath.state {
            EntryState::InSync => Some(true),
            EntryState::Pending | EntryState::Contended => Some(false),
            EntryState::Unknown => None,
        },
        detail: datapath.error.clone().unwrap_or_else(|| datapath.state.to_string()),
        is_decided: true,
    };
    // A probe without a target is not decided: the agent may still learn the target from BIG-IP's own frames.
    let is_decided = |state: ProbeState| !matches!(state, ProbeState::Pending | ProbeState::NoTarget);
    let probe = |name, probe: &Probe| Rung {
        name,
        holds: holds(probe.state),
        detail: describe(probe),
        is_decided: is_decided(probe.state),
    };
    let mut arp = probe("arp", &probes.arp);
    arp.detail += &probes.arp.observed_mac.map(|mac| format!(", answered by {mac}")).unwrap_or_default();
    let inner_mtu = probes.path_mtu.inner_mtu;
    let path_mtu = Rung {
        name: "path mtu",
        holds: holds(probes.path_mtu.state),
        detail: inner_mtu.map_or_else(|| "not known".to_owned(), |mtu| format!("{mtu} bytes inside")),
        // The agent measures the path MTU only while ping passes.
        is_decided: inner_mtu.is_some() || probes.icmp.state == ProbeState::Failed,
    };
    // An answer through the tunnel is a frame, too: the count follows within a second.
    let is_answered = [&probes.arp, &probes.icmp].iter().any(|probe| probe.state == ProbeState::Ok);
    let is_counted = probes.arp.state != ProbeState::Unsupported;
    let frames = Rung {
        name: "seen",
        holds: (seen.packets > 0).then_some(true),
        detail: if is_counted { frames(seen) } else { "cannot be counted here".to_owned() },
        is_decided: path_mtu.is_decided && (seen.packets > 0 || !is_answered || !is_counted),
    };
    [map, probe("underlay", &probes.underlay), arp, probe("icmp", &probes.icmp), path_mtu, frames]
}

/// The frames that the tap has counted, answers to these probes included.
fn frames(seen: &Seen) -> String {
    let vnis: Vec<_> = seen.vnis.iter().map(ToString::to_string).collect();
    match seen.packets {
        0 => "no tunnel frame from it".to_owned(),
        1 => format!("1 tunnel frame from it, VNI {}", vnis.join(", ")),
        packets => format!("{packets} tunnel frames from it, answers included, VNI {}", vnis.join(", ")),
    }
}

fn holds(state: ProbeState) -> Option<bool> {
    match state {
        ProbeState::Ok => Some(true),
        ProbeState::Failed => Some(false),
        ProbeState::Pending | ProbeState::NoTarget | ProbeState::Unsupported => None,
    }
}

fn describe(probe: &Probe) -> String {
    let target = probe.target.map(|target| format!("{target} ")).unwrap_or_default();
    match (probe.state, probe.rtt_us) {
        (ProbeState::Ok, Some(rtt_us)) => format!("{target}in {:.2}ms", rtt_us as f64 / 1e3),
        (ProbeState::Ok, None) => format!("{target}answers"),
        (ProbeState::Failed, _) => {
            let error = probe.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{target}does not answer{error}")
        }
        (ProbeState::NoTarget, _) => "no address to ask".to_owned(),
        (ProbeState::Pending, _) => format!("{target}has not answered yet"),
        (ProbeState::Unsupported, _) => "cannot be asked here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<String> {
        let mut out = Vec::new();
        print(&mut out)?;
        Ok(crate::cli::style::plain(&String::from_utf8_lossy(&out)))
    }

    #[test]
    fn the_ladder_as_a_person_sees_it() -> io::Result<()> {
        insta::assert_snapshot!(printed(|out| Ladder::default().finish(out, &Status::sample()))?);
        Ok(())
    }

    #[test]
    fn a_vtep_with_a_name_is_called_by_it() -> io::Result<()> {
        let mut status = Status::sample();
        status.vteps[0].name = Some("vpc-gateway".into());
        let text = printed(|out| Ladder::default().finish(out, &status))?;
        assert_eq!(text.lines().next(), Some("vpc-gateway 10.1.6.0/24 at 10.169.72.34, 00:50:56:a0:7d:d8"));
        Ok(())
    }

    /// An answer through the tunnel and "no tunnel frame" cannot both be true: the round waits for the count.
    #[test]
    fn an_answer_is_a_frame_that_was_seen() {
        let seen = |vtep: &VtepStatus| {
            let [.., seen] = rungs(vtep);
            (seen.is_decided, seen.detail)
        };
        let mut vtep = Status::sample().vteps.remove(0);
        assert_eq!(seen(&vtep), (true, "4711 tunnel frames from it, answers included, VNI 2".to_owned()));
        vtep.seen.packets = 0;
        assert!(!seen(&vtep).0 && !has_told(&vtep));
        (vtep.probes.arp.state, vtep.probes.icmp.state) = (ProbeState::Failed, ProbeState::Failed);
        assert_eq!(seen(&vtep), (true, "no tunnel frame from it".to_owned()));
        (vtep.probes.arp.state, vtep.probes.icmp.state) = (ProbeState::Unsupported, ProbeState::Ok);
        assert_eq!(seen(&vtep), (true, "cannot be counted here".to_owned()));
    }

    /// Step by step, the ladder prints the same lines as at once, and each rung once.
    #[test]
    fn a_rung_is_printed_when_it_is_decided() -> io::Result<()> {
        let end = Status::sample();
        let mut on_the_way = end.clone();
        on_the_way.vteps[0].probes.arp.state = ProbeState::Pending;
        let mut ladder = Ladder::default();
        let first = printed(|out| ladder.climb(out, &on_the_way))?;
        assert_eq!(first.lines().count(), 3, "{first}");
        assert_eq!(printed(|out| ladder.climb(out, &on_the_way))?, "");
        let rest = printed(|out| ladder.finish(out, &end))?;
        assert_eq!(first + &rest, printed(|out| Ladder::default().finish(out, &end))?);
        Ok(())
    }
}
