//! A cache for rendered responses: clients that ask within 20 ms share one text, so that frequent requests cost little.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};

/// Cache lifetime of a rendered response.
pub(super) const MAX_AGE: Duration = Duration::from_millis(20);

/// The last text, and when it was rendered.
#[derive(Default)]
pub(super) struct Cache(Mutex<Option<(Instant, Text)>>);

#[derive(Clone)]
pub(super) struct Text(Arc<str>);

impl Cache {
    /// The cached text if it is younger than `max_age`, or else a new one.
    pub(super) fn get<E>(&self, max_age: Duration, render: impl FnOnce() -> Result<String, E>) -> Result<Text, E> {
        // A panic in `render` leaves the cached text as it was.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, text)) if at.elapsed() < max_age => Ok(text.clone()),
            Some(_) | None => {
                let fresh = Text(render()?.into());
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
    /// Without a copy: responses that wait for slow clients share the text.
    fn from(text: Text) -> Self {
        Bytes::from_owner(text).into()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn clients_share_a_text_until_it_is_too_old() {
        let cache = Cache::default();
        let ask = |max_age, text: &str| {
            let Ok(text) = cache.get(max_age, || Ok::<_, Infallible>(text.to_owned()));
            text.0.to_string()
        };
        assert_eq!(ask(Duration::MAX, "first"), "first");
        assert_eq!(ask(Duration::MAX, "second"), "first");
        assert_eq!(ask(Duration::ZERO, "third"), "third");
        assert_eq!(ask(Duration::MAX, "fourth"), "third");
        assert!(cache.get(Duration::ZERO, || Err(())).is_err());
        assert_eq!(ask(Duration::MAX, "fifth"), "third", "errors are not cached");
    }
}
