//! Each fault as a client sees it, and the recovery of the watcher.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::{
    Error,
    runtime::{WatchStreamExt, watcher},
};
use vtep_apiserver::{After, Fault, Matcher, Resource, Times, Verb, objects};

use crate::help::{NAME, NAMESPACE, Watcher, config, config_maps, server, store, value, within};

/// The result of a get by a client without retries.
async fn get(fault: Fault) -> Result<String> {
    let server = server("a")?;
    server.misbehave(Matcher::all().verb(Verb::Get), fault, Times::Next(1));
    let api = config_maps(&server).await?;
    let first = within("an answer", api.get(NAME)).await?;
    let second =
        within("a second answer", api.get(NAME)).await?.context("the second request should have been answered")?;
    assert_eq!(value(&second), "a");
    Ok(match first {
        Ok(map) => value(&map).to_owned(),
        Err(Error::Api(status)) => format!("{} {}: {}", status.code, status.reason, status.message),
        Err(Error::SerdeError(error)) => format!("serde: {error}"),
        Err(Error::FromUtf8(error)) => format!("utf-8: {error}"),
        Err(Error::HyperError(error)) => format!("hyper: {error}"),
        Err(Error::Service(error)) => format!("service: {:#}", anyhow::Error::from_boxed(error)),
        Err(error) => bail!("unexpected: {error:?}"),
    })
}

#[tokio::test]
async fn refusals_and_broken_answers() -> Result<()> {
    let forbidden = "403 Forbidden: configmaps \"cilium-config\" is forbidden: User \
                     \"system:serviceaccount:kube-system:vtep-agent\" cannot get resource \"configmaps\" in API group \"\" in \
                     the namespace \"kube-system\"";
    let table = [
        (Fault::Unauthorized, "401 Unauthorized: Unauthorized"),
        (Fault::Forbidden, forbidden),
        (Fault::NotFound, "404 NotFound: configmaps \"cilium-config\" not found"),
        (Fault::Gone, "410 Expired: too old resource version"),
        (Fault::TooManyRequests(7), "429 TooManyRequests: Too many requests"),
        (Fault::InternalError, "500 InternalError: Internal error occurred"),
        (Fault::Unavailable, "503 ServiceUnavailable: apiserver not ready"),
        (Fault::WrongShape, "serde: invalid type: sequence, expected a map"),
        (Fault::Garbage, "utf-8: invalid utf-8 sequence"),
        (Fault::End, "serde: EOF while parsing"),
        (Fault::HalfLine(After::Close), "service: error reading a body from connection"),
        (Fault::Reset, "service: client error (SendRequest): connection error: Connection reset by peer"),
        (Fault::Close, "service: client error (SendRequest): connection closed before message completed"),
        (Fault::NotHttp, "service: client error (SendRequest): invalid HTTP version parsed"),
        (Fault::Delay(Duration::from_millis(1)), "a"),
    ];
    for (fault, expected) in table {
        let seen = get(fault.clone()).await?;
        assert!(seen.starts_with(expected), "{fault:?} should be\n  {expected}, but is\n  {seen}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_that_do_not_come() -> Result<()> {
    for fault in [Fault::Hang, Fault::HalfLine(After::Silence)] {
        let server = server("a")?;
        server.misbehave(Matcher::all(), fault.clone(), Times::Always);
        let api = config_maps(&server).await?;
        let hanging = tokio::spawn(async move { api.get(NAME).await });
        within("the request", server.seen(&Matcher::all(), 1)).await?;
        server.behave();
        let api = config_maps(&server).await?;
        assert_eq!(value(&within("an answer to somebody else", api.get(NAME)).await??), "a");
        assert!(!hanging.is_finished(), "{fault:?}");
        hanging.abort();
    }
    Ok(())
}

#[tokio::test]
async fn a_delay_is_as_long_as_told() -> Result<()> {
    let server = server("a")?;
    server.misbehave(Matcher::all(), Fault::Delay(Duration::from_millis(300)), Times::Next(1));
    let started = Instant::now();
    within("an answer", config_maps(&server).await?.get(NAME)).await??;
    assert!(started.elapsed() >= Duration::from_millis(300));
    Ok(())
}

/// kube's default retries hide 429 and 503 from the layers above, and obey `Retry-After`.
#[tokio::test]
async fn retries_inside_the_client() -> Result<()> {
    let server = server("a")?;
    server.misbehave(Matcher::all(), Fault::TooManyRequests(1), Times::Next(1));
    server.misbehave(Matcher::all(), Fault::Unavailable, Times::Next(2));
    let client = kube::Client::try_from(config(&server).await?)?;
    let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(client, NAMESPACE);
    assert_eq!(value(&within("an answer", api.get(NAME)).await??), "a");
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[1].instant - requests[0].instant >= Duration::from_secs(1));
    Ok(())
}

/// Disturbs an open watch, then changes the object. Returns the watcher's events until it saw the change.
async fn interrupted(fault: &Fault, config: watcher::Config) -> Result<Vec<String>> {
    let server = server("a")?;
    let mut watcher = Watcher::settled(&server, config).await?;
    assert_eq!(server.interrupt(&Matcher::all(), fault), 1);
    store(&server, "b")?;
    watcher.words_until("b").await
}

#[tokio::test]
async fn open_watches_that_break() -> Result<()> {
    let relist = ["error error returned by apiserver during watch: too old resource version", "init", "init-apply b"];
    let table: [(Fault, &[&str]); 12] = [
        (Fault::Gone, &relist),
        (Fault::InternalError, &["error error returned by apiserver during watch: Internal error", "apply b"]),
        (
            Fault::Forbidden,
            &["error error returned by apiserver during watch: configmaps \"cilium-config\"", "apply b"],
        ),
        (Fault::End, &["apply b"]),
        (Fault::Close, &["apply b"]),
        (Fault::HalfLine(After::End), &["apply b"]),
        (Fault::HalfLine(After::Close), &["apply b"]),
        (Fault::Reset, &["error watch stream failed: Error reading events stream", "apply b"]),
        (Fault::NotHttp, &["error watch stream failed: Error reading events stream", "apply b"]),
        (Fault::Garbage, &["error watch stream failed: Error reading events stream", "apply b"]),
        // kube parses a line that is not an event as a `Status`, whose fields all have defaults.
        (Fault::WrongShape, &["error watch stream failed: ApiError: :", "apply b"]),
        (Fault::Delay(Duration::from_millis(10)), &["apply b"]),
    ];
    for (fault, expected) in table {
        let words =
            interrupted(&fault, watcher::Config::default()).await.with_context(|| format!("after {fault:?}"))?;
        let alike =
            words.len() == expected.len() && words.iter().zip(expected).all(|(word, start)| word.starts_with(start));
        assert!(alike, "{fault:?} should be\n  {expected:?}, but is\n  {words:?}");
    }
    Ok(())
}

/// The watcher notices silence five seconds after the requested end of the watch.
#[tokio::test]
async fn open_watches_that_fall_silent() -> Result<()> {
    let config = watcher::Config::default().timeout(1);
    let (hang, half) = tokio::join!(
        interrupted(&Fault::Hang, config.clone()),
        interrupted(&Fault::HalfLine(After::Silence), config.clone())
    );
    assert_eq!((hang?, half?), (vec!["apply b".to_owned()], vec!["apply b".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn requests_that_fail_for_a_while() -> Result<()> {
    let faults = [
        Fault::Unauthorized,
        Fault::Forbidden,
        Fault::NotFound,
        Fault::TooManyRequests(1),
        Fault::InternalError,
        Fault::Unavailable,
        Fault::Reset,
        Fault::Close,
        Fault::NotHttp,
        Fault::WrongShape,
        Fault::Garbage,
        Fault::End,
        Fault::HalfLine(After::Close),
    ];
    let cases = faults.into_iter().map(|fault| async move {
        let server = server("a")?;
        server.misbehave(Matcher::all().verb(Verb::List), fault.clone(), Times::Next(1));
        server.misbehave(Matcher::all().verb(Verb::Watch), fault.clone(), Times::Next(1));
        let mut watcher = Watcher::start(&server, watcher::Config::default()).await?;
        let words = watcher.words_until("a").await?;
        assert!(words[1].starts_with("error failed to perform initial object list"), "{fault:?}: {words:?}");
        store(&server, "b")?;
        watcher.words_until("b").await.with_context(|| format!("after {fault:?}"))?;
        let faults = server.requests().iter().filter(|request| request.fault.as_ref() == Some(&fault)).count();
        anyhow::ensure!(faults == 2, "{fault:?} happened {faults} times");
        Ok(())
    });
    futures_util::future::try_join_all(cases).await.map(|_| ())
}

#[tokio::test]
async fn bookmarks_without_end() -> Result<()> {
    let server = server("a")?;
    server.misbehave(Matcher::all().verb(Verb::Watch), Fault::Bookmarks(5000), Times::Always);
    let api = config_maps(&server).await?;
    let mut stream = std::pin::pin!(api.watch(&kube::api::WatchParams::default(), "3").await?);
    let started = Instant::now();
    for _ in 0..1000 {
        let event = within("a bookmark", futures_util::TryStreamExt::try_next(&mut stream)).await??;
        assert!(matches!(event, Some(kube::api::WatchEvent::Bookmark(_))), "{event:?}");
    }
    assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());
    let mut watcher = Watcher::start(&server, watcher::Config::default()).await?;
    watcher.words_until("a").await?;
    store(&server, "b")?;
    assert_eq!(watcher.words_until("b").await?, ["init-done", "apply b"]);
    Ok(())
}

#[tokio::test]
async fn objects_that_are_stored_wrong_or_large() -> Result<()> {
    let server = server("a")?;
    let api = config_maps(&server).await?;
    let mut wrong = objects::config_map(NAMESPACE, NAME, []);
    wrong["data"] = vec!["no map"].into();
    server.apply(Resource::ConfigMaps, wrong)?;
    let error = api.get(NAME).await.err().context("a list is no map")?;
    assert!(matches!(error, Error::SerdeError(_)), "{error:?}");

    server.apply(Resource::ConfigMaps, objects::large_config_map(NAMESPACE, NAME, [("key", "b")]))?;
    let watcher = watcher(api.clone(), watcher::Config::default().fields(&format!("metadata.name={NAME}")));
    let mut objects = std::pin::pin!(watcher.applied_objects());
    let map = within("the object", futures_util::TryStreamExt::try_next(&mut objects)).await??.context("no object")?;
    let bytes: usize = map.data.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!(bytes, 1024 * 1024);
    Ok(())
}
