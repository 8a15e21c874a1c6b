//! Byte ranges (RFC 9110, 14.1.2).
//!
//! Parsed here and not by the `headers` crate: its `Range` drops a suffix longer than the file,
//! which asks for the whole file, and it does not tell a range outside the file, which is refused,
//! from one that cannot be read, which is ignored.

use std::ops::Range;

/// What a request wants of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole file: there is no range, or none that is understood.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing that the file has.
    Outside,
}

/// Reads a single byte range; anything else is ignored, as the standard allows.
pub(super) fn parse_range(text: &str, bytes: u64) -> Wanted {
    let Some((unit, spec)) = text.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let range = match (position(first), position(last)) {
        (Some(Some(first)), Some(Some(last))) if first <= last => {
            first..last.saturating_add(1).min(bytes)
        }
        (Some(Some(first)), Some(None)) => first..bytes,
        (Some(None), Some(Some(suffix))) => bytes.saturating_sub(suffix)..bytes,
        _ => return Wanted::Whole,
    };
    if range.start >= range.end { Wanted::Outside } else { Wanted::Part(range) }
}

/// A position, if one is given; `None` where there is something else. One that is higher than any
/// file is long is the highest.
fn position(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "" => Some(None),
        // Rust would read a sign as well.
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_standard() {
        let part = |range| Wanted::Part(range);
        for (text, expected) in [
            ("bytes=0-9", part(0..10)),
            ("bytes=90-", part(90..100)),
            ("bytes=-10", part(90..100)),
            ("bytes=-1000", part(0..100)),
            ("bytes=90-1000", part(90..100)),
            ("bytes=100-", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=9-0", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-5", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=5", Wanted::Whole),
            ("bytes=0-0", part(0..1)),
            ("bytes=99-99", part(99..100)),
            ("bytes=0-18446744073709551615", part(0..100)),
            ("bytes=90-999999999999999999999", part(90..100)),
            ("bytes=999999999999999999999-", Wanted::Outside),
            ("bytes=-999999999999999999999", part(0..100)),
            ("Bytes=0-9", part(0..10)),
            ("BYTES=-10", part(90..100)),
            ("bytes=-+1", Wanted::Whole),
            ("bytes=+0-5", Wanted::Whole),
            ("bytes=0--1", Wanted::Whole),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
    }

    #[test]
    fn an_empty_file_has_no_part() {
        for text in ["bytes=0-", "bytes=0-9", "bytes=-1"] {
            assert_eq!(parse_range(text, 0), Wanted::Outside, "{text}");
        }
    }
}
