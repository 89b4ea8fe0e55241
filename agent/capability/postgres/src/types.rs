//! The types of `wasmcloud:postgres/types@0.1.1-draft`, case for case in the interface's order.
//!
//! In: values as guests give them. Out: the same, as Rust has them. Which of them stand for something here is said by
//! `param` (towards the database) and `cell` (from it).

use wasmtime::component::{ComponentType, Lift, Lower};

/// A float as mantissa, exponent and sign: `sign × mantissa × 2^exponent`.
pub(crate) type Float = (u64, i16, i8);
/// A place on a plane.
pub(crate) type Point = (Float, Float);
/// Bytes with their exact number.
pub(crate) type Sized = (u32, Vec<u8>);
/// Bytes with their largest number, if there is one.
pub(crate) type Varying = (Option<u32>, Vec<u8>);

/// Why a query gives no rows.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum QueryError {
    #[component(name = "invalid-params")]
    InvalidParams(String),
    #[component(name = "invalid-query")]
    InvalidQuery(String),
    #[component(name = "unexpected")]
    Unexpected(String),
}

/// One value of one row.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(crate) struct ResultRowEntry {
    #[component(name = "column-name")]
    pub(crate) column_name: String,
    pub(crate) value: PgValue,
}

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Date {
    #[component(name = "positive-infinity")]
    PositiveInfinity,
    #[component(name = "negative-infinity")]
    NegativeInfinity,
    #[component(name = "ymd")]
    Ymd((i32, u32, u32)),
}

/// From one day to another.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Interval {
    pub(crate) start: Date,
    #[component(name = "start-inclusive")]
    pub(crate) start_inclusive: bool,
    pub(crate) end: Date,
    #[component(name = "end-inclusive")]
    pub(crate) end_inclusive: bool,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Time {
    pub(crate) hour: u32,
    pub(crate) min: u32,
    pub(crate) sec: u32,
    pub(crate) micro: u32,
}

/// A time of day somewhere. The field's name is misspelt in the interface itself.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct TimeTz {
    pub(crate) timesonze: String,
    pub(crate) time: Time,
}

/// A day and a time.
#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Timestamp {
    pub(crate) date: Date,
    pub(crate) time: Time,
}

/// How far a clock is from UTC.
#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum Offset {
    #[component(name = "eastern-hemisphere-secs")]
    East(i32),
    #[component(name = "western-hemisphere-secs")]
    West(i32),
}

/// A day and a time somewhere.
#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct TimestampTz {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

/// A hardware address.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Eui48 {
    pub(crate) bytes: (u8, u8, u8, u8, u8, u8),
}

/// A longer hardware address.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Eui64 {
    pub(crate) bytes: (u8, u8, u8, u8, u8, u8, u8, u8),
}

/// How much a word weighs.
#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(
    dead_code,
    reason = "guests make them: the derived code reads them from their memory"
)]
pub(crate) enum LexemeWeight {
    A,
    B,
    C,
    D,
}

/// A word of a text that is searched.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Lexeme {
    pub(crate) position: Option<u16>,
    pub(crate) weight: Option<LexemeWeight>,
    pub(crate) data: String,
}

/// A value, as a parameter or in a row.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum PgValue {
    #[component(name = "null")]
    Null,
    #[component(name = "big-int")]
    BigInt(i64),
    #[component(name = "int8")]
    Int8(i64),
    #[component(name = "int8-array")]
    Int8Array(Vec<i64>),
    #[component(name = "big-serial")]
    BigSerial(i64),
    #[component(name = "serial8")]
    Serial8(i64),
    #[component(name = "bool")]
    Bool(bool),
    #[component(name = "boolean")]
    Boolean(bool),
    #[component(name = "bool-array")]
    BoolArray(Vec<bool>),
    #[component(name = "double")]
    Double(Float),
    #[component(name = "float8")]
    Float8(Float),
    #[component(name = "float8-array")]
    Float8Array(Vec<Float>),
    #[component(name = "real")]
    Real(Float),
    #[component(name = "float4")]
    Float4(Float),
    #[component(name = "float4-array")]
    Float4Array(Vec<Float>),
    #[component(name = "integer")]
    Integer(i32),
    #[component(name = "int")]
    Int(i32),
    #[component(name = "int4")]
    Int4(i32),
    #[component(name = "int4-array")]
    Int4Array(Vec<i32>),
    #[component(name = "numeric")]
    Numeric(String),
    #[component(name = "decimal")]
    Decimal(String),
    #[component(name = "numeric-array")]
    NumericArray(Vec<String>),
    #[component(name = "serial")]
    Serial(u32),
    #[component(name = "serial4")]
    Serial4(u32),
    #[component(name = "small-int")]
    SmallInt(i16),
    #[component(name = "int2")]
    Int2(i16),
    #[component(name = "int2-array")]
    Int2Array(Vec<i16>),
    #[component(name = "int2-vector")]
    Int2Vector(Vec<i16>),
    #[component(name = "int2-vector-array")]
    Int2VectorArray(Vec<Vec<i16>>),
    #[component(name = "small-serial")]
    SmallSerial(i16),
    #[component(name = "serial2")]
    Serial2(i16),
    #[component(name = "bit")]
    Bit(Sized),
    #[component(name = "bit-array")]
    BitArray(Vec<Sized>),
    #[component(name = "bit-varying")]
    BitVarying(Varying),
    #[component(name = "varbit")]
    Varbit(Varying),
    #[component(name = "varbit-array")]
    VarbitArray(Vec<Varying>),
    #[component(name = "bytea")]
    Bytea(Vec<u8>),
    #[component(name = "bytea-array")]
    ByteaArray(Vec<Vec<u8>>),
    #[component(name = "char")]
    Char(Sized),
    #[component(name = "char-array")]
    CharArray(Vec<Sized>),
    #[component(name = "varchar")]
    Varchar(Varying),
    #[component(name = "varchar-array")]
    VarcharArray(Vec<Varying>),
    #[component(name = "cidr")]
    Cidr(String),
    #[component(name = "cidr-array")]
    CidrArray(Vec<String>),
    #[component(name = "inet")]
    Inet(String),
    #[component(name = "inet-array")]
    InetArray(Vec<String>),
    #[component(name = "macaddr")]
    Macaddr(Eui48),
    #[component(name = "macaddr-array")]
    MacaddrArray(Vec<Eui48>),
    #[component(name = "macaddr8")]
    Macaddr8(Eui64),
    #[component(name = "macaddr8-array")]
    Macaddr8Array(Vec<Eui64>),
    #[component(name = "box")]
    Box((Point, Point)),
    #[component(name = "box-array")]
    BoxArray(Vec<(Point, Point)>),
    #[component(name = "circle")]
    Circle((Point, Float)),
    #[component(name = "circle-array")]
    CircleArray(Vec<(Point, Float)>),
    #[component(name = "line")]
    Line((Point, Point)),
    #[component(name = "line-array")]
    LineArray(Vec<(Point, Point)>),
    #[component(name = "lseg")]
    Lseg((Point, Point)),
    #[component(name = "lseg-array")]
    LsegArray(Vec<(Point, Point)>),
    #[component(name = "path")]
    Path(Vec<Point>),
    #[component(name = "path-array")]
    PathArray(Vec<Vec<Point>>),
    #[component(name = "point")]
    Point(Point),
    #[component(name = "point-array")]
    PointArray(Vec<Point>),
    #[component(name = "polygon")]
    Polygon(Vec<Point>),
    #[component(name = "polygon-array")]
    PolygonArray(Vec<Vec<Point>>),
    #[component(name = "date")]
    Date(Date),
    #[component(name = "date-array")]
    DateArray(Vec<Date>),
    #[component(name = "interval")]
    Interval(Interval),
    #[component(name = "interval-array")]
    IntervalArray(Vec<Interval>),
    #[component(name = "time")]
    Time(Time),
    #[component(name = "time-array")]
    TimeArray(Vec<Time>),
    #[component(name = "time-tz")]
    TimeTz(TimeTz),
    #[component(name = "time-tz-array")]
    TimeTzArray(Vec<TimeTz>),
    #[component(name = "timestamp")]
    Timestamp(Timestamp),
    #[component(name = "timestamp-array")]
    TimestampArray(Vec<Timestamp>),
    #[component(name = "timestamp-tz")]
    TimestampTz(TimestampTz),
    #[component(name = "timestamp-tz-array")]
    TimestampTzArray(Vec<TimestampTz>),
    #[component(name = "json")]
    Json(String),
    #[component(name = "json-array")]
    JsonArray(Vec<String>),
    #[component(name = "jsonb")]
    Jsonb(String),
    #[component(name = "jsonb-array")]
    JsonbArray(Vec<String>),
    #[component(name = "money")]
    Money(String),
    #[component(name = "money-array")]
    MoneyArray(Vec<String>),
    #[component(name = "pg-lsn")]
    PgLsn(u64),
    #[component(name = "pg-lsn-array")]
    PgLsnArray(Vec<u64>),
    #[component(name = "pg-snapshot")]
    PgSnapshot((i64, i64, Vec<i64>)),
    #[component(name = "txid-snapshot")]
    TxidSnapshot(i64),
    #[component(name = "name")]
    Name(String),
    #[component(name = "name-array")]
    NameArray(Vec<String>),
    #[component(name = "text")]
    Text(String),
    #[component(name = "text-array")]
    TextArray(Vec<String>),
    #[component(name = "xml")]
    Xml(String),
    #[component(name = "xml-array")]
    XmlArray(Vec<String>),
    #[component(name = "ts-query")]
    TsQuery(String),
    #[component(name = "ts-vector")]
    TsVector(Vec<Lexeme>),
    #[component(name = "uuid")]
    Uuid(String),
    #[component(name = "uuid-array")]
    UuidArray(Vec<String>),
    #[component(name = "hstore")]
    Hstore(Vec<(String, Option<String>)>),
}

impl PgValue {
    /// The case, as the interface names it.
    pub(crate) fn case(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::BigInt(_) => "big-int",
            Self::Int8(_) => "int8",
            Self::Int8Array(_) => "int8-array",
            Self::BigSerial(_) => "big-serial",
            Self::Serial8(_) => "serial8",
            Self::Bool(_) => "bool",
            Self::Boolean(_) => "boolean",
            Self::BoolArray(_) => "bool-array",
            Self::Double(_) => "double",
            Self::Float8(_) => "float8",
            Self::Float8Array(_) => "float8-array",
            Self::Real(_) => "real",
            Self::Float4(_) => "float4",
            Self::Float4Array(_) => "float4-array",
            Self::Integer(_) => "integer",
            Self::Int(_) => "int",
            Self::Int4(_) => "int4",
            Self::Int4Array(_) => "int4-array",
            Self::Numeric(_) => "numeric",
            Self::Decimal(_) => "decimal",
            Self::NumericArray(_) => "numeric-array",
            Self::Serial(_) => "serial",
            Self::Serial4(_) => "serial4",
            Self::SmallInt(_) => "small-int",
            Self::Int2(_) => "int2",
            Self::Int2Array(_) => "int2-array",
            Self::Int2Vector(_) => "int2-vector",
            Self::Int2VectorArray(_) => "int2-vector-array",
            Self::SmallSerial(_) => "small-serial",
            Self::Serial2(_) => "serial2",
            Self::Bit(_) => "bit",
            Self::BitArray(_) => "bit-array",
            Self::BitVarying(_) => "bit-varying",
            Self::Varbit(_) => "varbit",
            Self::VarbitArray(_) => "varbit-array",
            Self::Bytea(_) => "bytea",
            Self::ByteaArray(_) => "bytea-array",
            Self::Char(_) => "char",
            Self::CharArray(_) => "char-array",
            Self::Varchar(_) => "varchar",
            Self::VarcharArray(_) => "varchar-array",
            Self::Cidr(_) => "cidr",
            Self::CidrArray(_) => "cidr-array",
            Self::Inet(_) => "inet",
            Self::InetArray(_) => "inet-array",
            Self::Macaddr(_) => "macaddr",
            Self::MacaddrArray(_) => "macaddr-array",
            Self::Macaddr8(_) => "macaddr8",
            Self::Macaddr8Array(_) => "macaddr8-array",
            Self::Box(_) => "box",
            Self::BoxArray(_) => "box-array",
            Self::Circle(_) => "circle",
            Self::CircleArray(_) => "circle-array",
            Self::Line(_) => "line",
            Self::LineArray(_) => "line-array",
            Self::Lseg(_) => "lseg",
            Self::LsegArray(_) => "lseg-array",
            Self::Path(_) => "path",
            Self::PathArray(_) => "path-array",
            Self::Point(_) => "point",
            Self::PointArray(_) => "point-array",
            Self::Polygon(_) => "polygon",
            Self::PolygonArray(_) => "polygon-array",
            Self::Date(_) => "date",
            Self::DateArray(_) => "date-array",
            Self::Interval(_) => "interval",
            Self::IntervalArray(_) => "interval-array",
            Self::Time(_) => "time",
            Self::TimeArray(_) => "time-array",
            Self::TimeTz(_) => "time-tz",
            Self::TimeTzArray(_) => "time-tz-array",
            Self::Timestamp(_) => "timestamp",
            Self::TimestampArray(_) => "timestamp-array",
            Self::TimestampTz(_) => "timestamp-tz",
            Self::TimestampTzArray(_) => "timestamp-tz-array",
            Self::Json(_) => "json",
            Self::JsonArray(_) => "json-array",
            Self::Jsonb(_) => "jsonb",
            Self::JsonbArray(_) => "jsonb-array",
            Self::Money(_) => "money",
            Self::MoneyArray(_) => "money-array",
            Self::PgLsn(_) => "pg-lsn",
            Self::PgLsnArray(_) => "pg-lsn-array",
            Self::PgSnapshot(_) => "pg-snapshot",
            Self::TxidSnapshot(_) => "txid-snapshot",
            Self::Name(_) => "name",
            Self::NameArray(_) => "name-array",
            Self::Text(_) => "text",
            Self::TextArray(_) => "text-array",
            Self::Xml(_) => "xml",
            Self::XmlArray(_) => "xml-array",
            Self::TsQuery(_) => "ts-query",
            Self::TsVector(_) => "ts-vector",
            Self::Uuid(_) => "uuid",
            Self::UuidArray(_) => "uuid-array",
            Self::Hstore(_) => "hstore",
        }
    }
}
