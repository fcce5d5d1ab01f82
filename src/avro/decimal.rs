//! Avro's decimals: two's complement, big endian, of any length, times 10 to the minus scale.

/// The number's text with all its digits, such as `-12.30`. Quadratic in the length: bound it first where bytes are not
/// trusted.
pub fn decimal_text(unscaled: &[u8], scale: usize) -> String {
    let negative = is_negative(unscaled);
    let mut digits = decimal_digits(unscaled);
    while digits.len() <= scale {
        digits.insert(0, '0');
    }
    if scale > 0 {
        digits.insert(digits.len() - scale, '.');
    }
    if negative { format!("-{digits}") } else { digits }
}

/// Whether the number is below zero.
pub fn is_negative(unscaled: &[u8]) -> bool {
    unscaled.first().is_some_and(|byte| byte & 0x80 != 0)
}

/// Decimal digits of the magnitude, without sign and leading zeros; `0` for nothing.
pub fn decimal_digits(unscaled: &[u8]) -> String {
    let mut bytes = magnitude(unscaled);
    let mut digits = Vec::new();
    // Base 256 to base 10 by long division.
    while bytes.iter().any(|b| *b != 0) {
        let mut rest = 0u32;
        for byte in &mut bytes {
            let part = rest << 8 | u32::from(*byte);
            (*byte, rest) = ((part / 10) as u8, part % 10);
        }
        digits.push(char::from(b'0' + rest as u8));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    digits.iter().rev().collect()
}

fn magnitude(unscaled: &[u8]) -> Vec<u8> {
    let mut bytes = unscaled.to_vec();
    if is_negative(unscaled) {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, over);
        }
    }
    bytes
}
