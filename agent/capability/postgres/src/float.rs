//! Floats as the interface has them: mantissa, exponent and sign. In: floats. Out: the same floats, bit for bit, but that
//! every NaN is one NaN.

use crate::types::Float;

/// The exponent that stands for infinity and NaN: that of all ones, less the bias and the fraction's bits.
const SPECIAL_64: i16 = 0x7ff - 1_075;
const SPECIAL_32: i16 = 0xff - 150;
/// The bit that the exponent implies.
const IMPLIED_64: u64 = 1 << 52;
const IMPLIED_32: u64 = 1 << 23;

pub(crate) fn of_f64(value: f64) -> Float {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i16;
    parts(bits & (IMPLIED_64 - 1), exponent, bits >> 63 == 1, (IMPLIED_64, 1_075))
}

pub(crate) fn of_f32(value: f32) -> Float {
    let bits = u64::from(value.to_bits());
    let exponent = ((bits >> 23) & 0xff) as i16;
    parts(bits & (IMPLIED_32 - 1), exponent, bits >> 31 == 1, (IMPLIED_32, 150))
}

fn parts(fraction: u64, exponent: i16, negative: bool, (implied, bias): (u64, i16)) -> Float {
    let mantissa = match exponent {
        0 => fraction << 1,
        _ => fraction | implied,
    };
    (mantissa, exponent - bias, if negative { -1 } else { 1 })
}

/// The float that three numbers stand for; any three numbers stand for one.
pub(crate) fn to_f64((mantissa, exponent, sign): Float) -> f64 {
    if exponent == SPECIAL_64 && mantissa > IMPLIED_64 {
        return f64::NAN;
    }
    // In two steps: the power alone can be too small for a float where the product is not.
    let (half, sign) = (exponent / 2, f64::from(sign));
    let rest = exponent - half;
    sign * (mantissa as f64 * 2_f64.powi(i32::from(half)) * 2_f64.powi(i32::from(rest)))
}

/// The same for the shorter kind, where NaN and infinity look otherwise.
pub(crate) fn to_f32(value: Float) -> f32 {
    let (mantissa, exponent, sign) = value;
    match exponent == SPECIAL_32 && (IMPLIED_32..IMPLIED_32 << 1).contains(&mantissa) {
        true if mantissa > IMPLIED_32 => f32::NAN,
        true => f32::INFINITY.copysign(f32::from(sign)),
        false => to_f64(value) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_float_comes_back_as_it_was() {
        for value in [
            0.0,
            -0.0,
            1.0,
            -1.5,
            0.1,
            f64::MAX,
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            f64::from_bits(IMPLIED_64 - 1),
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            assert_eq!(to_f64(of_f64(value)).to_bits(), value.to_bits(), "{value:e}");
        }
        for value in [
            0.0,
            -0.25,
            0.1,
            f32::MAX,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            f32::INFINITY,
        ] {
            assert_eq!(to_f32(of_f32(value)).to_bits(), value.to_bits(), "{value:e}");
        }
        assert!(to_f64(of_f64(f64::NAN)).is_nan() && to_f32(of_f32(f32::NAN)).is_nan());
        // What a guest computes with another mantissa is the same number.
        assert_eq!(to_f64((3, -1, 1)), 1.5);
        assert!(to_f64((u64::MAX, i16::MAX, -1)).is_infinite() && to_f64((1, i16::MIN, 1)) == 0.0);
    }
}
