//! The one format in which all benchmarks print, and the comparison of their ratios with the baseline.

use std::{env, fs, io::Write, process::ExitCode};

use anyhow::{Context, Result};

use super::{
    baseline::{Baseline, Verdict},
    document,
    figure::{Figure, Unit},
    machine,
};

/// If set, a run replaces its rows in the document.
const UPDATE_DOCS: &str = "UPDATE_DOCS";
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/figures.md");
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline.json");
/// If set, a run records its ratios as the new baseline.
const UPDATE: &str = "UPDATE_BASELINE";
/// If set, the file to which each benchmark adds its verdicts, so that `make bench` can print all of them at its end.
const SUMMARY: &str = "VTEP_BENCH_SUMMARY";

/// The rows that a benchmark has printed.
pub(crate) struct Report {
    baseline: Baseline,
    /// The medians of its ratios.
    ratios: Vec<(String, f64)>,
    rows: Vec<[String; 6]>,
}

/// A part of a benchmark: its name on the command line, its title, and what it measures.
pub(crate) type Section<'s> = (&'s str, &'s str, fn(&mut Report) -> Result<()>);

/// Measures and prints the sections, or only those that the command line names. The exit status is 1 if a ratio is worse than the baseline,
/// or if a measurement failed; neither hides the other sections.
pub(crate) fn run(sections: &[Section<'_>]) -> ExitCode {
    // Cargo adds an option of its own.
    let names: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let selected = sections.iter().filter(|(name, ..)| names.is_empty() || names.iter().any(|wanted| wanted == name));
    let mut good = true;
    for section in selected {
        good &= measured(section).unwrap_or_else(|error| {
            println!("\nfailed: {error:#}");
            false
        });
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns false if something became slower. After a failure, what was measured before it is compared all the same.
fn measured((_, title, measure): &Section<'_>) -> Result<bool> {
    let mut report = Report::start(title)?;
    let outcome = measure(&mut report);
    let slower = report.finish()?;
    outcome?;
    // A debug build measures the compiler's choices more than ours.
    Ok(!slower || cfg!(debug_assertions))
}

impl Report {
    fn start(title: &str) -> Result<Self> {
        let baseline = Self::read()?;
        println!("\n## {title}\n\n{}{}\n{}\n", document::MACHINE, machine::words()?, machine::load()?);
        let head = ["figure", "runs", "min", "median", "max", "promised", "to baseline"];
        print_row(head);
        println!("|---|---|---|---|---|---|---|");
        Ok(Self { baseline, ratios: Vec::new(), rows: Vec::new() })
    }

    fn read() -> Result<Baseline> {
        Baseline::parse(&fs::read_to_string(BASELINE).with_context(|| format!("failed to read {BASELINE}"))?)
    }

    /// Prints a figure.
    pub(crate) fn figure(&mut self, figure: &Figure) {
        self.row(figure.cells(), "");
    }

    /// Prints `name/other`: the runs, divided by the median of what they are compared with. More must be worse.
    pub(crate) fn ratio(&mut self, name: &str, other: &str, runs: &[f64], others: &[f64]) {
        let ratio = Figure::ratio(name, other, runs, others);
        let times = self.baseline.times(ratio.name(), ratio.median());
        self.ratios.push((ratio.name().to_owned(), ratio.median()));
        self.row(ratio.cells(), &times.map_or("none".to_owned(), |times| format!("{times:.2}")));
    }

    /// Prints what a model says, which has no runs.
    pub(crate) fn model(&mut self, name: &str, unit: Unit, value: f64) {
        let [name, _, _, median, ..] = Figure::new(name, unit, [value]).cells();
        self.row([name, "model".into(), String::new(), median, String::new(), String::new()], "");
    }

    fn row(&mut self, cells: [String; 6], times: &str) {
        let [name, runs, least, median, most, promise] = &cells;
        print_row([name, runs, least, median, most, promise, times]);
        self.rows.push(cells);
    }

    /// Prints what no figure can say.
    pub(crate) fn note(&mut self, text: &str) {
        println!("| {text} |");
    }

    /// Prints the verdicts, and returns whether a ratio became worse.
    fn finish(self) -> Result<bool> {
        if env::var_os(UPDATE_DOCS).is_some() {
            let text = fs::read_to_string(DOCUMENT)?;
            fs::write(DOCUMENT, document::with_figures(&text, &machine::words()?, &self.rows))?;
        }
        if env::var_os(UPDATE).is_some() {
            // Another benchmark may have written its own since the start.
            let mut baseline = Self::read()?;
            self.ratios.iter().for_each(|(name, ratio)| baseline.update(name, *ratio));
            fs::write(BASELINE, baseline.text()?).with_context(|| format!("failed to write {BASELINE}"))?;
            println!("\n{} ratios are the new baseline", self.ratios.len());
            return Ok(false);
        }
        let verdicts = self.ratios.iter().map(|(name, ratio)| self.baseline.compare(name, *ratio));
        let (mut lines, mut slower) = (Vec::new(), false);
        for verdict in verdicts {
            slower |= matches!(verdict, Verdict::Slower(_));
            match verdict {
                Verdict::Same => {}
                Verdict::Slower(line) | Verdict::Faster(line) | Verdict::Unknown(line) => lines.push(line),
            }
        }
        println!();
        lines.iter().for_each(|line| println!("{line}"));
        if let Some(path) = env::var_os(SUMMARY) {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
            lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
        }
        Ok(slower)
    }
}

/// A row of a Markdown table.
fn print_row([name, runs, least, median, most, promise, times]: [&str; 7]) {
    println!("| {name:<66} | {runs:>5} | {least:>10} | {median:>10} | {most:>10} | {promise:>16} | {times:>11} |");
}
