//! The prompts of tmsh and bash on a BIG-IP.

/// A prompt at the beginning of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prompt<'t> {
    pub(super) host: Option<&'t str>,
    /// The present folder of tmsh.
    pub(super) folder: Option<&'t str>,
    /// Its length in bytes.
    pub(super) length: usize,
}

/// ```text
/// root@(bigip1)(cfg-sync In Sync)(Active)(/Common)(tmos)# list net self
/// [root@bigip1:Active:In Sync] config # tmsh list net self
/// $ tmsh list net self
/// ```
pub(super) fn of(text: &str) -> Option<Prompt<'_>> {
    tmsh(text).or_else(|| bash(text)).or_else(|| {
        let length = ["$ ", "> "].into_iter().find(|prompt| text.starts_with(prompt))?.len();
        Some(Prompt { host: None, folder: None, length })
    })
}

fn tmsh(text: &str) -> Option<Prompt<'_>> {
    let start = text.find("(tmos")?;
    let end = start + text[start..].find(")#")? + ")#".len();
    let before = &text[..start];
    // A word of prose stands in the way of a prompt: only its status contains blanks, in parentheses.
    if before.split('(').next().is_some_and(|user| user.contains(' ')) {
        return None;
    }
    let groups = || before.split('(').skip(1).map(|group| group.trim_end_matches(')'));
    let host = if before.contains("@(") {
        groups().next()
    } else {
        before.split_once('@').and_then(|(_, rest)| rest.split('(').next())
    };
    let folder = groups().last().filter(|folder| folder.starts_with('/'));
    Some(Prompt { host: host.filter(|host| !host.is_empty()), folder, length: end + blanks(&text[end..]) })
}

fn bash(text: &str) -> Option<Prompt<'_>> {
    let inside = text.strip_prefix('[')?;
    let (user, _) = inside.split_once(']')?;
    let (_, host) = user.split_once('@')?;
    let sign = text.find("# ").or_else(|| text.find("$ "))?;
    // `[user@desk ~]$`: a prompt of another machine, from which somebody runs commands on the BIG-IP.
    let host = host.split_once(':').map(|(host, _)| host);
    Some(Prompt { host, folder: None, length: sign + 1 + blanks(&text[sign + 1..]) })
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_name_the_host_and_the_folder() {
        let cases = [
            ("root@(bigip1)(cfg-sync In Sync)(Active)(/Common)(tmos)# list", Some("bigip1"), Some("/Common"), "list"),
            ("admin@(ip-10-1)(cfg-sync Off)(/S1-P::Active)(/a/b)(tmos)#list", Some("ip-10-1"), Some("/a/b"), "list"),
            ("root@bigip1(Active)(/Common)(tmos.net)# list self", Some("bigip1"), Some("/Common"), "list self"),
            ("(tmos)# list", None, None, "list"),
            ("[root@bigip1:Active:In Sync] config # tmsh list", Some("bigip1"), None, "tmsh list"),
            ("[me@desk ~]$ ssh bigip1", None, None, "ssh bigip1"),
            ("$ tmsh list", None, None, "tmsh list"),
        ];
        for (text, host, folder, rest) in cases {
            let prompt = of(text).expect(text);
            assert_eq!((prompt.host, prompt.folder, &text[prompt.length..]), (host, folder, rest), "{text}");
        }
        for text in ["", "list net self", "at the (tmos)# prompt", "[1] a note", "# tmsh list"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
