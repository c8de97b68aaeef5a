//! Real values to begin from: the golden bytes of the protocol's page.

/// The golden blocks whose label begins with `prefix`, decoded.
pub fn blocks(prefix: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut lines = include_str!("../../docs/protocol.md").lines();
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("```golden name=") else { continue };
        let block: String = lines.by_ref().take_while(|line| *line != "```").collect();
        if label.starts_with(prefix) {
            found.extend(unhex(&block));
        }
    }
    found
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// These, each behind a byte that says what reads it.
pub fn behind(which: u8, values: Vec<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    values.into_iter().map(move |value| [vec![which], value].concat())
}
