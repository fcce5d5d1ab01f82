//! Avro's decimals (big endian, any length, scale of the schema) to ClickHouse's (little endian, 4 to 32 bytes, scale of the
//! column), exactly or not at all.

use crate::sink::Why;

/// A 256-bit number in two's complement, lowest word first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide([u64; 4]);

impl Wide {
    /// From a long.
    pub fn from_i64(value: i64) -> Self {
        let sign = if value < 0 { u64::MAX } else { 0 };
        Self([value as u64, sign, sign, sign])
    }

    /// From two's complement, big endian. `None`: it does not fit 256 bits.
    pub fn from_big_endian(bytes: &[u8]) -> Option<Self> {
        let sign = if crate::avro::is_negative(bytes) { 0xff } else { 0 };
        let mut little = [sign; 32];
        for (index, byte) in bytes.iter().rev().enumerate() {
            match little.get_mut(index) {
                Some(place) => *place = *byte,
                None if *byte == sign => {}
                None => return None,
            }
        }
        let (words, _) = little.as_chunks::<8>();
        let mut wide = [0; 4];
        for (to, from) in wide.iter_mut().zip(words) {
            *to = u64::from_le_bytes(*from);
        }
        let wide = Self(wide);
        // The first 32 bytes must hold the sign, too.
        (wide.is_negative() == (sign != 0)).then_some(wide)
    }

    fn is_negative(self) -> bool {
        self.0[3] >> 63 == 1
    }

    fn magnitude(self) -> Self {
        if self.is_negative() { self.negated() } else { self }
    }

    fn negated(self) -> Self {
        let mut carry = true;
        Self(self.0.map(|word| {
            let (sum, over) = (!word).overflowing_add(u64::from(carry));
            carry = over;
            sum
        }))
    }

    /// Times 10. `None`: more than 255 bits.
    fn times_ten(self) -> Option<Self> {
        let mut carry = 0u128;
        let product = Self(self.magnitude().0.map(|word| {
            let product = u128::from(word) * 10 + carry;
            carry = product >> 64;
            product as u64
        }));
        if carry != 0 || product.is_negative() {
            return None;
        }
        Some(if self.is_negative() { product.negated() } else { product })
    }

    /// 10 to the power of `digits`, at most 76.
    pub fn power_of_ten(digits: u8) -> Option<Self> {
        (0..digits).try_fold(Self::from_i64(1), |power, _| power.times_ten())
    }

    /// With `digits` more decimal places.
    pub fn scaled(self, digits: u8) -> Option<Self> {
        (0..digits).try_fold(self, |value, _| value.times_ten())
    }

    /// Whether it lies strictly between minus and plus `bound`.
    pub fn is_within(self, bound: Self) -> bool {
        let magnitude = self.magnitude();
        // The one number without a positive counterpart is never within.
        !magnitude.is_negative() && magnitude.0.iter().rev().lt(bound.0.iter().rev())
    }

    /// Whether two's complement of so many bytes, or unsigned, can hold it.
    pub fn fits(self, bytes: usize, signed: bool) -> bool {
        if !signed && self.is_negative() {
            return false;
        }
        let little = self.little_endian();
        let sign = if self.is_negative() { 0xff } else { 0u8 };
        let rest = little.get(bytes..).unwrap_or_default();
        let top = bytes.checked_sub(1).and_then(|last| little.get(last)).copied().unwrap_or_default();
        rest.iter().all(|byte| *byte == sign) && (!signed || (top & 0x80 != 0) == self.is_negative())
    }

    /// All 32 bytes.
    pub fn little_endian(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (words, _) = bytes.as_chunks_mut::<8>();
        for (to, from) in words.iter_mut().zip(self.0) {
            *to = from.to_le_bytes();
        }
        bytes
    }
}

/// A decimal column: how many digits it has and in how many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Digits to append to the value: the column's scale minus the field's.
    pub more_places: u8,
    /// 10 to the power of the column's precision.
    pub bound: Wide,
    /// 4, 8, 16 or 32.
    pub bytes: usize,
}

impl Target {
    /// Appends the value. Errors: more digits than the column has.
    pub fn write(&self, value: Option<Wide>, out: &mut Vec<u8>) -> Result<(), Why> {
        let scaled = value.and_then(|value| value.scaled(self.more_places)).ok_or(Why::OutOfRange)?;
        if !scaled.is_within(self.bound) {
            return Err(Why::OutOfRange);
        }
        out.extend_from_slice(scaled.little_endian().get(..self.bytes).unwrap_or_default());
        Ok(())
    }
}

/// Bytes of a decimal column of so many digits.
pub fn bytes_of(precision: u8) -> usize {
    match precision {
        0..=9 => 4,
        10..=18 => 8,
        19..=38 => 16,
        _ => 32,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_length_of_avro_bytes() {
        assert_eq!(Wide::from_big_endian(&[]), Some(Wide::from_i64(0)));
        assert_eq!(Wide::from_big_endian(&[0xff; 40]), Some(Wide::from_i64(-1)));
        assert_eq!(Wide::from_big_endian(&[0, 0x80]), Some(Wide::from_i64(128)));
        assert_eq!(Wide::from_big_endian(&[0x80]), Some(Wide::from_i64(-128)));
        let mut too_much = [0u8; 33];
        too_much[1] = 0x80;
        assert_eq!(Wide::from_big_endian(&too_much), None, "2^255");
        too_much[0] = 1;
        assert_eq!(Wide::from_big_endian(&too_much), None);
    }

    #[test]
    fn scaling_agrees_with_i128() {
        for value in [0, 1, -1, 12_345, -999_999, i64::MAX, i64::MIN] {
            for digits in [0, 1, 9, 19] {
                let wanted = i128::from(value).checked_mul(10i128.pow(digits)).map(i128::to_le_bytes);
                let found = Wide::from_i64(value).scaled(digits as u8).unwrap();
                if let Some(wanted) = wanted {
                    assert_eq!(found.little_endian()[..16], wanted, "{value} * 10^{digits}");
                }
            }
        }
    }

    #[test]
    fn replay_range() {
        let bound = Wide::power_of_ten(3).unwrap();
        assert!(Wide::from_i64(999).is_within(bound) && Wide::from_i64(-999).is_within(bound));
        assert!(!Wide::from_i64(1000).is_within(bound) && !Wide::from_i64(-1000).is_within(bound));
        assert!(Wide::power_of_ten(76).is_some() && Wide::power_of_ten(77).is_none());
        assert!(Wide::from_i64(255).fits(1, false) && !Wide::from_i64(256).fits(1, false));
        assert!(!Wide::from_i64(-1).fits(32, false) && Wide::from_i64(-128).fits(1, true));
        assert!(!Wide::from_i64(128).fits(1, true) && !Wide::from_i64(-129).fits(1, true));
    }
}
