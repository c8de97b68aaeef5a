//! Looks at what a question of the local API names, before the core has it: at paths, where that may block.

use crate::node::local::{Command, ErrorCode, LocalError};
use crate::store::statedir::is_in_state;
use std::io;
use std::path::{Path, PathBuf};

/// The command with its paths as the core needs them, or why it can't be carried out.
pub(super) fn prepare(command: Command) -> Result<Command, LocalError> {
    match command {
        Command::Add { paths, copy, exclude } => {
            must_name(&paths, "path")?;
            let paths = paths.into_iter().map(shareable).collect::<Result<_, _>>()?;
            Ok(Command::Add { paths, copy, exclude })
        }
        Command::Scan { paths, confirm } => {
            let paths = paths.into_iter().map(known).collect::<Result<_, _>>()?;
            Ok(Command::Scan { paths, confirm })
        }
        Command::ShareFiles { path } => Ok(Command::ShareFiles { path: known(path)? }),
        Command::Get { files, dest, conflict, way } => {
            must_name(&files, "file")?;
            Ok(Command::Get { files, dest: dest.map(destination).transpose()?, conflict, way })
        }
        Command::Remove { files, yes } => {
            must_name(&files, "file")?;
            Ok(Command::Remove { files, yes })
        }
        other => Ok(other),
    }
}

fn must_name<T>(named: &[T], what: &str) -> Result<(), LocalError> {
    if named.is_empty() {
        return Err(LocalError::new(ErrorCode::Usage, format!("no {what} is named"), format!("name a {what}")));
    }
    Ok(())
}

/// The node's own folder means nothing to whoever asks.
fn must_be_absolute(path: &Path) -> Result<(), LocalError> {
    if path.is_absolute() {
        return Ok(());
    }
    let error = format!("the path '{}' does not begin at the root", path.display());
    Err(LocalError::new(ErrorCode::Usage, error, "give the whole path, from '/' on"))
}

/// A path of a share, which need not be there any more.
fn known(path: PathBuf) -> Result<PathBuf, LocalError> {
    must_be_absolute(&path)?;
    Ok(path.canonicalize().unwrap_or(path))
}

/// Whether an error says that no path can be like that: with a zero byte, or too long.
fn is_no_path(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename)
}

fn in_state(path: &Path, todo: &str) -> LocalError {
    let error = format!("{} lies in a state directory of bailiwick, which holds private keys", path.display());
    LocalError::new(ErrorCode::Usage, error, todo)
}

/// A folder for what is fetched, made if it is missing.
fn destination(path: PathBuf) -> Result<PathBuf, LocalError> {
    must_be_absolute(&path)?;
    if is_in_state(&path) {
        return Err(in_state(&path, "choose another folder with -o"));
    }
    std::fs::create_dir_all(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => LocalError::new(
            ErrorCode::Usage,
            format!("{} is not a folder", path.display()),
            "name a folder with -o, or a path where one can be made",
        ),
        _ => LocalError::new(
            if is_no_path(&error) { ErrorCode::Usage } else { ErrorCode::Failed },
            format!("the folder {} can't be used: {error}", path.display()),
            "choose another one with -o",
        ),
    })?;
    Ok(path.canonicalize().unwrap_or(path))
}

/// Something to share: it is there, and can be read.
fn shareable(path: PathBuf) -> Result<PathBuf, LocalError> {
    must_be_absolute(&path)?;
    let refused = |error: io::Error| {
        let code = if is_no_path(&error) { ErrorCode::Usage } else { ErrorCode::Failed };
        LocalError::new(
            code,
            format!("{} can't be shared: {error}", path.display()),
            "check the path and its permissions",
        )
    };
    let path = path.canonicalize().map_err(refused)?;
    let meta = std::fs::metadata(&path).map_err(refused)?;
    if is_in_state(&path) {
        return Err(in_state(&path, "share something else"));
    }
    if meta.is_dir() {
        std::fs::read_dir(&path).map_err(refused)?;
    } else if meta.is_file() {
        std::fs::File::open(&path).map_err(refused)?;
    } else {
        return Err(LocalError::new(
            ErrorCode::Usage,
            format!("{} is neither a file nor a folder", path.display()),
            "share files and folders",
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command as Program;

    fn get(dest: impl Into<PathBuf>) -> Result<Command, LocalError> {
        prepare(Command::Get { files: vec!["a:b".into()], dest: Some(dest.into()), conflict: None, way: None })
    }

    #[test]
    fn what_is_no_folder_is_no_place_for_downloads() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), b"mine").unwrap();
        assert!(Program::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
        for name in ["file", "fifo", "link", "file/below"] {
            let error = get(at(name)).unwrap_err();
            assert!(error.code == ErrorCode::Usage && error.error.ends_with(" is not a folder"), "{name}: {error:?}");
        }
        assert!(!at("nowhere").exists());
        get(at("new/below")).unwrap();
        assert!(at("new/below").is_dir());
    }

    #[test]
    fn what_no_path_can_be_is_the_mistake_of_who_asks() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a\0b".to_owned(), "n".repeat(300)] {
            let path = dir.path().join(name);
            assert_eq!(get(&path).unwrap_err().code, ErrorCode::Usage, "{path:?}");
        }
        let add = Command::Add { paths: vec![dir.path().join("a\0b")], copy: false, exclude: vec![] };
        assert_eq!(prepare(add).unwrap_err().code, ErrorCode::Usage);
    }

    #[test]
    fn relative_paths_and_empty_lists_are_refused() {
        let refused = |command: Command| prepare(command).unwrap_err().code == ErrorCode::Usage;
        for path in ["", "folder", "./folder", "../folder"] {
            let path = PathBuf::from(path);
            assert!(get(&path).unwrap_err().code == ErrorCode::Usage, "{path:?}");
            assert!(refused(Command::Add { paths: vec![path.clone()], copy: false, exclude: vec![] }), "{path:?}");
            assert!(refused(Command::Scan { paths: vec![path.clone()], confirm: false }), "{path:?}");
            assert!(refused(Command::ShareFiles { path }));
        }
        assert!(refused(Command::Add { paths: vec![], copy: false, exclude: vec![] }));
        assert!(refused(Command::Get { files: vec![], dest: None, conflict: None, way: None }));
        assert!(refused(Command::Remove { files: vec![], yes: false }));
        assert!(prepare(Command::Scan { paths: vec![], confirm: false }).is_ok(), "all shares");
    }
}
