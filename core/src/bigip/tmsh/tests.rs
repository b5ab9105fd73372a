use super::*;

/// A node as text: words with their positions, and its block in braces.
fn show(nodes: &[Node<'_>]) -> String {
    let of_node = |Node { words, block }: &Node<'_>| {
        let words = words.iter().map(|Word { text, at }| format!("{}:{}:{text}", at.line, at.column));
        let block = block.as_ref().map(|block| format!("{{{}}}", show(block)));
        words.chain(block).collect::<Vec<_>>().join(" ")
    };
    nodes.iter().map(of_node).collect::<Vec<_>>().join("; ")
}

fn read(text: &str, dialect: Dialect) -> String {
    match line(&mut Scanner::new(text), dialect) {
        Ok(nodes) => show(&nodes),
        Err(error) => format!("{}:{} {}", error.at.line, error.at.column, error.problem),
    }
}

#[test]
fn stanzas() {
    for (text, expected) in [
        ("net self a { }", "1:1:net 1:5:self 1:10:a {}"),
        ("a {\n    b c\n    d {\n        e\n        f\n    }\n}\nnext", "1:1:a {2:5:b 2:7:c; 3:5:d {4:9:e; 5:9:f}}"),
        ("a { b 1 c { d e } f 2 }", "1:1:a {1:5:b 1:7:1 1:9:c {1:13:d 1:15:e}; 1:19:f 1:21:2}"),
        ("é \"b \\\"c\\\" { }\nü\" { d }", "1:1:é 1:3:b \"c\" { }\nü {2:6:d}"),
        ("a {\r\n    # a { comment \"\r\n    b \\\r\n    c\r\n}\r\n", "1:1:a {3:5:b 4:5:c}"),
        ("a { b\\ c\\{ }", "1:1:a {1:5:b c{}"),
        ("a {}", "1:1:a {}"),
        ("\u{feff}a { }", "1:1:a {}"),
        ("a #b { #c }", "1:1:a 1:3:#b {1:8:#c}"),
        ("", ""),
        ("\\", "1:1:"),
        ("a {\n  b\n", "1:1 expected `}`: the text ends in the middle of this stanza"),
        ("a { b { c", "1:1 expected `}` 2 times: the text ends in the middle of this stanza"),
        ("a {\n  b \"c\n}\n", "2:5 expected `\"`: the value that begins here has no end"),
        ("a }", "1:3 expected a stanza: this `}` closes nothing"),
        ("a {\n b\nnet self c { }\n", "1:1 expected `}` before the next stanza begins"),
    ] {
        assert_eq!(read(text, Dialect::Stanza), expected, "{text:?}");
    }
    assert!(read(&"{".repeat(100_000), Dialect::Stanza).starts_with("1:17 expected at most 16 blocks"));
}

#[test]
fn commands() {
    for (text, expected) in [
        ("create a b c # d", "1:1:create 1:8:a 1:10:b 1:12:c"),
        ("create a; create b", "1:1:create 1:8:a"),
        ("list a | grep b", "1:1:list 1:6:a"),
        ("create a <b c>/24 d", "1:1:create 1:8:a 1:10:<b c>/24 1:19:d"),
        ("create a \\\n  b { c d } e f\nnext", "1:1:create 1:8:a 2:3:b {2:7:c 2:9:d}; 2:13:e 2:15:f"),
    ] {
        assert_eq!(read(text, Dialect::Command), expected, "{text:?}");
    }
}

#[test]
fn skipping() {
    for (text, is_script, rest) in [
        ("ltm rule a {\nwhen X {\n  log \"}{{\" ; set b \"\\{\" # don't\n}}\n}\nnext", true, "\nnext"),
        ("ltm rule a {\n  set b \"\n}\nnext", true, "\nnext"),
        ("ltm x a {\n  b \"}}\n}\" # c\n}\nnext", false, "\nnext"),
        ("ltm x a {\n  # don't \" } mind\n}\nnext", false, "\nnext"),
        ("ltm x a { b\"c }\nnext", false, "\nnext"),
        ("ltm default-node-monitor\nnext", false, "\nnext"),
        ("ltm x a {\n  b {\nnet self c {\n", false, "net self c {\n"),
        ("ltm x a {\n  b \"\nnet self c { }\n", false, "net self c { }\n"),
        ("ltm x a {\n", false, ""),
    ] {
        let mut scanner = Scanner::new(text);
        let result = scanner.skip(is_script);
        let rest_is = text.len() - rest.len();
        let is_ok = !rest.starts_with("net") && !rest.is_empty();
        assert_eq!(result.is_ok(), is_ok, "{text:?}");
        let mut expected = Scanner::new(text);
        expected.advance(rest_is);
        assert_eq!(scanner.position(), expected.position(), "{text:?}");
    }
}
