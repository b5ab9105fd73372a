//! What the image's build gets: `.dockerignore` names every file that the program is made from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::tools::{read, root};

/// The sources of a library, as the compiler recorded them in its last build without tests: beside the library, as a rule of make.
fn sources(library: &str) -> Result<Vec<PathBuf>> {
    let built = Path::new(env!("CARGO_BIN_EXE_vtep-agent")).with_file_name("deps");
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("lib{library}-")) && name.ends_with(".rlib")
    };
    let libraries = fs::read_dir(&built)?.flatten().map(|entry| entry.path()).filter(is_library);
    let newest = libraries.max_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
    let name = newest.with_context(|| format!("no lib{library} in {}", built.display()))?;
    let name = name.file_stem().unwrap_or_default().to_string_lossy().replacen("lib", "", 1);
    let rule = fs::read_to_string(built.join(name).with_extension("d"))?;
    let (_, sources) = rule.lines().next().and_then(|line| line.split_once(": ")).context("a rule")?;
    let whole = root().canonicalize()?;
    // An included file has a path like src/http/../../docs/runbook.md.
    let inside = |source: &str| whole.join(source).canonicalize().ok()?.strip_prefix(&whole).map(Path::to_owned).ok();
    Ok(sources.split_whitespace().filter_map(inside).filter(|source| !source.starts_with("target")).collect())
}

#[test]
fn it_has_every_source_of_the_program() -> Result<()> {
    let ignore = read(".dockerignore")?;
    let allowed: Vec<_> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let sources = [sources("vtep_agent")?, sources("vtep_core")?].concat();
    ensure!(sources.len() > 100, "{sources:?}");
    let missing: Vec<_> =
        sources.into_iter().filter(|source| !allowed.iter().any(|path| source.starts_with(path))).collect();
    ensure!(missing.is_empty(), ".dockerignore keeps these away from the build: {missing:?}");
    Ok(())
}
