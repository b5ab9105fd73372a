//! The parts with other addresses.

use std::collections::BTreeMap;

use vtep_core::{
    bundle::{
        part::{Outcome, Part},
        redact::Redactor,
    },
    config::spec::Tunnel,
};

/// Replaces addresses in all parts. Those for which that is not possible are left out.
pub(super) fn redacted(
    parts: BTreeMap<Part, Outcome>,
    tunnel: Tunnel,
    redactor: &mut Redactor,
) -> BTreeMap<Part, Outcome> {
    let redact = |(part, outcome)| {
        let outcome = match outcome {
            Outcome::Collected(bytes) => match redactor.part(part, &bytes, tunnel) {
                Ok(bytes) => Outcome::Collected(bytes),
                Err(why) => Outcome::LeftOut(why.to_owned()),
            },
            Outcome::Missing(why) => Outcome::Missing(redactor.text(&why)),
            Outcome::LeftOut(why) => Outcome::LeftOut(redactor.text(&why)),
        };
        (part, outcome)
    };
    parts.into_iter().map(redact).collect()
}
