//! `CiliumNodeConfig`.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Contents,
    config_map::{setting, strict},
};
use crate::config::{
    Keys,
    document::NodeConfig,
    manifest::{ManifestError, node::Value, part::Part},
    selector::Selector,
    text::Place,
};

/// A `CiliumNodeConfig` of an input, and where its values stand.
#[derive(Clone, Debug)]
pub struct NodeConfigObject {
    pub namespace: Option<String>,
    pub config: NodeConfig,
    pub places: BTreeMap<String, Place>,
    pub file: Arc<str>,
}

impl Contents {
    pub(super) fn add_node_config(&mut self, part: &Part<'_>) -> Result<(), ManifestError> {
        let name = part.text_at("metadata.name").unwrap_or("without a name").to_owned();
        let namespace = part.text_at("metadata.namespace").map(str::to_owned);
        let problem = |problem: String| ManifestError::NodeConfig { name: name.clone(), problem };
        let selector = part.at("spec.nodeSelector").map_or(serde_json::Value::Null, |part| part.node.clone().json());
        let selector: Option<Selector> =
            serde_json::from_value(selector).map_err(|error| problem(error.to_string()))?;
        let (mut defaults, mut places) = (Keys::new(), BTreeMap::new());
        if let Some(part) = part.at("spec.defaults") {
            match part.node.value {
                Value::Map(_) | Value::Null => {}
                Value::Text(_) | Value::Bare(_, _) | Value::List(_) => {
                    return Err(ManifestError::NoMap(format!("{} as its data", part.node.describe())));
                }
            }
            for (key, value) in part.entries() {
                let setting = setting(key, &value, strict)?;
                defaults.insert(key.to_owned(), setting.value);
                places.insert(key.to_owned(), setting.place);
            }
        }
        let file = Arc::clone(part.text.file());
        self.node_configs.push(NodeConfigObject {
            namespace,
            config: NodeConfig { name, selector, defaults },
            places,
            file,
        });
        Ok(())
    }
}
