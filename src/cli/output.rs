//! The one place that writes to stdout and stderr. What came from the network can't change what a terminal shows, and
//! a reader that has gone (a broken pipe) ends a command quietly.

use super::end::{End, Outcome};
use super::here;
use crate::node::local::{ErrorCode, LocalError};
use crate::wire::path::is_unfit_for_terminals;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use console::{Alignment, measure_text_width, pad_str};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// JSON instead of text.
    pub(super) json: bool,
}

impl Output {
    /// One line of text for people on stdout.
    pub(super) fn line(self, text: &str) -> Outcome {
        write_line(&mut io::stdout().lock(), &clean(&here::named(text))).map_err(End::from)
    }

    /// One JSON value on one line of stdout.
    pub(super) fn value<T: Serialize>(self, value: &T) -> Outcome {
        write_line(&mut io::stdout().lock(), &json(value)).map_err(End::from)
    }

    /// Part of a line, for values that are too long to be built first.
    pub(super) fn part(self, text: &str) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(End::from)
    }

    /// One line for people on stderr, beside the results; dropped with `--json`, where stderr is for programs.
    pub(super) fn note(self, text: &str) {
        if !self.json {
            let _ = write_line(&mut io::stderr().lock(), &clean(&here::named(text)));
        }
    }

    /// A question on stderr; its answer's line from stdin, `None` at its end.
    pub(super) fn ask(self, question: &str) -> io::Result<Option<String>> {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{} ", clean(question))?;
        stderr.flush()?;
        let mut answer = String::new();
        let length = io::stdin().read_line(&mut answer)?;
        Ok((length > 0).then(|| answer.trim().to_lowercase()))
    }

    /// An error on stderr.
    pub(super) fn error(self, error: &LocalError) {
        let error = LocalError { hint: here::named(&error.hint).into_owned(), ..error.clone() };
        let mut stderr = io::stderr().lock();
        let _ = if self.json { write_line(&mut stderr, &json(&error)) } else { error_lines(&mut stderr, &error) };
    }

    /// Rows as JSON or as a table; `none` is said where there is no row.
    pub(super) fn rows<T: Serialize>(self, rows: &[T], none: &str, table: impl FnOnce(&[T]) -> Rows) -> Outcome {
        match (self.json, rows.is_empty()) {
            (true, _) => self.value(&rows),
            (false, true) => self.line(none),
            (false, false) => self.table(table(rows)),
        }
    }

    /// A table.
    pub(super) fn table(self, rows: Rows) -> Outcome {
        write_line(&mut io::stdout().lock(), &rows.render(width())).map_err(End::from)
    }
}

/// Whether questions can be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Columns that a cell is padded to, at most, where there is no terminal: one long path must not widen a million lines.
const PADDING_MAX: usize = 40;

/// What a table shows.
pub(super) struct Rows {
    titles: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// A table with these columns. A title that begins with `>` is of a column of numbers.
    pub(super) fn new(titles: &'static [&'static str]) -> Rows {
        Rows { titles, rows: Vec::new() }
    }

    /// Adds rows of cells.
    pub(super) fn with(mut self, rows: impl IntoIterator<Item = Vec<String>>) -> Rows {
        self.rows.extend(rows);
        self
    }

    /// Fits the width of a terminal; without one, a line is a row.
    fn render(&self, width: Option<u16>) -> String {
        let Some(width) = width else { return self.lines() };
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(self.titles.iter().map(|title| title.trim_start_matches('>')));
        table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        for row in &self.rows {
            table.add_row(row.iter().zip(self.titles).map(|(cell, title)| aligned(cell, title)));
        }
        table.trim_fmt()
    }

    fn lines(&self) -> String {
        let titles = self.titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
        let clean = |row: &Vec<String>| row.iter().map(|cell| clean(cell).into_owned()).collect();
        let rows: Vec<Vec<String>> = std::iter::once(titles).chain(self.rows.iter().map(clean)).collect();
        let width = |column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell: &String| measure_text_width(cell)).max().unwrap_or_default().min(PADDING_MAX)
        };
        let widths: Vec<usize> = (0..self.titles.len()).map(width).collect();
        let padded = |((cell, title), width): ((&String, &&str), &usize)| {
            let alignment = if title.starts_with('>') { Alignment::Right } else { Alignment::Left };
            pad_str(cell, *width, alignment, None).into_owned()
        };
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(self.titles).zip(&widths).map(padded).collect();
            format!(" {}", cells.join("  ")).trim_end().to_owned()
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn aligned(cell: &str, title: &str) -> Cell {
    let alignment = if title.starts_with('>') { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(clean(cell)).set_alignment(alignment)
}

fn width() -> Option<u16> {
    let stdout = console::Term::stdout();
    if stdout.is_term() { stdout.size_checked().map(|(_, columns)| columns) } else { None }
}

/// A text in which nothing can change what a terminal shows beside it.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unfit_for_terminals) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_unfit_for_terminals(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// JSON on one line, in which characters unfit for terminals are escaped, so that nothing is lost. They can only stand
/// inside of strings there.
pub(super) fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    if !text.chars().any(is_unfit_for_terminals) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unfit_for_terminals(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn write_line(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.write_all(b"\n")?;
    to.flush()
}

fn error_lines(to: &mut impl Write, error: &LocalError) -> io::Result<()> {
    write_line(to, &format!("error: {}", clean(&error.error)))?;
    if error.hint.is_empty() { Ok(()) } else { write_line(to, &format!("  hint: {}", clean(&error.hint))) }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        match error.kind() {
            io::ErrorKind::BrokenPipe => End::quietly(),
            _ => End::from(LocalError::new(ErrorCode::Failed, error.to_string(), "mend that and do it again")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes_a_terminal_and_json_loses_nothing() {
        let hostile = "a\u{1b}[2Jb\u{202e}c\u{e0041}\u{7f}\u{9b}";
        assert_eq!(clean(hostile), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}\u{fffd}");
        let text = json(&hostile);
        assert!(!text.chars().any(is_unfit_for_terminals), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
    }

    #[test]
    fn without_a_terminal_a_line_is_a_row() {
        let rows =
            Rows::new(&["name", ">size"]).with([vec!["x".repeat(300), "1".into()], vec!["y\nz".into(), "22".into()]]);
        let text = rows.render(None);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().nth(2).unwrap().contains("y\u{fffd}z"), "{text}");
        assert!(text.lines().next().unwrap().len() < 60, "nothing is padded to the longest cell: {text}");
        assert!(rows.render(Some(40)).lines().all(|line| line.chars().count() <= 40));
    }
}
