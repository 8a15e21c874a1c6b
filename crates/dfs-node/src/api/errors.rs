//! Errors as HTTP answers: a status, and a JSON body that the CLI turns into its exit code.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dfs_server::Error;
use serde::{Deserialize, Serialize};

use crate::exit::chain;

/// What the body of an error says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed, and why.
    pub error: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The exit code of a program that ends because of it.
    pub exit: u8,
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    body: ErrorBody,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, exit: u8, error: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error: error.into(), hint: None, exit } }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.body.hint = Some(hint.to_owned());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, exit, hint) = match &error {
            Error::NotFound(_) => (StatusCode::NOT_FOUND, 4, None),
            Error::IsDirectory(_) | Error::NotDirectory(_) => (StatusCode::CONFLICT, 1, None),
            Error::NotEmpty(_) => {
                (StatusCode::CONFLICT, 1, Some("'-r' removes it with everything below"))
            }
            Error::Name(_) => (StatusCode::BAD_REQUEST, 2, None),
            Error::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                5,
                Some("'dfs peers' shows who is away; try again when they are back"),
            ),
            Error::NotJoined => (StatusCode::SERVICE_UNAVAILABLE, 5, Some("'dfs status' says why")),
            Error::Retired(_) => (
                StatusCode::GONE,
                1,
                Some("start it with an empty data directory, or ask another node"),
            ),
            Error::Condition => (
                StatusCode::PRECONDITION_FAILED,
                7,
                Some("'dfs stat' shows the version that is current"),
            ),
            Error::Refused(_) => (StatusCode::CONFLICT, 1, None),
            Error::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, 1, Some("store it again, over a faster line"))
            }
            Error::Moving => (StatusCode::SERVICE_UNAVAILABLE, 5, Some("try again")),
            Error::Lost(_) | Error::Unverified(_) => (
                StatusCode::BAD_GATEWAY,
                6,
                Some("a node that is away may have a good copy: 'dfs peers' shows who"),
            ),
            Error::NoVaultKey => (
                StatusCode::FORBIDDEN,
                12,
                Some("ask a node that has the key, or 'dfs key import' it and restart this one"),
            ),
            Error::NoSpace => (
                StatusCode::INSUFFICIENT_STORAGE,
                1,
                Some("raise --capacity, free space, or add a node"),
            ),
            Error::ClockSkew(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, 1, Some("set this machine's clock"))
            }
            Error::Source(_) => (StatusCode::BAD_REQUEST, 1, None),
            Error::Store(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, 1, Some("its log says more; check the disk"))
            }
        };
        let problem = Self::new(status, exit, chain(&error));
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
