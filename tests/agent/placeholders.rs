//! Placeholders for the parts of an output that differ from run to run: times, counts of pings and the kernel's release.

/// The text with `#` for each digit of such a part. The columns of a table stay where they are.
pub(crate) fn placeholders(text: &str) -> String {
    let mut replaced: String = text.lines().flat_map(|line| [in_line(line), "\n".into()]).collect();
    if !text.ends_with('\n') {
        replaced.pop();
    }
    replaced
}

fn in_line(line: &str) -> String {
    if line.trim_start_matches("ok ").trim_start().starts_with("kernel ")
        && let Some((label, _)) = line.split_once(|c: char| c.is_ascii_digit())
    {
        return format!("{label}#.#.#");
    }
    if let Some((before, _)) = line.split_once("unanswered for ") {
        return format!("{before}unanswered for #.# s");
    }
    let mut replaced = String::new();
    for (n, field) in line.split(' ').enumerate() {
        if n > 0 {
            replaced.push(' ');
        }
        match placeholder(field) {
            // A column is right-aligned: take from the spaces before, or add some.
            Some(placeholder) => {
                let end = replaced.len() + field.len();
                let start = end.saturating_sub(placeholder.len());
                while replaced.len() > start && replaced.ends_with("  ") {
                    replaced.pop();
                }
                while replaced.len() < start {
                    replaced.push(' ');
                }
                replaced += placeholder;
            }
            None => replaced += field,
        }
    }
    replaced
}

fn placeholder(field: &str) -> Option<&'static str> {
    if field.strip_suffix("ms").is_some_and(|number| number.parse::<f64>().is_ok()) {
        return Some("#.##ms");
    }
    if field.split_once('/').is_some_and(|(lost, of)| lost.parse::<u8>().is_ok() && of.parse::<u8>().is_ok()) {
        return Some("#/###");
    }
    let time = field.strip_suffix(':')?;
    time.parse::<jiff::Timestamp>().is_ok().then_some("####-##-##T##:##:##Z:")
}

#[test]
fn columns_stay_where_they_are() {
    for (line, replaced) in [
        (
            "10.1.6.0/24        10.169.72.34    healthy       0.88ms 0.81ms    1/27 in-sync",
            "healthy       #.##ms #.##ms   #/### in-sync",
        ),
        (
            "10.1.6.0/24        10.169.72.34    healthy      12.88ms 0.81ms  27/100 in-sync",
            "healthy       #.##ms #.##ms   #/### in-sync",
        ),
        (
            "10.1.6.0/24        10.169.72.34    misconfigured 0.63ms failed   13/39 in-sync",
            "misconfigured #.##ms failed   #/### in-sync",
        ),
        ("  failover at 2026-11-27T16:57:25Z: tunnel MAC", "failover at ####-##-##T##:##:##Z: tunnel MAC"),
        ("  00:50:56:a0:7d:d8; pings were unanswered for 7.4 s", "00:50:56:a0:7d:d8; pings were unanswered for #.# s"),
        ("kernel    6.18.44-fc-v657", "kernel    #.#.#"),
        ("ok     kernel          6.18.44", "ok     kernel          #.#.#"),
        ("config    valid, dir:/mnt/config", "config    valid, dir:/mnt/config"),
    ] {
        let found = placeholders(line);
        assert!(found.ends_with(replaced) && found.starts_with(&line[..4]), "{found}");
    }
    assert_eq!(placeholders("a\n\nb\n"), "a\n\nb\n");
}
