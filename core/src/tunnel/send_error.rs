//! Why a probe could not be sent.

use std::io;

/// "No buffer space available" (`asm-generic/errno.h`).
const ENOBUFS: i32 = 105;
/// "Operation not permitted" (`asm-generic/errno-base.h`).
const EPERM: i32 = 1;

/// Why a probe could not be sent. The far end was asked nothing, so its silence proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    errno: Option<i32>,
    message: String,
}

impl SendError {
    /// Whether a program on the device dropped the probe (`ENOBUFS`).
    #[must_use]
    pub fn is_drop(&self) -> bool {
        self.errno == Some(ENOBUFS)
    }

    /// Whether this node's own firewall refused the probe (`EPERM`).
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.errno == Some(EPERM)
    }
}

impl From<&io::Error> for SendError {
    fn from(error: &io::Error) -> Self {
        Self { errno: error.raw_os_error(), message: error.to_string() }
    }
}
