//! `/events`: the whole status as server-sent events, at each change of a verdict and once a second.

use std::{convert::Infallible, sync::Arc, time::Duration};

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

use super::{Sources, response_cache};

/// Streams at a time. Who gets none asks for `/status` now and then, as the page does.
const STREAMS: usize = 16;
/// Without a change.
const PACE: Duration = Duration::from_secs(1);
/// Browsers come back after so long; a stream ends with its connection.
const RETRY: Duration = Duration::from_secs(1);

/// Room for streams.
pub(super) struct Live {
    places: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(STREAMS)) }
    }
}

/// What one stream goes on with.
struct Stream {
    sources: Arc<Sources>,
    board: crate::tasks::monitor::Board,
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
                response_cache::MOMENT
            }
            () = time::sleep(PACE) => PACE / 2,
        }
    };
    let text = stream.sources.status(not_older).ok()?;
    Some((Ok(Event::default().retry(RETRY).data(text)), stream))
}
