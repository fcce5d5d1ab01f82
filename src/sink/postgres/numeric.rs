//! PostgreSQL's binary numeric (src/backend/utils/adt/numeric.c, `numeric_recv`): digits of base 10,000 around the decimal
//! point, with the weight of the first.

use crate::avro::{decimal_digits, is_negative};
use crate::sink::Why;

/// Decimal digits of the longest 128-bit number.
const MAX_DIGITS: usize = 39;

/// Appends an unscaled number in two's complement, big endian, with `scale` digits after the point. `precision` and
/// `integer_digits` bound all digits and those before the point. Errors: more digits than that.
pub(super) fn decimal(
    unscaled: &[u8],
    scale: usize,
    precision: usize,
    integer_digits: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<(), Why> {
    let unscaled = without_padding(unscaled);
    if let Some(number) = small(unscaled) {
        return whole(number, scale, precision, integer_digits, out);
    }
    // Rare: more than 38 digits. A digit takes 3.3 bits, so this bounds the work by what the schema promised.
    if unscaled.len() > precision / 2 + 2 {
        return Err(Why::OutOfRange);
    }
    write(is_negative(unscaled), decimal_digits(unscaled).as_bytes(), scale, precision, integer_digits, out)
}

/// The same for a number at hand.
pub(super) fn whole(
    number: i128,
    scale: usize,
    precision: usize,
    integer_digits: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<(), Why> {
    let mut digits = [b'0'; MAX_DIGITS];
    let mut first = MAX_DIGITS;
    let mut rest = number.unsigned_abs();
    // 64-bit division is several times faster, and nearly all numbers are that short.
    while rest > u128::from(u64::MAX) {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    write(number < 0, &digits[first..], scale, precision, integer_digits, out)
}

/// Bytes that only repeat the sign.
fn without_padding(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let [second, ..] = rest
        && (*first == 0 && second & 0x80 == 0 || *first == 0xff && second & 0x80 != 0)
    {
        bytes = rest;
    }
    bytes
}

fn small(bytes: &[u8]) -> Option<i128> {
    if bytes.len() > 16 {
        return None;
    }
    let sign = if is_negative(bytes) { -1 } else { 0 };
    Some(bytes.iter().fold(sign, |number, byte| number << 8 | i128::from(*byte)))
}

fn write(
    negative: bool,
    digits: &[u8],
    scale: usize,
    precision: usize,
    integer_digits: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<(), Why> {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = digits.get(zeros..).unwrap_or_default();
    let before_point = digits.len().saturating_sub(scale);
    if digits.len() > precision || integer_digits.is_some_and(|most| before_point > most) {
        return Err(Why::OutOfRange);
    }
    let length = out.len();
    out.extend_from_slice(&[0; 12]);
    let (mut groups, mut weight) = (0i16, 0i64);
    if !digits.is_empty() {
        // Power of ten of the first digit; groups of four are aligned at the point.
        let power = digits.len() as i64 - scale as i64 - 1;
        weight = power.div_euclid(4);
        let (head, tail) = digits.split_at(digits.len().min(power.rem_euclid(4) as usize + 1));
        // A head that is all of the number may still lack digits of its group.
        group(head, power.rem_euclid(4) as usize + 1, out);
        tail.chunks(4).for_each(|chunk| group(chunk, 4, out));
        groups = i16::try_from(1 + tail.len().div_ceil(4)).map_err(|_| Why::OutOfRange)?;
    }
    let size = (out.len() - length - 4) as i32;
    let sign: u16 = if negative && groups > 0 { 0x4000 } else { 0 };
    let mut header = [0; 12];
    header[..4].copy_from_slice(&size.to_be_bytes());
    header[4..6].copy_from_slice(&groups.to_be_bytes());
    header[6..8].copy_from_slice(&i16::try_from(weight).map_err(|_| Why::OutOfRange)?.to_be_bytes());
    header[8..10].copy_from_slice(&sign.to_be_bytes());
    header[10..].copy_from_slice(&(scale as u16).to_be_bytes());
    if let Some(place) = out.get_mut(length..length + 12) {
        place.copy_from_slice(&header);
    }
    Ok(())
}

/// Digits as one of base 10,000, zeros put behind up to `width`.
fn group(digits: &[u8], width: usize, out: &mut Vec<u8>) {
    let number = digits.iter().fold(0u16, |number, digit| number * 10 + u16::from(digit - b'0'));
    let shift = 10u16.pow(width.saturating_sub(digits.len()) as u32);
    out.extend_from_slice(&(number * shift).to_be_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::avro::decimal_text;

    /// Decodes what `numeric_recv` reads, as text.
    fn read(bytes: &[u8]) -> String {
        let short = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (groups, weight, negative, scale) = (short(4), short(6), short(8) != 0, short(10) as usize);
        assert_eq!(i32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
        let digit = |power: i16| {
            let index = weight - power;
            if (0..groups).contains(&index) { short(12 + 2 * index as usize) } else { 0 }
        };
        let mut integer: String = (0..=weight.max(0)).rev().map(|power| format!("{:04}", digit(power))).collect();
        integer = integer.trim_start_matches('0').to_string();
        let fraction: String = (1..=(scale as i16 + 3) / 4).map(|power| format!("{:04}", digit(-power))).collect();
        let integer = if integer.is_empty() { "0" } else { &integer };
        let sign = if negative { "-" } else { "" };
        if scale == 0 { format!("{sign}{integer}") } else { format!("{sign}{integer}.{}", &fraction[..scale]) }
    }

    #[test]
    fn numbers_keep_every_digit() {
        for number in
            [0, 1, -1, 9, 10, 9999, 10_000, -10_001, 123_456_789, i128::MAX, i128::MIN + 1, i128::from(i64::MIN)]
        {
            for scale in [0, 1, 2, 3, 4, 5, 8, 9, 38, 40] {
                let mut out = Vec::new();
                decimal(&number.to_be_bytes(), scale, 100, None, &mut out).unwrap();
                assert_eq!(read(&out), decimal_text(&number.to_be_bytes(), scale), "{number} {scale}");
            }
        }
    }

    #[test]
    fn longer_numbers_than_128_bits_do_too() {
        let mut bytes = vec![0x7f; 40];
        for scale in [0, 7, 50] {
            let mut out = Vec::new();
            decimal(&bytes, scale, 97, None, &mut out).unwrap();
            assert_eq!(read(&out), decimal_text(&bytes, scale));
        }
        // 99 digits.
        bytes.insert(0, 0x7f);
        assert_eq!(decimal(&bytes, 0, 97, None, &mut Vec::new()), Err(Why::OutOfRange));
        assert_eq!(decimal(&vec![0x7f; 1 << 20], 0, 97, None, &mut Vec::new()), Err(Why::OutOfRange));
    }

    #[test]
    fn more_digits_than_the_column_are_refused() {
        let digits = |number: i128, scale| whole(number, scale, 38, Some(2), &mut Vec::new());
        assert_eq!(digits(9_999, 2), Ok(()));
        assert_eq!(digits(10_000, 2), Err(Why::OutOfRange));
        assert_eq!(digits(-100, 0), Err(Why::OutOfRange));
    }
}
