//! What a person leaves out of a share. Patterns of any kind never panic, and what lies in a folder that is left out is
//! left out.

use bailiwick::store::exclude::Exclusions;
use bailiwick::wire::path::RelPath;

/// The first line is a path, the others are patterns.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::to_owned);
    let path = lines.next().and_then(|line| RelPath::parse(&line).ok());
    let patterns: Vec<String> = lines.take(8).collect();
    let Ok(exclusions) = Exclusions::parse(&patterns) else { return };
    let Some(path) = path else { return };
    if exclusions.excludes_this(&path) {
        assert!(exclusions.excludes(&path));
    }
    if let Ok(below) = path.join("x")
        && path.components().count() > 1
        && exclusions.excludes(&path)
    {
        assert!(exclusions.excludes(&below), "what lies in an excluded folder is excluded");
    }
}

/// A path with patterns of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts =
        ["share/a/b.tmp\n*.tmp", "share/a/b\n/a/**", "s/a\n[!x]?{a,b}", "s/x/y/z\nx/**/z", "s/a\n\\*", "s/Thumbs.db"];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
