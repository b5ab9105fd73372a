//! Cilium's agent on this node, as far as its socket shows it. Cilium's programs and maps work on while it does not run. Pure.

use jiff::Timestamp;

use super::version::CiliumVersion;

/// What is known of Cilium's agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CiliumAgent {
    /// The version of the one that ran last.
    pub version: Option<CiliumVersion>,
    pub state: AgentState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentState {
    /// Its socket was never seen: it may be in another directory.
    #[default]
    Unknown,
    Running,
    /// Since the first attempt that failed.
    NotRunning {
        since: Timestamp,
    },
}

/// The result of an attempt to connect to its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Accepted,
    /// The socket is there, and nobody listens.
    Refused,
    /// There is no socket.
    Absent,
    /// Something else prevents the attempt, which shows nothing.
    Prevented,
}

impl AgentState {
    #[must_use]
    pub fn after(self, attempt: Attempt, at: Timestamp) -> Self {
        match (self, attempt) {
            (_, Attempt::Accepted) => Self::Running,
            (Self::Running, Attempt::Refused | Attempt::Absent) | (Self::Unknown, Attempt::Refused) => {
                Self::NotRunning { since: at }
            }
            (Self::Unknown, Attempt::Absent)
            | (Self::NotRunning { .. }, Attempt::Refused | Attempt::Absent)
            | (_, Attempt::Prevented) => self,
        }
    }

    /// Since when it does not run.
    #[must_use]
    pub fn stopped_at(self) -> Option<Timestamp> {
        match self {
            Self::NotRunning { since } => Some(since),
            Self::Unknown | Self::Running => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_that_was_seen_shows_that_nobody_listens() {
        use Attempt::{Absent, Accepted, Prevented, Refused};
        let at = |second| Timestamp::from_second(second).expect("a time");
        for (attempts, stopped_at) in [
            (&[][..], None),
            (&[Absent, Absent], None),
            (&[Prevented], None),
            (&[Accepted, Prevented], None),
            (&[Refused, Refused], Some(0)),
            (&[Accepted, Absent, Absent, Prevented], Some(1)),
            (&[Accepted, Refused, Absent], Some(1)),
            (&[Accepted, Absent, Accepted], None),
            (&[Accepted, Absent, Accepted, Accepted, Refused], Some(4)),
        ] {
            let mut state = AgentState::default();
            for (second, attempt) in (0..).zip(attempts) {
                state = state.after(*attempt, at(second));
            }
            assert_eq!(state.stopped_at(), stopped_at.map(at), "{attempts:?}");
        }
    }
}
