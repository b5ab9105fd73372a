//! Folds the names of nodes: `worker-[12-40], worker-77`.

use std::collections::BTreeMap;

/// So many consecutive numbers make a range.
const MIN_RANGE: u64 = 3;

/// A name around its number: the last one before the first dot, because domains of clouds have numbers as well (`eu-central-1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern<'a> {
    prefix: &'a str,
    suffix: &'a str,
    /// Of a number with leading zeros, or 0.
    width: usize,
}

/// The names in short. Ranges and names are in the order of the numbers.
#[must_use]
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut numbered: BTreeMap<Pattern<'_>, Vec<u64>> = BTreeMap::new();
    let mut parts: Vec<(&str, u64, String)> = Vec::new();
    for name in names {
        match split(name) {
            Some((pattern, number)) => numbered.entry(pattern).or_default().push(number),
            None => parts.push((name, 0, name.to_owned())),
        }
    }
    for (pattern, mut numbers) in numbered {
        numbers.sort_unstable();
        numbers.dedup();
        parts.extend(runs(&numbers).map(|(first, last)| (pattern.prefix, first, pattern.render(first, last))));
    }
    parts.sort();
    parts.dedup();
    parts.into_iter().map(|(.., text)| text).collect::<Vec<_>>().join(", ")
}

/// A key to sort names by: `worker-2` comes before `worker-10`.
#[must_use]
pub fn order(name: &str) -> impl Ord {
    let key = split(name).map(|(pattern, number)| (pattern.prefix, number, name));
    key.unwrap_or((name, 0, name))
}

fn split(name: &str) -> Option<(Pattern<'_>, u64)> {
    let host = name.split('.').next().unwrap_or(name);
    let end = host.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = host[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| {
        // A letter may have several bytes.
        at + host[at..].chars().next().map_or(1, char::len_utf8)
    });
    let digits = &host[start..end];
    let number = digits.parse().ok()?;
    let width = if digits.len() > 1 && digits.starts_with('0') { digits.len() } else { 0 };
    Some((Pattern { prefix: &name[..start], suffix: &name[end..], width }, number))
}

/// Ranges of at least [`MIN_RANGE`] consecutive numbers, and single numbers.
fn runs(numbers: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    let chunks = numbers.chunk_by(|one, next| one + 1 == *next);
    chunks.flat_map(|run| match run {
        [first, .., last] if last - first + 1 >= MIN_RANGE => vec![(*first, *last)],
        _ => run.iter().map(|&number| (number, number)).collect(),
    })
}

impl Pattern<'_> {
    fn render(&self, first: u64, last: u64) -> String {
        let Self { prefix, suffix, width } = self;
        if first == last {
            format!("{prefix}{first:0width$}{suffix}")
        } else {
            format!("{prefix}[{first:0width$}-{last:0width$}]{suffix}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workers(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
        numbers.into_iter().map(|number| format!("worker-{number}")).collect()
    }

    fn folded(names: &[String]) -> String {
        fold(names.iter().map(String::as_str))
    }

    #[test]
    fn consecutive_numbers_are_a_range() {
        assert_eq!(folded(&workers((12..=40).chain([77]))), "worker-[12-40], worker-77");
        assert_eq!(
            folded(&workers([9, 10, 2, 1])),
            "worker-1, worker-2, worker-9, worker-10",
            "in the order of numbers"
        );
        assert_eq!(folded(&workers([3, 1, 2, 2])), "worker-[1-3]");
    }

    #[test]
    fn names_of_all_kinds() {
        let table: [(&[&str], &str); 8] = [
            (&[], ""),
            (&["alpha", "beta", "alpha"], "alpha, beta"),
            (&["node01", "node02", "node03"], "node[01-03]"),
            (&["node08", "node09", "node10"], "node08, node09, node10"),
            (
                &[
                    "ip-10-0-1-7.eu-central-1.internal",
                    "ip-10-0-1-8.eu-central-1.internal",
                    "ip-10-0-1-9.eu-central-1.internal",
                ],
                "ip-10-0-1-[7-9].eu-central-1.internal",
            ),
            (&["a1b", "a2b", "a3b", "a4c"], "a[1-3]b, a4c"),
            (&["größe-1", "größe-2", "größe-3", "ü4"], "größe-[1-3], ü4"),
            (&["n99999999999999999999", "7"], "7, n99999999999999999999"),
        ];
        for (names, expected) in table {
            assert_eq!(fold(names.iter().copied()), expected);
        }
    }

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let mut names = ["worker-10", "alpha", "worker-2", "worker-1", "worker"];
        names.sort_by(|one, other| order(one).cmp(&order(other)));
        assert_eq!(names, ["alpha", "worker", "worker-1", "worker-2", "worker-10"]);
    }

    /// The reverse of `fold`, for numbers without leading zeros.
    fn unfold(text: &str) -> Vec<String> {
        let parts = text.split(", ").filter(|part| !part.is_empty());
        let unfolded = parts.flat_map(|part| match part.split_once('[') {
            None => vec![part.to_owned()],
            Some((prefix, rest)) => {
                let (first, last) = rest.trim_end_matches(']').split_once('-').expect("a range");
                let (first, last): (u64, u64) = (first.parse().expect("a number"), last.parse().expect("a number"));
                (first..=last).map(|number| format!("{prefix}{number}")).collect()
            }
        });
        unfolded.collect()
    }

    proptest! {
        #[test]
        fn no_name_is_lost(numbers in prop::collection::btree_set(0_u64..60, 0..40)) {
            prop_assert_eq!(unfold(&folded(&workers(numbers.clone()))), workers(numbers));
        }

        #[test]
        fn any_text_is_folded(names in prop::collection::vec(".*", 0..8)) {
            let _ = fold(names.iter().map(String::as_str));
        }
    }
}
