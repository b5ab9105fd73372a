//! One open watch: a stream of lines, and the place where its faults happen.

use std::{collections::VecDeque, future, iter, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    connection::Abort,
    fault::{After, Fault},
    objects, query,
    record::Request,
    shared::{Command, OpenWatch, Shared, TooOld, render},
    status::Failure,
    store::{Selection, Store},
};

/// The interval of bookmarks for watches that request them.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The resolution of timers; faster bookmarks come several at a time.
const TICK: Duration = Duration::from_millis(1);

/// An open watch. Dropping it, for example because the client disconnected, removes it from the server's list.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    id: u64,
    selection: Selection,
    request: Request,
    /// The watch has sent everything up to this version.
    cursor: u64,
    lines: VecDeque<Bytes>,
    ending: Option<Ending>,
    paused_until: Option<Instant>,
    bookmarks: Bookmarks,
    deadline: Instant,
    changed: watch::Receiver<u64>,
    commands: mpsc::UnboundedReceiver<Command>,
    abort: mpsc::UnboundedSender<Abort>,
}

/// The state after the queued lines.
#[derive(Debug)]
enum Ending {
    /// The regular end of the body.
    End,
    /// Silence until the next interruption.
    Silence,
    Abort(Abort),
}

#[derive(Debug)]
struct Bookmarks {
    period: Duration,
    at_once: usize,
    next: Option<Instant>,
}

impl Watch {
    /// Opens the watch of a request, and queues the objects that it begins with.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        request: &Request,
        selection: Selection,
        abort: mpsc::UnboundedSender<Abort>,
    ) -> Result<Self, Failure> {
        let initial = query::initial_events(request)?;
        let start = query::start_version(request)?;
        let (sender, commands) = mpsc::unbounded_channel();
        let mut state = shared.state();
        let too_old = start.is_some_and(|version| state.store.is_too_old(version)) && !initial;
        if too_old && state.too_old == TooOld::Status {
            return Err(query::too_old_version(start));
        }
        let cursor = start.filter(|_| !initial).unwrap_or(state.store.version());
        let objects = if initial || start.is_none() { state.store.list(&selection) } else { Vec::new() };
        let resource = selection.resource;
        // The resource may have gone after the handler found it.
        let withdrawn = !resource.versions(state.served).contains(&request.version.as_str());
        let bookmarks = Bookmarks::every(BOOKMARK_INTERVAL, request.flag("allowWatchBookmarks"));
        let id = state.register(OpenWatch { request: request.clone(), resource, commands: sender });
        let mut watch = Self {
            shared: Arc::clone(shared),
            id,
            selection,
            request: request.clone(),
            cursor,
            lines: VecDeque::new(),
            ending: withdrawn.then_some(Ending::End),
            paused_until: None,
            bookmarks,
            deadline: Instant::now() + query::timeout(request),
            changed: shared.changed.subscribe(),
            commands,
            abort,
        };
        shared.watching.send_replace(state.watches.len());
        drop(state);
        watch.begin(&objects, initial);
        if too_old {
            watch.fail(&query::too_old_version(start));
        }
        Ok(watch)
    }

    /// Queues the objects that exist, and if the client asked for it, the bookmark behind them.
    fn begin(&mut self, objects: &[Arc<Value>], is_marked: bool) {
        for object in objects {
            self.push("ADDED", object);
        }
        if is_marked {
            self.bookmark(&json!({ "k8s.io/initial-events-end": "true" }));
        }
    }

    /// Applies a fault from now on.
    pub(crate) fn disturb(&mut self, fault: &Fault) {
        match fault {
            Fault::Unauthorized
            | Fault::Forbidden
            | Fault::NotFound
            | Fault::Gone
            | Fault::TooManyRequests(_)
            | Fault::InternalError
            | Fault::Unavailable => {
                if let Some(failure) = Failure::of(fault, &self.request) {
                    self.fail(&failure);
                }
            }
            Fault::Hang => self.ending = Some(Ending::Silence),
            Fault::Delay(time) => self.paused_until = Some(Instant::now() + *time),
            Fault::HalfLine(after) => self.cut(*after),
            Fault::Reset => self.ending = Some(Ending::Abort(Abort::Reset)),
            Fault::Close => self.ending = Some(Ending::Abort(Abort::Close)),
            Fault::End => self.ending = Some(Ending::End),
            Fault::Bookmarks(rate) => self.bookmarks = Bookmarks::at_rate(*rate),
            Fault::WrongShape => {
                let mut object = self.example();
                objects::spoil(&mut object);
                self.push("MODIFIED", &object);
            }
            Fault::Garbage => self.lines.push_back(Bytes::from_static(GARBAGE)),
            Fault::NotHttp => self.ending = Some(Ending::Abort(Abort::Raw(GARBAGE))),
        }
    }

    /// The lines until the end of the watch.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut watch| async move { watch.next().await.map(|line| (line, watch)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.paused_until.is_none() {
                if let Some(line) = self.lines.pop_front() {
                    return Some(line);
                }
                match self.ending.take() {
                    Some(Ending::End) => return None,
                    Some(Ending::Silence) => {
                        self.interrupted().await;
                        continue;
                    }
                    Some(Ending::Abort(abort)) => abort.now(&self.abort).await,
                    None if self.proceed() => continue,
                    None => {}
                }
            }
            self.wait().await;
        }
    }

    /// Waits for the next event that can produce a line.
    async fn wait(&mut self) {
        let paused = self.paused_until;
        let bookmark = self.bookmarks.next.filter(|_| paused.is_none());
        tokio::select! {
            biased;
            Some(command) = self.commands.recv() => self.obey(&command),
            () = at(paused) => self.paused_until = None,
            Ok(()) = self.changed.changed(), if paused.is_none() => {}
            () = at(bookmark) => self.bookmarks_due(),
            () = sleep_until(self.deadline), if paused.is_none() => self.time_out(),
        }
    }

    async fn interrupted(&mut self) {
        match self.commands.recv().await {
            Some(command) => {
                self.ending = Some(Ending::Silence);
                self.obey(&command);
            }
            None => future::pending().await,
        }
    }

    fn obey(&mut self, command: &Command) {
        match command {
            Command::Fault(fault) => self.disturb(fault),
            Command::Bookmark => self.bookmark_now(),
        }
    }

    /// Executes new commands, or else sends new changes; false if there was neither.
    ///
    /// Commands and changes both happen under the lock, so a command takes effect before later changes.
    fn proceed(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let state = shared.state();
        let commands: Vec<_> = iter::from_fn(|| self.commands.try_recv().ok()).collect();
        if commands.is_empty() {
            return self.catch_up(&state.store);
        }
        drop(state);
        commands.iter().for_each(|command| self.obey(command));
        true
    }

    fn catch_up(&mut self, store: &Store) -> bool {
        let changes = store.changes(&self.selection, self.cursor);
        self.cursor = self.cursor.max(store.version());
        for change in &changes {
            self.push(change.event, &change.object);
        }
        !changes.is_empty()
    }

    fn time_out(&mut self) {
        if self.request.flag("allowWatchBookmarks") {
            self.bookmark_now();
        }
        self.ending = Some(Ending::End);
    }

    fn bookmarks_due(&mut self) {
        for _ in 0..self.bookmarks.at_once {
            self.bookmark_now();
        }
        self.bookmarks.next = Some(Instant::now() + self.bookmarks.period);
    }

    /// A bookmark confirms everything up to its version, so the changes up to it are sent first.
    fn bookmark_now(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.catch_up(&shared.state().store);
        self.bookmark(&json!({}));
    }

    fn bookmark(&mut self, annotations: &Value) {
        let metadata = json!({ "resourceVersion": self.cursor.to_string(), "annotations": annotations });
        self.push("BOOKMARK", &json!({ "kind": self.selection.resource.kind(), "metadata": metadata }));
    }

    fn fail(&mut self, failure: &Failure) {
        self.lines.push_back(line("ERROR", &failure.to_json()));
        self.ending = Some(Ending::End);
    }

    fn push(&mut self, event: &str, object: &Value) {
        let line = line(event, &render(object, &self.api_version()));
        self.lines.push_back(line);
    }

    fn cut(&mut self, after: After) {
        let line = line("MODIFIED", &render(&self.example(), &self.api_version()));
        self.lines.push_back(line.slice(..line.len() / 2));
        self.ending = Some(match after {
            After::Silence => Ending::Silence,
            After::Close => Ending::Abort(Abort::Close),
            After::End => Ending::End,
        });
    }

    /// The first selected object, or an invented one if there is none.
    fn example(&self) -> Value {
        let first = self.shared.state().store.list(&self.selection).into_iter().next();
        first.map_or_else(
            || {
                let name = self.selection.name.as_deref().unwrap_or("example");
                let metadata = json!({ "name": name, "resourceVersion": self.cursor.to_string() });
                json!({ "kind": self.selection.resource.kind(), "metadata": metadata })
            },
            |object| Value::clone(&object),
        )
    }

    fn api_version(&self) -> String {
        self.selection.resource.api_version(&self.selection.version)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

impl Bookmarks {
    fn every(period: Duration, wanted: bool) -> Self {
        Self { period, at_once: 1, next: wanted.then(|| Instant::now() + period) }
    }

    fn at_rate(per_second: u32) -> Self {
        let per_second = per_second.clamp(1, 1_000_000);
        let at_once = usize::try_from(per_second / 1000).unwrap_or(1).max(1);
        Self { period: (Duration::from_secs(1) / per_second).max(TICK), at_once, next: Some(Instant::now()) }
    }
}

/// Bytes that are neither JSON, nor UTF-8, nor HTTP.
pub(crate) const GARBAGE: &[u8] = b"\x00\xff\xfe}{ this is not JSON \xc3\x28\n";

pub(crate) fn line(event: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{event}\",\"object\":{object}}}\n"))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
    }
}
