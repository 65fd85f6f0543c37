//! The temporary directory of a test run: in memory where there is room for it. The stores wait for the disk with each
//! commit and with each of the hundred files of a new database, which takes longer than most tests.

use std::{fs, path::Path, process};

use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// A file system in memory.
const MEMORY: &str = "/dev/shm";
/// Free space that a run needs there.
const ROOM: u64 = 4 << 30;
/// Prefix of the directories, followed by the id of the process that made them.
const PREFIX: &str = "dezky-test-";

/// Creates the directory. It is removed when dropped.
pub(crate) fn directory() -> anyhow::Result<TempDir> {
    let memory = Path::new(MEMORY);
    remove_abandoned(memory);
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{PREFIX}{}-", process::id());
    builder.prefix(&prefix);
    let directory = if free_space(memory) >= ROOM {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    };
    Ok(directory?)
}

/// Bytes that may still be written; none if there is no such file system.
fn free_space(path: &Path) -> u64 {
    statvfs(path).map_or(0, |found| found.blocks_available() * found.fragment_size())
}

/// Removes what killed runs left behind: it would occupy memory until the machine restarts.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another run may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_processes_that_ended_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let own = parent.path().join(format!("{PREFIX}{}-a", process::id()));
        // Above the highest id that Linux assigns.
        let abandoned = parent.path().join(format!("{PREFIX}4194305-a"));
        let unrelated = parent.path().join("unrelated");
        for directory in [&own, &abandoned, &unrelated] {
            fs::create_dir(directory).unwrap();
        }

        remove_abandoned(parent.path());

        assert!(own.exists());
        assert!(!abandoned.exists());
        assert!(unrelated.exists());
    }
}
