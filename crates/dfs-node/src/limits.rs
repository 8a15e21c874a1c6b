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
