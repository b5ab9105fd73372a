//! A text that many may ask for at once: written once for all of them, so that asking often costs little.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};

/// What is not older says the same as what would be written anew.
pub(super) const MOMENT: Duration = Duration::from_millis(20);

/// The text that was written last, and when.
#[derive(Default)]
pub(super) struct Shared(Mutex<Option<(Instant, Text)>>);

#[derive(Clone)]
pub(super) struct Text(Arc<str>);

impl Shared {
    /// The last text, unless it is older than this.
    pub(super) fn get<E>(&self, not_older: Duration, write: impl FnOnce() -> Result<String, E>) -> Result<Text, E> {
        // Whoever panicked wrote nothing.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, text)) if at.elapsed() < not_older => Ok(text.clone()),
            Some(_) | None => {
                let fresh = Text(write()?.into());
                *last = Some((Instant::now(), fresh.clone()));
                Ok(fresh)
            }
        }
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<Text> for Body {
    /// Without a copy: an answer that nobody takes holds no text of its own.
    fn from(text: Text) -> Self {
        Bytes::from_owner(text).into()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_text_is_written_once_for_all_who_ask_in_time() {
        let shared = Shared::default();
        let ask = |not_older, text: &str| {
            let Ok(text) = shared.get(not_older, || Ok::<_, Infallible>(text.to_owned()));
            text.0.to_string()
        };
        assert_eq!(ask(Duration::MAX, "first"), "first");
        assert_eq!(ask(Duration::MAX, "second"), "first");
        assert_eq!(ask(Duration::ZERO, "third"), "third");
        assert_eq!(ask(Duration::MAX, "fourth"), "third");
        assert!(shared.get(Duration::ZERO, || Err(())).is_err());
        assert_eq!(ask(Duration::MAX, "fifth"), "third", "what failed is not kept");
    }
}
