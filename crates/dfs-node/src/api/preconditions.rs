//! The conditions of a read, and whether its range still fits (RFC 9110, 13 and 14.2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::{self, HeaderName};

/// The version that is there now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current<'a> {
    /// Its id, which is its entity tag without the quotes.
    pub(super) version: &'a str,
    /// When it was written, in milliseconds since 1970.
    pub(super) modified_ms: u64,
}

/// What becomes of a request with conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    GoesOn,
    /// The client has this version: 304.
    NotModified,
    /// A condition does not hold: 412.
    Failed,
}

impl Current<'_> {
    /// Holds the conditions of a request against the version, in the order of RFC 9110, 13.2.2.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Verdict {
        let wanted = match tags(headers, header::IF_MATCH) {
            Some(tags) => tags.iter().any(|tag| *tag == "*" || self.is_strongly(tag)),
            None => match date(headers, header::IF_UNMODIFIED_SINCE) {
                Some(date) => self.modified() <= date,
                None => true,
            },
        };
        if !wanted {
            return Verdict::Failed;
        }
        let has_it = match tags(headers, header::IF_NONE_MATCH) {
            Some(tags) => tags.iter().any(|tag| *tag == "*" || self.is_weakly(tag)),
            None => match date(headers, header::IF_MODIFIED_SINCE) {
                Some(date) => self.modified() <= date,
                None => false,
            },
        };
        if has_it { Verdict::NotModified } else { Verdict::GoesOn }
    }

    /// Whether a range that the client asks for is one of this version: without `If-Range` it does
    /// not care. A date says so only if nothing else can have been written in its second.
    pub(super) fn fits_range(&self, headers: &HeaderMap, now: SystemTime) -> bool {
        let Some(value) = headers.get(header::IF_RANGE) else { return true };
        let text = value.to_str().unwrap_or_default().trim();
        if self.is_strongly(text) {
            return true;
        }
        let is_old =
            |date: &SystemTime| now.duration_since(*date).is_ok_and(|age| age >= STRONG_AFTER);
        let date = httpdate::parse_http_date(text).ok();
        date.filter(is_old).is_some_and(|date| date == self.modified())
    }

    /// When it was written, as a header says it: in whole seconds.
    pub(super) fn last_modified(&self) -> String {
        httpdate::fmt_http_date(self.modified())
    }

    fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs((self.modified_ms / 1000).min(LATEST_S))
    }

    fn is_strongly(&self, tag: &str) -> bool {
        tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(self.version)
    }

    fn is_weakly(&self, tag: &str) -> bool {
        self.is_strongly(tag.strip_prefix("W/").unwrap_or(tag))
    }
}

/// The entity tags of a header, of all its lines. None of ours has a comma in it.
fn tags(headers: &HeaderMap, name: HeaderName) -> Option<Vec<&str>> {
    if !headers.contains_key(&name) {
        return None;
    }
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    Some(lines.flat_map(|line| line.split(',')).map(str::trim).collect())
}

/// A date that a header has; one that cannot be read is ignored.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// A date this old names one version: another one of the same second would have been written by
/// now.
const STRONG_AFTER: Duration = Duration::from_secs(60);
/// The last second that a date can be written of: the end of the year 9999.
const LATEST_S: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const NOW: Current<'_> = Current { version: "0011", modified_ms: 784_111_777_900 };
    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let line = |(name, value): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        lines.iter().map(line).for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    #[test]
    fn conditions_are_held_against_the_version_in_their_order() {
        use Verdict::{Failed, GoesOn, NotModified};
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        for (lines, expected) in [
            (&[][..], GoesOn),
            (&[(IF_MATCH, "\"0011\"")], GoesOn),
            (&[(IF_MATCH, "*")], GoesOn),
            (&[(IF_MATCH, "\"x\", \"0011\"")], GoesOn),
            (&[(IF_MATCH, "\"x\""), (IF_MATCH, "\"0011\"")], GoesOn),
            (&[(IF_MATCH, "\"x\"")], Failed),
            (&[(IF_MATCH, "W/\"0011\"")], Failed),
            (&[(IF_MATCH, "0011")], Failed),
            (&[(IF_NONE_MATCH, "\"0011\"")], NotModified),
            (&[(IF_NONE_MATCH, "W/\"0011\"")], NotModified),
            (&[(IF_NONE_MATCH, "*")], NotModified),
            (&[(IF_NONE_MATCH, "\"x\"")], GoesOn),
            (&[(IF_MATCH, "\"x\""), (IF_NONE_MATCH, "\"0011\"")], Failed),
            (&[(IF_MODIFIED_SINCE, AT)], NotModified),
            (&[(IF_MODIFIED_SINCE, AFTER)], NotModified),
            (&[(IF_MODIFIED_SINCE, BEFORE)], GoesOn),
            (&[(IF_MODIFIED_SINCE, "nonsense")], GoesOn),
            (&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, AFTER)], GoesOn),
            (&[(IF_UNMODIFIED_SINCE, AT)], GoesOn),
            (&[(IF_UNMODIFIED_SINCE, BEFORE)], Failed),
            (&[(IF_MATCH, "\"0011\""), (IF_UNMODIFIED_SINCE, BEFORE)], GoesOn),
        ] {
            assert_eq!(NOW.judge(&headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_range_is_of_the_version_that_the_client_has() {
        let later = |seconds: u64| UNIX_EPOCH + Duration::from_secs(784_111_777 + seconds);
        for (value, now, expected) in [
            ("\"0011\"", later(0), true),
            ("W/\"0011\"", later(0), false),
            ("\"x\"", later(0), false),
            (AT, later(60), true),
            (AT, later(59), false),
            (BEFORE, later(60), false),
            (AFTER, later(60), false),
            ("nonsense", later(60), false),
        ] {
            let headers = headers(&[(header::IF_RANGE, value)]);
            assert_eq!(NOW.fits_range(&headers, now), expected, "{value}");
        }
        assert!(NOW.fits_range(&HeaderMap::new(), later(0)));
    }

    #[test]
    fn a_time_that_no_calendar_has_is_the_last_one() {
        let far = Current { modified_ms: u64::MAX, ..NOW };
        assert_eq!(far.last_modified(), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(NOW.last_modified(), AT);
    }
}
