//! What a share holds. No link is followed, so a walk ends and stays in its share; whatever is not shared is reported
//! with a reason, so that an owner can tell "gone" from "could not be read".

use super::exclude::Exclusions;
use super::statedir::looks_like_state;
use crate::wire::path::{BadPath, RelPath, is_unfit_for_terminals};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The end of an unfinished download's name; such files are no one's to share.
pub const PART_SUFFIX: &str = ".bwpart";

/// What is compared to say that a file is unchanged since it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Time of the last modification, in nanoseconds since 1970 (UTC).
    pub mtime_ns: i64,
    /// The file's number on its device.
    pub inode: u64,
    /// The device's number.
    pub device: u64,
}

impl Stamp {
    /// The stamp that a file has now.
    pub fn of(meta: &Metadata) -> Stamp {
        let mtime_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        Stamp { size: meta.len(), mtime_ns, inode: meta.ino(), device: meta.dev() }
    }

    /// Time of the last modification in milliseconds since 1970 (UTC), as the catalog has it.
    pub fn mtime_ms(&self) -> i64 {
        self.mtime_ns.div_euclid(1_000_000)
    }
}

/// What can be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder with nothing in it that is shared; all other folders follow from their files' paths.
    EmptyFolder,
}

/// Something to share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path in the catalog; begins with the share's name.
    pub rel: RelPath,
    /// What it is.
    pub kind: Kind,
    /// Size, time and identity.
    pub stamp: Stamp,
    /// Whether it is a file that its user may execute.
    pub executable: bool,
    /// Where it lies.
    pub abs: PathBuf,
}

/// Something that is not shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path, made fit for terminals and logs.
    pub path: String,
    /// What its path in the catalog would be, if it has one.
    pub rel: Option<RelPath>,
    /// The reason.
    pub why: Why,
}

/// Why something is not shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Links are never followed.
    #[error("it is a link")]
    Link,
    /// A pipe, socket or device.
    #[error("it is neither a file nor a folder")]
    Special,
    /// The name isn't Unicode, so that others could not write it.
    #[error("its name is not UTF-8")]
    NotUnicode,
    /// The name or the path is none of the catalog's.
    #[error("{0}")]
    Name(#[from] BadPath),
    /// The state of this or another node, which holds keys.
    #[error("it is a state directory of bailiwick, which holds private keys")]
    State,
    /// It may still be there: nothing below it is known to be gone.
    #[error("it cannot be read ({0})")]
    Unreadable(io::ErrorKind),
}

/// What a walk yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To be shared.
    Found(Found),
    /// Not to be shared.
    Skipped(Skipped),
}

/// A walk through a share, depth first, in the order of names; an empty folder comes after what was skipped in it.
///
/// It holds the names of one folder a level in memory.
pub struct Walk {
    start: Option<(PathBuf, RelPath)>,
    /// Device and inode of the folder that is never entered.
    state_dir: Option<(u64, u64)>,
    open: Vec<Folder>,
    exclusions: Exclusions,
    leftovers: u64,
    excluded: u64,
}

/// A folder that the walk is in.
struct Folder {
    abs: PathBuf,
    rel: RelPath,
    stamp: Stamp,
    /// Names still to come, the next one last.
    names: Vec<OsString>,
    empty: bool,
}

impl Walk {
    /// A walk of the file or folder at the absolute path `root`, which is listed as `name`. `root` is not followed if
    /// it is a link. `state_dir` is passed over wherever it lies in the share.
    pub fn new(root: &Path, name: &RelPath, state_dir: &Path) -> Walk {
        let state_dir = fs::metadata(state_dir).ok().map(|meta| (meta.dev(), meta.ino()));
        Walk {
            start: Some((root.to_owned(), name.clone())),
            state_dir,
            open: Vec::new(),
            exclusions: Exclusions::default(),
            leftovers: 0,
            excluded: 0,
        }
    }

    /// Leaves out what these exclude. The share itself is never left out.
    pub fn excluding(mut self, exclusions: Exclusions) -> Walk {
        self.exclusions = exclusions;
        self
    }

    /// How much was left out by exclusions so far.
    pub fn excluded(&self) -> u64 {
        self.excluded
    }

    /// How many unfinished downloads were passed over so far.
    pub fn leftovers(&self) -> u64 {
        self.leftovers
    }

    /// Looks at one name of the innermost folder.
    fn enter(&mut self, name: OsString) -> Option<Step> {
        let folder = self.open.last()?;
        let abs = folder.abs.join(&name);
        let Some(text) = name.to_str() else { return Some(skip(&abs, None, Why::NotUnicode)) };
        match folder.rel.join(text) {
            Ok(rel) if self.exclusions.excludes_this(&rel) => {
                self.excluded += 1;
                None
            }
            Ok(rel) => self.look(abs, rel),
            Err(bad) => Some(skip(&abs, None, Why::Name(bad))),
        }
    }

    fn look(&mut self, abs: PathBuf, rel: RelPath) -> Option<Step> {
        let meta = match fs::symlink_metadata(&abs) {
            Ok(meta) => meta,
            Err(error) => return self.unreadable(&abs, rel, &error),
        };
        match meta.file_type() {
            kind if kind.is_dir() => self.descend(abs, rel, &meta),
            kind if kind.is_file() => self.file(abs, rel, &meta),
            kind if kind.is_symlink() => Some(skip(&abs, Some(rel), Why::Link)),
            _ => Some(skip(&abs, Some(rel), Why::Special)),
        }
    }

    fn file(&mut self, abs: PathBuf, rel: RelPath, meta: &Metadata) -> Option<Step> {
        if rel.name().ends_with(PART_SUFFIX) {
            self.leftovers += 1;
            return None;
        }
        self.not_empty();
        let executable = meta.permissions().mode() & 0o100 != 0;
        Some(Step::Found(Found { rel, kind: Kind::File, stamp: Stamp::of(meta), executable, abs }))
    }

    fn descend(&mut self, abs: PathBuf, rel: RelPath, meta: &Metadata) -> Option<Step> {
        if self.state_dir == Some((meta.dev(), meta.ino())) {
            return Some(skip(&abs, Some(rel), Why::State));
        }
        match sorted_names(&abs) {
            Ok(names) if looks_like_state(|name| names.iter().any(|there| there == name)) => {
                Some(skip(&abs, Some(rel), Why::State))
            }
            Ok(names) => {
                self.not_empty();
                self.open.push(Folder { abs, rel, stamp: Stamp::of(meta), names, empty: true });
                None
            }
            Err(error) => self.unreadable(&abs, rel, &error),
        }
    }

    /// Leaves the innermost folder, and yields it if nothing in it was to be shared.
    fn leave(&mut self) -> Option<Step> {
        let Folder { abs, rel, stamp, empty, .. } = self.open.pop()?;
        empty.then_some(Step::Found(Found { rel, kind: Kind::EmptyFolder, stamp, executable: false, abs }))
    }

    fn unreadable(&mut self, abs: &Path, rel: RelPath, error: &io::Error) -> Option<Step> {
        // Gone since the folder was read, as if it had been read later. A whole share that is gone is news.
        if error.kind() == io::ErrorKind::NotFound && !self.open.is_empty() {
            return None;
        }
        self.not_empty();
        Some(skip(abs, Some(rel), Why::Unreadable(error.kind())))
    }

    fn not_empty(&mut self) {
        if let Some(folder) = self.open.last_mut() {
            folder.empty = false;
        }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let mut step = self.start.take().and_then(|(abs, rel)| self.look(abs, rel));
        while step.is_none() {
            step = match self.open.last_mut()?.names.pop() {
                Some(name) => self.enter(name),
                None => self.leave(),
            };
        }
        step
    }
}

/// A path as a terminal may show it.
pub fn shown(path: &Path) -> String {
    let show = |c: char| match is_unfit_for_terminals(c) {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    };
    path.to_string_lossy().chars().map(show).collect()
}

fn skip(path: &Path, rel: Option<RelPath>, why: Why) -> Step {
    Step::Skipped(Skipped { path: shown(path), rel, why })
}

/// A folder's names, the first one last.
fn sorted_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    fn rel(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    fn walk(root: &Path) -> Walk {
        Walk::new(root, &rel("share"), &root.join("no-state"))
    }

    fn write(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Each step in short: `path` for files, `path/` for empty folders, `-path: reason` for what was skipped.
    fn lines(walk: &mut Walk, root: &Path) -> Vec<String> {
        let short = |step| match step {
            Step::Found(Found { rel, kind: Kind::File, .. }) => rel.to_string(),
            Step::Found(Found { rel, .. }) => format!("{rel}/"),
            Step::Skipped(Skipped { path, why, .. }) => {
                format!("-{}: {why}", path.replace(&format!("{}/", shown(root)), ""))
            }
        };
        walk.map(short).collect()
    }

    #[test]
    fn a_tree_comes_sorted_with_hidden_files_and_empty_folders() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b/z", "b/.hidden", "a", "c/d/e"] {
            write(dir.path(), path, b"x");
        }
        fs::create_dir_all(dir.path().join("b/empty")).unwrap();
        fs::create_dir_all(dir.path().join("0/1/2")).unwrap();
        let found = lines(&mut walk(dir.path()), dir.path());
        assert_eq!(found, ["share/0/1/2/", "share/a", "share/b/.hidden", "share/b/empty/", "share/b/z", "share/c/d/e"]);
    }

    #[test]
    fn a_single_file_is_a_share_too() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "tool", b"12345");
        let path = dir.path().join("tool");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let steps: Vec<_> = walk(&path).collect();
        let [Step::Found(found)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((found.rel.as_str(), found.stamp.size, found.executable), ("share", 5, true));
        assert_eq!(found.stamp, Stamp::of(&fs::metadata(&path).unwrap()));
        assert_eq!(found.stamp.mtime_ms(), found.stamp.mtime_ns.div_euclid(1_000_000));
    }

    #[test]
    fn links_and_special_files_are_named_and_left_out() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("dir-link")).unwrap();
        symlink("missing", dir.path().join("dangling")).unwrap();
        symlink(".", dir.path().join("loop")).unwrap();
        mknodat(CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let found = lines(&mut walk(dir.path()), dir.path());
        let special = "-pipe: it is neither a file nor a folder";
        assert_eq!(
            found,
            ["-dangling: it is a link", "-dir-link: it is a link", "-loop: it is a link", special, "share/"]
        );
        let link = dir.path().join("loop");
        assert!(matches!(walk(&link).next(), Some(Step::Skipped(Skipped { why: Why::Link, .. }))));
    }

    #[test]
    fn names_that_cannot_travel_are_reported_in_harmless_form() {
        let dir = tempfile::tempdir().unwrap();
        let longest = "l".repeat(255);
        for name in ["new\nline", "esc\u{1b}[1m", "back\\slash", &longest] {
            write(dir.path(), name, b"");
        }
        fs::write(dir.path().join(OsString::from_vec(vec![b'n', 0xff])), b"").unwrap();
        let found = lines(&mut walk(dir.path()), dir.path());
        assert_eq!(found.len(), 5);
        assert!(found.iter().all(|line| !line.chars().any(is_unfit_for_terminals)), "{found:?}");
        assert!(found[0].starts_with("-back\\slash: ") && found[1].starts_with("-esc\\u{1b}[1m: "), "{found:?}");
        assert_eq!(found[2], format!("share/{longest}"));
        assert!(found[3].starts_with("-new\\u{a}line: ") && found[4].starts_with("-n\u{fffd}: "), "{found:?}");
    }

    #[test]
    fn depth_ends_at_the_limit_of_paths() {
        let dir = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(70);
        write(dir.path(), &format!("{deep}file"), b"");
        let steps: Vec<_> = walk(dir.path()).collect();
        assert!(matches!(&steps[0], Step::Skipped(Skipped { why: Why::Name(BadPath::TooLong), .. })), "{steps:?}");
    }

    #[test]
    fn leftovers_are_counted_and_the_state_directory_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "movie.bwpart", b"half");
        write(dir.path(), "state/key", b"secret");
        let mut walk = Walk::new(dir.path(), &rel("share"), &dir.path().join("state"));
        let found = lines(&mut walk, dir.path());
        assert_eq!(found, ["-state: it is a state directory of bailiwick, which holds private keys", "share/"]);
        assert_eq!(walk.leftovers(), 1);
    }

    #[test]
    fn a_share_that_is_gone_is_reported_and_a_file_that_just_went_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let gone = walk(&dir.path().join("gone")).collect::<Vec<_>>();
        let why = Why::Unreadable(io::ErrorKind::NotFound);
        assert!(matches!(&gone[..], [Step::Skipped(skipped)] if skipped.why == why), "{gone:?}");

        for path in ["a", "b", "c"] {
            write(dir.path(), path, b"");
        }
        let mut walk = walk(dir.path());
        assert!(matches!(walk.next(), Some(Step::Found(_))));
        fs::remove_file(dir.path().join("b")).unwrap();
        assert_eq!(lines(&mut walk, dir.path()), ["share/c"]);
    }

    /// Root reads everything; for it, this folder is found like any other.
    #[test]
    fn an_unreadable_folder_is_reported_and_not_taken_for_empty() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "locked/file", b"");
        let locked = dir.path().join("locked");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        let readable = fs::read_dir(&locked).is_ok();
        let found = lines(&mut walk(dir.path()), dir.path());
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
        match readable {
            true => assert_eq!(found, ["share/locked/file"]),
            false => assert_eq!(found, ["-locked: it cannot be read (permission denied)"]),
        }
    }

    #[test]
    fn what_is_excluded_is_left_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a.tmp", "keep/a.tmp", "keep/b", "build/x", "sub/build/y", "Thumbs.db", "only/.DS_Store"] {
            write(dir.path(), path, b"x");
        }
        let patterns = ["*.tmp".to_owned(), "/build".to_owned()];
        let mut walk = walk(dir.path()).excluding(Exclusions::parse(&patterns).unwrap());
        assert_eq!(lines(&mut walk, dir.path()), ["share/keep/b", "share/only/", "share/sub/build/y"]);
        assert_eq!(walk.excluded(), 5);
    }

    #[test]
    fn no_state_directory_is_shared_whosever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "home/other-profile/lock", b"1");
        write(dir.path(), "home/other-profile/identity", b"keys");
        write(dir.path(), "home/relay/lock", b"1");
        write(dir.path(), "home/relay/server-identity", b"keys");
        // A copy of one, without its lock.
        write(dir.path(), "home/backup/role", b"master");
        write(dir.path(), "home/backup/identity", b"keys");
        write(dir.path(), "home/backup/member.db", b"all");
        write(dir.path(), "home/locksmith/lock", b"a film");
        let found: Vec<String> = walk(&dir.path().join("home"))
            .filter_map(|step| match step {
                Step::Found(found) => Some(found.rel.to_string()),
                Step::Skipped(Skipped { why, .. }) => {
                    assert_eq!(why, Why::State);
                    None
                }
            })
            .collect();
        assert_eq!(found, ["share/locksmith/lock"]);
    }
}
