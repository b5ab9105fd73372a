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
    match line(&mut Scanner::new(text, 0), dialect) {
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
        let mut scanner = Scanner::new(text, 0);
        let result = scanner.skip(is_script);
        let rest_is = text.len() - rest.len();
        let is_ok = !rest.starts_with("net") && !rest.is_empty();
        assert_eq!(result.is_ok(), is_ok, "{text:?}");
        let mut expected = Scanner::new(text, 0);
        expected.advance(rest_is);
        assert_eq!(scanner.position(), expected.position(), "{text:?}");
    }
}

/// A tree of words and blocks, without places.
#[derive(Clone, Debug, PartialEq)]
struct Tree {
    words: Vec<String>,
    block: Option<Vec<Tree>>,
}

impl From<&Node<'_>> for Tree {
    fn from(Node { words, block }: &Node<'_>) -> Self {
        let words = words.iter().map(|word| word.text.clone().into_owned()).collect();
        Self { words, block: block.as_ref().map(|block| block.iter().map(Into::into).collect()) }
    }
}

impl Tree {
    /// As a file has it, or in one line; with all words in quotes, or only those that need them.
    fn render(&self, depth: usize, is_one_line: bool, is_quoted: bool) -> String {
        let word = |word: &String| {
            let is_bare = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./:%".contains(c));
            if is_bare && !is_quoted {
                word.clone()
            } else {
                format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
            }
        };
        let words: Vec<String> = self.words.iter().map(word).collect();
        let Some(block) = &self.block else { return words.join(" ") };
        let (end, indent) = if is_one_line { (" ", String::new()) } else { ("\n", "    ".repeat(depth + 1)) };
        let inner: String = block
            .iter()
            .map(|tree| format!("{indent}{}{end}", tree.render(depth + 1, is_one_line, is_quoted)))
            .collect();
        format!("{} {{{end}{inner}{}}}", words.join(" "), if is_one_line { "" } else { &indent[4..] })
    }
}

fn tree() -> impl proptest::strategy::Strategy<Value = Tree> {
    use proptest::prelude::*;
    let words = || prop::collection::vec(prop_oneof!["[a-z0-9/%.:-]{1,8}", "[ -~é\n]{0,8}"], 1..4);
    let leaf = words().prop_map(|words| Tree { words, block: None });
    let inner = leaf.prop_recursive(5, 30, 4, move |inner| {
        (words(), prop::collection::vec(inner, 0..4)).prop_map(|(words, block)| Tree { words, block: Some(block) })
    });
    let first = "[a-z]{1,8}".prop_map(|word| vec![word]);
    (first, prop::collection::vec(inner, 0..4)).prop_map(|(words, block)| Tree { words, block: Some(block) })
}

proptest::proptest! {
    #[test]
    fn what_is_rendered_is_read_back(tree in tree(), is_quoted: bool) {
        let text = tree.render(0, false, is_quoted);
        let nodes = line(&mut Scanner::new(&text, 0), Dialect::Stanza).expect("it is well-formed");
        let read: Vec<Tree> = nodes.iter().map(Into::into).collect();
        proptest::prop_assert_eq!(&read[..], &[tree][..]);
        // Skipping it ends at the same place.
        let mut scanner = Scanner::new(&text, 0);
        proptest::prop_assert_eq!(scanner.skip(false), Ok(()));
        proptest::prop_assert!(scanner.is_at_end());
    }

    #[test]
    fn one_line_has_the_same_words_and_blocks(tree in tree()) {
        fn flat(trees: &[Tree]) -> Vec<String> {
            let of_tree = |Tree { words, block }: &Tree| {
                let block = block.as_ref().map(|block| [vec!["{".to_owned()], flat(block), vec!["}".to_owned()]].concat());
                [words.clone(), block.unwrap_or_default()].concat()
            };
            trees.iter().flat_map(of_tree).collect()
        }
        let text = tree.render(0, true, false);
        let nodes = line(&mut Scanner::new(&text, 0), Dialect::Stanza).expect("it is well-formed");
        let read: Vec<Tree> = nodes.iter().map(Into::into).collect();
        proptest::prop_assert_eq!(flat(&read), flat(&[tree]));
    }
}
