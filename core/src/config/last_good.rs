//! The last good configuration, as a state file retains it over a restart of the agent. Without it, a node would have no configuration
//! after a restart while the API server is unreachable or the document is in error. This module owns the content; the agent reads and
//! writes the file.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    finding::Rule,
    list_record::{ListRecord, Period},
    spec::{Spec, SpecError},
    surroundings::Surroundings,
    truth::Truth,
    view::View,
};

/// The file's name in the state directory.
pub const FILE: &str = "last-good.json";

/// The last good value of each VTEP, and the document that it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    pub observed_at: Timestamp,
    /// [`View::hash`] of the document.
    pub hash: String,
    pub spec: Spec,
    /// CIDRs that the document mentions.
    pub mentioned: BTreeSet<Ipv4Net>,
    /// The place that decided the VTEPs. Files of older releases lack it: those releases knew only the ConfigMap.
    #[serde(default)]
    pub truth: Truth,
    /// [`View::vetoed`].
    #[serde(default)]
    pub vetoed: BTreeSet<Ipv4Net>,
    /// [`View::unlooked`].
    #[serde(default)]
    pub unlooked: BTreeSet<Ipv4Net>,
    /// [`View::names`].
    #[serde(default)]
    pub names: BTreeMap<Ipv4Net, String>,
    /// [`View::covered`].
    #[serde(default)]
    pub covered: Option<BTreeSet<Ipv4Net>>,
    /// [`View::record`].
    #[serde(default)]
    pub lists: Vec<Period>,
}

impl LastGood {
    /// The content to save; `None` before the first valid configuration.
    #[must_use]
    pub fn of(view: &View) -> Option<Self> {
        let mut spec = view.last_good.clone()?;
        // A restart of the agent is how a person says that the objects went on purpose.
        if view.findings.iter().any(|finding| finding.rule == Rule::VtepConfigGone) {
            spec.vteps.clear();
        }
        Some(Self {
            observed_at: view.observed_at,
            hash: view.hash.clone(),
            spec,
            mentioned: view.mentioned.clone(),
            truth: view.truth,
            vetoed: view.vetoed.clone(),
            unlooked: view.unlooked.clone(),
            names: view.names.clone(),
            covered: view.covered.clone(),
            lists: view.record.periods().to_vec(),
        })
    }

    /// Restores the view: it is in effect until the source answers.
    ///
    /// # Errors
    ///
    /// When the content violates a rule that parsing enforces: then this agent did not write it.
    pub fn recall(self) -> Result<View, SpecError> {
        let Self { observed_at, hash, spec, mentioned, truth, vetoed, unlooked, names, covered, lists } = self;
        spec.check()?;
        let mut effective = spec.clone();
        match truth {
            Truth::Configmap | Truth::Crd => effective.vteps.retain(|vtep| !vetoed.contains(&vtep.cidr)),
            Truth::None => effective.vteps.clear(),
        }
        let (effective, last_good) = (Some(effective), Some(spec));
        let known = View {
            hash,
            mentioned,
            truth,
            vetoed,
            unlooked,
            effective,
            last_good,
            names,
            covered,
            record: ListRecord::recall(lists),
            ..View::unknown(None, observed_at)
        };
        // Values that are always wrong are not restored: an older release with fewer rules may have saved them.
        Ok(View { stale: true, ..known }.within(&Surroundings::default()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{
        Keys,
        document::Document,
        surroundings::Surroundings,
        view::{Observed, SourceState},
    };

    fn seen(keys: &[(&str, &str)], previous: Option<&View>) -> View {
        let keys: Keys = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let document = Document::of_keys(keys, Surroundings::default());
        View::next("test", &SourceState::Document(document).into(), previous, Timestamp::UNIX_EPOCH)
    }

    const GOOD: [(&str, &str); 4] = [
        ("enable-vtep", "true"),
        ("vtep-endpoint", "10.169.72.34"),
        ("vtep-cidr", "10.1.6.0/24"),
        ("vtep-mac", "00:50:56:a0:7d:d8"),
    ];

    #[test]
    fn it_stands_in_for_a_source_that_is_away_or_in_error() {
        let good = seen(&GOOD, None);
        let json = serde_json::to_string(&LastGood::of(&good).expect("in force")).expect("JSON");
        let saved: LastGood = serde_json::from_str(&json).expect("a last good configuration");
        let recalled = saved.recall().expect("sound");
        assert_eq!((&recalled.effective, recalled.stale), (&good.effective, true));

        let away = View::next("test", &Observed::nothing("refused"), Some(&recalled), Timestamp::UNIX_EPOCH);
        assert_eq!((&away.effective, &away.hash, away.stale), (&good.effective, &good.hash, true));
        let mut keys = GOOD;
        keys[3].1 = "00:50:56:a0:7d";
        let in_error = seen(&keys, Some(&recalled));
        assert_eq!((&in_error.effective, in_error.stale), (&good.effective, true));
        let again = seen(&GOOD, Some(&recalled));
        assert_eq!((&again.effective, again.stale, again.valid()), (&good.effective, false, true));
    }

    /// This fixture never changes: an update from 0.1.0 finds such a file.
    #[test]
    fn a_file_of_0_1_0_is_recalled() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/state-0.1.0");
        let text = std::fs::read_to_string(dir.join(FILE)).expect("a file");
        let mut envelope: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let saved: LastGood = serde_json::from_value(envelope["content"].take()).expect("a last good configuration");
        let view = saved.recall().expect("sound");
        let cidrs: Vec<_> =
            view.effective.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr.to_string()).collect();
        assert_eq!(cidrs, ["10.1.6.0/24", "10.1.5.0/24"]);
        assert_eq!((view.hash.as_str(), view.mentioned.len()), ("e1617a3530b1", 2));
    }

    #[test]
    fn a_spec_that_parsing_would_reject_is_refused() {
        let good = LastGood::of(&seen(&GOOD, None)).expect("in force");
        let with = |change: &dyn Fn(&mut Spec)| {
            let mut bad = good.clone();
            change(&mut bad.spec);
            bad.recall().expect_err("refused").to_string()
        };
        let net = |text: &str| text.parse::<Ipv4Net>().expect("a network");
        assert!(with(&|spec| spec.vteps[0].cidr = net("10.1.6.7/24")).contains("host bits"));
        assert!(with(&|spec| spec.vteps[0].cidr = net("10.1.6.0/25")).contains("mask"));
        assert!(with(&|spec| spec.vteps[0].mac = crate::types::mac::Mac::default()).contains("zero"));
        assert!(with(&|spec| spec.vteps[0].endpoint = [224, 0, 0, 1].into()).contains("unicast"));
        assert!(with(&|spec| spec.vteps = vec![spec.vteps[0]; 9]).contains("8"));
        assert!(with(&|spec| spec.vteps = vec![spec.vteps[0]; 2]).contains("overlap"));
        assert!(with(&|spec| spec.mask = Some([255, 0, 255, 0].into())).contains("mask"));
    }
}
