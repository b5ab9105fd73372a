//! The parts with other addresses.

use std::collections::BTreeMap;

use vtep_core::bundle::{
    part::{Outcome, Part},
    redact::Redactor,
};

/// Replaces addresses in all parts. Bytes of maps are left out: nobody knows where an unknown layout has its addresses.
pub(super) fn redacted(parts: BTreeMap<Part, Outcome>, redactor: &mut Redactor) -> BTreeMap<Part, Outcome> {
    let redact = |(part, outcome)| {
        let outcome = match (part, outcome) {
            (Part::VtepMapRaw | Part::IpcacheRaw, Outcome::Collected(_)) => Outcome::LeftOut(
                "the bytes of a map have addresses, and --redact replaces them only where it knows them".into(),
            ),
            // The frames have other addresses already.
            (Part::Capture, outcome @ Outcome::Collected(_)) => outcome,
            (_, Outcome::Collected(bytes)) => {
                Outcome::Collected(redactor.text(&String::from_utf8_lossy(&bytes)).into_bytes())
            }
            (_, Outcome::Missing(why)) => Outcome::Missing(redactor.text(&why)),
            (_, Outcome::LeftOut(why)) => Outcome::LeftOut(redactor.text(&why)),
        };
        (part, outcome)
    };
    parts.into_iter().map(redact).collect()
}
