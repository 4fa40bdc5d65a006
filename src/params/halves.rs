//! Floating-point numbers of 16 bits, widened.

/// Numbers of 16 bits, little-endian.
pub(crate) fn read(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b))
}

/// IEEE 754's binary16: a sign, 5 bits of exponent, 10 of fraction. Exact.
pub(crate) fn f16(bits: u16) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

/// The upper half of an `f32`. Exact.
pub(crate) fn bf16(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The table of IEEE 754 half precision in Wikipedia, "Half-precision floating-point format".
        for (bits, value) in [
            (0x0000, 0.0),
            (0x0001, 2f64.powi(-24)),
            (0x03ff, 1023.0 * 2f64.powi(-24)),
            (0x0400, 0.000_061_035_156_25),
            (0x3555, 0.333_251_953_125),
            (0x3bff, 0.999_511_718_75),
            (0x3c00, 1.0),
            (0x3c01, 1.000_976_562_5),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            assert_eq!(f16(bits), value, "{bits:04x}");
        }
        assert!(f16(0x7e00).is_nan() && f16(0x8000).is_sign_negative());
        for (bits, value) in [(0x3f80, 1.0), (0xc000, -2.0), (0x3eab, 0.333_984_375), (0x7f80, f64::INFINITY)]
        {
            assert_eq!(bf16(bits), value, "{bits:04x}");
        }
    }

    /// Every finite number is the middle of its neighbours' span as the format has it: steps double with the exponent.
    #[test]
    fn steps_are_those_of_the_format() {
        for bits in 0..0x7bff {
            let step = 2f64.powi((i32::from(bits >> 10).max(1)) - 25);
            assert_eq!(f16(bits + 1) - f16(bits), step, "{bits:04x}");
            assert_eq!(f16(bits | 0x8000), -f16(bits));
        }
    }
}
