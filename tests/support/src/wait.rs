//! Waits for acts of clients, with and without a runtime.

use std::{sync::Arc, sync::mpsc::sync_channel, time::Duration};

use anyhow::{Context, Result};

use crate::{fault::Matcher, server::ApiServer, shared::Shared};

impl ApiServer {
    /// Waits until this many matching requests are recorded since the start or the last [`ApiServer::clear_requests`].
    pub fn seen(&self, matcher: &Matcher, count: usize) -> impl Future<Output = ()> + Send + use<> {
        seen(Arc::clone(&self.shared), matcher.clone(), count)
    }

    /// Waits until exactly this many watches are open.
    pub fn watching(&self, count: usize) -> impl Future<Output = ()> + Send + use<> {
        watching(Arc::clone(&self.shared), count)
    }

    /// [`ApiServer::seen`] for tests without a runtime; blocks the thread.
    ///
    /// # Errors
    ///
    /// The time is over.
    pub fn wait_seen(&self, matcher: &Matcher, count: usize, limit: Duration) -> Result<()> {
        self.wait(self.seen(matcher, count), limit)
            .with_context(|| format!("{count} requests like {matcher:?} did not come within {limit:?}"))
    }

    /// [`ApiServer::watching`] for tests without a runtime; blocks the thread.
    ///
    /// # Errors
    ///
    /// The time is over.
    pub fn wait_watching(&self, count: usize, limit: Duration) -> Result<()> {
        self.wait(self.watching(count), limit)
            .with_context(|| format!("{} watches are open after {limit:?}, not {count}", self.open_watches()))
    }

    fn wait(&self, event: impl Future<Output = ()> + Send + 'static, limit: Duration) -> Result<()> {
        let (done, waited) = sync_channel(1);
        let task = self.runtime.spawn(async move {
            event.await;
            // After the deadline, nobody receives the result.
            let _ = done.send(());
        });
        waited.recv_timeout(limit).inspect_err(|_| task.abort()).context("the time is over")
    }
}

async fn seen(shared: Arc<Shared>, matcher: Matcher, count: usize) {
    let mut recorded = shared.recorded.subscribe();
    let enough = || shared.state().requests.iter().filter(|request| matcher.matches(request)).count() >= count;
    while !enough() {
        // The sender lives in `shared`, so this cannot fail.
        let _ = recorded.changed().await;
    }
}

async fn watching(shared: Arc<Shared>, count: usize) {
    let mut watching = shared.watching.subscribe();
    // The sender lives in `shared`, so this cannot fail.
    let _ = watching.wait_for(|open| *open == count).await;
}
