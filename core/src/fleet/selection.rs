//! The part of a fleet that a person asked for: `--vtep`, `--node` and `--cause`.

use serde::Serialize;

use super::{Member, status::AgentVtep};

/// Each list is a choice; an empty one means all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of nodes; `*` stands for any text.
    pub nodes: Vec<String>,
    /// CIDRs, endpoints or names of VTEPs.
    pub vteps: Vec<String>,
    /// Ids of causes.
    pub causes: Vec<String>,
}

/// The agents that were asked, before the VTEPs and causes of a selection narrow the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    pub agents: usize,
    pub answered: usize,
    /// Answered, and their nodes have a VTEP that was selected, with any cause or none.
    pub with_vtep: usize,
}

impl Asked {
    /// If no node is left: nobody has a cause that was selected, and everybody who could have it answered.
    pub(super) const fn excludes_causes(self) -> bool {
        self.with_vtep > 0 && self.answered == self.agents
    }
}

impl Selection {
    /// Whether an agent on this node is asked at all.
    #[must_use]
    pub fn has_node(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|pattern| matches(pattern, node))
    }

    /// The agents that were asked, from their answers.
    #[must_use]
    pub fn asked(&self, members: &[Member]) -> Asked {
        let answers = || members.iter().filter_map(|member| member.answer.as_ref().ok());
        let has_vtep = |vteps: &[AgentVtep]| self.vteps.is_empty() || vteps.iter().any(|vtep| self.is_named(vtep));
        Asked {
            agents: members.len(),
            answered: answers().count(),
            with_vtep: answers().filter(|status| has_vtep(&status.vteps)).count(),
        }
    }

    /// Keeps the members that were asked for, and of each the VTEPs. A node without an answer stays unless causes are asked for: it may have
    /// any VTEP, but shows no cause.
    #[must_use]
    pub fn apply(&self, members: Vec<Member>) -> Vec<Member> {
        members.into_iter().filter_map(|member| self.select(member)).collect()
    }

    fn select(&self, mut member: Member) -> Option<Member> {
        if !self.has_node(&member.node) {
            return None;
        }
        if self.vteps.is_empty() && self.causes.is_empty() {
            return Some(member);
        }
        match &mut member.answer {
            Ok(status) => {
                status.retain(|vtep| self.has_vtep(vtep));
                (!status.vteps.is_empty()).then_some(member)
            }
            Err(_) => self.causes.is_empty().then_some(member),
        }
    }

    fn has_vtep(&self, vtep: &AgentVtep) -> bool {
        let AgentVtep { cause, also, .. } = vtep;
        let has_cause = |wanted: &String| Some(wanted) == cause.as_ref() || also.contains(wanted);
        (self.vteps.is_empty() || self.is_named(vtep)) && (self.causes.is_empty() || self.causes.iter().any(has_cause))
    }

    fn is_named(&self, AgentVtep { cidr, endpoint, name, .. }: &AgentVtep) -> bool {
        self.vteps.iter().any(|wanted| wanted == cidr || wanted == endpoint || Some(wanted) == name.as_ref())
    }
}

/// A pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        let table = [
            ("worker-1", "worker-1", true),
            ("worker-1", "worker-12", false),
            ("worker-*", "worker-12", true),
            ("*-12", "worker-12", true),
            ("w*-1*", "worker-12", true),
            ("w*-1*3", "worker-12", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("", "worker", false),
            ("w**2", "worker-12", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
