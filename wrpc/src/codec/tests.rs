//! The codec against itself, against the published one, and against garbage.

use super::*;
use proptest::prelude::*;
use wrpc_transport::Encode;

/// What the published codec makes of a value.
fn published<T: Encode<tokio::io::DuplexStream>>(value: T) -> Vec<u8>
where
    <T::Encoder as tokio_util::codec::Encoder<T>>::Error: std::fmt::Debug,
{
    let mut out = BytesMut::new();
    tokio_util::codec::Encoder::encode(&mut T::Encoder::default(), value, &mut out).unwrap();
    out.to_vec()
}

fn ours(put: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    put(&mut out);
    out
}

fn cursor(bytes: BytesMut) -> Cursor {
    Cursor::new(bytes.freeze(), DecodeLimits::default())
}

/// Writes and reads one value, and compares the bytes with those of the published codec.
macro_rules! same {
    ($value:expr, $put:expr, $read:ident) => {{
        let bytes = ours($put);
        prop_assert_eq!(&bytes[..], &published($value.clone())[..]);
        let mut cursor = cursor(bytes);
        prop_assert_eq!(cursor.$read().unwrap(), $value);
        cursor.finish().unwrap();
    }};
}

proptest! {
    #[test]
    fn integers_are_the_bytes_of_the_published_codec(
        u in any::<u64>(), s in any::<i64>(), shift in 0_u32..64,
    ) {
        let (u, s) = (u >> shift, s >> shift);
        same!(u, |out| put_unsigned(out, u), u64);
        same!(u as u32, |out| put_unsigned(out, u64::from(u as u32)), u32);
        same!(u as u16, |out| put_unsigned(out, u64::from(u as u16)), u16);
        same!(s, |out| put_signed(out, s), s64);
        same!(s as i32, |out| put_signed(out, i64::from(s as i32)), s32);
        same!(s as i16, |out| put_signed(out, i64::from(s as i16)), s16);
        same!(u as u8, |out| out.put_u8(u as u8), u8);
        same!(s as i8, |out| out.put_i8(s as i8), s8);
    }

    #[test]
    fn other_plain_values_are_the_bytes_of_the_published_codec(
        b in any::<bool>(), c in any::<char>(), f in -1e30_f32..1e30, d in -1e300..1e300, text in ".*",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        same!(b, |out| put_bool(out, b), bool);
        same!(c, |out| put_char(out, c), char);
        same!(f, |out| put_f32(out, f), f32);
        same!(d, |out| put_f64(out, d), f64);
        same!(text, |out| put_string(out, &text).unwrap(), string);
        let bytes = Bytes::from(bytes);
        same!(bytes, |out| put_bytes(out, &bytes).unwrap(), bytes);
    }

    #[test]
    fn options_and_results_are_the_bytes_of_the_published_codec(option in any::<Option<u32>>(), is_ok in any::<bool>()) {
        let bytes = ours(|out| {
            put_bool(out, option.is_some());
            if let Some(value) = option {
                put_unsigned(out, u64::from(value));
            }
        });
        prop_assert_eq!(&bytes[..], &published(option)[..]);
        let mut reading = cursor(bytes);
        prop_assert_eq!(reading.option().unwrap(), option.is_some());

        let result: Result<u32, String> = if is_ok { Ok(7) } else { Err("e".to_owned()) };
        let bytes = ours(|out| {
            put_result(out, is_ok);
            if is_ok { put_unsigned(out, 7) } else { put_string(out, "e").unwrap() }
        });
        prop_assert_eq!(&bytes[..], &published(result)[..]);
        prop_assert_eq!(cursor(bytes).result().unwrap(), is_ok);
    }

    #[test]
    fn flags_come_back(set in proptest::collection::vec(any::<bool>(), 1..200)) {
        let bytes = ours(|out| put_flags(out, &set));
        prop_assert_eq!(bytes.len(), set.len().div_ceil(8));
        prop_assert_eq!(cursor(bytes).flags(set.len()).unwrap(), set);
    }

    #[test]
    fn garbage_is_an_error_or_a_value_and_never_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64), steps in proptest::collection::vec(0_u8..19, 1..40),
    ) {
        let before = bytes.len();
        let mut cursor = Cursor::new(Bytes::from(bytes), DecodeLimits { depth: 4, elements: 100 });
        for step in steps {
            let _ = match step {
                0 => cursor.u8().is_ok(),
                1 => cursor.s8().is_ok(),
                2 => cursor.u16().is_ok(),
                3 => cursor.s16().is_ok(),
                4 => cursor.u32().is_ok(),
                5 => cursor.s32().is_ok(),
                6 => cursor.u64().is_ok(),
                7 => cursor.s64().is_ok(),
                8 => cursor.f32().is_ok(),
                9 => cursor.f64().is_ok(),
                10 => cursor.bool().is_ok(),
                11 => cursor.char().is_ok(),
                12 => cursor.string().is_ok(),
                13 => cursor.bytes().is_ok(),
                14 => cursor.len(1).is_ok_and(|len| len <= before),
                15 => cursor.discriminant(3).is_ok_and(|case| case < 3),
                16 => cursor.flags(9).is_ok(),
                17 => cursor.enter().is_ok(),
                _ => cursor.result().is_ok(),
            };
            prop_assert!(cursor.remaining() <= before);
        }
    }
}

#[test]
fn a_length_is_compared_with_what_is_there_and_with_the_limit() {
    let huge = || ours(|out| put_unsigned(out, u64::from(u32::MAX)));
    assert_eq!(
        cursor(huge()).bytes(),
        Err(CodecError::End {
            what: "a list of bytes"
        })
    );
    assert_eq!(cursor(huge()).string(), Err(CodecError::End { what: "a text" }));
    assert_eq!(cursor(huge()).len(1), Err(CodecError::End { what: "a list" }));
    // Elements without bytes are counted instead.
    assert!(matches!(cursor(huge()).len(0), Err(CodecError::Limit { .. })));
}

#[test]
fn an_integer_that_does_not_fit_is_no_value() {
    let bytes = |bytes: &'static [u8]| Cursor::new(Bytes::from_static(bytes), DecodeLimits::default());
    assert_eq!(bytes(&[0xff, 0xff, 0x03]).u16(), Ok(u16::MAX));
    assert!(bytes(&[0xff, 0xff, 0x07]).u16().is_err());
    assert!(bytes(&[0x80, 0x80, 0x80, 0x00]).u16().is_err());
    assert!(bytes(&[0xff; 11]).u64().is_err());
    assert!(bytes(&[0xff; 11]).s64().is_err());
    assert_eq!(bytes(&[0x80, 0x80, 0x7e]).s16(), Ok(i16::MIN));
    assert!(bytes(&[0x80, 0x80, 0x7c]).s16().is_err());
    assert!(bytes(&[0x80]).u32().is_err());
}

#[test]
fn values_inside_values_end_at_the_limit() {
    let mut cursor = Cursor::new(Bytes::new(), DecodeLimits { depth: 2, elements: 0 });
    assert!(cursor.enter().is_ok() && cursor.enter().is_ok());
    assert!(cursor.enter().is_err());
    cursor.leave();
    assert!(cursor.enter().is_ok());
}

#[test]
fn what_is_left_over_is_an_error() {
    assert_eq!(
        cursor(ours(|out| out.put_u8(0))).finish(),
        Err(CodecError::Rest { bytes: 1 })
    );
}
