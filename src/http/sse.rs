//! `/events`: the whole status as server-sent events, at each change of a diagnosis and once a second.

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

/// Streams at a time. A client that gets none polls `/status`, as the page does.
const STREAM_LIMIT: usize = 16;
/// Time between two events while no diagnosis changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// A browser reconnects this long after its connection ended.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Limits the number of streams.
pub(super) struct Live {
    permits: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(STREAM_LIMIT)) }
    }
}

/// The state of one stream between two events.
struct Stream {
    sources: Arc<Sources>,
    state: crate::tasks::monitor::AgentState,
    first: bool,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn events(State(sources): State<Arc<Sources>>) -> Response {
    let Ok(permit) = Arc::clone(&sources.live.permits).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many event streams: poll /status instead\n").into_response();
    };
    let state = sources.state.clone();
    let stream = Stream { sources, state, first: true, _permit: permit };
    Sse::new(stream::unfold(stream, next)).into_response()
}

async fn next(mut stream: Stream) -> Option<(Result<Event, Infallible>, Stream)> {
    let max_age = if std::mem::take(&mut stream.first) {
        INTERVAL / 2
    } else {
        tokio::select! {
            changed = stream.state.diagnoses.changed() => {
                changed.ok()?;
                response_cache::MAX_AGE
            }
            () = time::sleep(INTERVAL) => INTERVAL / 2,
        }
    };
    let text = stream.sources.status(max_age).ok()?;
    Some((Ok(Event::default().retry(RECONNECT_DELAY).data(text)), stream))
}
