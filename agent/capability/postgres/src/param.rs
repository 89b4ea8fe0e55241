//! Parameters: from a guest's values to what is sent to the database.
//!
//! In: values. Out: one field of the protocol each, apart from the query's text, so no value can become part of a
//! statement. Nearly all go as text, which the database reads as whatever type it has found the parameter to be; so an
//! `int4` may stand for a `bigint` column, and a text that is no number is refused by the database itself.

use crate::calendar::{date_text, time_text, timestamp_text};
use crate::float::{to_f32, to_f64};
use crate::types::{PgValue, QueryError};
use bytes::{BufMut as _, BytesMut};
use std::error::Error;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// One parameter, ready to be sent.
#[derive(Debug)]
pub(crate) enum Param {
    Null,
    Text(String),
    Bytes(Vec<u8>),
}

impl Param {
    /// How much is sent, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// Makes parameters of values; what stands for nothing here is named.
pub(crate) fn params(values: Vec<PgValue>) -> Result<Vec<Param>, QueryError> {
    let numbered = values.into_iter().enumerate();
    numbered
        .map(|(index, value)| {
            let case = value.case();
            param(value).map_err(|why| QueryError::InvalidParams(format!("${}: {case}: {why}", index + 1)))
        })
        .collect()
}

type Made<T> = Result<T, &'static str>;

fn param(value: PgValue) -> Made<Param> {
    Ok(match value {
        PgValue::Null => Param::Null,
        PgValue::Bytea(bytes) => Param::Bytes(bytes),
        other => Param::Text(match array(other)? {
            Ok(elements) => list(&elements),
            Err(single) => text(single)?,
        }),
    })
}

/// The elements of an array as text, or the value itself where it is none.
fn array(value: PgValue) -> Made<Result<Vec<String>, PgValue>> {
    fn each<T>(values: Vec<T>, one: impl Fn(T) -> PgValue) -> Made<Result<Vec<String>, PgValue>> {
        let elements: Made<Vec<String>> = values.into_iter().map(|value| text(one(value))).collect();
        elements.map(Ok)
    }
    match value {
        PgValue::Int8Array(v) => each(v, PgValue::Int8),
        PgValue::BoolArray(v) => each(v, PgValue::Bool),
        PgValue::Float8Array(v) => each(v, PgValue::Float8),
        PgValue::Float4Array(v) => each(v, PgValue::Float4),
        PgValue::Int4Array(v) => each(v, PgValue::Int4),
        PgValue::Int2Array(v) => each(v, PgValue::Int2),
        PgValue::ByteaArray(v) => each(v, PgValue::Bytea),
        PgValue::CharArray(v) => each(v, PgValue::Char),
        PgValue::VarcharArray(v) => each(v, PgValue::Varchar),
        PgValue::MacaddrArray(v) => each(v, PgValue::Macaddr),
        PgValue::DateArray(v) => each(v, PgValue::Date),
        PgValue::TimeArray(v) => each(v, PgValue::Time),
        PgValue::TimeTzArray(v) => each(v, PgValue::TimeTz),
        PgValue::TimestampArray(v) => each(v, PgValue::Timestamp),
        PgValue::TimestampTzArray(v) => each(v, PgValue::TimestampTz),
        PgValue::NumericArray(v)
        | PgValue::MoneyArray(v)
        | PgValue::CidrArray(v)
        | PgValue::InetArray(v)
        | PgValue::JsonArray(v)
        | PgValue::JsonbArray(v)
        | PgValue::NameArray(v)
        | PgValue::TextArray(v)
        | PgValue::XmlArray(v)
        | PgValue::UuidArray(v) => each(v, PgValue::Text),
        other => Ok(Err(other)),
    }
}

/// A value that is no array, as Postgres reads it.
fn text(value: PgValue) -> Made<String> {
    Ok(match value {
        PgValue::BigInt(n) | PgValue::Int8(n) | PgValue::BigSerial(n) | PgValue::Serial8(n) => n.to_string(),
        PgValue::Integer(n) | PgValue::Int(n) | PgValue::Int4(n) => n.to_string(),
        PgValue::SmallInt(n) | PgValue::Int2(n) | PgValue::SmallSerial(n) | PgValue::Serial2(n) => n.to_string(),
        PgValue::Serial(n) | PgValue::Serial4(n) => n.to_string(),
        PgValue::Bool(is) | PgValue::Boolean(is) => is.to_string(),
        PgValue::Double(parts) | PgValue::Float8(parts) => float(to_f64(parts), format!("{:e}", to_f64(parts))),
        PgValue::Real(parts) | PgValue::Float4(parts) => {
            float(f64::from(to_f32(parts)), format!("{:e}", to_f32(parts)))
        }
        PgValue::Text(text)
        | PgValue::Numeric(text)
        | PgValue::Decimal(text)
        | PgValue::Money(text)
        | PgValue::Cidr(text)
        | PgValue::Inet(text)
        | PgValue::Json(text)
        | PgValue::Jsonb(text)
        | PgValue::Name(text)
        | PgValue::Xml(text)
        | PgValue::TsQuery(text)
        | PgValue::Uuid(text) => text,
        PgValue::Bytea(bytes) => hex(&bytes),
        PgValue::Char((length, bytes)) => characters(bytes, Some(length), true)?,
        PgValue::Varchar((length, bytes)) => characters(bytes, length, false)?,
        PgValue::Macaddr(address) => {
            let (a, b, c, d, e, f) = address.bytes;
            format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
        }
        PgValue::Date(date) => date_text(date),
        PgValue::Time(time) => time_text(time),
        PgValue::TimeTz(time) => format!("{} {}", time_text(time.time), time.timesonze),
        PgValue::Timestamp(timestamp) => timestamp_text(timestamp, None),
        PgValue::TimestampTz(there) => timestamp_text(there.timestamp, Some(there.offset)),
        PgValue::Hstore(pairs) => hstore(&pairs),
        _ => {
            return Err("is not taken as a parameter; give a text and cast it in the query, such as `$1::text::point`");
        }
    })
}

fn float(value: f64, written: String) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() && value > 0.0 => "Infinity".to_owned(),
        value if value.is_infinite() => "-Infinity".to_owned(),
        _ => written,
    }
}

fn characters(bytes: Vec<u8>, length: Option<u32>, exactly: bool) -> Made<String> {
    let limit = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    match limit {
        Some(limit) if bytes.len() > limit => return Err("is longer than it says"),
        Some(limit) if exactly && bytes.len() < limit => return Err("is shorter than it says"),
        _ => {}
    }
    String::from_utf8(bytes).map_err(|_| "is no text in UTF-8")
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

/// An array as Postgres reads it. Everything is quoted, so no element is taken for NULL, a comma or a brace.
fn list(elements: &[String]) -> String {
    let mut text = String::from("{");
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        quote(&mut text, element);
    }
    text.push('}');
    text
}

fn hstore(pairs: &[(String, Option<String>)]) -> String {
    let mut text = String::new();
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        quote(&mut text, key);
        text.push_str("=>");
        match value {
            Some(value) => quote(&mut text, value),
            None => text.push_str("NULL"),
        }
    }
    text
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

impl ToSql for Param {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Bytes(bytes) if *ty == Type::BYTEA => out.put_slice(bytes),
            Self::Bytes(bytes) => out.put_slice(hex(bytes).as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        // The database decides.
        true
    }

    fn encode_format(&self, ty: &Type) -> Format {
        match self {
            Self::Bytes(_) if *ty == Type::BYTEA => Format::Binary,
            _ => Format::Text,
        }
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: PgValue) -> String {
        match param(value).unwrap() {
            Param::Text(text) => text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn whatever_an_element_says_it_stays_one_element() {
        let nasty = ["NULL", "a,b", "{}", "say \"hi\"", "back\\slash", ""].map(str::to_owned);
        assert_eq!(
            sent(PgValue::TextArray(nasty.to_vec())),
            r#"{"NULL","a,b","{}","say \"hi\"","back\\slash",""}"#
        );
        assert_eq!(sent(PgValue::ByteaArray(vec![vec![0, 255]])), r#"{"\\x00ff"}"#);
        assert_eq!(
            sent(PgValue::Hstore(vec![
                ("a=>\"".into(), None),
                ("b".into(), Some("c".into()))
            ])),
            r#""a=>\""=>NULL,"b"=>"c""#
        );
    }

    #[test]
    fn a_value_that_stands_for_nothing_is_named_with_its_number() {
        let point = PgValue::Point(((0, 0, 1), (0, 0, 1)));
        let refused = params(vec![PgValue::Null, point]).unwrap_err();
        let QueryError::InvalidParams(why) = refused else {
            unreachable!("{refused:?}")
        };
        assert!(why.starts_with("$2: point:"), "{why}");
        assert!(params(vec![PgValue::Varchar((Some(1), b"ab".to_vec()))]).is_err());
        assert!(params(vec![PgValue::Varchar((None, vec![0xff]))]).is_err());
    }

    #[test]
    fn floats_go_without_loss() {
        assert_eq!(sent(PgValue::Float8(crate::float::of_f64(1e300))), "1e300");
        assert_eq!(sent(PgValue::Float4(crate::float::of_f32(0.1))), "1e-1");
        assert_eq!(
            sent(PgValue::Float4(crate::float::of_f32(f32::NEG_INFINITY))),
            "-Infinity"
        );
        assert_eq!(sent(PgValue::Float8(crate::float::of_f64(f64::NAN))), "NaN");
    }
}
