//! Many watchers on one server.

use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures_util::{TryStreamExt, future::try_join_all};
use kube::api::{WatchEvent, WatchParams};
use kube::runtime::watcher;
use vtep_apiserver::{Matcher, Verb};

use crate::help::{NAME, Watcher, config_maps, server, store, value, within};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_watchers_see_a_change() -> Result<()> {
    let server = server("a")?;
    let watchers = (0..50).map(|_| async {
        let mut watcher = Watcher::start(&server, watcher::Config::default()).await?;
        watcher.words_until("b").await
    });
    let change = async {
        within("the watches", server.watching(50)).await?;
        store(&server, "b")
    };
    let (words, change) = tokio::join!(try_join_all(watchers), change);
    change?;
    for words in words? {
        assert_eq!(words, ["init", "init-apply a", "init-done", "apply b"]);
    }
    assert_eq!(server.requests().len(), 100);
    within("the end of the watches", server.watching(0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_watches_at_once() -> Result<()> {
    let server = server("a")?;
    let parameters = WatchParams::default().fields(&format!("metadata.name={NAME}"));
    let watches = (0..500).map(|_| async {
        let api = config_maps(&server).await?;
        let mut stream = pin!(api.watch(&parameters, "3").await?);
        let event = within("the change", stream.try_next()).await??.context("the watch ended")?;
        ensure!(matches!(&event, WatchEvent::Modified(map) if value(map) == "b"), "{event:?}");
        Ok(())
    });
    let change = async {
        within("the watches", server.watching(500)).await?;
        store(&server, "b")
    };
    let (watches, change) = tokio::join!(try_join_all(watches), change);
    watches.and(change)?;
    assert_eq!(server.requests().iter().filter(|one| Matcher::all().verb(Verb::Watch).matches(one)).count(), 500);
    Ok(())
}
