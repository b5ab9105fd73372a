//! The last answer of the API server for one selection of objects, and why it may be out of date or missing.

/// The knowledge about one selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached<V> {
    pub known: Option<V>,
    /// Why the knowledge may be out of date or missing.
    pub error: Option<Unknown>,
    /// The watch is open, or there is nothing to watch.
    pub open: bool,
}

/// Why the API server does not deliver a selection, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The agent cannot see it: the right is missing, the API server does not serve the resource, or the object does not exist.
    Withheld(String),
    /// The request failed, or the answer is unreadable: the API server may still have the object.
    Failed(String),
}

impl Unknown {
    pub fn reason(&self) -> &str {
        match self {
            Self::Withheld(reason) | Self::Failed(reason) => reason,
        }
    }

    /// The same reason, prefixed with its subject.
    pub fn about(self, what: &str) -> Self {
        match self {
            Self::Withheld(reason) => Self::Withheld(format!("{what}: {reason}")),
            Self::Failed(reason) => Self::Failed(format!("{what}: {reason}")),
        }
    }
}

impl<V> Default for Cached<V> {
    fn default() -> Self {
        Self { known: None, error: None, open: false }
    }
}

impl<V> Cached<V> {
    /// The API server has not answered yet.
    pub fn is_pending(&self) -> bool {
        self.known.is_none() && self.error.is_none()
    }

    /// Why a fact that the API server may have was never read.
    pub fn unreadable(&self) -> Option<&str> {
        match (&self.known, &self.error) {
            (None, Some(Unknown::Failed(reason))) => Some(reason),
            (None, Some(Unknown::Withheld(_)) | None) | (Some(_), _) => None,
        }
    }
}
