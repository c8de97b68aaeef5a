//! Words and tables for people, past the test harness, which shows them only when a test fails.

use std::io::Write;
use std::time::Duration;

/// Prints a line.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a table as Markdown has it.
pub(crate) fn show(head: &[&str], rows: &[Vec<String>]) {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    say("");
    [line(&head), line(&rule)].into_iter().chain(rows.iter().map(|row| line(row))).for_each(|line| say(&line));
    say("");
}

/// A time in seconds.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// A time in seconds, if there is one.
pub(crate) fn maybe(time: Option<Duration>) -> String {
    time.map_or("–".to_owned(), seconds)
}
