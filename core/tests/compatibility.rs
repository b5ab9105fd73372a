//! docs/compatibility.md is made of the tables in the source, and their evidence exists. `UPDATE_DOCS=1 cargo test -p vtep-core --test
//! compatibility` writes the document.

use std::{env, fmt::Write, fs, path::Path};

use vtep_core::node::{
    compatibility::{Evidence, FAR_ENDS, KERNELS, MODES, Mode, RELEASES, Release, Series},
    kernel,
};

const DOCUMENT: &str = "docs/compatibility.md";

const HEAD: &str = "# Compatibility

Cilium, kernels, BIG-IP and modes, each with its evidence. The tables are those in `core/src/node/compatibility.rs`, which `vtep-agent preflight`
and `/status` (`cilium.compatibility`) use, too. If there is no row, nobody has looked.

| evidence | meaning |
|---|---|
| run | seen on a running one: a Cilium with its own datapath, or a VXLAN device of Linux in the place of a BIG-IP |
| test | a test of this repository shows it. Where Cilium or the far end is not the real one, the test imitates it with real maps, routes and devices |
| kernels | every test of the datapath, on Debian's kernel of that series: `make test-kernels` |
| read | read in the source or in a document, and not run |
| reported | reported by others |
";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn evidence(all: &[Evidence]) -> String {
    let words = |evidence: &Evidence| match *evidence {
        Evidence::Run(what) => format!("run: {what}"),
        Evidence::Test(file, "") => format!("test: `{file}`"),
        Evidence::Test(file, function) => format!("test: `{file}`, `{function}`"),
        Evidence::Kernels(series) => format!("kernels: `make test-kernels KERNELS={series}`"),
        Evidence::Read(what) => format!("read: {what}"),
        Evidence::Reported(by) => format!("reported: {by}"),
    };
    all.iter().map(words).collect::<Vec<_>>().join("; ")
}

/// `1.18.0–1.18.7`: the last release of a row is the one before the next row.
fn name(release: &Release) -> String {
    let (since, until) = (release.since, release.until);
    match until.patch {
        _ if since.minor == 0 => format!("before {until}"),
        0 if since.patch == 0 && until.minor == since.minor + 1 => format!("1.{}", since.minor),
        0 if since.patch == 0 => format!("1.{}–1.{}", since.minor, until.minor - 1),
        0 => format!("{since} and newer {}.{}", since.major, since.minor),
        next => format!("{since}–{}.{}.{}", until.major, until.minor, next - 1),
    }
}

fn modes(table: &[Mode]) -> String {
    let row = |mode: &Mode| format!("| {} | {} | {} |\n", mode.name, mode.works, evidence(mode.evidence));
    format!("| | works | evidence |\n|---|---|---|\n{}", table.iter().map(row).collect::<String>())
}

/// The best evidence, in the word of the first table.
fn best(all: &[Evidence]) -> &'static str {
    let rank = |evidence: &Evidence| match evidence {
        Evidence::Run(_) => (0, "run"),
        Evidence::Kernels(_) => (1, "kernels"),
        Evidence::Test(..) => (2, "test"),
        Evidence::Read(_) => (3, "read"),
        Evidence::Reported(_) => (4, "reported"),
    };
    all.iter().map(rank).min().expect("evidence").1
}

/// Which kernels suffice for which Cilium, as `preflight` judges.
fn matrix() -> String {
    let mut text = format!(
        "| Cilium | {} |\n|---|{}\n",
        KERNELS.iter().map(|series| series.name).collect::<Vec<_>>().join(" | "),
        "---|".repeat(KERNELS.len())
    );
    for release in RELEASES {
        let cell = |series: &Series| {
            let fits = kernel::judge(series.release, Some(release.since)).is_ok();
            let (cilium, kernel) = (best(release.evidence), best(series.evidence));
            if fits { format!("{cilium}, {kernel}") } else { "no".to_owned() }
        };
        let broken = if release.defect.is_some() { " (broken)" } else { "" };
        let cells: Vec<_> = KERNELS.iter().map(cell).collect();
        let _ = writeln!(text, "| {}{broken} | {} |", name(release), cells.join(" | "));
    }
    text
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    text += "\n## Cilium\n\n| release | kernel | differs | the agent | evidence |\n|---|---|---|---|---|\n";
    for release in RELEASES {
        let (major, minor) = release.kernel;
        let differs = release.defect.map_or(release.differs.to_owned(), |defect| {
            format!("**broken**: {defect}; {} is the first release without it; {}", release.until, release.differs)
        });
        let cells = [&name(release), &format!("{major}.{minor}"), &differs, release.agent, &evidence(release.evidence)];
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    let newest = RELEASES.last().expect("a release").until;
    let _ = writeln!(
        text,
        "\n{newest} and newer, and Cilium's main branch since June 2026: nobody has looked. The agent writes no map whose layout it does not know,\nand \
         `preflight` and `/status` say that the release is unknown."
    );
    text += "\n## Kernels\n\n| series | notes | evidence |\n|---|---|---|\n";
    for series in KERNELS {
        let _ = writeln!(text, "| {} | {} | {} |", series.name, series.notes, evidence(series.evidence));
    }
    text += "\n## Cilium and kernels\n\nWhether the kernel is new enough for VTEPs in that release, as `preflight` judges by what `uname -r` prints; it also \
             tests the features\nthemselves. `no`: it is too old. Any other cell has the best evidence for that Cilium, and for that kernel. Nobody has run every\npair of both.\n\n";
    text += &matrix();
    let _ = write!(text, "\n## Modes\n\nFor every release of Cilium above that has them.\n\n{}", modes(MODES));
    let _ = write!(text, "\n## Far ends\n\n{}", modes(FAR_ENDS));
    text
}

#[test]
fn the_document_is_made_of_the_tables() {
    let (path, expected) = (root().join(DOCUMENT), document());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("the document can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{DOCUMENT} is old: `make docs`");
}

#[test]
fn every_test_that_is_evidence_exists() {
    let releases = RELEASES.iter().map(|release| release.evidence);
    let others = [MODES, FAR_ENDS].into_iter().flatten().map(|mode| mode.evidence);
    let all: Vec<_> = releases.chain(others).chain(KERNELS.iter().map(|series| series.evidence)).flatten().collect();
    let scripts = fs::read_to_string(root().join("scripts/test-kernels")).expect("the script");
    let series = scripts.lines().find_map(|line| line.strip_prefix("ALL=(")?.strip_suffix(')')).expect("the list");
    for evidence in &all {
        match **evidence {
            Evidence::Test(file, function) => {
                let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
                assert!(text.contains("test]"), "{file} has no test");
                assert!(text.contains(&format!("fn {function}")), "{file} has no {function}");
            }
            Evidence::Kernels(name) => assert!(series.split(' ').any(|known| known == name), "{name} in {series}"),
            Evidence::Run(_) | Evidence::Read(_) | Evidence::Reported(_) => {}
        }
    }
    assert!(all.len() > 30, "{all:?}");
}
