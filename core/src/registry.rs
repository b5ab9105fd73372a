//! A macro that makes an enum of public ids from a table: rules and causes. An id is a promise to scripts, dashboards and runbooks.

/// Makes the enum `$Type` from a table. A row has a variant's name, its public id, and its `entry`, a constant of type `$Entry` that holds
/// all other properties of the variant. The rows' order is the enum's order.
macro_rules! registry {
    (
        $(#[$attribute:meta])*
        pub enum $Type:ident: $Entry:ty;
        $($name:ident $id:literal = $entry:expr;)+
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $Type {
            $(#[doc = concat!("`", $id, "`")] #[serde(rename = $id)] $name,)+
        }

        impl $Type {
            /// All variants, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The public id.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// The id in CamelCase: the reason of Events and conditions.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            const fn entry(self) -> $Entry {
                match self { $(Self::$name => $entry,)+ }
            }
        }

        impl std::fmt::Display for $Type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.id())
            }
        }
    };
}

pub(crate) use registry;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::{Serialize, de::DeserializeOwned};

    use crate::{config::finding::Rule, diagnosis::Cause};

    fn assert_json_is_the_id<T: Copy + Debug + PartialEq + Serialize + DeserializeOwned>(
        all: &[T],
        id: fn(T) -> &'static str,
    ) {
        for value in all {
            let json = serde_json::to_value(value).expect("JSON");
            assert_eq!(json, id(*value));
            assert_eq!(serde_json::from_value::<T>(json).expect("a value"), *value);
        }
        assert!(serde_json::from_value::<T>("no-such-id".into()).is_err());
    }

    #[test]
    fn json_has_the_ids() {
        assert_json_is_the_id(Cause::ALL, Cause::id);
        assert_json_is_the_id(Rule::ALL, Rule::id);
    }
}
