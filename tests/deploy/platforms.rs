//! The pages in docs/platforms: the chart takes the values of each, and their objects have the chart's names.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tools::{CHART, Objects, root, run_well};

const PAGES: &str = "docs/platforms";

/// The blocks of YAML, each with the name in its first line.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| (block.lines().next().unwrap_or_default().trim_start_matches("# "), block)).collect()
}

fn pages() -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(root().join(PAGES))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
        pages.push((name, fs::read_to_string(&path)?));
    }
    pages.sort();
    Ok(pages)
}

#[test]
fn the_chart_takes_the_values_of_each_page() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut count = 0;
    for (page, text) in pages()?.iter().filter(|(page, _)| page != "README.md") {
        let values: Vec<_> = blocks(text).into_iter().filter(|(name, _)| *name == "values.yaml").collect();
        ensure!(values.len() == 1, "{page} has {} blocks of values", values.len());
        let file = dir.path().join("values.yaml");
        fs::write(&file, values[0].1)?;
        let file = file.to_str().context("a path of UTF-8")?;
        let args = ["template", "vtep-agent", CHART, "--namespace", "kube-system", "--skip-tests", "--values", file];
        let objects = Objects::parse(&run_well("helm", &args).with_context(|| page.clone())?)?;
        crate::rights::check(&objects).with_context(|| page.clone())?;
        count += 1;
    }
    ensure!(count == 8, "{count} pages");
    Ok(())
}

#[test]
fn the_overview_has_every_page_and_each_says_how_far_it_was_tried() -> Result<()> {
    let pages = pages()?;
    let (_, overview) = pages.iter().find(|(page, _)| page == "README.md").context("an overview")?;
    for (page, text) in pages.iter().filter(|(page, _)| page != "README.md") {
        ensure!(overview.contains(&format!("]({page})")), "the overview lacks {page}");
        ensure!(text.contains("**Tried:**") && text.contains("**Not tried:**"), "{page}");
    }
    Ok(())
}

/// Whatever is not the chart's values is an object, with the names that the chart and the release have.
#[test]
fn the_objects_are_yaml() -> Result<()> {
    for (page, text) in pages()? {
        for (name, block) in blocks(&text).into_iter().filter(|(name, _)| *name != "values.yaml") {
            let objects: Vec<Value> = serde_saphyr::from_multiple(block).with_context(|| format!("{page}: {name}"))?;
            ensure!(objects.iter().all(|object| object["kind"].is_string()), "{page}: {name}");
            ensure!(Path::new(name).extension().is_some_and(|end| end == "yaml"), "{page}: {name} names no file");
        }
    }
    let gitops = fs::read_to_string(root().join(PAGES).join("gitops.md"))?;
    let object = |name: &str| -> Result<Vec<Value>> {
        let (_, block) = blocks(&gitops).into_iter().find(|(block, _)| *block == name).context(name.to_owned())?;
        Ok(serde_saphyr::from_multiple(block)?)
    };
    let application = &object("application.yaml")?[0]["spec"];
    let release = &object("helmrelease.yaml")?[1]["spec"];
    for (values, version) in [
        (&application["source"]["helm"]["valuesObject"], &application["source"]["targetRevision"]),
        (&release["values"], &object("helmrelease.yaml")?[0]["spec"]["ref"]["tag"]),
    ] {
        ensure!(values["image"]["repository"] == "registry.example.com/vtep-agent", "{values}");
        ensure!(*version == env!("CARGO_PKG_VERSION"), "{version}");
    }
    Ok(())
}
