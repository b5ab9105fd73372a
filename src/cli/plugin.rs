//! The program as a plugin of kubectl: under the name `kubectl-vtep`, it is `vtep-agent fleet`, and under the name `kubectl_complete-vtep`, it
//! completes the words behind `kubectl vtep`.

mod completion;

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use clap::Command;

/// The commands that a plugin has beside `fleet`: those that need no node.
const OTHERS: [&str; 5] = ["bigip", "check", "completion", "help", "version"];

/// What kubectl reads as completions, if the process has that name.
pub(super) fn completions(cli: &mut Command, given: impl IntoIterator<Item = OsString>) -> Option<String> {
    let given: Vec<_> = given.into_iter().collect();
    let (program, words) = given.split_first()?;
    let is_completion = Path::new(program).file_stem() == Some(OsStr::new("kubectl_complete-vtep"));
    is_completion.then(|| completion::complete(cli, words))
}

/// The arguments as `vtep-agent` takes them.
pub(super) fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = given.into_iter().collect();
    let is_plugin =
        arguments.first().and_then(|program| Path::new(program).file_stem()) == Some(OsStr::new("kubectl-vtep"));
    let is_other = arguments.get(1).is_some_and(|first| OTHERS.iter().any(|other| first == other));
    if is_plugin && !is_other {
        arguments.insert(1, "fleet".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_under_its_name_is_it_the_plugin() {
        let table: [(&[&str], &[&str]); 7] = [
            (&[], &[]),
            (&["vtep-agent"], &["vtep-agent"]),
            (&["/opt/vtep-agent", "--watch"], &["/opt/vtep-agent", "--watch"]),
            (&["/opt/kubectl-vtep"], &["/opt/kubectl-vtep", "fleet"]),
            (&["kubectl-vtep", "--watch"], &["kubectl-vtep", "fleet", "--watch"]),
            (&["kubectl-vtep", "bundle"], &["kubectl-vtep", "fleet", "bundle"]),
            (&["kubectl-vtep", "version"], &["kubectl-vtep", "version"]),
        ];
        for (given, expected) in table {
            assert_eq!(arguments(given.iter().map(OsString::from)), expected);
        }
    }
}
