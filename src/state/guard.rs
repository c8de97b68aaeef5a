//! What is gone from a share, and what only seems so: an unmounted disk is not a deletion.

/// Files that may vanish without a question, whatever part of the share they are.
///
/// Who deletes one of two files means it, and so does who tidies up nine; a disk that went away shows itself otherwise,
/// by a share that is not there or is on another file system. More than these at once, and half of the share, is asked.
pub const VANISH_UNASKED_MAX: u64 = 9;

/// What a scan found at the shared path itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// Nothing. The file system that the folder above it is on, if there is such a folder.
    Missing(Option<u64>),
    /// It can't be read: nothing is known.
    Unreadable,
    /// A file or a folder.
    There {
        /// The file system that it is on.
        device: u64,
        /// Whether it is a folder in which nothing can be shared.
        empty: bool,
    },
}

/// What a scan did not see, and where it looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// The shared path.
    pub root: Root,
    /// The file system that it was on before, if that is known.
    pub device: Option<u64>,
    /// Whether the share is one file.
    pub single: bool,
    /// Files that are in the catalog, or are to be.
    pub live: u64,
    /// Those that were not seen.
    pub lost: u64,
    /// Those of them whose content was not seen elsewhere in the share.
    pub vanished: u64,
}

/// Why files that were not seen are not taken for removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Guard {
    /// The shared path is not there.
    #[error("it is not there")]
    RootMissing,
    /// It is empty.
    #[error("it is empty")]
    RootEmpty,
    /// It is on another file system.
    #[error("it is on another disk than before")]
    OtherDevice,
    /// Too much is missing.
    #[error("half of it or more is not there")]
    Half,
}

/// Whether what was not seen is gone, or why it may not be.
pub fn judge(looked: &Looked) -> Result<(), Guard> {
    if looked.lost == 0 {
        return Ok(());
    }
    let many = looked.vanished > VANISH_UNASKED_MAX;
    match looked.root {
        // The folder that held a shared file is there as before, and the file is not.
        Root::Missing(above) if looked.single && above.is_some() && above == looked.device => Ok(()),
        Root::Missing(_) => Err(Guard::RootMissing),
        Root::Unreadable => Err(Guard::RootMissing),
        Root::There { device, .. } if looked.device.is_some_and(|before| before != device) => Err(Guard::OtherDevice),
        Root::There { empty: true, .. } if many => Err(Guard::RootEmpty),
        Root::There { .. } if many && looked.vanished * 2 >= looked.live => Err(Guard::Half),
        Root::There { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(root: Root, live: u64, lost: u64) -> Looked {
        Looked { root, device: Some(1), single: false, live, lost, vanished: lost }
    }

    fn there(empty: bool) -> Root {
        Root::There { device: 1, empty }
    }

    #[test]
    fn few_files_go_without_a_question_and_half_of_many_does_not() {
        assert_eq!(judge(&looked(there(false), 2, 1)), Ok(()));
        assert_eq!(judge(&looked(there(true), 9, 9)), Ok(()));
        assert_eq!(judge(&looked(there(true), 10, 10)), Err(Guard::RootEmpty));
        assert_eq!(judge(&looked(there(false), 20, 10)), Err(Guard::Half));
        assert_eq!(judge(&looked(there(false), 21, 10)), Ok(()));
    }

    #[test]
    fn a_disk_that_is_away_is_no_deletion_however_small_the_share() {
        assert_eq!(judge(&looked(Root::Missing(Some(1)), 1, 1)), Err(Guard::RootMissing));
        assert_eq!(judge(&looked(Root::There { device: 2, empty: true }, 1, 1)), Err(Guard::OtherDevice));
        assert_eq!(judge(&looked(Root::There { device: 2, empty: false }, 9, 0)), Ok(()));
    }

    #[test]
    fn one_file_that_was_deleted_is_gone_and_one_whose_disk_is_away_is_not() {
        let file = |above| Looked { single: true, ..looked(Root::Missing(above), 1, 1) };
        assert_eq!(judge(&file(Some(1))), Ok(()));
        assert_eq!(judge(&file(Some(2))), Err(Guard::RootMissing));
        assert_eq!(judge(&file(None)), Err(Guard::RootMissing));
        assert_eq!(judge(&Looked { device: None, ..file(Some(1)) }), Err(Guard::RootMissing));
    }

    #[test]
    fn what_was_moved_is_not_lost() {
        let moved = Looked { vanished: 0, ..looked(there(false), 100, 100) };
        assert_eq!(judge(&moved), Ok(()));
    }
}
