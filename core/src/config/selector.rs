//! Label selectors of Kubernetes (`metav1.LabelSelector`): they decide to which nodes an object applies.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error};

/// A node's labels.
pub type Labels = BTreeMap<String, String>;

/// Requirements on labels; a node must meet all of them. An empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One requirement on the value of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether the labels meet every requirement, with the semantics of Kubernetes: an absent label meets `NotIn`.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// The selector as the API server sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LabelSelector {
    #[serde(default)]
    match_labels: Option<Labels>,
    #[serde(default)]
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Deserialize)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A map, and never a sequence of the same fields, which a derived reader takes as well.
        let fields = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let fields = fields.into_iter().collect::<serde_json::Map<_, _>>().into();
        let LabelSelector { match_labels, match_expressions } =
            LabelSelector::deserialize::<serde_json::Value>(fields).map_err(D::Error::custom)?;
        let labels = match_labels.into_iter().flatten();
        let equal = labels.map(|(key, value)| Requirement { key, operator: Operator::In, values: vec![value] });
        let expressions = match_expressions.into_iter().flatten();
        let expressions = expressions.map(|Expression { key, operator, values }| match (operator, values) {
            (Operator::In | Operator::NotIn, None) => {
                Err(D::Error::custom(format!("{operator:?} of {key:?} has no values")))
            }
            (_, values) => Ok(Requirement { key, operator, values: values.unwrap_or_default() }),
        });
        equal.map(Ok).chain(expressions).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn matches(selector: Value) -> bool {
        let selector: Selector = serde_json::from_value(selector).expect("a selector");
        let labels = [("zone", "dmz"), ("bigip", "yes")];
        selector.matches(&labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn each_operator_has_the_semantics_of_kubernetes() {
        let expression = |key: &str, operator: &str, values: &[&str]| {
            let requirement = json!({ "key": key, "operator": operator, "values": values });
            json!({ "matchExpressions": [requirement] })
        };
        let table = [
            (json!({}), true),
            (json!({ "matchLabels": null, "matchExpressions": null }), true),
            (json!({ "matchLabels": { "zone": "dmz" } }), true),
            (json!({ "matchLabels": { "zone": "lan" } }), false),
            (json!({ "matchLabels": { "zone": "dmz", "rack": "1" } }), false),
            (expression("zone", "In", &["lan", "dmz"]), true),
            (expression("zone", "In", &["lan"]), false),
            (expression("rack", "In", &["1"]), false),
            (expression("zone", "NotIn", &["dmz"]), false),
            (expression("zone", "NotIn", &["lan"]), true),
            (expression("rack", "NotIn", &["1"]), true),
            (json!({ "matchExpressions": [{ "key": "bigip", "operator": "Exists" }] }), true),
            (json!({ "matchExpressions": [{ "key": "rack", "operator": "Exists" }] }), false),
            (json!({ "matchExpressions": [{ "key": "rack", "operator": "DoesNotExist" }] }), true),
            (json!({ "matchExpressions": [{ "key": "zone", "operator": "DoesNotExist" }] }), false),
        ];
        for (selector, expected) in table {
            assert_eq!(matches(selector.clone()), expected, "{selector}");
        }
    }

    #[test]
    fn an_unknown_operator_is_an_error_that_names_the_known_ones() {
        let selector = json!({ "matchExpressions": [{ "key": "zone", "operator": "Gt", "values": ["1"] }] });
        let error = serde_json::from_value::<Selector>(selector).expect_err("no such operator").to_string();
        assert!(error.contains("`Gt`") && error.contains("DoesNotExist"), "{error}");
    }

    #[test]
    fn what_kubernetes_refuses_is_an_error() {
        let refused = |selector: Value| serde_json::from_value::<Selector>(selector).expect_err("refused").to_string();
        let without_values = json!({ "matchExpressions": [{ "key": "zone", "operator": "NotIn" }] });
        assert!(refused(without_values).contains("NotIn of \"zone\" has no values"));
        refused(json!([]));
        refused(json!([{ "zone": "dmz" }, null]));
        refused(json!({ "matchLabels": ["zone"] }));
    }

    proptest! {
        /// As `kubectl` documents the operators, one requirement at a time.
        #[test]
        fn all_requirements_must_hold(
            labels in prop::collection::btree_map("[a-c]", "[x-z]", 0..3),
            equal in prop::collection::btree_map("[a-c]", "[x-z]", 0..2),
            expressions in prop::collection::vec(("[a-c]", 0..4_usize, prop::collection::vec("[x-z]", 0..3)), 0..3),
        ) {
            let operators = ["In", "NotIn", "Exists", "DoesNotExist"];
            let holds = |(key, operator, values): &(String, usize, Vec<String>)| match (labels.get(key), operators[*operator]) {
                (Some(value), "In") => values.contains(value),
                (Some(value), "NotIn") => !values.contains(value),
                (value, "Exists") => value.is_some(),
                (value, "DoesNotExist") => value.is_none(),
                (None, operator) => operator == "NotIn",
                (Some(_), _) => false,
            };
            let expected = equal.iter().all(|(key, value)| labels.get(key) == Some(value)) && expressions.iter().all(holds);
            let written: Vec<_> = expressions
                .iter()
                .map(|(key, operator, values)| json!({ "key": key, "operator": operators[*operator], "values": values }))
                .collect();
            let selector = json!({ "matchLabels": equal, "matchExpressions": written });
            let selector: Selector = serde_json::from_value(selector).expect("a selector");
            prop_assert_eq!(selector.matches(&labels), expected);
        }
    }
}
