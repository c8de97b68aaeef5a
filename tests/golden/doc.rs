//! The golden blocks of `docs/protocol.md`.

use std::collections::BTreeMap;

const PROTOCOL: &str = include_str!("../../docs/protocol.md");

/// Characters of hexadecimal in a line.
pub(crate) const WIDTH: usize = 64;

/// Everything between ```` ```KIND name=LABEL ```` and the closing fence, by label.
pub(crate) fn blocks(kind: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut lines = PROTOCOL.lines();
    let opening = format!("```{kind} name=");
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix(&opening) else { continue };
        let block = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
        assert!(found.insert(label.to_owned(), block).is_none(), "the label {label} is there twice");
    }
    found
}

/// The golden blocks of hexadecimal, decoded; an unreadable one is empty.
pub(crate) fn golden() -> BTreeMap<String, Vec<u8>> {
    let decoded = |lines: Vec<String>| data_encoding::HEXLOWER.decode(lines.concat().as_bytes()).unwrap_or_default();
    blocks("golden").into_iter().map(|(label, lines)| (label, decoded(lines))).collect()
}

/// A block as it should stand in the document.
pub(crate) fn shown(label: &str, bytes: &[u8]) -> String {
    let hex = data_encoding::HEXLOWER.encode(bytes);
    let lines: Vec<&str> = (0..hex.len()).step_by(WIDTH).map(|at| &hex[at..hex.len().min(at + WIDTH)]).collect();
    format!("```golden name={label}\n{}\n```", lines.join("\n"))
}

/// The cells of the tables below a heading, up to the next one; their own headings left out.
pub(crate) fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let below = PROTOCOL.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with('#'));
    let lines: Vec<&str> = below.collect();
    let is_content = |at: &usize| {
        let next_is_rule = lines.get(at + 1).is_some_and(|next| next.starts_with("|---"));
        lines[*at].starts_with('|') && !lines[*at].starts_with("|---") && !next_is_rule
    };
    let cells = |at: usize| lines[at].trim_matches('|').split('|').map(str::trim).collect();
    (0..lines.len()).filter(is_content).map(cells).collect()
}
