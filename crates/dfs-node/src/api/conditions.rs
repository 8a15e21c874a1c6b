//! The conditions of a put and a delete (RFC 9110, 13.1).
//!
//! Parsed here and not by the `headers` crate: its `IfMatch` only compares with a tag that is
//! known, and does not give the version that a put has to name to the replicas.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName};
use dfs_core::id::{Vid, from_hex};
use dfs_server::{Condition, Error};

use super::errors::Problem;
use crate::exit::Code;

/// Refuses any condition.
pub(super) fn refuse_conditions(headers: &HeaderMap) -> Result<(), Problem> {
    let conditional = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];
    if conditional.iter().any(|name| headers.contains_key(name)) {
        return Err(unsupported());
    }
    Ok(())
}

/// The condition of a put: `If-None-Match: *`, or `If-Match` with one version, as an entity tag.
pub(super) fn condition(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    if headers.contains_key(header::IF_UNMODIFIED_SINCE) {
        return Err(unsupported());
    }
    match (only(headers, header::IF_NONE_MATCH)?, only(headers, header::IF_MATCH)?) {
        (None, None) => Ok(None),
        (Some("*"), None) => Ok(Some(Condition::Absent)),
        (None, Some(tag)) => match version(tag) {
            Some(vid) => Ok(Some(Condition::Version(vid))),
            // A list or '*' asks for more than one version.
            None if tag.contains(['*', ',']) => Err(unsupported()),
            // What is no version of ours is not the current one. A weak tag never is: the
            // comparison is the strong one.
            None => Err(Error::Condition.into()),
        },
        _ => Err(unsupported()),
    }
}

/// The value of a header. Several lines of it are a list.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next().map(|value| value.to_str().unwrap_or_default().trim());
    match lines.next() {
        None => Ok(first),
        Some(_) => Err(unsupported()),
    }
}

/// The version that a strong entity tag names.
fn version(tag: &str) -> Option<Vid> {
    let opaque = tag.strip_prefix('"')?.strip_suffix('"')?;
    from_hex(opaque).map(Vid::new)
}

fn unsupported() -> Problem {
    let why =
        "a put may have 'If-None-Match: *' or 'If-Match: \"VERSION\"', and no other condition";
    Problem::new(StatusCode::NOT_IMPLEMENTED, Code::Failed, why)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const V: &str = "00112233445566778899aabbccddeeff";

    #[track_caller]
    fn check(lines: &[(HeaderName, &str)], expected: Result<Option<Condition>, StatusCode>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let found = condition(&headers).map_err(|problem| problem.status());
        assert_eq!(found, expected, "{lines:?}");
        assert_eq!(refuse_conditions(&headers).is_err(), !lines.is_empty(), "{lines:?}");
    }

    fn quoted() -> String {
        format!("\"{V}\"")
    }

    #[test]
    fn a_put_may_want_a_name_absent_or_one_version_current() {
        check(&[], Ok(None));
        check(&[(header::IF_NONE_MATCH, "*")], Ok(Some(Condition::Absent)));
        check(&[(header::IF_NONE_MATCH, " * ")], Ok(Some(Condition::Absent)));
        let version = Condition::Version(Vid::new(from_hex(V).unwrap()));
        check(&[(header::IF_MATCH, &quoted())], Ok(Some(version)));
    }

    #[test]
    fn a_tag_that_is_weak_or_not_ours_never_matches() {
        let never = Err(StatusCode::PRECONDITION_FAILED);
        for tag in [&format!("W/{}", quoted()), V, "\"\"", "\"abc\"", "\"", "", "nonsense"] {
            check(&[(header::IF_MATCH, tag)], never);
        }
    }

    #[test]
    fn lists_and_other_conditions_are_refused_and_not_half_applied() {
        let refused = Err(StatusCode::NOT_IMPLEMENTED);
        let (tag, date) = (quoted(), "Sun, 06 Nov 1994 08:49:37 GMT");
        for list in ["*", &format!("{tag}, \"other\""), &format!("\"other\",W/{tag}")] {
            check(&[(header::IF_MATCH, list)], refused);
        }
        check(&[(header::IF_MATCH, &tag), (header::IF_MATCH, "\"other\"")], refused);
        check(&[(header::IF_NONE_MATCH, "*"), (header::IF_NONE_MATCH, &tag)], refused);
        check(&[(header::IF_NONE_MATCH, &tag)], refused);
        check(&[(header::IF_NONE_MATCH, &format!("W/{tag}"))], refused);
        check(&[(header::IF_NONE_MATCH, "*"), (header::IF_MATCH, &tag)], refused);
        check(&[(header::IF_UNMODIFIED_SINCE, date)], refused);
        check(&[(header::IF_MATCH, &tag), (header::IF_UNMODIFIED_SINCE, date)], refused);
    }
}
