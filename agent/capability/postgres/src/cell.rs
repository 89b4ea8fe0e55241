//! Cells: from what the database answers to a guest's values.
//!
//! In: a column's type and the bytes of one cell, in the protocol's binary form. Out: a value, or which type it is that
//! has none: the query can cast it to one that has.

use crate::calendar::{date, offset_text, time, timestamp, timestamp_tz};
use crate::float::{of_f32, of_f64};
use crate::numeric;
use crate::types::{Eui48, PgValue, TimeTz};
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio_postgres::types::{FromSql, Kind, Type};

type Failure = Box<dyn Error + Sync + Send>;

/// One cell of a row.
pub(crate) struct Cell(pub(crate) PgValue);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        value(ty, raw).map(Self)
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self(PgValue::Null))
    }

    fn accepts(_: &Type) -> bool {
        // Which ones have a value is said with the reason.
        true
    }
}

fn value(ty: &Type, raw: &[u8]) -> Result<PgValue, Failure> {
    Ok(match *ty {
        Type::BOOL => PgValue::Bool(bool::from_sql(ty, raw)?),
        Type::INT2 => PgValue::Int2(i16::from_sql(ty, raw)?),
        Type::INT4 => PgValue::Int4(i32::from_sql(ty, raw)?),
        Type::INT8 => PgValue::Int8(i64::from_sql(ty, raw)?),
        Type::OID => PgValue::Int8(i64::from(u32::from_sql(ty, raw)?)),
        Type::FLOAT4 => PgValue::Float4(of_f32(f32::from_sql(ty, raw)?)),
        Type::FLOAT8 => PgValue::Float8(of_f64(f64::from_sql(ty, raw)?)),
        Type::NUMERIC => PgValue::Numeric(numeric::text(raw)?),
        Type::BYTEA => PgValue::Bytea(raw.to_vec()),
        Type::TEXT | Type::UNKNOWN => PgValue::Text(text(raw)?),
        Type::NAME => PgValue::Name(text(raw)?),
        Type::XML => PgValue::Xml(text(raw)?),
        Type::VARCHAR => PgValue::Varchar((None, raw.to_vec())),
        Type::BPCHAR | Type::CHAR => PgValue::Char((u32::try_from(raw.len())?, raw.to_vec())),
        Type::JSON => PgValue::Json(text(raw)?),
        Type::JSONB => PgValue::Jsonb(jsonb(raw)?),
        Type::UUID => PgValue::Uuid(uuid(raw)?),
        Type::INET => PgValue::Inet(address(raw)?),
        Type::CIDR => PgValue::Cidr(address(raw)?),
        Type::MACADDR => {
            let [a, b, c, d, e, f] = <[u8; 6]>::try_from(raw)?;
            PgValue::Macaddr(Eui48 {
                bytes: (a, b, c, d, e, f),
            })
        }
        Type::DATE => PgValue::Date(date(number(raw)?)),
        Type::TIME => PgValue::Time(time(long(raw)?)),
        Type::TIMETZ => PgValue::TimeTz(time_tz(raw)?),
        Type::TIMESTAMP => PgValue::Timestamp(timestamp(long(raw)?)),
        Type::TIMESTAMPTZ => PgValue::TimestampTz(timestamp_tz(long(raw)?)),
        // What a function returns that returns nothing.
        Type::VOID => PgValue::Null,
        _ => return other(ty, raw),
    })
}

/// Arrays, and types that somebody has made of others.
fn other(ty: &Type, raw: &[u8]) -> Result<PgValue, Failure> {
    match ty.kind() {
        Kind::Domain(of) => value(of, raw),
        Kind::Enum(_) => Ok(PgValue::Text(text(raw)?)),
        Kind::Array(of) => elements(of, ty, raw),
        _ => Err(none(ty)),
    }
}

fn none(ty: &Type) -> Failure {
    format!("type {ty} has no value here; cast it in the query, such as `::text`").into()
}

fn elements(of: &Type, ty: &Type, raw: &[u8]) -> Result<PgValue, Failure> {
    // Nulls have no place in the interface's lists.
    let cells = Vec::<Cell>::from_sql(ty, raw)?;
    macro_rules! list {
        ($all:ident, $one:ident) => {{
            let one = |cell: Cell| match cell.0 {
                PgValue::$one(value) => Ok(value),
                PgValue::Null => Err("a list has no place for NULL; use `array_remove` or `coalesce`"),
                _ => Err("an element is of another type"),
            };
            PgValue::$all(cells.into_iter().map(one).collect::<Result<_, _>>()?)
        }};
    }
    Ok(match *of {
        Type::BOOL => list!(BoolArray, Bool),
        Type::INT2 => list!(Int2Array, Int2),
        Type::INT4 => list!(Int4Array, Int4),
        Type::INT8 => list!(Int8Array, Int8),
        Type::FLOAT4 => list!(Float4Array, Float4),
        Type::FLOAT8 => list!(Float8Array, Float8),
        Type::NUMERIC => list!(NumericArray, Numeric),
        Type::BYTEA => list!(ByteaArray, Bytea),
        Type::TEXT => list!(TextArray, Text),
        Type::NAME => list!(NameArray, Name),
        Type::XML => list!(XmlArray, Xml),
        Type::VARCHAR => list!(VarcharArray, Varchar),
        Type::BPCHAR | Type::CHAR => list!(CharArray, Char),
        Type::JSON => list!(JsonArray, Json),
        Type::JSONB => list!(JsonbArray, Jsonb),
        Type::UUID => list!(UuidArray, Uuid),
        Type::INET => list!(InetArray, Inet),
        Type::CIDR => list!(CidrArray, Cidr),
        Type::MACADDR => list!(MacaddrArray, Macaddr),
        Type::DATE => list!(DateArray, Date),
        Type::TIME => list!(TimeArray, Time),
        Type::TIMETZ => list!(TimeTzArray, TimeTz),
        Type::TIMESTAMP => list!(TimestampArray, Timestamp),
        Type::TIMESTAMPTZ => list!(TimestampTzArray, TimestampTz),
        _ if matches!(of.kind(), Kind::Enum(_)) => list!(TextArray, Text),
        _ => return Err(none(ty)),
    })
}

fn text(raw: &[u8]) -> Result<String, Failure> {
    Ok(std::str::from_utf8(raw)?.to_owned())
}

fn number(raw: &[u8]) -> Result<i32, Failure> {
    Ok(i32::from_be_bytes(raw.try_into()?))
}

fn long(raw: &[u8]) -> Result<i64, Failure> {
    Ok(i64::from_be_bytes(raw.try_into()?))
}

/// Text behind the number of the form, which is 1.
fn jsonb(raw: &[u8]) -> Result<String, Failure> {
    match raw.split_first() {
        Some((1, rest)) => text(rest),
        _ => Err("this jsonb has a form that is not known here".into()),
    }
}

fn uuid(raw: &[u8]) -> Result<String, Failure> {
    let n = u128::from_be_bytes(raw.try_into()?);
    let hex = format!("{n:032x}");
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    Ok(format!("{a}-{b}-{c}-{d}-{e}"))
}

fn time_tz(raw: &[u8]) -> Result<TimeTz, Failure> {
    let (micros, zone) = raw.split_at_checked(8).ok_or("a time is cut off")?;
    Ok(TimeTz {
        timesonze: offset_text(i64::from(number(zone)?)),
        time: time(long(micros)?),
    })
}

/// An address, with its network unless it is one host.
fn address(raw: &[u8]) -> Result<String, Failure> {
    let [_, bits, network, _, bytes @ ..] = raw else {
        return Err("an address is cut off".into());
    };
    let (address, all) = if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        (Ipv4Addr::from(four).to_string(), 32)
    } else {
        (Ipv6Addr::from(<[u8; 16]>::try_from(bytes)?).to_string(), 128)
    };
    Ok(match *network != 0 || *bits != all {
        true => format!("{address}/{bits}"),
        false => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_cut_off_are_an_error_and_never_more() {
        for ty in [
            Type::BOOL,
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::OID,
            Type::FLOAT4,
            Type::FLOAT8,
            Type::NUMERIC,
            Type::JSONB,
            Type::UUID,
            Type::INET,
            Type::CIDR,
            Type::MACADDR,
            Type::DATE,
            Type::TIME,
            Type::TIMETZ,
            Type::TIMESTAMPTZ,
            Type::INT4_ARRAY,
            Type::TEXT_ARRAY,
            Type::POINT,
        ] {
            for length in [0, 1, 3, 9, 17] {
                let raw = vec![0xff; length];
                if let Ok(value) = value(&ty, &raw) {
                    // Some lengths are right for some types; then there is a value, whatever it says.
                    assert!(!matches!(value, PgValue::Null), "{ty} of {length}");
                }
            }
            assert!(value(&ty, &[0xff; 5]).is_err(), "{ty}");
        }
    }

    #[test]
    fn a_type_without_a_value_is_named() {
        let told = value(&Type::POINT, &[0; 16]).unwrap_err().to_string();
        assert!(told.contains("point") && told.contains("::text"), "{told}");
    }
}
