//! What is said of a name beside its content: permissions, the time of the content.
//!
//! Encoded as tagged values in the order of their tags. A value whose tag is not known here comes
//! from a later program, and is kept as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::codec::{Canonical, DecodeError, Reader, Writer};

/// What is said of a name. Nothing of it is needed to read the content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The lower twelve bits of its mode, as of chmod(2).
    pub permissions: Option<Permissions>,
    /// When its content was last changed where it came from.
    pub mtime: Option<Mtime>,
    /// Those of later programs: at most [`OTHER_BYTES_MAX`], each with five more than its value.
    pub other: BTreeMap<u8, Bytes>,
}

/// The lower twelve bits of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u16);

/// A moment of a file system, to the nanosecond, also before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    seconds: i64,
    nanos: u32,
}

/// Why a text is no attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// Not up to four octal digits.
    #[error("permissions are up to four octal digits, as 0644")]
    Permissions,
    /// Not a decimal number of seconds.
    #[error("a time is in seconds since 1970 with up to nine decimals, as 978307200.5")]
    Mtime,
}

impl Attributes {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and of `older` what these do not say.
    #[must_use]
    pub fn over(&self, older: &Self) -> Self {
        let mut other = older.other.clone();
        other.extend(self.other.clone());
        Self {
            permissions: self.permissions.or(older.permissions),
            mtime: self.mtime.or(older.mtime),
            other,
        }
    }
}

impl Permissions {
    /// Takes the lower twelve bits of a mode.
    pub fn of_mode(mode: u32) -> Self {
        Self(u16::try_from(mode & u32::from(BITS)).unwrap_or(BITS))
    }

    /// As chmod(2) takes them.
    pub fn mode(self) -> u32 {
        self.0.into()
    }
}

impl Mtime {
    /// As stat(2) shows it; `None` unless the nanoseconds are less than a second.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        (nanos < NANOS).then_some(Self { seconds, nanos })
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after these.
    pub fn nanos(self) -> u32 {
        self.nanos
    }
}

/// Four octal digits.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for Permissions {
    type Err = AttributeError;

    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let bits = u16::from_str_radix(text, 8).ok().filter(|bits| is_octal && *bits <= BITS);
        bits.map(Self).ok_or(AttributeError::Permissions)
    }
}

/// Seconds since 1970 as a decimal number, with as many decimals as it needs.
impl fmt::Display for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.seconds) * i128::from(NANOS) + i128::from(self.nanos);
        let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
        let (seconds, rest) = (nanos / u128::from(NANOS), nanos % u128::from(NANOS));
        let decimals = format!("{rest:09}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{sign}{seconds}"),
            decimals => write!(f, "{sign}{seconds}.{decimals}"),
        }
    }
}

impl FromStr for Mtime {
    type Err = AttributeError;

    fn from_str(text: &str) -> Result<Self, AttributeError> {
        Self::parse(text).ok_or(AttributeError::Mtime)
    }
}

impl Mtime {
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, number) = match text.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, text),
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str, max| {
            (1..=max).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        };
        if !is_number(whole, SECONDS_DIGITS_MAX) || !is_number(decimals, 9) {
            return None;
        }
        let rest: i128 = format!("{decimals:0<9}").parse().ok()?;
        let nanos = whole.parse::<i128>().ok()? * i128::from(NANOS) + rest;
        let nanos = if is_negative { -nanos } else { nanos };
        let seconds = i64::try_from(nanos.div_euclid(i128::from(NANOS))).ok()?;
        Self::new(seconds, u32::try_from(nanos.rem_euclid(i128::from(NANOS))).ok()?)
    }
}

impl Canonical for Attributes {
    fn encode(&self, out: &mut Writer) {
        let mut values = self.other.clone();
        if let Some(Permissions(bits)) = self.permissions {
            values.insert(PERMISSIONS, bits.to_be_bytes().to_vec().into());
        }
        if let Some(Mtime { seconds, nanos }) = self.mtime {
            let bytes = [&seconds.to_be_bytes()[..], &nanos.to_be_bytes()].concat();
            values.insert(MTIME, bytes.into());
        }
        out.list(&values.into_iter().map(|(tag, value)| Tagged(tag, value)).collect::<Vec<_>>());
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let values: Vec<Tagged> = input.list("attributes", COUNT_MAX)?;
        if !values.is_sorted_by(|Tagged(a, _), Tagged(b, _)| a < b) {
            return Err(DecodeError::Invalid("attributes"));
        }
        let others = values.iter().filter(|Tagged(tag, _)| ![PERMISSIONS, MTIME].contains(tag));
        if others.map(|Tagged(_, value)| 5 + value.len()).sum::<usize>() > OTHER_BYTES_MAX {
            return Err(DecodeError::TooLong("attributes"));
        }
        let mut attributes = Self::default();
        for Tagged(tag, value) in values {
            attributes.take(tag, value)?;
        }
        Ok(attributes)
    }
}

struct Tagged(u8, Bytes);

impl Canonical for Tagged {
    fn encode(&self, out: &mut Writer) {
        out.u8(self.0);
        out.bytes(&self.1);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self(input.u8()?, input.bytes("attribute", OTHER_BYTES_MAX)?))
    }
}

impl Attributes {
    fn take(&mut self, tag: u8, value: Bytes) -> Result<(), DecodeError> {
        match tag {
            PERMISSIONS => {
                let mut value = Reader::new(value);
                let bits = value.u16()?;
                value.finish()?;
                if bits > BITS {
                    return Err(DecodeError::Invalid("permissions"));
                }
                self.permissions = Some(Permissions(bits));
            }
            MTIME => {
                let mut value = Reader::new(value);
                let (seconds, nanos) = (value.u64()?.cast_signed(), value.u32()?);
                value.finish()?;
                let mtime = Mtime::new(seconds, nanos);
                self.mtime = Some(mtime.ok_or(DecodeError::Invalid("mtime"))?);
            }
            _ => {
                self.other.insert(tag, value);
            }
        }
        Ok(())
    }
}

const PERMISSIONS: u8 = 1;
const MTIME: u8 = 2;
/// Of a mode; the rest says what sort of thing it is.
const BITS: u16 = 0o7777;
const NANOS: u32 = 1_000_000_000;
/// More than any `i64` has.
const SECONDS_DIGITS_MAX: usize = 20;
/// Bytes of those that are not known here, as encoded. A record keeps 64 versions, and has 64 KiB
/// for all. Those that are known have room beside them, so nobody's are in the way of others.
pub const OTHER_BYTES_MAX: usize = 224;
/// Known ones, and as many others as there may be bytes for.
const COUNT_MAX: usize = 2 + OTHER_BYTES_MAX / 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(i64, u32)>) {
        let parsed: Result<Mtime, _> = text.parse();
        assert_eq!(parsed.ok().map(|at| (at.seconds, at.nanos)), expected, "{text:?}");
    }

    #[test]
    fn times_are_decimal_seconds() {
        check("0", Some((0, 0)));
        check("978307200.5", Some((978_307_200, 500_000_000)));
        check("-0.000000001", Some((-1, 999_999_999)));
        check("9223372036854775807.999999999", Some((i64::MAX, 999_999_999)));
        check("-9223372036854775808", Some((i64::MIN, 0)));
        for bad in
            ["", "-", ".", "1.", ".5", "+1", "1e3", "1.0000000000", " 1", "9223372036854775808"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn permissions_are_octal_digits() {
        let parsed = |text: &str| text.parse::<Permissions>().ok().map(Permissions::mode);
        assert_eq!(parsed("0644"), Some(0o644));
        assert_eq!(parsed("7777"), Some(0o7777));
        for bad in ["", "8", "00644", "-1", "+644", "u+x"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
        assert_eq!(Permissions::of_mode(0o10_0644).to_string(), "0644");
    }

    #[track_caller]
    fn refused(values: &[(u8, &[u8])], why: DecodeError) {
        let mut out = Writer::default();
        let tagged = |(tag, value): &(u8, &[u8])| Tagged(*tag, Bytes::copy_from_slice(value));
        out.list(&values.iter().map(tagged).collect::<Vec<_>>());
        assert_eq!(Attributes::from_canonical(out.into_vec()), Err(why));
    }

    #[test]
    fn what_is_no_attribute_is_refused() {
        refused(&[(PERMISSIONS, &[0x10, 0])], DecodeError::Invalid("permissions"));
        refused(&[(PERMISSIONS, &[0, 1, 0])], DecodeError::Trailing);
        refused(&[(MTIME, &[0; 11])], DecodeError::Truncated);
        let mtime = [&[0; 8][..], &NANOS.to_be_bytes()].concat();
        refused(&[(MTIME, &mtime)], DecodeError::Invalid("mtime"));
        refused(&[(9, &[]), (9, &[])], DecodeError::Invalid("attributes"));
        refused(&[(9, &[0; 100]), (10, &[0; 115])], DecodeError::TooLong("attributes"));
    }

    #[test]
    fn newer_ones_win_and_what_they_leave_out_stays() {
        let old = Attributes {
            permissions: Some(Permissions(0o600)),
            other: [(200, Bytes::from_static(b"later"))].into(),
            ..Attributes::default()
        };
        let new = Attributes { mtime: Mtime::new(1, 2), ..Attributes::default() };
        let both = new.over(&old);
        assert_eq!((both.permissions, both.mtime), (old.permissions, new.mtime));
        assert_eq!(both.other, old.other);
    }

    proptest! {
        #[test]
        fn attributes_come_back(
            bits in prop::option::of(0..=BITS),
            at in prop::option::of((any::<i64>(), 0..NANOS)),
            other in prop::collection::btree_map(
                3u8..,
                prop::collection::vec(any::<u8>(), 0..9),
                0..9,
            ),
        ) {
            let attributes = Attributes {
                permissions: bits.map(Permissions),
                mtime: at.and_then(|(seconds, nanos)| Mtime::new(seconds, nanos)),
                other: other.into_iter().map(|(tag, value)| (tag, value.into())).collect(),
            };
            let decoded = Attributes::from_canonical(attributes.to_canonical());
            prop_assert_eq!(decoded, Ok(attributes.clone()));
            if let Some(at) = attributes.mtime {
                prop_assert_eq!(at.to_string().parse(), Ok(at));
            }
        }
    }
}
