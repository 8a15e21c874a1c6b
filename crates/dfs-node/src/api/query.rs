//! What several endpoints take from a URL: paths, modes, and the size of a page.

use axum::extract::{self, FromRequestParts};
use axum::http::request::Parts;
use dfs_core::name::FilePath;
use dfs_server::Mode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::errors::Problem;

/// The query of a request; one that cannot be read is told as any other error is.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = extract::Query::from_request_parts(parts, state).await;
        let extract::Query(query) = read.map_err(|error| Problem::usage(&error.body_text()))?;
        Ok(Self(query))
    }
}

/// The rest of the path of a request, or a part of it; the same.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = extract::Path::from_request_parts(parts, state).await;
        let extract::Path(path) = read.map_err(|error| Problem::usage(&error.body_text()))?;
        Ok(Self(path))
    }
}

/// A consistency mode as it is written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeName {
    Quorum,
    Available,
}

impl ModeName {
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Quorum => Mode::Quorum,
            Self::Available => Mode::Available,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ModeQuery {
    mode: Option<ModeName>,
}

impl ModeQuery {
    pub(super) fn mode(&self) -> Mode {
        self.mode.map_or(Mode::Default, ModeName::mode)
    }
}

/// Which page of what is below a directory.
#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    #[serde(default)]
    pub(super) dir: String,
    #[serde(default)]
    pub(super) after: String,
    pub(super) limit: Option<usize>,
    pub(super) mode: Option<ModeName>,
}

/// A path as it is in a URL.
pub(super) fn parse(path: &str) -> Result<FilePath, Problem> {
    FilePath::parse(path).map_err(|error| dfs_server::Error::Name(error).into())
}

/// A directory as it is in a query; without a name it is the root.
pub(super) fn parse_dir(dir: &str) -> Result<FilePath, Problem> {
    match dir {
        "" | "/" => Ok(FilePath::root()),
        dir => parse(dir),
    }
}

/// The entries of a page, as many as were asked for within bounds.
pub(super) fn page_len(limit: Option<usize>) -> usize {
    limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX)
}

/// Entries of a page when no limit was given.
const LIST_DEFAULT: usize = 1000;
/// Entries of a page at most: a few MiB of JSON.
const LIST_MAX: usize = 10_000;
