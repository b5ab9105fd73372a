//! Helpers: a client, a watcher, and deadlines.

use std::{pin::Pin, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt, watcher},
};
use vtep_apiserver::{ApiServer, Resource, objects};

pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const NAME: &str = "cilium-config";
const DEADLINE: Duration = Duration::from_secs(60);

/// A server with `cilium-config` of this value, and another ConfigMap that no test requests.
pub(crate) fn server(value: &str) -> Result<ApiServer> {
    let server = ApiServer::start()?;
    server.apply(Resource::ConfigMaps, objects::config_map(NAMESPACE, "other", [("other", "yes")]))?;
    store(&server, value)?;
    Ok(server)
}

/// Stores `cilium-config` with this value.
pub(crate) fn store(server: &ApiServer, value: &str) -> Result<u64> {
    server.apply(Resource::ConfigMaps, objects::config_map(NAMESPACE, NAME, [("key", value)]))
}

/// kube's client without its retries, so that each fault is visible.
pub(crate) async fn client(server: &ApiServer) -> Result<Client> {
    let mut config = config(server).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

pub(crate) async fn config(server: &ApiServer) -> Result<Config> {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig())?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

pub(crate) async fn config_maps(server: &ApiServer) -> Result<Api<ConfigMap>> {
    Ok(Api::namespaced(client(server).await?, NAMESPACE))
}

/// A deadline that fails a test if something never happens.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(DEADLINE, event).await.with_context(|| format!("{what} did not happen in {DEADLINE:?}"))
}

/// kube's watcher with its default backoff, on `cilium-config` alone.
pub(crate) struct Watcher(Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<ConfigMap>>> + Send>>);

impl Watcher {
    pub(crate) async fn start(server: &ApiServer, config: watcher::Config) -> Result<Self> {
        let api = config_maps(server).await?;
        let config = config.fields(&format!("metadata.name={NAME}"));
        Ok(Self(watcher(api, config).default_backoff().boxed()))
    }

    /// Starts the watcher and reads the initial list until the watch is open.
    pub(crate) async fn settled(server: &ApiServer, config: watcher::Config) -> Result<Self> {
        let mut watcher = Self::start(server, config).await?;
        while watcher.word().await? != "init-done" {}
        // The watch opens with the next poll.
        tokio::select! {
            word = watcher.word() => bail!("the watcher said {} before anything happened", word?),
            open = within("the watch", server.watching(1)) => open?,
        }
        Ok(watcher)
    }

    pub(crate) async fn next(&mut self) -> Result<watcher::Result<watcher::Event<ConfigMap>>> {
        within("an event of the watcher", self.0.next()).await?.context("the watcher ended")
    }

    /// The next event as a word with the ConfigMap's value; an error as its text.
    pub(crate) async fn word(&mut self) -> Result<String> {
        let event = match self.next().await? {
            Ok(event) => event,
            Err(error) => return Ok(format!("error {error}")),
        };
        Ok(match event {
            watcher::Event::Init => "init".to_owned(),
            watcher::Event::InitDone => "init-done".to_owned(),
            watcher::Event::InitApply(map) => format!("init-apply {}", value(&map)),
            watcher::Event::Apply(map) => format!("apply {}", value(&map)),
            watcher::Event::Delete(map) => format!("delete {}", value(&map)),
        })
    }

    /// All words up to the first with this value.
    pub(crate) async fn words_until(&mut self, value: &str) -> Result<Vec<String>> {
        let mut words = Vec::new();
        loop {
            words.push(self.word().await?);
            if words.last().is_some_and(|word| word.ends_with(&format!("apply {value}"))) {
                return Ok(words);
            }
        }
    }
}

pub(crate) fn value(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get("key")).map_or("", String::as_str)
}
