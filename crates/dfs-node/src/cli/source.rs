//! Local content on its way to a node.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use crate::exit::{Code, Failure};

/// A source that never exceeds its announced length, and that remembers why reading it failed: what
/// the node or the connection reports after that is only a consequence.
#[derive(Debug)]
pub(super) struct Source<R> {
    content: R,
    name: String,
    /// Bytes still owed, when a length was announced.
    left: Option<u64>,
    watch: Option<Watch>,
    failed: Option<Unread>,
}

/// Why a source could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unread {
    Changed(&'static str),
    Failed(String),
}

/// A file that should stay as it is while it is read.
#[derive(Debug)]
pub(super) struct Watch {
    file: File,
    before: Stamp,
}

/// What differs when a file was written to.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Watch {
    /// Watches a file from here on.
    pub(super) fn of(file: &File, found: &Metadata) -> io::Result<Self> {
        Ok(Self { file: file.try_clone()?, before: Stamp::of(found) })
    }

    fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|found| Stamp::of(&found) == self.before)
    }
}

impl<R: Read> Source<R> {
    pub(super) fn new(content: R, name: impl Into<String>, len: Option<u64>) -> Self {
        Self { content, name: name.into(), left: len, watch: None, failed: None }
    }

    /// The same of a file that must not change meanwhile: it is looked at before the last of the
    /// announced bytes is given, so that whoever takes them never has all of half an edit.
    pub(super) fn watching(self, watch: Option<Watch>) -> Self {
        Self { watch, ..self }
    }

    /// Whether the file changed while it was read: then it may be whole the next time.
    pub(super) fn has_changed(&self) -> bool {
        matches!(self.failed, Some(Unread::Changed(_)))
    }

    /// Fails if a read failed.
    pub(super) fn check(self) -> Result<(), Failure> {
        let failure = |why| Failure::new(Code::Failed, format!("cannot read {}: {why}", self.name));
        match &self.failed {
            None => Ok(()),
            Some(Unread::Failed(why)) => Err(failure(why.as_str())),
            Some(Unread::Changed(how)) => {
                Err(failure(*how).hint("store it when nobody writes to it, or store a copy"))
            }
        }
    }

    fn fail(&mut self, why: Unread) -> io::Error {
        let text = match &why {
            Unread::Changed(how) => (*how).to_owned(),
            Unread::Failed(why) => why.clone(),
        };
        self.failed = Some(why);
        io::Error::other(text)
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = self.left.map_or(out.len(), |left| {
            usize::try_from(left).map_or(out.len(), |left| left.min(out.len()))
        });
        if room == 0 {
            return Ok(0);
        }
        let read = match self.content.read(&mut out[..room]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(Unread::Failed(error.to_string()))),
        };
        if let Some(left) = &mut self.left {
            *left -= read as u64;
            // Else the client would wait for the rest for ever.
            if read == 0 {
                return Err(self.fail(Unread::Changed("it became shorter while it was read")));
            }
            let is_last = *left == 0;
            if is_last && self.watch.as_ref().is_some_and(|watch| !watch.is_unchanged()) {
                return Err(self.fail(Unread::Changed("it changed while it was read")));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &[u8], len: Option<u64>, expected: &[u8], why: Option<&str>) {
        let mut source = Source::new(content, "notes.txt", len);
        let mut got = Vec::new();
        let result = source.read_to_end(&mut got);
        assert_eq!((got.as_slice(), result.is_err()), (expected, why.is_some()));
        let message = source.check().err().map(|failure| (failure.code, failure.message));
        assert_eq!(message, why.map(|why| (Code::Failed, format!("cannot read notes.txt: {why}"))));
    }

    #[test]
    fn a_source_gives_what_was_announced_and_no_more() {
        check(b"12345", Some(5), b"12345", None);
        check(b"12345 and a new line", Some(5), b"12345", None);
        check(b"12345", None, b"12345", None);
        check(b"", None, b"", None);
    }

    #[test]
    fn a_source_that_ends_early_is_an_error_and_not_an_endless_wait() {
        check(b"123", Some(5), b"123", Some("it became shorter while it was read"));
        check(b"", Some(5), b"", Some("it became shorter while it was read"));
    }

    #[test]
    fn a_file_that_changes_gives_all_but_its_last_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345678").unwrap();
        for change in [None, Some("12345678 and more"), Some("87654321")] {
            let open = File::open(file.path()).unwrap();
            let found = open.metadata().unwrap();
            let watch = Watch::of(&open, &found).unwrap();
            let mut source = Source::new(open, "log", Some(8)).watching(Some(watch));
            source.read_exact(&mut [0; 4]).unwrap();
            if let Some(change) = change {
                // A file system has ticks: two writes within one have the same time.
                std::thread::sleep(TICK);
                std::fs::write(file.path(), change).unwrap();
            }
            let rest = source.read_to_end(&mut Vec::new());
            assert_eq!((rest.is_err(), source.has_changed()), (change.is_some(), change.is_some()));
        }
    }

    /// Longer than a tick of any common kernel.
    const TICK: std::time::Duration = std::time::Duration::from_millis(20);

    #[test]
    fn a_source_that_cannot_be_read_is_named() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad sector"))
            }
        }
        let mut source = Source::new(Broken, "disk", None);
        assert!(source.read(&mut [0; 8]).is_err());
        assert_eq!(source.check().unwrap_err().message, "cannot read disk: bad sector");
    }
}
