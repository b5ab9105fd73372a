//! The objects, the version counter, and the log of changes for watches.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

use crate::resource::Resource;

/// The number of retained changes. An open watch reads its changes at once; a new watch that starts before the oldest one gets 410.
const LOG_LIMIT: usize = 10_000;

/// The key of an object. The namespace is empty for cluster-wide objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Selects the objects of a list or a watch.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) resource: Resource,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    /// The object must have all these labels.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Selection {
    /// An object that loses a label disappears without an event; the real server sends `DELETED`.
    fn contains(&self, key: &Key, object: &Value) -> bool {
        key.resource == self.resource
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
            && self.labels.iter().all(|(label, value)| object["metadata"]["labels"][label] == **value)
    }
}

/// One change; `event` is the type of the watch event.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) event: &'static str,
    pub(crate) object: Arc<Value>,
    key: Key,
}

#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Change>,
    version: u64,
    /// Watches cannot start from a version below this one.
    compacted: u64,
    created: u64,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { objects: BTreeMap::new(), log: VecDeque::new(), version: 1, compacted: 1, created: 0 }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    pub(crate) fn list(&self, selection: &Selection) -> Vec<Arc<Value>> {
        let selected = self.objects.iter().filter(|(key, object)| selection.contains(key, object));
        selected.map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Stores an object unchanged except for the metadata that the server sets. As in the real server, an object without a difference
    /// causes no event.
    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        let old = self.objects.get(&key).cloned();
        let owned = self.owned_metadata(&key, old.as_deref());
        if let Some(fields) = object.as_object_mut() {
            fields.entry("kind").or_insert_with(|| json!(key.resource.kind()));
            let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.extend(owned);
            }
        }
        if let Some(old) = old.as_ref().filter(|old| ***old == object) {
            return Arc::clone(old);
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let event = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key.clone(), Arc::clone(&object));
        self.log(event, key, Arc::clone(&object));
        object
    }

    /// Changes the creation time, without an event: a real server never does that. Returns whether the object exists.
    pub(crate) fn backdate(&mut self, key: &Key, at: Timestamp) -> bool {
        let Some(object) = self.objects.get_mut(key) else { return false };
        Arc::make_mut(object)["metadata"]["creationTimestamp"] = json!(at.to_string());
        true
    }

    /// Removes an object and returns its last state, which has the version of the removal.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let mut object = Value::clone(&*self.objects.remove(key)?);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        self.log("DELETED", key.clone(), Arc::clone(&object));
        Some(object)
    }

    /// The changes of a selection after a version, up to which an open watch has sent everything.
    pub(crate) fn changes(&self, selection: &Selection, after: u64) -> Vec<Change> {
        let start = self.log.partition_point(|change| change.version <= after);
        self.log.range(start..).filter(|change| selection.contains(&change.key, &change.object)).cloned().collect()
    }

    /// Whether a version is too old for a watch to start from.
    pub(crate) fn is_too_old(&self, version: u64) -> bool {
        version < self.compacted
    }

    /// Makes every version so far too old to start from.
    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
    }

    fn log(&mut self, event: &'static str, key: Key, object: Arc<Value>) {
        self.log.push_back(Change { version: self.version, event, object, key });
        if self.log.len() > LOG_LIMIT
            && let Some(dropped) = self.log.pop_front()
        {
            self.compacted = self.compacted.max(dropped.version);
        }
    }

    /// Sets name, namespace, uid, creation time and version.
    fn owned_metadata(&mut self, key: &Key, old: Option<&Value>) -> Map<String, Value> {
        let mut metadata = Map::from_iter([("name".to_owned(), json!(key.name))]);
        if !key.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), json!(key.namespace));
        }
        if let Some(old) = old {
            for field in ["uid", "creationTimestamp", "resourceVersion"] {
                metadata.insert(field.to_owned(), old["metadata"][field].clone());
            }
            return metadata;
        }
        self.created += 1;
        let now = Timestamp::now();
        let now = now.round(Unit::Second).unwrap_or(now);
        metadata.insert("uid".to_owned(), json!(format!("00000000-0000-4000-8000-{:012x}", self.created)));
        metadata.insert("creationTimestamp".to_owned(), json!(now.to_string()));
        metadata
    }
}
