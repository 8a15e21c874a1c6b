//! The client's connection to a node: it listens while it sends, because a node that refuses a
//! content says so before it has all of it, and says why.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Connects to a node.
#[derive(Debug)]
pub(super) struct Attentive {
    pub(super) connect_max: Duration,
}

/// What a node answered before it had the whole content.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: String,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node answered {} before it had everything", self.status)
    }
}

impl std::error::Error for Answered {}

impl Answered {
    /// What a transfer was ended by, if it was by an answer.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        let Error::Io(error) = error else { return None };
        error.get_ref()?.downcast_ref()
    }
}

impl Connector for Attentive {
    type Out = Attending;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Attending>, Error> {
        let mut last = io::Error::from(ErrorKind::NotFound);
        for addr in &details.addrs {
            match TcpStream::connect_timeout(addr, self.connect_max) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let config = details.config;
                    let buffers =
                        LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
                    return Ok(Some(Attending { stream, buffers, read_max: None }));
                }
                Err(error) => last = error,
            }
        }
        Err(Error::Io(last))
    }
}

/// One connection.
pub(super) struct Attending {
    stream: TcpStream,
    buffers: LazyBuffers,
    /// How long a read waits now.
    read_max: Option<Duration>,
}

impl Attending {
    /// Fails with what the node has answered already, if it has.
    fn heed(&self) -> io::Result<()> {
        while self.has_input()? {
            self.stream.set_read_timeout(Some(REST_MAX))?;
            let answered = read_answer(&mut &self.stream);
            self.stream.set_read_timeout(self.read_max)?;
            // A "100 Continue" that came late is none.
            if let Some(answered) = answered? {
                return Err(io::Error::other(answered));
            }
        }
        Ok(())
    }

    fn has_input(&self) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        Ok(matches!(peeked, Ok(bytes) if bytes > 0))
    }
}

impl Transport for Attending {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.heed()?;
        let output = &self.buffers.output()[..amount];
        if let Err(error) = (&self.stream).write_all(output) {
            // A node that closes has said why.
            self.heed()?;
            return Err(error.into());
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = timeout.not_zero().map(|limit| *limit);
        if limit != self.read_max {
            self.stream.set_read_timeout(limit)?;
            self.read_max = limit;
        }
        let input = self.buffers.input_append_buf();
        let read = loop {
            match (&self.stream).read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(Error::Timeout(timeout.reason));
                }
                other => break other?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Nothing is expected to come: whatever did is the end, or no answer to anything.
        let waits = |error: io::Error| error.kind() == ErrorKind::WouldBlock;
        let open = self.stream.set_nonblocking(true).is_ok()
            && self.stream.peek(&mut [0]).is_err_and(waits);
        self.stream.set_nonblocking(false).is_ok() && open
    }
}

impl fmt::Debug for Attending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attending").field("addr", &self.stream.peer_addr().ok()).finish()
    }
}

/// Reads one answer; `None` is for one that says to go on.
fn read_answer(from: &mut impl Read) -> io::Result<Option<Answered>> {
    let invalid = || io::Error::from(ErrorKind::InvalidData);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX || from.read(&mut byte)? == 0 {
            return Err(invalid());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(|_| invalid())?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(invalid)?;
    let status: u16 = status.parse().map_err(|_| invalid())?;
    if status < 200 {
        return Ok(None);
    }
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
    });
    let mut body = Vec::new();
    // What of it does not come any more is not missed: the status says enough.
    let _ = from.take(length.unwrap_or(0).min(BODY_BYTES_MAX)).read_to_end(&mut body);
    Ok(Some(Answered { status, body: String::from_utf8_lossy(&body).into_owned() }))
}

/// How long the rest of an answer may take that has begun.
const REST_MAX: Duration = Duration::from_secs(5);
/// Of an answer's head; a node sends a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Of an answer that says why.
const BODY_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use ureq::unversioned::resolver::DefaultResolver;
    use ureq::{Agent, SendBody};

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u16, &str)>) {
        let answered = read_answer(&mut text.as_bytes()).unwrap();
        let answered = answered.as_ref().map(|answered| (answered.status, answered.body.as_str()));
        assert_eq!(answered, expected);
    }

    #[test]
    fn answers_are_read_and_what_only_says_to_go_on_is_none() {
        check("HTTP/1.1 100 Continue\r\n\r\n", None);
        check("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}more", Some((503, "{}")));
        check("HTTP/1.1 507 x\r\ncontent-length: 900\r\n\r\ncut", Some((507, "cut")));
        check("HTTP/1.1 413 x\r\n\r\n", Some((413, "")));
        for broken in ["", "HTTP/1.1 503 Busy\r\n", "\r\n\r\n", "HTTP/1.1 many\r\n\r\n"] {
            assert!(read_answer(&mut broken.as_bytes()).is_err(), "{broken}");
        }
        assert!(read_answer(&mut io::repeat(b'x')).is_err());
    }

    /// Content without end.
    fn endless() -> SendBody<'static> {
        SendBody::from_owned_reader(io::repeat(7))
    }

    #[test]
    fn a_refusal_in_the_midst_of_a_content_ends_it_and_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let node = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut some = vec![0; 1024 * 1024];
            stream.read_exact(&mut some).unwrap();
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            stream.read_exact(&mut some).unwrap();
            let answer = b"HTTP/1.1 507 Full\r\nContent-Length: 4\r\n\r\nfull";
            stream.write_all(answer).unwrap();
            // It goes on reading, as a node does, until the client has heard.
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let connector = Attentive { connect_max: Duration::from_secs(60) };
        let config = Agent::config_builder().proxy(None).build();
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        let error = agent.put(&url).send(endless()).unwrap_err();
        let answered = Answered::of(&error).expect("an answer");
        assert_eq!((answered.status, answered.body.as_str()), (507, "full"));
        drop(agent);
        node.join().unwrap();
    }
}
