//! Limits of the process: as many open files as it may have, and no core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sets the limits of the process. Best effort: a node also works within those it was given.
pub fn set() {
    let files = getrlimit(Resource::Nofile);
    // The usual soft limit of 1,024 is for programs that use `select`; peers, requests and blobs
    // need a descriptor each.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    // The keys and the plaintext of files are in memory, and a core dump is a file.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// How many clients of the API may be connected at once: a quarter of the descriptors there are.
/// The rest is for peers, blobs and the index.
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 4).unwrap_or(usize::MAX).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// An idle connection costs some 20 KiB: so many together are well below what one transfer takes.
const CONNECTIONS_MAX: usize = 4096;
/// As many even where descriptors are very few.
const CONNECTIONS_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_raised_and_core_dumps_forbidden() {
        set();
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, files.maximum);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
