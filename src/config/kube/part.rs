//! What the API server told of one selection, and why it may be out of date or missing.

use super::gate::Lost;

/// What is known of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<V> {
    pub(super) known: Option<V>,
    /// Why that may be out of date, or why there is nothing.
    pub(super) error: Option<Unknown>,
    /// The watch is open, or there is nothing to watch.
    pub(super) open: bool,
}

/// Why the API server does not tell a part, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// There is nothing for this agent to see: the right is missing, the resource is not served, or there is no such object.
    Withheld(String),
    /// The request failed, or the answer cannot be read: the API server may know all the same.
    Failed(String),
}

impl Unknown {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Withheld(reason) | Self::Failed(reason) => reason,
        }
    }

    pub(super) fn of(lost: Lost) -> Self {
        match lost {
            Lost::Answered { code: 403, reason } => Self::Withheld(reason),
            Lost::Answered { reason, .. } | Lost::Away(reason) => Self::Failed(reason),
        }
    }

    /// The same with what it is about.
    pub(super) fn about(self, what: &str) -> Self {
        match self {
            Self::Withheld(reason) => Self::Withheld(format!("{what}: {reason}")),
            Self::Failed(reason) => Self::Failed(format!("{what}: {reason}")),
        }
    }
}

impl<V> Default for Part<V> {
    fn default() -> Self {
        Self { known: None, error: None, open: false }
    }
}

impl<V> Part<V> {
    /// The API server has not answered yet.
    pub(super) fn is_pending(&self) -> bool {
        self.known.is_none() && self.error.is_none()
    }

    /// Why a fact could never be read that the API server may know.
    pub(super) fn unreadable(&self) -> Option<&str> {
        match (&self.known, &self.error) {
            (None, Some(Unknown::Failed(reason))) => Some(reason),
            (None, Some(Unknown::Withheld(_)) | None) | (Some(_), _) => None,
        }
    }
}
