//! What the API server told of one selection, and why it may be out of date or missing.

/// What is known of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<V> {
    pub known: Option<V>,
    /// Why that may be out of date, or why there is nothing.
    pub error: Option<Unknown>,
    /// The watch is open, or there is nothing to watch.
    pub open: bool,
}

/// Why the API server does not tell a part, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// There is nothing for this agent to see: the right is missing, the resource is not served, or there is no such object.
    Withheld(String),
    /// The request failed, or the answer cannot be read: the API server may know all the same.
    Failed(String),
}

impl Unknown {
    pub fn reason(&self) -> &str {
        match self {
            Self::Withheld(reason) | Self::Failed(reason) => reason,
        }
    }

    /// The same with what it is about.
    pub fn about(self, what: &str) -> Self {
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
    pub fn is_pending(&self) -> bool {
        self.known.is_none() && self.error.is_none()
    }

    /// Why a fact could never be read that the API server may know.
    pub fn unreadable(&self) -> Option<&str> {
        match (&self.known, &self.error) {
            (None, Some(Unknown::Failed(reason))) => Some(reason),
            (None, Some(Unknown::Withheld(_)) | None) | (Some(_), _) => None,
        }
    }
}
