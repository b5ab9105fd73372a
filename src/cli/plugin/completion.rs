//! Completions of the plugin: kubectl runs `kubectl_complete-vtep` with the words behind `kubectl vtep`, the last of which is to be completed.
//!
//! The output is that of cobra's `__complete`: a candidate on each line, with a tab before its description, and at the end a colon and a
//! number that says whether the shell may complete file names. The candidates come from the definition of the command line.

use std::{ffi::OsStr, fmt::Write as _};

use clap::{Arg, Command};

use super::OTHERS;

/// `ShellCompDirectiveDefault`: without a candidate, names of files.
const FILES: u8 = 0;
/// `ShellCompDirectiveNoFileComp`
const NO_FILES: u8 = 4;

/// What kubectl reads. `cli` is the whole program's command line; `words` are those behind the plugin's name.
pub(super) fn complete(cli: &mut Command, words: &[impl AsRef<OsStr>]) -> String {
    cli.build();
    let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    let Some((last, before)) = words.split_last() else { return format!(":{NO_FILES}\n") };
    let Some(mut command) = cli.find_subcommand("fleet") else { return format!(":{NO_FILES}\n") };
    let mut awaits = None;
    for (place, word) in before.iter().enumerate() {
        let other = cli.find_subcommand(word.as_ref()).filter(|_| place == 0 && OTHERS.contains(&word.as_ref()));
        if awaits.take().is_some() {
        } else if word.starts_with('-') {
            awaits = command.get_arguments().find(|arg| is_named(arg, word) && arg.get_action().takes_values());
        } else if let Some(next) = other.or_else(|| command.find_subcommand(word.as_ref())) {
            command = next;
        }
    }
    let (candidates, directive) = match awaits {
        Some(arg) => (values(arg), if takes_file(arg) { FILES } else { NO_FILES }),
        None if last.starts_with('-') => (flags(command), NO_FILES),
        None => {
            let others = OTHERS.iter().filter(|_| before.is_empty()).filter_map(|name| cli.find_subcommand(name));
            let positionals: Vec<_> = command.get_positionals().collect();
            let names = command.get_subcommands().chain(others).filter(|command| !command.is_hide_set()).map(described);
            let directive = if positionals.iter().any(|arg| takes_file(arg)) { FILES } else { NO_FILES };
            (names.chain(positionals.into_iter().flat_map(values)).collect(), directive)
        }
    };
    let mut out = String::new();
    for (name, help) in candidates.iter().filter(|(name, _)| name.starts_with(last.as_ref())) {
        // A `String` takes everything.
        let _ = writeln!(out, "{name}\t{}", help.lines().next().unwrap_or_default());
    }
    out + &format!(":{directive}\n")
}

/// Whether this word is the flag without its value.
fn is_named(arg: &Arg, word: &str) -> bool {
    let long = word.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
    long || word.strip_prefix('-').is_some_and(|name| arg.get_short().is_some_and(|short| name == short.to_string()))
}

fn flags(command: &Command) -> Vec<(String, String)> {
    let help = |arg: &Arg| arg.get_help().map(ToString::to_string).unwrap_or_default();
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(|arg| Some((format!("--{}", arg.get_long()?), help(arg)))).collect()
}

fn values(arg: &Arg) -> Vec<(String, String)> {
    let value = |value: &clap::builder::PossibleValue| {
        (value.get_name().to_owned(), value.get_help().map(ToString::to_string).unwrap_or_default())
    };
    arg.get_possible_values().iter().map(value).collect()
}

fn described(command: &Command) -> (String, String) {
    (command.get_name().to_owned(), command.get_about().map(ToString::to_string).unwrap_or_default())
}

fn takes_file(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| name.split('|').any(|name| matches!(name, "FILE" | "DIR" | "PATH")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The candidates, and the directive.
    fn completed(words: &[&str]) -> (Vec<String>, String) {
        let text = complete(&mut crate::cli::Cli::command(), words);
        let mut lines: Vec<_> =
            text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect();
        let directive = lines.pop().unwrap_or_default();
        (lines, directive)
    }

    #[test]
    fn commands_flags_and_values_are_those_of_the_command_line() {
        let table: [(&[&str], &[&str], &str); 11] = [
            (&["bu"], &["bundle"], ":4"),
            (&["ver"], &["version"], ":4"),
            (&["run"], &[], ":4"),
            (&["--conte"], &["--context"], ":4"),
            (&["--watch", "--out"], &["--output"], ":4"),
            (&["-o", "w"], &["wide"], ":4"),
            (&["--kubeconfig", ""], &[], ":0"),
            (&["--node", ""], &[], ":4"),
            (&["bundle", "--max"], &["--max-nodes"], ":4"),
            // The value of a flag is no command.
            (&["--node", "bundle", "--max"], &[], ":4"),
            (&["completion", "z"], &["zsh"], ":4"),
        ];
        for (words, expected, directive) in table {
            let (candidates, found) = completed(words);
            assert_eq!(
                (candidates, found.as_str()),
                (expected.iter().map(ToString::to_string).collect(), directive),
                "{words:?}"
            );
        }
        let (all, _) = completed(&[""]);
        assert!(
            ["bigip", "bundle", "check", "version"].iter().all(|name| all.iter().any(|one| one == name)),
            "{all:?}"
        );
        assert!(!all.iter().any(|one| one == "man" || one == "run"), "{all:?}");
        assert_eq!(complete(&mut crate::cli::Cli::command(), &[] as &[&str]), ":4\n");
    }
}
