//! Correct behaviour: lists, watches, bookmarks, streaming lists, versions that are too old.

use anyhow::Result;
use kube::runtime::watcher;
use vtep_apiserver::{Fault, Matcher, Resource, TooOld, Verb};

use crate::help::{NAME, NAMESPACE, Watcher, server, store, within};

#[tokio::test]
async fn one_config_map_over_its_life() -> Result<()> {
    let server = server("a")?;
    let mut watcher = Watcher::settled(&server, watcher::Config::default()).await?;
    store(&server, "b")?;
    assert_eq!(watcher.word().await?, "apply b");
    assert!(server.delete(Resource::ConfigMaps, NAMESPACE, NAME));
    assert_eq!(watcher.word().await?, "delete b");
    store(&server, "c")?;
    assert_eq!(watcher.word().await?, "apply c");

    let requests = server.requests();
    let seen: Vec<_> = requests.iter().map(|request| (request.verb, request.query.as_str())).collect();
    let list = "&fieldSelector=metadata.name%3Dcilium-config&limit=500";
    let watch = "&watch=true&timeoutSeconds=290&fieldSelector=metadata.name%3Dcilium-config&allowWatchBookmarks=true\
                 &resourceVersion=3";
    assert_eq!(seen, [(Verb::List, list), (Verb::Watch, watch)]);
    drop(watcher);
    within("the end of the watch", server.watching(0)).await
}

#[tokio::test]
async fn a_missing_config_map_appears() -> Result<()> {
    let server = server("a")?;
    server.delete(Resource::ConfigMaps, NAMESPACE, NAME);
    let mut watcher = Watcher::start(&server, watcher::Config::default()).await?;
    assert_eq!([watcher.word().await?, watcher.word().await?], ["init", "init-done"]);
    store(&server, "b")?;
    assert_eq!(watcher.word().await?, "apply b");
    Ok(())
}

#[tokio::test]
async fn streaming_list() -> Result<()> {
    let server = server("a")?;
    let mut watcher = Watcher::start(&server, watcher::Config::default().streaming_lists()).await?;
    let words = [watcher.word().await?, watcher.word().await?, watcher.word().await?];
    assert_eq!(words, ["init", "init-apply a", "init-done"]);
    store(&server, "b")?;
    assert_eq!(watcher.word().await?, "apply b");
    assert_eq!(server.requests().iter().map(|request| request.verb).collect::<Vec<_>>(), [Verb::Watch]);
    Ok(())
}

#[tokio::test]
async fn a_bookmark_moves_the_version_from_which_the_watch_resumes() -> Result<()> {
    let server = server("a")?;
    let mut watcher = Watcher::settled(&server, watcher::Config::default()).await?;
    server.delete(Resource::ConfigMaps, NAMESPACE, "other");
    server.bookmark(&Matcher::all());
    assert_eq!(server.interrupt(&Matcher::all(), &Fault::End), 1);
    let second = Matcher::all().verb(Verb::Watch);
    tokio::select! {
        word = watcher.word() => anyhow::bail!("the watcher said {}", word?),
        seen = within("the second watch", server.seen(&second, 2)) => seen?,
    }
    let versions: Vec<_> =
        server.requests().iter().filter_map(|request| request.parameter("resourceVersion")).collect();
    assert_eq!(versions, ["3", "4"]);
    Ok(())
}

#[tokio::test]
async fn a_watch_ends_after_its_time() -> Result<()> {
    let server = server("a")?;
    let mut watcher = Watcher::settled(&server, watcher::Config::default().timeout(1)).await?;
    tokio::select! {
        word = watcher.word() => anyhow::bail!("the watcher said {}", word?),
        seen = within("the second watch", server.seen(&Matcher::all().verb(Verb::Watch), 2)) => seen?,
    }
    let [.., first, second] = &server.requests()[..] else { anyhow::bail!("two watches") };
    assert!(second.instant - first.instant >= std::time::Duration::from_secs(1));
    store(&server, "b")?;
    assert_eq!(watcher.word().await?, "apply b");
    Ok(())
}

#[tokio::test]
async fn an_old_version_as_an_event_leads_to_a_new_list() -> Result<()> {
    let server = server("a")?;
    let mut watcher = Watcher::settled(&server, watcher::Config::default()).await?;
    store(&server, "b")?;
    assert_eq!(watcher.word().await?, "apply b");
    server.compact(TooOld::Event);
    server.interrupt(&Matcher::all(), &Fault::End);
    let words = watcher.words_until("b").await?;
    assert!(words[0].contains("too old resource version: 4"), "{words:?}");
    assert_eq!(words[1..], ["init", "init-apply b"]);
    Ok(())
}

/// kube 5 lists again only after an `ERROR` event; after a refusal with HTTP 410, it retries the watch with the same version.
#[tokio::test]
async fn an_old_version_as_a_status_is_repeated_by_kube() -> Result<()> {
    let server = server("a")?;
    let mut watcher = Watcher::settled(&server, watcher::Config::default()).await?;
    server.compact(TooOld::Status);
    server.interrupt(&Matcher::all(), &Fault::End);
    for _ in 0..2 {
        let word = watcher.word().await?;
        assert!(word.contains("failed to start watching object") && word.contains("too old"), "{word}");
    }
    let lists = server.requests().iter().filter(|request| request.verb == Verb::List).count();
    assert_eq!(lists, 1);
    Ok(())
}
