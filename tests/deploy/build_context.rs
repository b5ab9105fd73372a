//! What the image's build gets: `.dockerignore` names every file that the program is made from.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::tools::{read, root};

#[test]
fn it_has_every_source_of_the_program() -> Result<()> {
    let ignore = read(".dockerignore")?;
    let allowed: Vec<_> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    // Cargo writes the sources of a program beside it, as a rule of make.
    let rule = fs::read_to_string(concat!(env!("CARGO_BIN_EXE_vtep-agent"), ".d"))?;
    let sources = rule.split_once(": ").context("a rule")?.1.split_whitespace();
    let sources = sources.filter_map(|source| Path::new(source).strip_prefix(root()).ok());
    let sources: Vec<_> = sources.filter(|source| !source.starts_with("target")).collect();
    ensure!(sources.len() > 100, "{sources:?}");
    let missing: Vec<_> =
        sources.into_iter().filter(|source| !allowed.iter().any(|path| source.starts_with(path))).collect();
    ensure!(missing.is_empty(), ".dockerignore keeps these away from the build: {missing:?}");
    Ok(())
}
