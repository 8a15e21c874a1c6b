//! Local content on its way to a node.

use std::io::{self, Read};

use crate::exit::{Code, Failure};

/// A source that never exceeds its announced length, and that remembers why reading it failed: what
/// the node or the connection reports after that is only a consequence.
#[derive(Debug)]
pub(super) struct Source<R> {
    content: R,
    name: String,
    /// Bytes still owed, when a length was announced.
    left: Option<u64>,
    failed: Option<String>,
}

impl<R: Read> Source<R> {
    pub(super) fn new(content: R, name: impl Into<String>, len: Option<u64>) -> Self {
        Self { content, name: name.into(), left: len, failed: None }
    }

    /// Fails if a read failed.
    pub(super) fn check(self) -> Result<(), Failure> {
        match self.failed {
            None => Ok(()),
            Some(why) => {
                Err(Failure::new(Code::Failed, format!("cannot read {}: {why}", self.name)))
            }
        }
    }

    fn fail(&mut self, why: String) -> io::Error {
        self.failed = Some(why.clone());
        io::Error::other(why)
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
            Err(error) => return Err(self.fail(error.to_string())),
        };
        if let Some(left) = &mut self.left {
            *left -= read as u64;
            // Else the client would wait for the rest for ever.
            if read == 0 {
                return Err(self.fail("it became shorter while it was read".to_owned()));
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
