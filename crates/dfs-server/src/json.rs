//! How the public types look as JSON, where a derive alone does not say it.
//!
//! The names and the units are those of the HTTP API, whose answers are these types.

use std::time::{Duration, UNIX_EPOCH};

/// A moment as RFC 3339 in UTC, to the second.
pub fn rfc3339(unix_ms: u64) -> String {
    let moment = UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST_MOMENT_MS));
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, "B");
    for larger in units {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, larger);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// Milliseconds since 1970, written by [`rfc3339`].
pub(crate) mod moment {
    use std::time::UNIX_EPOCH;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(crate) fn serialize<S: Serializer>(unix_ms: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::rfc3339(*unix_ms))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        let moment = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        let since = moment.duration_since(UNIX_EPOCH).map_err(D::Error::custom)?;
        u64::try_from(since.as_millis()).map_err(D::Error::custom)
    }
}

/// The same where there may be none.
pub(crate) mod optional_moment {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Moment(#[serde(with = "super::moment")] u64);

    pub(crate) fn serialize<S: Serializer>(
        unix_ms: &Option<u64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        unix_ms.map(Moment).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::deserialize(from)?.map(|Moment(unix_ms)| unix_ms))
    }
}

/// What may be missing, as the text it has.
pub(crate) mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(to)
    }

    pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error>
    where
        T::Err: Display,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// A duration that may be unknown, in whole seconds.
pub(crate) mod optional_seconds {
    use std::time::Duration;

    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs()).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(from)?.map(Duration::from_secs))
    }
}

/// Thousandths, as percent with one decimal.
pub(crate) mod percent {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::Serializer;

    pub(crate) fn serialize<S: Serializer>(permille: &u16, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(f64::from(*permille) / 10.0)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
        let permille = f64::deserialize(from)? * 10.0;
        Ok(permille.round().clamp(0.0, 1000.0) as u16)
    }
}

/// Whether a majority was asked for, as the name of the mode.
pub(crate) mod mode {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Name {
        Quorum,
        Available,
    }

    pub(crate) fn serialize<S: Serializer>(quorum: &bool, to: S) -> Result<S::Ok, S::Error> {
        let name = if *quorum { Name::Quorum } else { Name::Available };
        name.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        Ok(matches!(Name::deserialize(from)?, Name::Quorum))
    }
}

/// The end of the year 9999, the last that RFC 3339 can write.
const LAST_MOMENT_MS: u64 = 253_402_300_799_000;
