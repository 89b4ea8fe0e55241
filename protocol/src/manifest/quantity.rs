//! Amounts as people write them: `500ms`, `64Mi`, `250m`.
//!
//! In: the text of a manifest. Out: milliseconds, bytes or thousandths of a core, which print back as the shortest text
//! that means the same.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Why a text is not an amount: what was expected, with an example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {text:?} as {what}")]
pub struct QuantityError {
    /// The text, cut to 80 characters.
    pub text: String,
    /// What was expected, with an example.
    pub what: &'static str,
}

impl QuantityError {
    fn new(text: &str, what: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            what,
        }
    }
}

/// A length of time: a whole number and one of `ms`, `s`, `m`, `h`, as in `500ms`, `30s`, `2m`, `1h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    ms: u64,
}

impl Duration {
    /// What a duration looks like.
    pub const EXPECTED: &'static str =
        "a duration: a whole number and one of ms, s, m, h, such as \"500ms\" or \"30s\"";
    /// The form of a duration, for the JSON Schema.
    pub const PATTERN: &'static str = "^[0-9]{1,15}(ms|s|m|h)$";
    const UNITS: [(&'static str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

    /// The duration of so many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// Its length in milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.ms
    }
}

impl FromStr for Duration {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        // "ms" ends in "s" and "5m" begins like "5ms": the split is at the first character that is no digit.
        let (number, unit) = split_number(text);
        let factor = Self::UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor);
        let ms = factor
            .zip(number)
            .and_then(|(factor, number)| number.checked_mul(factor));
        ms.map(Self::from_ms)
            .ok_or_else(|| QuantityError::new(text, Self::EXPECTED))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = Self::UNITS
            .iter()
            .find(|(_, factor)| self.ms != 0 && self.ms.is_multiple_of(*factor));
        match largest {
            Some((unit, factor)) => f.pad(&format!("{}{unit}", self.ms / factor)),
            None => f.pad("0s"),
        }
    }
}

/// An amount of memory or storage: bytes, or a whole number and one of `Ki`, `Mi`, `Gi`, `Ti`, as in `64Mi`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    bytes: u64,
}

impl Size {
    /// What a size looks like.
    pub const EXPECTED: &'static str =
        "a size: a whole number and one of Ki, Mi, Gi, Ti, such as \"64Mi\", or plain bytes";
    /// The form of a size, for the JSON Schema.
    pub const PATTERN: &'static str = "^[0-9]{1,19}(Ki|Mi|Gi|Ti)?$";
    const UNITS: [(&'static str, u64); 5] = [
        ("Ti", 1 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
        ("", 1),
    ];

    /// The size of so many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// Its number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }
}

impl FromStr for Size {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = split_number(text);
        let factor = Self::UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor);
        let bytes = factor
            .zip(number)
            .and_then(|(factor, number)| number.checked_mul(factor));
        bytes
            .map(Self::from_bytes)
            .ok_or_else(|| QuantityError::new(text, Self::EXPECTED))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = Self::UNITS
            .iter()
            .find(|(_, factor)| self.bytes != 0 && self.bytes.is_multiple_of(*factor));
        match largest {
            Some((unit, factor)) => f.pad(&format!("{}{unit}", self.bytes / factor)),
            None => f.pad("0"),
        }
    }
}

/// A share of processor time: whole cores, or thousandths of one with `m`, as in `250m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu {
    millicores: u64,
}

impl Cpu {
    /// What an amount of processor time looks like.
    pub const EXPECTED: &'static str =
        "processor time: whole cores such as \"2\", or thousandths of one such as \"250m\"";
    /// The form of an amount of processor time, for the JSON Schema.
    pub const PATTERN: &'static str = "^[0-9]{1,15}m?$";

    /// The amount of so many thousandths of a core.
    pub const fn from_millicores(millicores: u64) -> Self {
        Self { millicores }
    }

    /// Its number of thousandths of a core.
    pub const fn as_millicores(self) -> u64 {
        self.millicores
    }
}

impl FromStr for Cpu {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let millicores = match split_number(text) {
            (Some(number), "m") => Some(number),
            (Some(number), "") => number.checked_mul(1_000),
            _ => None,
        };
        millicores
            .map(Self::from_millicores)
            .ok_or_else(|| QuantityError::new(text, Self::EXPECTED))
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millicores.is_multiple_of(1_000) {
            f.pad(&(self.millicores / 1_000).to_string())
        } else {
            f.pad(&format!("{}m", self.millicores))
        }
    }
}

/// Splits a text after its leading digits. No number where there is none or where it is too large for 64 bits.
fn split_number(text: &str) -> (Option<u64>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.parse().ok(), rest)
}

/// How many of each countable thing, by name.
pub(super) fn counts_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
    })
}

macro_rules! written_as_text {
    ($type:ident, $format:literal, $types:tt) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($type::EXPECTED)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    // A number without a unit is read like its text, so a size may be plain bytes and a duration may not.
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": $types,
                    "format": $format,
                    "pattern": $type::PATTERN,
                    "description": $type::EXPECTED,
                })
            }
        }
    };
}

written_as_text!(Duration, "duration", "string");
written_as_text!(Size, "size", ["string", "integer"]);
written_as_text!(Cpu, "cpu", ["string", "integer"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed_in_their_largest_whole_unit() {
        for (text, ms, printed) in [
            ("500ms", 500, "500ms"),
            ("1500ms", 1_500, "1500ms"),
            ("1000ms", 1_000, "1s"),
            ("30s", 30_000, "30s"),
            ("120s", 120_000, "2m"),
            ("60m", 3_600_000, "1h"),
            ("0ms", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(
                (duration.as_ms(), duration.to_string().as_str()),
                (ms, printed),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 s",
            "5d",
            "5S",
            "99999999999999999h",
            "٣s",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_and_may_be_plain_bytes() {
        for (text, bytes, printed) in [
            ("64Mi", 64 << 20, "64Mi"),
            ("1024", 1_024, "1Ki"),
            ("1000", 1_000, "1000"),
            ("0", 0, "0"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.as_bytes(), size.to_string().as_str()), (bytes, printed), "{text}");
        }
        for text in ["", "Mi", "64M", "64MB", "64mi", "1.5Gi", "-1", "99999999999Ti"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Size>("2048").unwrap().to_string(), "2Ki");
    }

    #[test]
    fn processor_time_is_cores_or_thousandths() {
        for (text, millicores, printed) in [("250m", 250, "250m"), ("2", 2_000, "2"), ("3000m", 3_000, "3")] {
            let cpu: Cpu = text.parse().unwrap();
            assert_eq!(
                (cpu.as_millicores(), cpu.to_string().as_str()),
                (millicores, printed),
                "{text}"
            );
        }
        for text in ["", "m", "0.5", "250 m", "1c"] {
            assert!(text.parse::<Cpu>().is_err(), "{text}");
        }
    }
}
