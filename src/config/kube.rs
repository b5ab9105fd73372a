//! The configuration from the API server: one watch on the one ConfigMap, and no polling.
//!
//! An API server that is slow, gone or refuses changes nothing in the kernel: what was seen last stays in force. The loop is our own,
//! because kube's watcher resumes a watch that ends at once without any pause, and needs the right to list.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{WatchEvent, WatchParams},
};
use tokio::{sync::mpsc, time};

use super::{Keys, view::Observed};

/// The pause between two attempts, at least; it doubles with each that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How long the API server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A watch ends by itself after 290 s: one that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(300);

/// The ConfigMap to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

/// A client by the pod's ServiceAccount, or by KUBECONFIG.
///
/// # Errors
///
/// When there are no credentials.
pub async fn client() -> kube::Result<Client> {
    let mut config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    // The client's own retries would hide from the loop what the API server says, and are faster than once a second.
    config.default_retry = false;
    config.connect_timeout = Some(PATIENCE);
    Client::try_from(config)
}

/// One look at the ConfigMap.
pub async fn read(client: Client, name: &Name) -> Observed {
    let api = Api::namespaced(client, &name.namespace);
    get(&api, name).await.unwrap_or_else(|Lost(reason)| Observed::Unreachable(reason))
}

/// Sends what the ConfigMap holds, now and after each change, until the receiver is gone.
pub async fn follow(client: Client, name: Name, updates: mpsc::Sender<Observed>) {
    let api = Api::namespaced(client, &name.namespace);
    let mut teller = Teller { updates, last: None };
    let mut pause = FIRST_PAUSE;
    loop {
        let mut opened = false;
        match watch(&api, &name, &mut teller, &mut opened).await {
            Ok(()) => {}
            Err(End::Lost(Lost(reason))) => {
                if teller.tell(Observed::Unreachable(reason)).await.is_err() {
                    return;
                }
            }
            Err(End::NobodyListens) => return,
        }
        pause = if opened { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
        // A fleet that lost its API server in one moment comes back spread out.
        time::sleep(pause.mul_f64(1.0 + fastrand::f64() / 2.0)).await;
    }
}

/// Why the API server does not tell what is there, in words.
struct Lost(String);

enum End {
    Lost(Lost),
    NobodyListens,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// Passes on what differs from what was passed on before.
struct Teller {
    updates: mpsc::Sender<Observed>,
    last: Option<Observed>,
}

impl Teller {
    async fn tell(&mut self, observed: Observed) -> Result<(), End> {
        if self.last.as_ref() != Some(&observed) {
            self.updates.send(observed.clone()).await.map_err(|_| End::NobodyListens)?;
            self.last = Some(observed);
        }
        Ok(())
    }
}

/// Looks once, and watches until the watch ends. A watch that names no version begins with what is there, so that nothing is lost
/// between the look and the watch; the look tells what a watch cannot: that there is nothing.
async fn watch(api: &Api<ConfigMap>, name: &Name, teller: &mut Teller, opened: &mut bool) -> Result<(), End> {
    teller.tell(get(api, name).await?).await?;
    let params = WatchParams::default().fields(&format!("metadata.name={}", name.name));
    let events = answer(name, "watch", api.watch(&params, "")).await?;
    let mut events = pin!(events);
    *opened = true;
    while let Ok(Some(event)) = time::timeout(SILENCE, events.next()).await {
        match event.map_err(|error| explain(name, "watch", &error))? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => teller.tell(found(name, Some(object))).await?,
            WatchEvent::Deleted(_) => teller.tell(found(name, None)).await?,
            WatchEvent::Bookmark(_) => {}
            // The version is too old: the next look begins anew.
            WatchEvent::Error(status) if status.code == 410 => return Ok(()),
            WatchEvent::Error(status) => {
                return Err(explain(name, "watch", &kube::Error::Api(status)).into());
            }
        }
    }
    Ok(())
}

async fn get(api: &Api<ConfigMap>, name: &Name) -> Result<Observed, Lost> {
    Ok(found(name, answer(name, "get", api.get_opt(&name.name)).await?))
}

/// Waits for an answer, but not for ever.
async fn answer<T>(name: &Name, verb: &str, asked: impl Future<Output = kube::Result<T>>) -> Result<T, Lost> {
    match time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| explain(name, verb, &error)),
        Err(_) => Err(Lost(format!("the API server did not answer within {} s", PATIENCE.as_secs()))),
    }
}

fn found(Name { namespace, name }: &Name, object: Option<ConfigMap>) -> Observed {
    match object {
        Some(object) => Observed::Keys(object.data.unwrap_or_else(Keys::new)),
        None => Observed::Missing(format!(
            "there is no ConfigMap {name} in namespace {namespace}: is Cilium installed there?"
        )),
    }
}

/// A refusal as what is missing, any other failure in its own words.
fn explain(Name { namespace, name }: &Name, verb: &str, error: &kube::Error) -> Lost {
    let kube::Error::Api(status) = error else { return Lost(crate::logging::chain(error).to_string()) };
    Lost(match status.code {
        403 => format!(
            "the API server forbids to {verb} configmaps {name:?} in namespace {namespace:?}: give this agent's ServiceAccount a Role \
             with that verb, resource and name"
        ),
        401 => format!("the API server does not accept this agent's credentials: {}", status.message),
        _ if status.message.is_empty() => "the API server sent something that is no ConfigMap".into(),
        _ => crate::logging::chain(error).to_string(),
    })
}
