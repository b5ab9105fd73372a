//! `/events`: the whole status as server-sent events, at each change of a verdict and once a second.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::Sources;

/// Streams at a time. Who gets none asks for `/status` now and then, as the page does.
const STREAMS: usize = 16;
/// Without a change.
const PACE: Duration = Duration::from_secs(1);
/// Browsers come back after so long; a stream ends with its connection.
const RETRY: Duration = Duration::from_secs(1);

/// Room for streams, and the text that all of them send.
pub(super) struct Live {
    places: Arc<Semaphore>,
    /// The status as JSON, and when it was.
    text: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(STREAMS)), text: Mutex::default() }
    }
}

impl Live {
    /// Written once for all streams: each takes what is not older than this.
    fn text(&self, sources: &Sources, not_older: Duration) -> Result<Arc<str>, serde_json::Error> {
        // Whoever panicked wrote nothing.
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        match &*text {
            Some((at, text)) if at.elapsed() < not_older => Ok(Arc::clone(text)),
            Some(_) | None => {
                let fresh: Arc<str> = serde_json::to_string(&sources.board.status())?.into();
                *text = Some((Instant::now(), Arc::clone(&fresh)));
                Ok(fresh)
            }
        }
    }
}

/// What one stream goes on with.
struct Stream {
    sources: Arc<Sources>,
    board: crate::monitor::Board,
    first: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn events(State(sources): State<Arc<Sources>>) -> Response {
    let Ok(place) = Arc::clone(&sources.live.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many listen already: ask for /status\n").into_response();
    };
    let board = sources.board.clone();
    let stream = Stream { sources, board, first: true, _place: place };
    Sse::new(stream::unfold(stream, next)).into_response()
}

async fn next(mut stream: Stream) -> Option<(Result<Event, Infallible>, Stream)> {
    let not_older = if std::mem::take(&mut stream.first) {
        PACE / 2
    } else {
        tokio::select! {
            changed = stream.board.diagnoses.changed() => {
                changed.ok()?;
                Duration::from_millis(20)
            }
            () = time::sleep(PACE) => PACE / 2,
        }
    };
    let text = stream.sources.live.text(&stream.sources, not_older).ok()?;
    Some((Ok(Event::default().retry(RETRY).data(&*text)), stream))
}
