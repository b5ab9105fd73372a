//! What the nodes of a group have in common, and others with the same VTEP do not.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Member;

/// A value that others have, too, explains a group only if so many nodes would hardly all have it by chance.
const MAX_CHANCE: f64 = 0.05;
/// The most that are named: further ones hardly help.
const LIMIT: usize = 3;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The properties that are compared, in the order in which they are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribute {
    /// Since when the Node exists: `less than an hour`, or `less than a day`.
    NodeAge,
    Zone,
    CiliumVersion,
    AgentVersion,
    Kernel,
    Config,
    Mode,
    OsImage,
    InstanceType,
}

impl Attribute {
    const ALL: [Self; 9] = [
        Self::NodeAge,
        Self::Zone,
        Self::CiliumVersion,
        Self::AgentVersion,
        Self::Kernel,
        Self::Config,
        Self::Mode,
        Self::OsImage,
        Self::InstanceType,
    ];

    /// In words: a value follows, except after the age.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NodeAge => "added",
            Self::Zone => "zone",
            Self::CiliumVersion => "Cilium",
            Self::AgentVersion => "vtep-agent",
            Self::Kernel => "kernel",
            Self::Config => "configuration",
            Self::Mode => "mode",
            Self::OsImage => "image",
            Self::InstanceType => "instance type",
        }
    }

    fn of(self, member: &Member, now: Timestamp) -> Option<String> {
        let about = member.about.as_ref();
        let status = member.answer.as_ref().ok();
        match self {
            Self::NodeAge => about?.created_at.and_then(|at| age(now.duration_since(at))).map(str::to_owned),
            Self::Zone => about?.zone.clone(),
            Self::OsImage => about?.os_image.clone(),
            Self::InstanceType => about?.instance_type.clone(),
            Self::Kernel => {
                let release = status.and_then(|status| status.kernel.release.clone());
                release.or_else(|| about.and_then(|about| about.kernel.clone()))
            }
            Self::CiliumVersion => status?.cilium.version.clone(),
            Self::AgentVersion => status?.version.clone(),
            Self::Config => status?.config.hash.clone(),
            Self::Mode => status?.mode.clone(),
        }
    }
}

/// The class of a young node; an older one has none.
fn age(age: SignedDuration) -> Option<&'static str> {
    match age {
        age if age < HOUR => Some("in the last hour"),
        age if age < DAY => Some("in the last 24 hours"),
        _ => None,
    }
}

/// A value that all nodes of a group have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Common {
    pub attribute: Attribute,
    pub value: String,
    /// Of the nodes with this VTEP that have the value, those outside the group.
    pub others: usize,
}

/// The values that all of the group have, and not all of the population; those that explain the group best come first. One node has nothing
/// in common.
#[must_use]
pub fn common(group: &[&Member], population: &[&Member], now: Timestamp) -> Vec<Common> {
    if group.len() < 2 || group.len() >= population.len() {
        return Vec::new();
    }
    let mut found: Vec<_> =
        Attribute::ALL.iter().filter_map(|&attribute| shared(attribute, group, population, now)).collect();
    // A stable sort: with the same number of others, the order of the attributes.
    found.sort_by_key(|common| common.others);
    found.truncate(LIMIT);
    found
}

fn shared(attribute: Attribute, group: &[&Member], population: &[&Member], now: Timestamp) -> Option<Common> {
    let value_of = |member: &&Member| attribute.of(member, now);
    let mut values: Vec<_> = group.iter().map(value_of).collect::<Option<_>>()?;
    // Of nodes that were added within the last hour and some that are a little older, all were added within the last day.
    let is_mixed_age = attribute == Attribute::NodeAge && values.iter().any(|value| *value != values[0]);
    let day = age(HOUR).unwrap_or_default();
    if is_mixed_age {
        values = vec![day.to_owned()];
    }
    let first = values.first()?.clone();
    if values.iter().any(|value| *value != first) {
        return None;
    }
    let has = |value: Option<String>| {
        value.is_some_and(|value| value == first || (attribute == Attribute::NodeAge && first == day))
    };
    let all = population.iter().map(value_of).filter(|value| has(value.clone())).count();
    let others = all.saturating_sub(group.len());
    let explains = all < population.len() && (others == 0 || chance(group.len(), all, population.len()) <= MAX_CHANCE);
    explains.then_some(Common { attribute, value: first, others })
}

/// The probability that all of `drawn` nodes have the value that `having` of `population` nodes have.
fn chance(drawn: usize, having: usize, population: usize) -> f64 {
    (0..drawn).map(|nth| having.saturating_sub(nth) as f64 / population.saturating_sub(nth).max(1) as f64).product()
}
