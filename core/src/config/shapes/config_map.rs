//! ConfigMaps, and bare maps of keys.

use super::{Configuration, Contents, Expected, Root, Setting, Shape, chart, is_of_cilium, is_vtep_key, values};
use crate::config::{
    finding::{Finding, Rule},
    manifest::{
        ManifestError, NAME,
        node::{Node, Type, Value},
        part::Part,
    },
};

/// Words without quotes that are booleans in YAML 1.1, and text in YAML 1.2.
const BOOLEANS: [&str; 4] = ["yes", "no", "on", "off"];

/// Converts a value to the text that Cilium reads.
pub(super) type ToText = fn(&str, &Node) -> Result<String, ManifestError>;

impl Contents {
    pub(super) fn add_config_map(&mut self, part: &Part<'_>, expected: Expected) -> Result<(), ManifestError> {
        let data = part.get("data");
        if self.add_values_files(part, data.as_ref()) {
            return Ok(());
        }
        let name = part.text_at("metadata.name");
        let is_about = |is_about: fn(&str) -> bool| data.iter().flat_map(Part::entries).any(|(key, _)| is_about(key));
        let is_other = match expected {
            Expected::Anything => !is_about(is_vtep_key),
            Expected::Configuration => name.is_some() && data.is_some() && !is_about(is_of_cilium),
        };
        if is_other && name != Some(NAME) {
            self.others.push(format!("ConfigMap {}", name.unwrap_or("without a name")));
            return Ok(());
        }
        if data.is_none()
            && let Some((key, _)) = part.entries().find(|(key, _)| *key == "stringData" || is_of_cilium(key))
        {
            let name = name.unwrap_or("without a name").to_owned();
            return Err(ManifestError::NoData { name, found: key.to_owned() });
        }
        let mut configuration = match object(part, data.as_ref(), strict) {
            // One of many files keeps its place among the findings.
            Err(ManifestError::Bare { .. }) if expected == Expected::Anything => object(part, data.as_ref(), lenient)?,
            read => read?,
        };
        for (key, value) in data.iter().flat_map(Part::entries) {
            if let Value::Bare(text, of) = &value.node.value {
                let place = value.place(text).named(key);
                configuration.problems.push((bare(key, text, of.name()), place));
            }
        }
        self.configurations.push(configuration);
        Ok(())
    }

    /// The part of a ConfigMap that `kubectl` did not print whole: `data` alone.
    pub(super) fn add_data(&mut self, part: &Part<'_>, expected: Expected) -> Result<(), ManifestError> {
        let data = part.get("data");
        if expected == Expected::Anything && !data.iter().flat_map(Part::entries).any(|(key, _)| is_vtep_key(key)) {
            return Ok(());
        }
        self.configurations.push(object(part, data.as_ref(), lenient)?);
        Ok(())
    }

    /// A ConfigMap whose values are files with Helm values, as Flux's `valuesFrom` wants them.
    fn add_values_files(&mut self, part: &Part<'_>, data: Option<&Part<'_>>) -> bool {
        let before = self.configurations.len();
        for (_, file) in data.into_iter().flat_map(Part::entries).filter(|(key, _)| is_values_file(key)) {
            for document in file.nested().and_then(Result::ok).into_iter().flatten() {
                if let Some(found) = values::find(&Part::of(&document, &file.path)) {
                    let mut configuration = chart::configuration(Shape::HelmValues, vec![found.into()]);
                    configuration.identify(part);
                    self.configurations.push(configuration);
                }
            }
        }
        self.configurations.len() > before
    }
}

/// A bare map of keys.
pub(super) fn of_keys(part: &Part<'_>) -> Result<Configuration, ManifestError> {
    let root = Root { place: part.lacking(""), is_chart: false };
    let mut configuration = Configuration::new(Shape::KeyValues, root);
    configuration.insert_all(part, lenient)?;
    Ok(configuration)
}

fn is_values_file(key: &str) -> bool {
    key.ends_with(".yaml") || key.ends_with(".yml") || key == "values"
}

fn object(part: &Part<'_>, data: Option<&Part<'_>>, text: ToText) -> Result<Configuration, ManifestError> {
    let place = data.unwrap_or(part).lacking("");
    let mut configuration = Configuration::new(Shape::ConfigMap, Root { place, is_chart: false });
    configuration.identify(part);
    if let Some(data) = data {
        configuration.insert_all(data, text)?;
    }
    Ok(configuration)
}

impl Configuration {
    /// Takes the name and the namespace of an object.
    pub(super) fn identify(&mut self, object: &Part<'_>) {
        let field = |field| object.get("metadata").and_then(|metadata| metadata.text_at(field)).map(str::to_owned);
        (self.name, self.namespace) = (field("name"), field("namespace"));
    }

    pub(super) fn insert_all(&mut self, data: &Part<'_>, text: ToText) -> Result<(), ManifestError> {
        match &data.node.value {
            Value::Map(_) | Value::Null => {}
            Value::Text(_) | Value::Bare(_, _) | Value::List(_) => {
                return Err(ManifestError::NoMap(format!("{} as its data", data.node.describe())));
            }
        }
        for (key, value) in data.entries() {
            let setting = setting(key, &value, text)?;
            self.settings.insert(key.to_owned(), setting);
        }
        Ok(())
    }
}

/// The value of a key, which messages name by the key alone.
pub(super) fn setting(key: &str, value: &Part<'_>, text: ToText) -> Result<Setting, ManifestError> {
    let text = text(key, value.node)?;
    Ok(Setting { place: value.place(&text).named(key), value: text, is_default: false })
}

/// The finding for a value that the API server refuses in a ConfigMap.
pub(super) fn bare(key: &str, value: &str, of: &str) -> Finding {
    let problem = format!(
        "{value} without quotes is no text, and the API server refuses the ConfigMap (cannot unmarshal {of} into string)"
    );
    let rule = if of == "bool" { Rule::BoolInvalid } else { Rule::NumberInvalid };
    Finding::new(rule, key, None, Some(value), problem, format!("write {key}: \"{value}\""))
}

/// Converts a value of an object. The API server accepts only text.
pub(super) fn strict(key: &str, node: &Node) -> Result<String, ManifestError> {
    match &node.value {
        Value::Bare(value, of) => Err(ManifestError::Bare { key: key.to_owned(), value: value.clone(), of: of.name() }),
        // kubectl reads YAML 1.1, in which these are booleans.
        Value::Text(value) if node.is_plain() && BOOLEANS.contains(&value.to_lowercase().as_str()) => {
            Err(ManifestError::Bare { key: key.to_owned(), value: value.clone(), of: Type::Bool.name() })
        }
        Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => lenient(key, node),
    }
}

/// Converts a value of a bare map, which does not come from an API server.
pub(super) fn lenient(key: &str, node: &Node) -> Result<String, ManifestError> {
    let (found, hint) = match &node.value {
        Value::Text(text) | Value::Bare(text, _) => return Ok(text.clone()),
        Value::Null => return Ok(String::new()),
        Value::List(_) => ("a list", "write the values into one string, separated by blanks"),
        Value::Map(_) => ("a map", "this is neither a ConfigMap nor Cilium's Helm values"),
    };
    Err(ManifestError::NotText { key: key.to_owned(), found, hint })
}
