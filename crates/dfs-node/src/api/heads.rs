//! How long each request says its body is, read beside the server: that takes one of two lengths
//! and forgets the other, and a proxy before it may have taken the other one. What follows is then
//! a body to the one and a request to the other (RFC 9112, section 6.3 and 11.2).

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<State>);

/// What is wrong with the lengths of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadLength {
    /// `Content-Length` and `Transfer-Encoding`.
    Both,
    /// `Content-Length` more than once, or one that is no number.
    NotOne,
}

#[derive(Debug, Default)]
struct State {
    at: At,
    /// One for each head that was read whole and not asked for yet.
    found: VecDeque<Option<BadLength>>,
}

/// Where in a connection the next byte is.
#[derive(Debug)]
enum At {
    Head(Head),
    /// In a body that is so much longer.
    Body(u64),
    /// In a body whose end only its server knows: no other request may follow it.
    Unknown,
}

impl Default for At {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

#[derive(Debug, Default)]
struct Head {
    /// What is kept of the line that is being read.
    line: Vec<u8>,
    lines: usize,
    lengths: Vec<Option<u64>>,
    has_coding: bool,
}

impl Heads {
    /// Takes bytes that came from the client.
    pub(super) fn read(&self, bytes: &[u8]) {
        self.0.lock().read(bytes);
    }

    /// What is wrong with the lengths of the next request that the server has taken, in order.
    pub(super) fn next(&self) -> Option<BadLength> {
        self.0.lock().found.pop_front().flatten()
    }
}

impl State {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                At::Unknown => return,
                At::Body(left) => {
                    let skipped = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    bytes = &bytes[skipped..];
                    *left -= skipped as u64;
                    if *left == 0 {
                        self.at = At::default();
                    }
                }
                At::Head(head) => {
                    bytes = rest;
                    if head.take(*first) {
                        let (found, at) = head.end();
                        self.found.push_back(found);
                        self.at = at;
                    }
                }
            }
        }
    }
}

impl Head {
    /// Takes one byte; returns whether it ends the head.
    fn take(&mut self, byte: u8) -> bool {
        if byte != b'\n' {
            if self.line.len() < LINE_KEPT_MAX {
                self.line.push(byte);
            }
            return false;
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            // Before the first line they mean nothing.
            return self.lines > 0;
        }
        self.lines += 1;
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        if let Some(value) = value {
            if name.eq_ignore_ascii_case(b"content-length") && self.lengths.len() < 2 {
                self.lengths.push(number(value));
            }
            self.has_coding |= name.eq_ignore_ascii_case(b"transfer-encoding");
        }
        false
    }

    /// What was found, and what follows.
    fn end(&self) -> (Option<BadLength>, At) {
        match (&self.lengths[..], self.has_coding) {
            ([], true) => (None, At::Unknown),
            (_, true) => (Some(BadLength::Both), At::Unknown),
            ([], false) | ([Some(0)], false) => (None, At::default()),
            ([Some(len)], false) => (None, At::Body(*len)),
            _ => (Some(BadLength::NotOne), At::Unknown),
        }
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// Bytes of a line that are kept: more than the name of either field and any length take.
const LINE_KEPT_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sent: &str, expected: &[Option<BadLength>]) {
        // Whole, and byte by byte.
        for step in [sent.len(), 1] {
            let heads = Heads::default();
            sent.as_bytes().chunks(step).for_each(|piece| heads.read(piece));
            let state = heads.0.lock();
            assert_eq!(state.found, expected, "{sent:?}");
        }
    }

    #[test]
    fn lengths_that_contradict_are_found_in_every_request_of_a_connection() {
        let (fine, both, not_one) = (None, Some(BadLength::Both), Some(BadLength::NotOne));
        check("GET / HTTP/1.1\r\nHost: a\r\n", &[]);
        check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\n\n", &[fine, fine]);
        let put = "PUT / HTTP/1.1\r\n";
        check(
            &format!("{put}Content-Length: 4\r\n\r\nbody{put}content-length: 0\r\n\r\n"),
            &[fine, fine],
        );
        // What looks like a field in a body is none.
        let body = "\r\nTransfer-Encoding: chunked\r\n\r\n";
        let len = body.len();
        check(&format!("{put}Content-Length:{len}\r\n\r\n{body}{put}\r\n"), &[fine, fine]);
        check(&format!("{put}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), &[fine]);
        for fields in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "transfer-encoding: chunked\r\nCONTENT-LENGTH: 4",
            "Transfer-Encoding: gzip\r\nX: y\r\nContent-Length: 4",
        ] {
            check(&format!("{put}{fields}\r\n\r\n"), &[both]);
            let first = "GET / HTTP/1.1\r\n\r\n";
            check(&format!("{first}{put}{fields}\r\n\r\n"), &[fine, both]);
        }
        for fields in [
            "Content-Length: 4\r\nContent-Length: 4",
            "Content-Length: 4\r\nContent-Length: 5",
            "Content-Length: +4",
            "Content-Length: 4, 4",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
        ] {
            check(&format!("{put}{fields}\r\n\r\n"), &[not_one]);
        }
    }
}
