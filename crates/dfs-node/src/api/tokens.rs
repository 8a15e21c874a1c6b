//! Who may use the API: whoever has the node's own token, or one that its owner gave a program.
//!
//! The own token is in `api-token`, from the first start on. Of the others only a hash is kept, in
//! `tokens.json`; whoever reads that can use none of them. Both are of this node alone.

use std::io;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, header};
use dfs_core::id::{from_hex, hex};
use dfs_env::{Env, write_replacing};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::errors::Problem;
use crate::exit::Code;

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It only asks.
    Read,
    /// Everything but giving tokens.
    Write,
    /// Everything: the node's owner.
    Own,
}

/// The tokens of one node.
#[derive(Debug)]
pub struct Tokens {
    env: Env,
    path: PathBuf,
    own: Secret,
    given: RwLock<Vec<Given>>,
    /// One change at a time, so that none is lost on its way to the disk.
    changing: Mutex<()>,
}

/// A token that is in no log.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A token that was given.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Given {
    name: String,
    read_only: bool,
    /// The BLAKE3 hash of the token, in hexadecimal.
    hash: String,
}

/// A token, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// What its owner calls it.
    pub name: String,
    /// Whether it may only ask.
    pub read_only: bool,
    /// The token, once: in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
}

impl Tokens {
    /// Opens those of a data directory; makes the own token at the first start. Blocks on the disk.
    ///
    /// # Errors
    /// The disk refuses, or what is there does not decode.
    pub fn open(env: &Env, own: &Path) -> io::Result<Self> {
        let path = own.with_file_name("tokens.json");
        let given = match env.fs().read(&path, FILE_BYTES_MAX) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let why = format!("{}: {error}", path.display());
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let own = Secret(own_token(env, own)?);
        let given = RwLock::new(given);
        Ok(Self { env: env.clone(), path, own, given, changing: Mutex::default() })
    }

    /// What a request may do, by the token it carries; `None` without a good one.
    pub(super) fn access(&self, headers: &HeaderMap) -> Option<Access> {
        let given = headers.get(header::AUTHORIZATION)?;
        let token = given.as_bytes().strip_prefix(b"Bearer ")?;
        if bool::from(token.ct_eq(self.own.0.as_bytes())) {
            return Some(Access::Own);
        }
        let hash = hash(token);
        // All are compared, and all to the end: how long it takes says nothing of them.
        let (mut found, mut writes) = (Choice::from(0), 0u8);
        for known in self.given.read().iter() {
            let is_this = hash.as_bytes().ct_eq(known.hash.as_bytes());
            writes.conditional_assign(&u8::from(!known.read_only), is_this);
            found |= is_this;
        }
        bool::from(found).then_some(if writes == 1 { Access::Write } else { Access::Read })
    }

    /// Makes a token. Durable on return. Blocks on the disk.
    pub(super) fn create(&self, name: &str, read_only: bool) -> Result<TokenView, Problem> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
            let why = "a token's name has 1 to 64 letters, digits, '.', '-' and '_'";
            return Err(Problem::usage(why));
        }
        let _one = self.changing.lock();
        let mut given = self.given.read().clone();
        if given.iter().any(|known| known.name == name) {
            let why = format!("there is a token {name:?} already");
            let problem = Problem::new(axum::http::StatusCode::CONFLICT, Code::Failed, why);
            return Err(problem.hint("revoke it first, or give another name"));
        }
        if given.len() >= TOKENS_MAX {
            let why = format!("there are {TOKENS_MAX} tokens already");
            return Err(Problem::new(axum::http::StatusCode::CONFLICT, Code::Failed, why));
        }
        let token = format!("{PREFIX}{}", hex(&self.env.random::<32>()));
        given.push(Given { name: name.to_owned(), read_only, hash: hash(token.as_bytes()) });
        self.keep(given)?;
        Ok(TokenView { name: name.to_owned(), read_only, token: Some(token) })
    }

    /// Every token that was given, in the order of that.
    pub(super) fn list(&self) -> Vec<TokenView> {
        self.given.read().iter().map(Given::view).collect()
    }

    /// Takes a token back: the next request with it is refused. Durable on return. Blocks on the
    /// disk.
    pub(super) fn revoke(&self, name: &str) -> Result<TokenView, Problem> {
        let _one = self.changing.lock();
        let mut given = self.given.read().clone();
        let Some(at) = given.iter().position(|known| known.name == name) else {
            let why = format!("there is no token {name:?}");
            return Err(Problem::new(axum::http::StatusCode::NOT_FOUND, Code::NotFound, why));
        };
        let revoked = given.remove(at).view();
        self.keep(given)?;
        Ok(revoked)
    }

    fn keep(&self, given: Vec<Given>) -> Result<(), Problem> {
        let failed = |error: io::Error| {
            let why = format!("cannot write {}: {error}", self.path.display());
            Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, Code::Failed, why)
        };
        let text = serde_json::to_vec(&given).map_err(|error| failed(error.into()))?;
        write_replacing(self.env.fs(), &self.path, &text).map_err(failed)?;
        *self.given.write() = given;
        Ok(())
    }
}

impl Given {
    fn view(&self) -> TokenView {
        TokenView { name: self.name.clone(), read_only: self.read_only, token: None }
    }
}

/// The node's own token, kept over restarts so that programs need not be told a new one. One that
/// others could have read, or that is none, is made anew.
fn own_token(env: &Env, path: &Path) -> io::Result<String> {
    let closed = env.fs().metadata(path).is_ok_and(|found| found.owned && found.mode & 0o077 == 0);
    if closed && let Ok(text) = env.fs().read(path, OWN_BYTES_MAX) {
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if from_hex::<32>(&text).is_some() {
            return Ok(text);
        }
    }
    let token = hex(&env.random::<32>());
    write_replacing(env.fs(), path, token.as_bytes())?;
    Ok(token)
}

fn hash(token: &[u8]) -> String {
    blake3::hash(token).to_hex().to_string()
}

/// How a given token begins, so that it is known for what it is wherever it turns up.
const PREFIX: &str = "dfst1";
/// Tokens of one node: each program that asks it may have its own.
const TOKENS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
/// More than so many tokens take.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// More than the own token takes.
const OWN_BYTES_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn access(tokens: &Tokens, token: &str) -> Option<Access> {
        let value = format!("Bearer {token}").parse().unwrap();
        tokens.access(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
    }

    #[test]
    fn a_token_lasts_over_restarts_until_it_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let (env, own) = (Env::real(), dir.path().join("api-token"));
        let open = || Tokens::open(&env, &own).unwrap();
        let tokens = open();
        let mine = std::fs::read_to_string(&own).unwrap();
        let reader = tokens.create("scraper", true).unwrap().token.unwrap();
        let writer = tokens.create("backup", false).unwrap().token.unwrap();
        assert!(tokens.create("backup", true).is_err() && tokens.create("a b", true).is_err());
        let kept = std::fs::read_to_string(dir.path().join("tokens.json")).unwrap();
        assert!(!kept.contains(&reader[5..]) && !kept.contains(&writer[5..]));
        for tokens in [&tokens, &open()] {
            assert_eq!(access(tokens, &mine), Some(Access::Own));
            assert_eq!(access(tokens, &reader), Some(Access::Read));
            assert_eq!(access(tokens, &writer), Some(Access::Write));
            for wrong in ["", "dfst1", &reader[..20], &mine[..63], &format!("{mine}0")] {
                assert_eq!(access(tokens, wrong), None, "{wrong}");
            }
            assert_eq!(tokens.access(&HeaderMap::new()), None);
        }
        let tokens = open();
        assert!(tokens.revoke("nobody").is_err());
        tokens.revoke("scraper").unwrap();
        for tokens in [&tokens, &open()] {
            assert_eq!(access(tokens, &reader), None);
            assert_eq!(access(tokens, &writer), Some(Access::Write));
            assert_eq!(tokens.list().len(), 1);
        }
    }

    #[test]
    fn an_own_token_that_others_could_read_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (env, path) = (Env::real(), dir.path().join("api-token"));
        let first = own_token(&env, &path).unwrap();
        assert_eq!(own_token(&env, &path).unwrap(), first);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let second = own_token(&env, &path).unwrap();
        assert_ne!(second, first);
        std::fs::write(&path, "short").unwrap();
        assert_ne!(own_token(&env, &path).unwrap(), second);
    }
}
