//! The documents: their statements about the program are true, their links have targets, and both languages agree. Needs no root.
//!
//! `make docs` rewrites docs/configuration.md.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::{Arg, Command, CommandFactory};
use serde_json::Value;
use vtep_agent::cli::Cli;
use vtep_core::diagnosis::{Cause, RUNBOOK, Verdict};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Directories with documents.
const FOLDERS: [&str; 10] = [
    "docs",
    "docs/decisions",
    "docs/platforms",
    "deploy/helm/vtep-agent",
    "tests/agent",
    "tests/bigip",
    "tests/deploy",
    "tests/lab",
    "tests/page",
    "tests/support",
];

/// Every document that people read.
fn documents() -> Result<Vec<PathBuf>> {
    let mut found: Vec<_> = [
        "README.md",
        "README.zh-CN.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "deploy/README.md",
        "deploy/README.zh-CN.md",
    ]
    .map(PathBuf::from)
    .into();
    for dir in FOLDERS.map(Path::new) {
        for entry in fs::read_dir(Path::new(ROOT).join(dir))? {
            let path = dir.join(entry?.file_name());
            found.extend(path.extension().is_some_and(|extension| extension == "md").then_some(path));
        }
    }
    Ok(found)
}

/// The settings, from the command line itself.
mod configuration {
    use super::*;

    const HEAD: &str = "# Configuration

The agent takes the BIG-IPs from `cilium-config`, and has no configuration file. Every setting of its own is a flag. Each flag has an
environment variable, which the chart sets; a flag takes precedence over its variable. `vtep-agent COMMAND --help` prints the same text.

`make docs` writes this document from the command line, and a test checks that it is up to date.
";

    fn reference() -> String {
        let mut cli = Cli::command();
        cli.build();
        let mut text = HEAD.to_owned();
        let run: BTreeSet<String> = cli.find_subcommand("run").into_iter().flat_map(settings).map(row).collect();
        for command in commands(&cli) {
            text += &section(command, &run);
        }
        text
    }

    /// The commands, each before those below it (`fleet bundle`).
    fn commands(cli: &Command) -> Vec<&Command> {
        let shown = cli.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set());
        shown.flat_map(|command| [vec![command], commands(command)].concat()).collect()
    }

    fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
        command.get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
    }

    /// For settings that a command shares with `run`, its section has only their names.
    fn section(command: &Command, run: &BTreeSet<String>) -> String {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let mut text = format!("\n## `{}`\n\n{}\n", command.get_bin_name().unwrap_or_default(), sentence(&about));
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if let Some((_, example)) = examples.split_once("Example:\n") {
            let example = example.split("\n\n").next().unwrap_or_default();
            text += &format!("\n```sh\n{}\n```\n", example.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
        }
        let is_shared = |arg: &&Arg| command.get_name() != "run" && run.contains(&row(arg));
        let (shared, own): (Vec<_>, Vec<_>) = settings(command).partition(is_shared);
        if !own.is_empty() {
            text += "\n| setting | default | meaning |\n|---|---|---|\n";
            text.extend(own.into_iter().map(row));
        }
        let shared: Vec<_> = shared.iter().filter_map(|arg| Some(format!("`--{}`", arg.get_long()?))).collect();
        if !shared.is_empty() {
            text += &format!("\nAs in `run`: {}.\n", shared.join(", "));
        }
        text
    }

    fn row(arg: &Arg) -> String {
        let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let takes_value = arg.get_action().takes_values();
        let placeholder =
            arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default();
        let mut name = match (arg.get_long(), arg.get_short()) {
            (Some(long), Some(short)) => format!("-{short}, --{long}"),
            (Some(long), None) => format!("--{long}"),
            (None, _) => format!("[{placeholder}]"),
        };
        if takes_value && arg.get_long().is_some() {
            let value =
                if values.is_empty() || arg.is_hide_possible_values_set() { placeholder } else { values.join("|") };
            name += &format!(" {value}");
        }
        let variable = arg.get_env().map(|name| format!("<br>`{}`", name.to_string_lossy())).unwrap_or_default();
        let defaults: Vec<_> =
            arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let defaults = match arg.get_id().as_str() {
            "node_name" => "the host's name".to_owned(),
            _ if takes_value => defaults.join(", "),
            _ => String::new(),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let cell = |text: &str| text.replace('|', "\\|");
        format!("| `{}`{variable} | {} | {} |\n", cell(&name), cell(&defaults), cell(&sentence(&help)))
    }

    fn sentence(text: &str) -> String {
        let text = text.trim().trim_end_matches('.');
        format!("{text}.")
    }

    #[test]
    fn is_what_the_command_line_says() -> Result<()> {
        let path = Path::new(ROOT).join("docs/configuration.md");
        let reference = reference();
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &reference)?;
        }
        ensure!(
            fs::read_to_string(&path).unwrap_or_default() == reference,
            "docs/configuration.md is old: `make docs`"
        );
        Ok(())
    }

    #[test]
    fn every_setting_says_what_it_is_for() {
        let mut cli = Cli::command();
        cli.build();
        for command in commands(&cli) {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {} has no help", command.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn every_command_says_how_it_ends() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Exit status: "), "{}", command.get_name());
        }
    }
}

/// Links, and the headings that they refer to.
mod links {
    use super::*;

    /// The anchor that Markdown's renderers derive from a heading.
    fn anchor(heading: &str) -> String {
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    }

    fn anchors(document: &str) -> BTreeSet<String> {
        prose(document)
            .filter_map(|line| line.strip_prefix('#'))
            .map(|line| anchor(line.trim_start_matches('#')))
            .collect()
    }

    #[test]
    fn lead_somewhere() -> Result<()> {
        for path in documents()? {
            let text = read(&path)?;
            let links: Vec<_> = prose(&text).flat_map(targets).collect();
            for link in links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target =
                    if file.is_empty() { path.clone() } else { path.parent().unwrap_or(Path::new("")).join(file) };
                ensure!(Path::new(ROOT).join(&target).exists(), "{}: nothing at {link}", path.display());
                ensure!(
                    fragment.is_empty() || anchors(&read(&target)?).contains(fragment),
                    "{}: no heading for {link}",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

/// Documents name files and functions of the source: they have to be there.
mod sources {
    use super::*;

    /// The code spans of a document that are paths of its source, `{a,b}` spelled out.
    fn paths(text: &str) -> Vec<String> {
        let spans = text.split('`').skip(1).step_by(2);
        let is_path = |span: &&str| {
            let begins = ["src/", "core/", "ebpf/", "tests/", "docs/", "deploy/", "scripts/"];
            begins.iter().any(|begin| span.starts_with(begin)) && !span.contains(['*', ' ', '<', '…'])
        };
        spans.filter(is_path).flat_map(spelled_out).collect()
    }

    fn spelled_out(span: &str) -> Vec<String> {
        match span.split_once('{').zip(span.split_once('}')) {
            Some(((before, _), (braced, after))) => {
                let names = braced.split_once('{').map_or("", |(_, names)| names);
                names.split(',').map(|name| format!("{before}{name}{after}")).collect()
            }
            None => vec![span.to_owned()],
        }
    }

    #[test]
    fn are_where_documents_say() -> Result<()> {
        let mut found = 0;
        for document in documents()? {
            for path in paths(&read(&document)?) {
                // A README's paths may begin at its own folder.
                let beside = document.parent().unwrap_or(Path::new("")).join(&path);
                let is_there = [Path::new(&path), &beside].iter().any(|path| Path::new(ROOT).join(path).exists());
                ensure!(is_there, "{}: there is no {path}", document.display());
                found += 1;
            }
        }
        ensure!(found > 50, "{found} paths were found");
        Ok(())
    }

    /// The first table of the architecture answers where things are: each function that it names is in a file that it names.
    #[test]
    fn hold_what_the_first_table_says() -> Result<()> {
        let text = read("docs/architecture.md")?;
        let rows = text.lines().skip_while(|line| !line.starts_with("| question")).skip(2);
        let mut checked = 0;
        for row in rows.take_while(|line| line.starts_with('|')) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, _, _, functions, _] = cells[..] else { anyhow::bail!("{row} has not three cells") };
            let source: String = paths(row).iter().map(read).collect::<Result<_>>()?;
            for name in
                functions.split('`').skip(1).step_by(2).filter(|name| !name.ends_with('!') && !name.contains('/'))
            {
                let name = name.rsplit("::").next().unwrap_or(name);
                let is_there = ["fn ", "const ", "enum ", "struct "].iter().any(|kind| {
                    source.match_indices(&format!("{kind}{name}")).any(|(at, found)| {
                        !source[at + found.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
                    })
                });
                ensure!(is_there, "{row}: there is no {name}");
                checked += 1;
            }
        }
        ensure!(checked >= 12, "{checked} names were checked");
        Ok(())
    }
}

/// Lines outside of code blocks.
fn prose(document: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    document.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of a line's links.
fn targets(line: &str) -> Vec<String> {
    let parts = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    parts.map(|(target, _)| target.to_owned()).collect()
}

/// Both READMEs.
mod languages {
    use super::*;

    /// The parts that must be the same in every language.
    #[derive(Debug, PartialEq)]
    enum Block {
        Heading(usize),
        Code(Vec<String>),
        /// The code spans of each cell.
        Row(Vec<Vec<String>>),
        Links(Vec<String>),
    }

    fn parts(document: &str) -> Vec<Block> {
        let mut parts = Vec::new();
        let mut code: Option<Vec<String>> = None;
        for line in document.lines() {
            if line.starts_with("```") {
                match code.take() {
                    Some(lines) => parts.push(Block::Code(lines)),
                    None => code = Some(vec![line.to_owned()]),
                }
            } else if let Some(code) = &mut code {
                // Comments are prose, so they may differ.
                code.push(line.split(" # ").next().unwrap_or_default().trim_end().to_owned());
            } else if line.starts_with("    ") {
                parts.push(Block::Code(vec![line.split(" # ").next().unwrap_or_default().trim_end().to_owned()]));
            } else if line.starts_with('#') {
                parts.push(Block::Heading(line.chars().take_while(|c| *c == '#').count()));
            } else if line.starts_with('|') {
                let cells = line.trim_matches('|').split(" | ");
                parts.push(Block::Row(cells.map(marked).collect()));
            }
            let links = targets(line);
            if code.is_none() && !links.is_empty() {
                parts.push(Block::Links(links.into_iter().filter(|link| !link.starts_with("README")).collect()));
            }
        }
        parts
    }

    fn marked(cell: &str) -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// Prose may have its links on other lines in each language: compare them as a set.
    fn compared(document: &str) -> (Vec<Block>, BTreeSet<String>) {
        let (links, parts): (Vec<_>, Vec<_>) =
            parts(document).into_iter().partition(|part| matches!(part, Block::Links(_)));
        let links = links.into_iter().flat_map(|part| if let Block::Links(links) = part { links } else { Vec::new() });
        // A link to a document in the reader's own language has another target.
        let links = links.filter(|link| !link.starts_with('#')).map(|link| link.replace(".zh-CN.md", ".md"));
        (parts, links.collect())
    }

    #[test]
    fn say_the_same() -> Result<()> {
        let (english, chinese) = (compared(&read("README.md")?), compared(&read("README.zh-CN.md")?));
        for (n, pair) in english.0.iter().zip(&chinese.0).enumerate() {
            ensure!(pair.0 == pair.1, "part {n}: README.md has\n{:#?}\nand README.zh-CN.md\n{:#?}", pair.0, pair.1);
        }
        ensure!(
            english.0.len() == chinese.0.len(),
            "one of them ends early: {} and {}",
            english.0.len(),
            chinese.0.len()
        );
        ensure!(english.1 == chinese.1, "links: {:?}", english.1.symmetric_difference(&chinese.1));
        Ok(())
    }
}

/// The registry of causes is where they all come from.
mod causes {
    use super::*;

    /// A remark is none: the VTEP stays healthy.
    #[test]
    fn the_readme_counts_them() -> Result<()> {
        let count = Cause::ALL.iter().filter(|cause| cause.verdict() != Verdict::Healthy).count();
        for (path, words) in
            [("README.md", format!("the {count} causes")), ("README.zh-CN.md", format!("{count} 个原因"))]
        {
            let text = read(path)?.replace('\n', " ");
            ensure!(text.contains(&words), "{path} does not say {words:?}");
        }
        Ok(())
    }

    #[test]
    fn symptoms_lead_to_every_cause() -> Result<()> {
        let text = read("docs/troubleshooting.md")?;
        for cause in Cause::ALL {
            ensure!(text.contains(&format!("(runbook.md#{cause})")), "no symptom leads to {cause}");
        }
        Ok(())
    }

    #[test]
    fn the_runbook_has_a_row_and_a_section_for_each_and_no_other() -> Result<()> {
        let text = read(RUNBOOK)?;
        let (text, _) = text.split_once("\n# ").context("other headings below the causes")?;
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| [")).collect();
        let expected: Vec<_> = Cause::ALL.iter().map(row).collect();
        ensure!(rows == expected, "{RUNBOOK} has to have these rows:\n{}", expected.join("\n"));
        let sections: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let expected: Vec<_> = Cause::ALL.iter().map(|cause| cause.id()).collect();
        ensure!(sections == expected, "{RUNBOOK} has the sections {sections:?}");
        Ok(())
    }

    fn row(cause: &Cause) -> String {
        let (verdict, hop) = (cause.verdict(), cause.hop().id());
        let alert = cause.alert().map_or_else(|| "none".to_owned(), |alert| format!("`{alert}`"));
        format!("| [`{cause}`](#{cause}) | `{verdict}` | `{hop}` | {alert} |")
    }

    #[test]
    fn the_schema_of_the_status_lists_each_and_no_other() -> Result<()> {
        let schema: Value = serde_json::from_str(&read("docs/status.schema.json")?)?;
        let mut listed: Vec<Cause> = serde_json::from_value(schema["$defs"]["cause"]["enum"].clone())?;
        listed.sort();
        ensure!(listed == Cause::ALL, "docs/status.schema.json lists {listed:?}");
        Ok(())
    }
}

/// The drawing in README names the hops and the verdicts like the page.
#[test]
fn the_drawing_has_the_words_of_the_page() -> Result<()> {
    let (drawing, page) = (read("docs/page.svg")?, read("src/http/page/page.js")?);
    let texts = drawing.split("<text class=\"name\"").skip(1);
    let names: BTreeSet<_> =
        texts.filter_map(|rest| rest.split_once('>')?.1.split_once('<')).map(|(name, _)| name).collect();
    ensure!(names.len() == 6, "{names:?}");
    for name in names {
        ensure!(page.contains(&format!("name: \"{name}\"")), "the page has no hop {name}");
    }
    for words in ["tunnel works", "misconfigured", "not tested from a pod", "never answered"] {
        ensure!(drawing.contains(words) && page.contains(words), "{words:?} is only in one of the two");
    }
    ensure!(!drawing.contains("the pods") && !drawing.contains("in order"), "the drawing says what is not tested");
    Ok(())
}

/// docs/logs.md has every line that the agent can log, and no other.
mod logs {
    use super::*;

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                sources(&path, found)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
        Ok(())
    }

    /// The message and the level of each call of tracing's macros: the message is the last string among the arguments.
    fn messages(source: &str) -> Vec<(String, String)> {
        let code =
            source.split("#[cfg(test)]\nmod").next().unwrap_or_default().replace("env!(\"CARGO_PKG_VERSION\")", "");
        let mut found = Vec::new();
        for level in ["info", "warn", "error"] {
            let call = format!("{level}!(");
            for (at, _) in code.match_indices(&call) {
                if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let arguments = &code[at + call.len()..];
                // The document shows the summary's form instead of a row.
                if arguments.trim_start().starts_with("\"vtep cidr=") {
                    continue;
                }
                // The message is the last argument, a string.
                let end = arguments.find("\")").unwrap_or(arguments.len());
                let message = arguments[..end].rsplit('"').next().unwrap_or_default();
                found.push((level.to_uppercase(), message.to_owned()));
            }
        }
        found
    }

    #[test]
    fn every_line_is_documented() -> Result<()> {
        let text = read("docs/logs.md")?;
        let rows: BTreeSet<_> = text
            .lines()
            .filter_map(|line| {
                let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`'));
                let level = cells.next().filter(|level| matches!(*level, "INFO" | "WARN" | "ERROR"))?;
                Some((level.to_owned(), cells.next()?.to_owned()))
            })
            .collect();
        let mut files = Vec::new();
        sources(&Path::new(ROOT).join("src"), &mut files)?;
        let mut said = BTreeSet::new();
        for file in files {
            said.extend(messages(&fs::read_to_string(file)?));
        }
        ensure!(said.len() > 20, "{said:?}");
        let missing: Vec<_> = said.difference(&rows).collect();
        ensure!(missing.is_empty(), "docs/logs.md lacks {missing:#?}");
        let invented: Vec<_> = rows.difference(&said).collect();
        ensure!(invented.is_empty(), "nothing logs {invented:#?}");
        Ok(())
    }
}
