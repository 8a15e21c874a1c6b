//! Limits of the process: as many open files as it may have, and no core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sets the limits of the process. Best effort: a node also works within those it was given.
pub fn set() {
    let files = getrlimit(Resource::Nofile);
    // The usual soft limit of 1,024 is for programs that use `select`; peers, requests and blobs
    // need a descriptor each.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    forbid_core_dumps();
}

/// Keeps what is in memory, keys and the plaintext of files, out of the files that core dumps are.
/// Best effort.
pub(crate) fn forbid_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// How many clients of the API may be connected at once: a quarter of the descriptors there are.
/// The rest is for peers, blobs and the index.
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 4).unwrap_or(usize::MAX).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// How many files a client may have on their way at once, of as many as it likes: each takes a
/// connection and its file, which is watched by another descriptor.
pub(crate) fn transfers_max(wanted: usize) -> usize {
    transfers_within(getrlimit(Resource::Nofile).current, wanted)
}

fn transfers_within(descriptors: Option<u64>, wanted: usize) -> usize {
    let left = descriptors.unwrap_or(u64::MAX).saturating_sub(CLIENT_DESCRIPTORS);
    usize::try_from(left / TRANSFER_DESCRIPTORS).unwrap_or(usize::MAX).clamp(1, wanted)
}

/// What a client has open besides: streams, signals, a directory, a record of a node.
const CLIENT_DESCRIPTORS: u64 = 12;
/// Three, and one for what is looked at before.
const TRANSFER_DESCRIPTORS: u64 = 4;
/// An idle connection costs some 20 KiB: so many together are well below what one transfer takes.
const CONNECTIONS_MAX: usize = 4096;
/// As many even where descriptors are very few.
const CONNECTIONS_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_mean_few_files_at_once_and_never_none() {
        for (descriptors, expected) in
            [(Some(256), 8), (Some(44), 8), (Some(24), 3), (Some(12), 1), (Some(0), 1), (None, 8)]
        {
            assert_eq!(transfers_within(descriptors, 8), expected, "{descriptors:?}");
        }
    }

    #[test]
    fn open_files_are_raised_and_core_dumps_forbidden() {
        set();
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, files.maximum);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
