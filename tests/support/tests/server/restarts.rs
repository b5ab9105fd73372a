//! A server that stops and resumes on its port.

use anyhow::{Context, Result};
use kube::{Error, runtime::watcher};

use crate::help::{NAME, Watcher, config_maps, server, store, within};

#[tokio::test]
async fn connections_are_refused_in_between() -> Result<()> {
    let server = server("a")?;
    let api = config_maps(&server).await?;
    api.get(NAME).await?;
    for _ in 0..3 {
        server.stop()?;
        let error = within("an answer", api.get(NAME)).await?.err().context("nobody listens")?;
        let Error::Service(error) = error else { anyhow::bail!("unexpected: {error:?}") };
        let error = format!("{:#}", anyhow::Error::from_boxed(error));
        assert!(error.contains("Connection refused"), "{error}");
        server.resume()?;
        within("an answer", api.get(NAME)).await??;
    }
    Ok(())
}

#[tokio::test]
async fn a_watcher_comes_back() -> Result<()> {
    let server = server("a")?;
    let mut watcher = Watcher::settled(&server, watcher::Config::default()).await?;
    server.stop()?;
    assert_eq!(server.open_watches(), 0);
    store(&server, "b")?;
    let word = watcher.word().await?;
    assert!(word.starts_with("error failed to start watching object"), "{word}");
    server.resume()?;
    let words = watcher.words_until("b").await?;
    assert_eq!(words.last().map(String::as_str), Some("apply b"));
    Ok(())
}

#[test]
fn a_dropped_server_leaves_its_port() -> Result<()> {
    let address = server("a")?.address();
    assert!(std::net::TcpStream::connect(address).is_err());
    Ok(())
}
