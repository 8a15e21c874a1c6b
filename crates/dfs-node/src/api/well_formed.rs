//! What is refused of a request before anything looks at what it asks for.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::errors::Problem;
use super::heads::BadLength;
use crate::exit::Code;

/// Refuses requests whose path is not encoded as URLs are, bodies in codings that are not undone
/// here, and puts without a length: then nobody can tell an empty file from content that broke
/// off.
pub(super) async fn refuse_malformed(request: Request, next: Next) -> Response {
    match malformed(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn malformed(request: &Request) -> Option<Problem> {
    if !is_encoded(request.uri().path()) {
        let why = "a '%' of the path is not followed by two hexadecimal digits";
        return Some(Problem::usage(why));
    }
    let headers = request.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (Some(only), None) if is_chunked(only) => None,
        (Some(_), _) => {
            let why = "a body is sent with a coding other than chunked";
            Some(Problem::new(StatusCode::NOT_IMPLEMENTED, Code::Failed, why))
        }
        (None, _) => {
            let has_none =
                request.method() == Method::PUT && !headers.contains_key(header::CONTENT_LENGTH);
            let why = "a put needs Content-Length, or Transfer-Encoding: chunked";
            has_none.then(|| Problem::new(StatusCode::LENGTH_REQUIRED, Code::Usage, why))
        }
    }
}

/// Refuses a request whose length is said in two ways.
pub(super) fn refuse_length(bad: BadLength) -> Problem {
    Problem::usage(match bad {
        BadLength::Both => "both Content-Length and Transfer-Encoding are given",
        BadLength::NotOne => "Content-Length is given more than once, or is no number",
    })
}

/// Whether every `%` begins an encoded byte.
fn is_encoded(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_begins_an_encoded_byte() {
        for path in ["", "/v1/files/a", "/%41", "/a%2fb%2F", "/%e2%82%ac"] {
            assert!(is_encoded(path), "{path}");
        }
        for path in ["/%", "/%zz", "/%f", "/a%2", "/%4g", "/%%41", "/%+1", "/%41%"] {
            assert!(!is_encoded(path), "{path}");
        }
    }
}
