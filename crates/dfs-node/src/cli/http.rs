//! The client's side of the HTTP API.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::{
    ConflictPage, Depth, HistoryPage, Logged, Purged, Said, Stat, Stored, UnreadablePage, UsagePage,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body, RequestBuilder, SendBody};

use crate::api::{ErrorBody, GUARDED, ListPage, MTIME, OfPath, PERMISSIONS};
use crate::cli::args::{Args, ModeArg};
use crate::cli::asked::{Asked, Place, Trouble};
use crate::cli::transport::{Answered, Attentive};
use crate::exit::{Code, Failure, chain};

/// The API of one running node.
#[derive(Clone)]
pub(super) struct Api {
    agent: Agent,
    /// Where it is now; `base` and `token` are where it was when this was made.
    asked: Arc<Asked>,
    pub(super) base: String,
    token: Option<String>,
    mode: Option<ModeArg>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base).finish_non_exhaustive()
    }
}

/// A file under way.
pub(super) struct Incoming {
    /// Bytes of this answer.
    pub(super) bytes: u64,
    /// The version it is of.
    pub(super) version: String,
    /// Whether enough gateways answered for its name.
    pub(super) guarded: bool,
    /// What else is said of it.
    pub(super) said: Said,
    pub(super) content: Box<dyn Read>,
}

/// A part of a longer answer.
trait Paged {
    /// What to ask for the next part with.
    fn next(self) -> Option<String>;
}

impl Paged for ListPage {
    fn next(self) -> Option<String> {
        self.next
    }
}

impl Paged for ConflictPage {
    fn next(self) -> Option<String> {
        self.next
    }
}

impl Paged for HistoryPage {
    fn next(self) -> Option<String> {
        self.next
    }
}

impl Paged for UsagePage {
    fn next(self) -> Option<String> {
        self.next
    }
}

impl Paged for UnreadablePage {
    fn next(self) -> Option<String> {
        self.next
    }
}

impl Api {
    /// Finds the node that the arguments name, or the only one.
    pub(super) fn find(args: &Args) -> Result<Self, Failure> {
        let asked = Arc::new(Asked::find(args)?);
        let Place { base, token, .. } = asked.place();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_await_100(Some(AWAIT_100_MAX))
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .build();
        let connector = Attentive { connect_max: CONNECT_MAX };
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        Ok(Self { agent, asked, base, token, mode: args.mode })
    }

    /// Asks a node until there is an answer, also when it restarts or another one must be asked.
    /// `ask` may be repeated from its beginning.
    pub(super) fn patiently<T>(
        &self,
        mut ask: impl FnMut(&Self) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        self.asked.patiently(|Place { base, token, .. }| ask(&Self { base, token, ..self.clone() }))
    }

    pub(super) fn url(
        &self,
        endpoint: &str,
        path: Option<&FilePath>,
        query: &[(&str, &str)],
    ) -> String {
        let mut url = format!("{}/v1/{endpoint}", self.base);
        if let Some(path) = path {
            url.push('/');
            url.extend(utf8_percent_encode(path.as_str(), IN_PATH));
        }
        let mode = self.mode.map(|mode| ("mode", mode.as_str()));
        for (at, (name, value)) in query.iter().copied().chain(mode).enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, IN_QUERY));
        }
        url
    }

    fn authorized<T>(&self, request: RequestBuilder<T>) -> RequestBuilder<T> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn no_node(&self, error: &ureq::Error) -> Failure {
        let message = format!("cannot reach a node at {}: {}", self.base, chain(error));
        Failure::new(Code::NoNode, message)
            .hint("start one with 'dfs-node', or name one with --node")
    }

    fn check(
        &self,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Trouble> {
        let gone = |error| Trouble::Gone(self.no_node(&error));
        let mut response = response.map_err(gone)?;
        let status = response.status();
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.asked.note_answer();
        }
        if status.is_success() {
            return Ok(response);
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        Err(self.refused(status, &text).into())
    }

    fn refused(&self, status: StatusCode, text: &str) -> Failure {
        match serde_json::from_str::<ErrorBody>(text) {
            Ok(body) => Failure {
                code: body.exit,
                message: body.error,
                hint: body.hint.or_else(|| self.hint_for(status)),
            },
            Err(_) => Failure::new(Code::Failed, format!("the node answered {status}")),
        }
    }

    fn hint_for(&self, status: StatusCode) -> Option<String> {
        (status == StatusCode::UNAUTHORIZED && self.token.is_none()).then(|| {
            "no running node of yours has this address; its owner can give you a token with 'dfs \
             token create', for --token-file"
                .to_owned()
        })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        Ok(self.try_get(url)?)
    }

    fn try_get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Trouble> {
        self.read(self.authorized(self.agent.get(url)).call())
    }

    pub(super) fn post<T: DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        Ok(self.try_post(url)?)
    }

    fn try_post<T: DeserializeOwned>(&self, url: &str) -> Result<T, Trouble> {
        self.read(self.authorized(self.agent.post(url)).send_empty())
    }

    /// Reads an answer in JSON.
    fn read<T: DeserializeOwned>(
        &self,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, Trouble> {
        let mut response = self.check(response)?;
        let text = response.body_mut().with_config().limit(JSON_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| Trouble::Gone(self.no_node(&error)))?;
        let unexpected =
            |error| Failure::new(Code::Failed, format!("an unexpected answer: {error}"));
        Ok(serde_json::from_str(&text).map_err(unexpected)?)
    }

    pub(super) fn status(&self) -> Result<serde_json::Value, Failure> {
        self.patiently(|api| api.try_get(&api.url("status", None, &[])))
    }

    pub(super) fn stat(
        &self,
        path: &FilePath,
        version: Option<&str>,
    ) -> Result<OfPath<Stat>, Failure> {
        let query: Vec<_> = version.map(|version| ("version", version)).into_iter().collect();
        self.get(&self.url("stat", Some(path), &query))
    }

    pub(super) fn log(&self, path: &FilePath) -> Result<Vec<Logged>, Failure> {
        self.get(&self.url("log", Some(path), &[]))
    }

    pub(super) fn restore(
        &self,
        path: &FilePath,
        version: &str,
    ) -> Result<OfPath<Stored>, Failure> {
        let url = self.url("restore", Some(path), &[("version", version)]);
        self.post(&url)
    }

    /// Forgets what a name was.
    pub(super) fn purge(
        &self,
        path: &FilePath,
        older_than: Option<&str>,
    ) -> Result<OfPath<Purged>, Failure> {
        let query: Vec<_> = older_than.map(|time| ("older_than", time)).into_iter().collect();
        self.post(&self.url("purge", Some(path), &query))
    }

    pub(super) fn remove_dir(&self, path: &FilePath) -> Result<serde_json::Value, Failure> {
        self.post(&self.url("rmdir", Some(path), &[]))
    }

    /// Copies or moves: `verb` is `copy` or `move`, and `query` says how.
    pub(super) fn relocate(
        &self,
        verb: &str,
        from: &FilePath,
        query: &[(&str, &str)],
    ) -> Result<serde_json::Value, Failure> {
        self.post(&self.url(verb, Some(from), query))
    }

    pub(super) fn make_dir(
        &self,
        path: &FilePath,
        parents: bool,
        said: &Said,
    ) -> Result<serde_json::Value, Failure> {
        let said = said_in(["permissions", "mtime"], said);
        let mut query: Vec<_> = said.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.extend(parents.then_some(("parents", "true")));
        match parents {
            // The same once more does no harm.
            true => self.patiently(|api| api.try_post(&api.url("mkdir", Some(path), &query))),
            false => self.post(&self.url("mkdir", Some(path), &query)),
        }
    }

    /// Says something else of a file or directory.
    pub(super) fn set_attributes(
        &self,
        path: &FilePath,
        said: &Said,
    ) -> Result<serde_json::Value, Failure> {
        let said = said_in(["permissions", "mtime"], said);
        let query: Vec<_> = said.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.patiently(|api| api.try_post(&api.url("attributes", Some(path), &query)))
    }

    /// Stores a symbolic link that says `target`.
    pub(super) fn make_link(
        &self,
        path: &FilePath,
        target: &str,
        replace: bool,
        said: &Said,
    ) -> Result<OfPath<Stored>, Failure> {
        let said = said_in(["permissions", "mtime"], said);
        let mut query: Vec<_> = said.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.push(("target", target));
        query.extend(replace.then_some(("replace", "true")));
        match replace {
            true => self.patiently(|api| api.try_post(&api.url("link", Some(path), &query))),
            false => self.post(&self.url("link", Some(path), &query)),
        }
    }

    /// Versions that cannot be read, page by page.
    pub(super) fn unreadable(
        &self,
        dir: Option<&FilePath>,
        each: &mut dyn FnMut(&UnreadablePage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.pages("unreadable", &[("dir", dir.map_or("", FilePath::as_str))], each)
    }

    /// Asks for what a node tells as it happens, from after an event on. A node that is silent for
    /// so long is taken to be gone.
    pub(super) fn events(
        &self,
        endpoint: &str,
        query: &[(&str, &str)],
        after: Option<&str>,
        silent_max: Duration,
    ) -> Result<BufReader<impl Read + use<>>, Trouble> {
        let request = self.authorized(self.agent.get(self.url(endpoint, None, query)));
        let mut request = request.config().timeout_per_read(Some(silent_max)).build();
        if let Some(id) = after {
            request = request.header("Last-Event-ID", id);
        }
        let response = self.check(request.call())?;
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    /// What directories hold, page by page.
    pub(super) fn usage(
        &self,
        dir: Option<&FilePath>,
        each: &mut dyn FnMut(&UsagePage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.pages("usage", &[("dir", dir.map_or("", FilePath::as_str))], each)
    }

    /// The names right below a directory with their versions, deleted ones too, page by page.
    pub(super) fn history(
        &self,
        dir: Option<&FilePath>,
        each: &mut dyn FnMut(&HistoryPage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.pages("history", &[("dir", dir.map_or("", FilePath::as_str))], each)
    }

    /// Names with conflicts, page by page.
    pub(super) fn conflicts(
        &self,
        dir: Option<&FilePath>,
        each: &mut dyn FnMut(&ConflictPage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.pages("conflicts", &[("dir", dir.map_or("", FilePath::as_str))], each)
    }

    /// Lists page by page.
    pub(super) fn list(
        &self,
        prefix: &str,
        depth: Depth,
        each: &mut dyn FnMut(&ListPage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let delimiter = if depth == Depth::Names { "/" } else { "" };
        let dirs = if depth == Depth::Tree { "true" } else { "false" };
        let query =
            [("prefix", prefix), ("delimiter", delimiter), ("dirs", dirs), ("limit", LIST_PAGE)];
        self.pages("list", &query, each)
    }

    /// Asks for one page after the other.
    fn pages<P: DeserializeOwned + Paged>(
        &self,
        what: &str,
        query: &[(&str, &str)],
        each: &mut dyn FnMut(&P) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after = String::new();
        loop {
            let query = [query, &[("after", &after)]].concat();
            let page: P = self.patiently(|api| api.try_get(&api.url(what, None, &query)))?;
            each(&page)?;
            match page.next() {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    pub(super) fn remove(
        &self,
        path: &FilePath,
        recursive: bool,
    ) -> Result<serde_json::Value, Failure> {
        let query: &[_] = if recursive { &[("recursive", "true")] } else { &[] };
        let request = self.authorized(self.agent.delete(self.url("files", Some(path), query)));
        Ok(self.read(request.call())?)
    }

    /// Stores the bytes of `source`; `len` is their count, if known.
    pub(super) fn put(
        &self,
        path: &FilePath,
        source: &mut dyn Read,
        len: Option<u64>,
        condition: Option<(&str, &str)>,
    ) -> Result<OfPath<Stored>, Failure> {
        Ok(self.try_put(path, source, len, condition, &Said::default())?)
    }

    /// The same, told apart by whether another attempt can help.
    pub(super) fn try_put(
        &self,
        path: &FilePath,
        source: &mut dyn Read,
        len: Option<u64>,
        condition: Option<(&str, &str)>,
        said: &Said,
    ) -> Result<OfPath<Stored>, Trouble> {
        let request = self.agent.put(self.url("files", Some(path), &[]));
        let mut request = self.authorized(request);
        if let Some(len) = len {
            request = request.header("Content-Length", len.to_string());
        }
        // A refusal then comes before the content is sent.
        if len.is_none_or(|len| len > EXPECT_FROM_BYTES) {
            request = request.header("Expect", "100-continue");
        }
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        for (name, value) in said_in([PERMISSIONS, MTIME], said) {
            request = request.header(name, value);
        }
        let sent = request.send(SendBody::from_reader(source));
        if let Some(answered) = sent.as_ref().err().and_then(Answered::of) {
            let status = StatusCode::from_u16(answered.status).unwrap_or_default();
            self.asked.note_answer();
            return Err(self.refused(status, &answered.body).into());
        }
        match sent {
            Err(ureq::Error::Io(error)) if is_cut_off(&error) => {
                // There was a node.
                self.asked.note_answer();
                Err(Trouble::Gone(cut_off(path, &error)))
            }
            response => self.read(response),
        }
    }

    /// Opens a file from byte `from` on.
    pub(super) fn open(
        &self,
        path: &FilePath,
        version: Option<&str>,
        from: u64,
    ) -> Result<Incoming, Failure> {
        self.patiently(|api| api.try_open(path, version, from))
    }

    fn try_open(
        &self,
        path: &FilePath,
        version: Option<&str>,
        from: u64,
    ) -> Result<Incoming, Trouble> {
        let query: Vec<_> = version.map(|version| ("version", version)).into_iter().collect();
        let request = self.agent.get(self.url("files", Some(path), &query));
        let mut request = self.authorized(request);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = self.check(request.call())?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let bytes = header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        let version = header("etag").unwrap_or_default().trim_matches('"').to_owned();
        let guarded = header(GUARDED) != Some("false");
        let said = Said {
            permissions: header(PERMISSIONS).and_then(|text| text.parse().ok()),
            mtime: header(MTIME).and_then(|text| text.parse().ok()),
            target: None,
        };
        let content = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Incoming { bytes, version, guarded, said, content: Box::new(content) })
    }

    pub(super) fn note_key_backup(&self) -> Result<(), Failure> {
        let request = self.authorized(self.agent.post(self.url("key-backup", None, &[])));
        Ok(self.check(request.send_empty()).map(|_| ())?)
    }
}

/// What is said of a name, under the names it is sent by.
fn said_in([permissions, mtime]: [&'static str; 2], said: &Said) -> Vec<(&'static str, String)> {
    let permissions = said.permissions.map(|said| (permissions, said.to_string()));
    let mtime = said.mtime.map(|said| (mtime, said.to_string()));
    permissions.into_iter().chain(mtime).collect()
}

/// Whether the other side of an open connection closed it. Only then did a node begin to answer; a
/// connection that cannot be made is another failure.
fn is_cut_off(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof
    )
}

fn cut_off(path: &FilePath, error: &io::Error) -> Failure {
    let message = format!("{path}: the node closed the connection during the transfer: {error}");
    Failure::new(Code::Retryable, message)
        .hint("it refused the rest or ended: its log says why; then try again")
}

/// In a path: all but slashes and what RFC 3986 calls unreserved is escaped.
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');
/// The same for one value, which may hold slashes.
pub(super) const IN_QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The API is on this machine.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A node that has not answered "100 Continue" by then gets the content without it.
const AWAIT_100_MAX: Duration = Duration::from_secs(2);
/// Connections kept for the next request; as many as files travel at once.
const IDLE_CONNECTIONS: usize = super::tree::WORKERS_MAX;
/// Contents above this size wait for the node to agree.
const EXPECT_FROM_BYTES: u64 = 1024 * 1024;
/// A page of a listing or a list of peers.
const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;
const LIST_PAGE: &str = "10000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let agent = Agent::config_builder().build().new_agent();
        let asked = Arc::new(Asked::at("http://127.0.0.1:4000", "5ec2e7"));
        let Place { base, token, .. } = asked.place();
        let api = Api { agent, asked, base, token, mode: None };
        assert!(!format!("{api:?}").contains("5ec2e7"));
    }
}
