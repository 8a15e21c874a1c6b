//! Errors as HTTP answers: a status, and a JSON body that the CLI turns into its exit code.

use std::io;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dfs_server::{DiskError, Error, InviteError, MemberError};
use serde::{Deserialize, Serialize};

use crate::exit::{Code, chain};

/// What the body of an error says beside what RFC 9457 has every problem say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed, and why.
    pub error: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The exit code of a program that ends because of it.
    pub exit: Code,
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    body: ErrorBody,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, exit: Code, error: impl Into<String>) -> Self {
        debug_assert!(exit.statuses().contains(&status.as_u16()), "{status} {exit:?}");
        Self { status, body: ErrorBody { error: error.into(), hint: None, exit } }
    }

    /// For a path of the API that does not exist.
    pub(super) fn usage(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::Usage, why)
    }

    pub(crate) fn no_endpoint() -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::Usage, "no such endpoint")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.body.hint = Some(hint.to_owned());
        self
    }
}

impl Problem {
    /// What is said of it to programs.
    pub(super) fn told(&self) -> impl Serialize + '_ {
        let Self { status, body } = self;
        Told {
            kind: format!("urn:dfs:{}", body.exit.word()),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &body.error,
            body,
        }
    }
}

/// A problem of RFC 9457.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// Of which kind it is, for programs.
    #[serde(rename = "type")]
    kind: String,
    /// What the status means.
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    body: &'a ErrorBody,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let media_type = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, media_type, Json(self.told())).into_response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, exit) = kind(&error);
        let problem = Self::new(status, exit, chain(&error));
        match hint(&error) {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl From<InviteError> for Problem {
    fn from(error: InviteError) -> Self {
        let (status, exit, hint) = match &error {
            InviteError::Failed(error) => (kind(error).0, kind(error).1, hint(error)),
            InviteError::NoSuchInvite(_) => {
                (StatusCode::NOT_FOUND, Code::NotFound, Some("'dfs invite ls' shows ids"))
            }
            InviteError::TooLong | InviteError::LongAddress(_) => {
                (StatusCode::BAD_REQUEST, Code::Usage, None)
            }
            InviteError::TooMany => {
                (StatusCode::CONFLICT, Code::Failed, Some("make them where others were made"))
            }
            InviteError::NoAddress => {
                let hint = "name one with --address HOST:PORT";
                (StatusCode::CONFLICT, Code::Failed, Some(hint))
            }
        };
        let problem = Self::new(status, exit, chain(&error));
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl From<MemberError> for Problem {
    fn from(error: MemberError) -> Self {
        let (status, exit) = match &error {
            MemberError::Failed(error) => kind(error),
            MemberError::NoSuchMember(_) => (StatusCode::NOT_FOUND, Code::NotFound),
            _ => (StatusCode::CONFLICT, Code::Failed),
        };
        let problem = Self::new(status, exit, chain(&error));
        match member_hint(&error) {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl From<DiskError> for Problem {
    fn from(error: DiskError) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, Code::Failed, chain(&error)).hint(CHECK_DISK)
    }
}

fn kind(error: &Error) -> (StatusCode, Code) {
    match error {
        Error::NotFound(_) => (StatusCode::NOT_FOUND, Code::NotFound),
        Error::Name(_) | Error::IntoItself(_) | Error::BadLink => {
            (StatusCode::BAD_REQUEST, Code::Usage)
        }
        Error::Unavailable(_)
        | Error::NotJoined
        | Error::ShuttingDown
        | Error::Contended
        | Error::Moving => (StatusCode::SERVICE_UNAVAILABLE, Code::Retryable),
        Error::Retired(_) => (StatusCode::GONE, Code::Failed),
        Error::Condition => (StatusCode::PRECONDITION_FAILED, Code::Condition),
        Error::IsDirectory(_)
        | Error::IsLink(_)
        | Error::NotDirectory(_)
        | Error::NotEmpty(_)
        | Error::Exists(_)
        | Error::InConflict(_)
        | Error::NotAllowed(_) => (StatusCode::CONFLICT, Code::Failed),
        Error::TooSlow => (StatusCode::REQUEST_TIMEOUT, Code::Failed),
        Error::Lost(_) | Error::Unverified(_) => (StatusCode::BAD_GATEWAY, Code::Unverified),
        Error::NoVaultKey | Error::NotAdmin => (StatusCode::FORBIDDEN, Code::Key),
        Error::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, Code::Failed),
        Error::ClockSkew(_) | Error::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, Code::Failed),
        Error::Source(error) if error.kind() == io::ErrorKind::TimedOut => {
            (StatusCode::REQUEST_TIMEOUT, Code::Failed)
        }
        Error::Source(_) => (StatusCode::BAD_REQUEST, Code::Failed),
    }
}

/// What to do about it.
fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::NotEmpty(_) => Some("'-r' removes it with everything below"),
        Error::IsLink(_) => {
            Some("'dfs stat' shows what it says; 'dfs get -r' of the directory makes it again")
        }
        Error::InConflict(_) => Some("'dfs conflicts' shows them; 'dfs restore' settles it"),
        Error::Unavailable(_) => {
            Some("'dfs peers' shows who is away; try again when they are back")
        }
        Error::NotJoined => Some("'dfs status' says why"),
        Error::Retired(_) => {
            Some("start it with --new-node and an empty data directory, or ask another node")
        }
        Error::Condition => Some("'dfs stat' shows the version that is current"),
        Error::TooSlow => Some("store it again, over a faster line"),
        Error::Moving | Error::ShuttingDown | Error::Contended => Some("try again"),
        Error::Lost(_) | Error::Unverified(_) => {
            Some("a node that is away may have a good copy: 'dfs peers' shows who")
        }
        Error::NoVaultKey => {
            Some("ask a node that has the key, or 'dfs key import' it and restart this one")
        }
        Error::NotAdmin => Some("ask a node of the vault that founded the cluster"),
        Error::NoSpace => Some("raise --capacity, free space, or add a node"),
        Error::ClockSkew(_) => Some(
            "set the clock of the machine that is wrong, best by NTP: 'dfs peers' shows them all",
        ),
        Error::Store(_) => Some(CHECK_DISK),
        Error::NotFound(_)
        | Error::NotAllowed(_)
        | Error::IsDirectory(_)
        | Error::NotDirectory(_)
        | Error::Exists(_)
        | Error::IntoItself(_)
        | Error::BadLink
        | Error::Name(_)
        | Error::Source(_) => None,
    }
}

/// What to do when who is a member was not changed.
fn member_hint(error: &MemberError) -> Option<&'static str> {
    match error {
        MemberError::Failed(error) => hint(error),
        MemberError::NoSuchMember(_) | MemberError::Ambiguous(_) => {
            Some("'dfs peers' shows ids and addresses")
        }
        MemberError::IsAway => Some("'dfs remove' makes that final"),
        MemberError::IsRunning(_) => Some(
            "'dfs drain' takes it out without a gap; to remove it, stop it first, or evict it with \
                 'dfs remove --force'",
        ),
        MemberError::NotLost(_) => Some("name only nodes that are gone for ever"),
        MemberError::TooFewReplicas { .. } => {
            Some("bring the other nodes back first, or see 'dfs layout force --help'")
        }
        MemberError::MostVotersLost => Some("'dfs layout recover' makes a new majority"),
        MemberError::NothingAtRisk => Some("'dfs remove' takes them out"),
        MemberError::OtherLoss(_) => Some("say the same here"),
        MemberError::VotersRemain => Some(
            "'dfs remove' takes the nodes out, or 'dfs layout force' where others may lack what \
             they held",
        ),
        MemberError::MembersAway(_) => Some("start them, or name them"),
        MemberError::LastGateway => Some("'dfs invite --role gateway' brings in another first"),
        MemberError::LastMember
        | MemberError::NoneNamed
        | MemberError::NoneLeft
        | MemberError::Epoch(_) => None,
    }
}

const CHECK_DISK: &str = "its log says more; check the disk";

#[cfg(test)]
mod tests {
    use std::io;

    use axum::body::to_bytes;
    use dfs_core::layout::epoch::EpochError;
    use dfs_core::name::FilePath;

    use super::*;

    fn text() -> String {
        "x".to_owned()
    }

    /// The error after this one, with the exit code that it must have; the compiler asks for a new
    /// variant here.
    fn next(error: Option<&Error>) -> Option<(Error, u8)> {
        let Some(error) = error else { return Some((Error::NotFound(text()), 4)) };
        Some(match error {
            Error::NotFound(_) => (Error::IsDirectory(text()), 1),
            Error::IsDirectory(_) => (Error::IsLink(text()), 1),
            Error::IsLink(_) => (Error::NotDirectory(text()), 1),
            Error::NotDirectory(_) => (Error::NotEmpty(text()), 1),
            Error::NotEmpty(_) => (Error::Exists(text()), 1),
            Error::Exists(_) => (Error::InConflict(text()), 1),
            Error::InConflict(_) => (Error::IntoItself(text()), 2),
            Error::IntoItself(_) => (Error::BadLink, 2),
            Error::BadLink => (Error::Name(FilePath::parse("..").unwrap_err()), 2),
            Error::Name(_) => (Error::Unavailable(Vec::new()), 5),
            Error::Unavailable(_) => (Error::NotJoined, 5),
            Error::NotJoined => (Error::Retired(text()), 1),
            Error::Retired(_) => (Error::Lost(text()), 6),
            Error::Lost(_) => (Error::Unverified(text()), 6),
            Error::Unverified(_) => (Error::NoVaultKey, 12),
            Error::NoVaultKey => (Error::NotAdmin, 12),
            Error::NotAdmin => (Error::NotAllowed(EpochError::NotNext), 1),
            Error::NotAllowed(_) => (Error::NoSpace, 1),
            Error::NoSpace => (Error::ClockSkew(text()), 1),
            Error::ClockSkew(_) => (Error::Source(io::Error::other("x")), 1),
            Error::Source(_) => (Error::Store("x".into()), 1),
            Error::Store(_) => (Error::Condition, 7),
            Error::Condition => (Error::TooSlow, 1),
            Error::TooSlow => (Error::Moving, 5),
            Error::Moving => (Error::Contended, 5),
            Error::Contended => (Error::ShuttingDown, 5),
            Error::ShuttingDown => return None,
        })
    }

    #[tokio::test]
    async fn every_error_reaches_the_client_with_its_exit_code() {
        let mut at = next(None);
        let mut count = 0;
        while let Some((error, exit)) = at {
            at = next(Some(&error));
            count += 1;
            let said = format!("{error:?}");
            let response = Problem::from(error).into_response();
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 4096).await.unwrap();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["exit"], exit, "{said}");
            assert_eq!((&json["status"], &json["detail"]), (&status.into(), &json["error"]));
            assert!(json["type"].as_str().unwrap().starts_with("urn:dfs:"), "{said}");
            assert!(!json["title"].as_str().unwrap().is_empty(), "{said}");
            let body: ErrorBody = serde_json::from_slice(&body).unwrap();
            assert_eq!(u8::from(body.exit), exit, "{said}");
            assert!(body.exit.statuses().contains(&status), "{said}: {status}");
        }
        assert_eq!(count, 27);
    }

    #[test]
    fn an_exit_code_that_only_a_newer_node_knows_is_a_failure() {
        let body: ErrorBody = serde_json::from_str(r#"{"error":"x","exit":99}"#).unwrap();
        assert_eq!(body, ErrorBody { error: text(), hint: None, exit: Code::Failed });
    }
}
