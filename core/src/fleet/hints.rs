//! A hint without the values of one node, so that those of several nodes can be compared.

use super::status::AgentStatus;

/// The shape of a hint: the node's own MAC, addresses and name are words, and numbers are placeholders.
#[must_use]
pub(super) fn shape(hint: &str, node: &str, status: &AgentStatus) -> String {
    let mut text = hint.to_owned();
    // Longer values first: one may contain another.
    let mut own: Vec<_> = status.own_values().chain([(node.to_owned(), "NAME-OF-NODE")]).collect();
    own.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    for (value, words) in own.iter().filter(|(value, _)| !value.is_empty()) {
        text = replace_whole(&text, value, words);
    }
    without_counts(&text)
}

/// Replaces a value where it is a whole word: `10.0.0.1` is not part of `10.0.0.12`.
fn replace_whole(text: &str, value: &str, words: &str) -> String {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, found) = rest.split_at(at);
        let after = &found[value.len()..];
        result.push_str(before);
        let last = result.chars().next_back();
        let is_whole = !is_part(last) && last != Some('.') && !is_part(after.chars().next());
        result.push_str(if is_whole { words } else { value });
        rest = after;
    }
    result + rest
}

/// Ages and counts change from node to node. A number is one if nothing is joined to it but a unit of time or the end of a word; addresses,
/// CIDRs, MACs and versions stay, because they say what is wrong.
fn without_counts(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    let count = |word: &str| {
        let trimmed = word.trim_end();
        let bare = trimmed.trim_end_matches([',', ';', ':', ')', '%']).trim_start_matches('(');
        let is_count = match bare.find(|c: char| !c.is_ascii_digit()) {
            None => !bare.is_empty(),
            Some(0) => false,
            Some(at) => ["s", "ms", "us", "µs", "min", "h", "m"].contains(&&bare[at..]) || is_time(bare),
        };
        // A port, a key or a VNI follows its name, and is no count.
        is_count.then(|| word.replace(bare, "N"))
    };
    let mut previous = "";
    let mut result = String::with_capacity(text.len());
    for word in words {
        let is_named = ["port", "key", "vni", "table", "priority"]
            .contains(&previous.trim_end().trim_matches('`').to_lowercase().as_str());
        match count(word).filter(|_| !is_named) {
            Some(counted) => result.push_str(&counted),
            None => result.push_str(word),
        }
        previous = word;
    }
    result
}

/// `2026-01-01T00:00:00Z`, or `3m10s`.
fn is_time(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit())
        && (word.parse::<jiff::Timestamp>().is_ok()
            || word.chars().all(|c| c.is_ascii_digit() || "hms.".contains(c)) && word.ends_with(['h', 'm', 's']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(mac: &str, endpoint: &str) -> AgentStatus {
        let status = json!({ "vteps": [], "bigip": { "fdb_record": { "mac": mac, "endpoint": endpoint } } });
        AgentStatus::read(status.to_string().as_bytes()).expect("a status")
    }

    #[test]
    fn nodes_with_the_same_trouble_have_the_same_shape() {
        let hint = |mac: &str, endpoint: &str, lost: u32| {
            let hint = format!(
                "add the FDB record of this node on BIG-IP 10.169.72.34: `modify net fdb tunnel vx records add {{ {mac} {{ endpoint \
                 {endpoint} }} }}`; {lost} of 20 pings were lost since {lost}m10s"
            );
            shape(&hint, "worker-1", &status(mac, endpoint))
        };
        let one = hint("0a:0a:0a:00:00:01", "10.0.0.1", 3);
        assert_eq!(one, hint("0a:0a:0a:00:00:02", "10.0.0.12", 17));
        assert!(one.contains("10.169.72.34") && one.contains("ADDRESS-OF-NODE"), "{one}");
    }

    #[test]
    fn what_says_what_is_wrong_stays() {
        let node = || status("0a:0a:0a:00:00:01", "10.0.0.1");
        let ports =
            ["set `port 8472`: frames arrive on UDP port 4789", "set `port 8472`: frames arrive on UDP port 4790"];
        let [one, other] = ports.map(|hint| shape(hint, "worker-1", &node()));
        assert_ne!(one, other);
        for kept in ["10.0.0.12", "8.10.0.0.1", "worker-12", "1.18.8", "10.1.6.0/24", "00:50:56:a0:7d:d8"] {
            assert_eq!(shape(kept, "worker-1", &node()), kept);
        }
        assert_eq!(shape("worker-1, 12 times (3 s)", "worker-1", &node()), "NAME-OF-NODE, N times (N s)");
    }
}
