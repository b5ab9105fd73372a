//! Limits the length of the API server's answers, because the agent has only 48 MiB of memory. An object has at most 1.5 MiB.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{TryFutureExt, future::MapOk};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, SizeHint},
};
use kube::client::Body as RequestBody;
use tower::{Layer, Service};

/// The maximum length of an answer, or of one event of a watch, in bytes.
const LIMIT: usize = 4 << 20;

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("the API server's answer has more than {LIMIT} bytes, the limit")]
struct TooLong;

/// The layer that limits the answers of a client.
#[derive(Clone, Copy)]
pub(super) struct Bounded;

impl<S> Layer<S> for Bounded {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundedService(inner)
    }
}

#[derive(Clone)]
pub(super) struct BoundedService<S>(S);

impl<S, B> Service<Request<RequestBody>> for BoundedService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    type Response = Response<Answer<B>>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<B>) -> Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let is_watch = request.uri().query().is_some_and(|query| query.split('&').any(|word| word == "watch=true"));
        let bounded: fn(Response<B>) -> Self::Response = if is_watch { watched } else { whole };
        self.0.call(request).map_ok(bounded)
    }
}

fn whole<B>(response: Response<B>) -> Response<Answer<B>> {
    response.map(|inner| Answer { inner, is_watch: false, taken: 0 })
}

fn watched<B>(response: Response<B>) -> Response<Answer<B>> {
    response.map(|inner| Answer { inner, is_watch: true, taken: 0 })
}

/// The body of an answer. It ends with an error beyond the limit.
pub(super) struct Answer<B> {
    inner: B,
    /// A watch is endless and has one event per line, so the limit applies to each line.
    is_watch: bool,
    /// The length of the answer, or of the current line, so far.
    taken: usize,
}

impl<B> Answer<B> {
    /// Counts these bytes; false if they exceed the limit.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let lines: &mut dyn Iterator<Item = &[u8]> =
            if self.is_watch { &mut bytes.split(|byte| *byte == b'\n') } else { &mut std::iter::once(bytes) };
        for (n, line) in lines.enumerate() {
            self.taken = if n == 0 { self.taken.saturating_add(line.len()) } else { line.len() };
            if self.taken > LIMIT {
                return false;
            }
        }
        true
    }
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(cx).map(|frame| {
            let frame = match frame? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error.into())),
            };
            let fits = frame.data_ref().is_none_or(|bytes| self.takes(bytes));
            Some(if fits { Ok(frame) } else { Err(TooLong.into()) })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_and_a_watch_by_the_line() {
        let answer = |is_watch| Answer { inner: (), is_watch, taken: 0 };
        let half = vec![b'x'; LIMIT / 2];
        let mut event = half.clone();
        event.push(b'\n');
        for is_watch in [false, true] {
            let mut answer = answer(is_watch);
            assert!(answer.takes(&half) && answer.takes(&half), "as much as it may");
            assert!(!answer.takes(b"x"), "one byte more");
        }
        let mut watch = answer(true);
        assert!((0..100).all(|_| watch.takes(&event)), "a watch goes on");
        let mut whole = answer(false);
        assert!(!(0..100).all(|_| whole.takes(&event)), "an answer of many lines is one answer");
    }
}
