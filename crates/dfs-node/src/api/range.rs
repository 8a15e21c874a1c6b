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
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        // Rust would read a sign as well.
        digits if digits.starts_with('+') => None,
        digits => digits.parse::<u64>().ok().map(Some),
    };
    let range = match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if first <= last => {
            first..last.saturating_add(1).min(bytes)
        }
        (Some(Some(first)), Some(None)) => first..bytes,
        (Some(None), Some(Some(suffix))) => bytes.saturating_sub(suffix)..bytes,
        _ => return Wanted::Whole,
    };
    if range.start >= range.end { Wanted::Outside } else { Wanted::Part(range) }
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
