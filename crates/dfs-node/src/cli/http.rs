//! The client's side of the HTTP API.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::name::FilePath;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, RequestBuilder, SendBody};

use crate::api::{ErrorBody, ListPage, PeerLine, StatView, StoredView};
use crate::cli::args::{Args, ModeArg};
use crate::config::default_config_dir;
use crate::exit::{Code, Failure, chain};
use crate::run_record::{self, RunRecord};

/// The API of one running node.
#[derive(Debug, Clone)]
pub(super) struct Api {
    agent: Agent,
    base: String,
    token: Option<String>,
    mode: Option<ModeArg>,
}

/// A file under way.
pub(super) struct Incoming {
    /// Bytes of this answer.
    pub(super) bytes: u64,
    /// The version it is of.
    pub(super) version: String,
    pub(super) content: Box<dyn Read>,
}

impl Api {
    /// Finds the node that the arguments name, or the only one.
    pub(super) fn find(args: &Args) -> Result<Self, Failure> {
        let config_dir = match &args.config_dir {
            Some(dir) => dir.clone(),
            None => default_config_dir()?,
        };
        let running = run_record::running(&config_dir);
        let (base, token_file) = choose(args.node.as_deref(), &running)?;
        let token = token_file.and_then(|path| std::fs::read_to_string(path).ok());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_await_100(Some(AWAIT_100_MAX))
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .build();
        Ok(Self { agent: config.new_agent(), base, token, mode: args.mode })
    }

    fn url(&self, endpoint: &str, path: Option<&FilePath>, query: &[(&str, &str)]) -> String {
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
            Some(token) => request.header("Authorization", format!("Bearer {}", token.trim())),
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
    ) -> Result<Response<Body>, Failure> {
        let mut response = response.map_err(|error| self.no_node(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        Err(match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => Failure {
                code: code_of(body.exit),
                message: body.error,
                hint: body.hint.or_else(|| self.hint_for(status)),
            },
            Err(_) => Failure::new(Code::Failed, format!("the node answered {status}")),
        })
    }

    fn hint_for(&self, status: StatusCode) -> Option<String> {
        (status == StatusCode::UNAUTHORIZED && self.token.is_none()).then(|| {
            "no running node of yours has this address; only its owner can use it".to_owned()
        })
    }

    fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        let mut response = self.check(self.authorized(self.agent.get(url)).call())?;
        let text = response.body_mut().with_config().limit(JSON_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.no_node(&error))?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(Code::Failed, format!("an unexpected answer: {error}")))
    }

    pub(super) fn status(&self) -> Result<serde_json::Value, Failure> {
        self.get(&self.url("status", None, &[]))
    }

    pub(super) fn peers(&self) -> Result<Vec<PeerLine>, Failure> {
        self.get(&self.url("peers", None, &[]))
    }

    pub(super) fn stat(&self, path: &FilePath) -> Result<StatView, Failure> {
        self.get(&self.url("stat", Some(path), &[]))
    }

    /// Lists page by page.
    pub(super) fn list(
        &self,
        prefix: &str,
        recursive: bool,
        each: &mut dyn FnMut(&ListPage) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after = String::new();
        let delimiter = if recursive { "" } else { "/" };
        loop {
            let query = [
                ("prefix", prefix),
                ("delimiter", delimiter),
                ("after", &after),
                ("limit", LIST_PAGE),
            ];
            let page: ListPage = self.get(&self.url("list", None, &query))?;
            each(&page)?;
            match page.next {
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
        let mut response = self.check(request.call())?;
        let text = response.body_mut().read_to_string().map_err(|error| self.no_node(&error))?;
        serde_json::from_str(&text).map_err(|error| Failure::new(Code::Failed, error))
    }

    /// Stores what `source` gives; `len` when it is known.
    pub(super) fn put(
        &self,
        path: &FilePath,
        source: &mut dyn Read,
        len: Option<u64>,
        condition: Option<(&str, &str)>,
    ) -> Result<StoredView, Failure> {
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
        let mut response = self.check(request.send(SendBody::from_reader(source)))?;
        let text = response.body_mut().read_to_string().map_err(|error| self.no_node(&error))?;
        serde_json::from_str(&text).map_err(|error| Failure::new(Code::Failed, error))
    }

    /// Opens a file from byte `from` on.
    pub(super) fn open(
        &self,
        path: &FilePath,
        version: Option<&str>,
        from: u64,
    ) -> Result<Incoming, Failure> {
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
        let content = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Incoming { bytes, version, content: Box::new(content) })
    }

    pub(super) fn note_key_backup(&self) -> Result<(), Failure> {
        let request = self.authorized(self.agent.post(self.url("key-backup", None, &[])));
        self.check(request.send_empty()).map(|_| ())
    }
}

/// The base URL and the token file of the node to ask.
fn choose(
    wanted: Option<&str>,
    running: &[RunRecord],
) -> Result<(String, Option<PathBuf>), Failure> {
    let of = |record: &RunRecord| (record.api.clone(), Some(record.token_file.clone()));
    match wanted {
        Some(url) if url.starts_with("http://") => {
            let url = url.trim_end_matches('/');
            let known = running.iter().find(|record| record.api == url);
            Ok(known.map_or_else(|| (url.to_owned(), None), of))
        }
        Some(text) => {
            let address: Address = text
                .parse()
                .map_err(|error| Failure::new(Code::Usage, format!("--node {text:?}: {error}")))?;
            let known = running.iter().find(|record| record.listen.port() == address.port);
            let missing = || {
                Failure::new(Code::NoNode, format!("no running node of yours listens on {text}"))
                    .hint("'dfs-node --listen' starts one")
            };
            known.map(of).ok_or_else(missing)
        }
        None => match running {
            [] => Err(Failure::new(Code::NoNode, "no node of yours is running on this machine")
                .hint("start one with 'dfs-node', or name one with --node")),
            [only] => Ok(of(only)),
            [first, ..] => {
                eprintln!("using the node on {}", first.listen);
                Ok(of(first))
            }
        },
    }
}

fn code_of(exit: u8) -> Code {
    match exit {
        2 => Code::Usage,
        3 => Code::Partly,
        4 => Code::NotFound,
        5 => Code::Retryable,
        6 => Code::Unverified,
        7 => Code::Condition,
        10 => Code::NoNode,
        11 => Code::Locked,
        12 => Code::Key,
        _ => Code::Failed,
    }
}

/// Everything but what RFC 3986 allows in a path as it is, and the slashes between components.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
const IN_QUERY: &AsciiSet = &IN_PATH.add(b'&').add(b'+').add(b'=').add(b'\'');
/// The API is on this machine.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A node that does not say "continue" by then gets the content all the same.
const AWAIT_100_MAX: Duration = Duration::from_secs(2);
/// Connections kept for the next request; as many as files travel at once.
const IDLE_CONNECTIONS: usize = super::tree::WORKERS;
/// Contents above this size wait for the node to agree.
const EXPECT_FROM_BYTES: u64 = 1024 * 1024;
/// A page of a listing or a list of peers.
const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;
const LIST_PAGE: &str = "10000";
