//! Replaces the figures of a document by new ones. Pure, and tested by `tests/figures.rs`.

/// The start of the line that describes the machine.
pub(crate) const MACHINE: &str = "Measured on: ";

/// The cells that a benchmark knows; a document may have more behind them, such as the assumption of a model.
const KNOWN: usize = 6;

/// The text with these rows in place of those that begin with the same name, and with this description of the machine.
pub(crate) fn with_figures(text: &str, machine: &str, rows: &[[String; KNOWN]]) -> String {
    let line = |line: &str| {
        if line.starts_with(MACHINE) {
            return format!("{MACHINE}{machine}");
        }
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        match rows.iter().find(|row| line.starts_with('|') && cells.len() >= KNOWN && row[0] == cells[0]) {
            Some(row) => row.iter().map(String::as_str).chain(cells[KNOWN..].iter().copied()).collect::<Vec<_>>(),
            None => return line.to_owned(),
        }
        .iter()
        .fold("|".to_owned(), |line, cell| line + &format!(" {cell} |").replace("  ", " "))
    };
    text.lines().map(line).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_replaced_and_keeps_its_words() {
        let text = "# Figures\n\nMeasured on: a machine\n\n| figure | runs | min | median | max | promised | assumption |\n\
                    |---|---|---|---|---|---|---|\n| repair | 5 | 1 s | 2 s | 3 s | | as found, twice |\n| other | 5 | 1 | 2 | 3 | |\nrepair\n";
        let row = ["repair", "7", "1 ms", "2 ms", "3 ms", ""].map(str::to_owned);
        let expected = text
            .replace("on: a machine", "on: another one")
            .replace("| repair | 5 | 1 s | 2 s | 3 s | |", "| repair | 7 | 1 ms | 2 ms | 3 ms | |");
        assert_eq!(with_figures(text, "another one", &[row]), expected);
        assert_eq!(with_figures(text, "a machine", &[]), text);
    }
}
