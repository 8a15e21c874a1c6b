//! What is refused of a request before anything looks at what it asks for.

use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::errors::Problem;
use crate::exit::Code;

/// Refuses requests whose path is not encoded as URLs are, whose length is said in two ways, and
/// puts without any: without a length nobody can tell an empty file from content that broke off.
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
    let has = |name| request.headers().contains_key(name);
    match (has(header::CONTENT_LENGTH), has(header::TRANSFER_ENCODING)) {
        (true, true) => {
            let why = "both Content-Length and Transfer-Encoding are given";
            Some(Problem::usage(why))
        }
        (false, false) if request.method() == Method::PUT => {
            let why = "a put needs Content-Length, or Transfer-Encoding: chunked";
            Some(Problem::new(StatusCode::LENGTH_REQUIRED, Code::Usage, why))
        }
        _ => None,
    }
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
