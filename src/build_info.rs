//! What was built: version, commit, time and target. `build.rs` records it.

use jiff::Timestamp;
use serde::Serialize;

/// For `--version`: the version, and the commit if it is known.
pub const VERSION: &str = env!("VTEP_BUILD_VERSION");

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildInfo {
    pub version: &'static str,
    /// `null` in builds for development.
    pub commit: Option<&'static str>,
    /// `SOURCE_DATE_EPOCH`, or else the time of the commit: the same sources give the same program.
    pub built_at: Option<Timestamp>,
    pub target: &'static str,
}

impl BuildInfo {
    #[must_use]
    pub fn this() -> Self {
        let known = |text: &'static str| Some(text).filter(|text| !text.is_empty());
        let epoch = known(env!("VTEP_BUILD_EPOCH")).and_then(|epoch| epoch.parse().ok());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: known(env!("VTEP_BUILD_COMMIT")),
            built_at: epoch.and_then(|epoch| Timestamp::from_second(epoch).ok()),
            target: env!("VTEP_BUILD_TARGET"),
        }
    }
}
