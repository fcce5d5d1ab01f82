//! Writes the parts of a datum (Avro 1.12 specification, "Binary encoding"), and finds one in a payload.

/// Confluent's wire format: a byte 0, the schema's id, the rest.
pub fn wire_format(payload: &[u8]) -> Option<(u32, &[u8])> {
    match payload {
        [0, a, b, c, d, rest @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        _ => None,
    }
}

/// Appends an int or a long: zigzag, then seven bits a byte, lowest first.
#[inline]
pub(crate) fn long(value: i64, out: &mut Vec<u8>) {
    let bits = ((value << 1) ^ (value >> 63)).cast_unsigned();
    // Most lengths and branches fit one byte.
    if bits < 0x80 {
        out.push(bits as u8);
    } else {
        long_varint(bits, out);
    }
}

/// Two bytes or more. Up to 56 bits, such as a time in microseconds, are spread by three shifts: a third of the instructions of a
/// loop over the bytes.
fn long_varint(bits: u64, out: &mut Vec<u8>) {
    if bits >> 56 != 0 {
        let mut rest = bits;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
        return;
    }
    let halves = bits & 0x0fff_ffff | (bits & 0x00ff_ffff_f000_0000) << 4;
    let quarters = halves & 0x0000_3fff_0000_3fff | (halves & 0x0fff_c000_0fff_c000) << 2;
    let sevens = quarters & 0x007f_007f_007f_007f | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
    // Of the highest byte in use on, none says that another follows.
    let last = (63 - bits.leading_zeros()) / 7;
    let others = (1u64 << (8 * last)) - 1;
    let bytes = (sevens | 0x8080_8080_8080_8080 & others).to_le_bytes();
    out.extend_from_slice(bytes.get(..=last as usize).unwrap_or_default());
}

/// Appends bytes or a string.
#[inline]
pub(crate) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value);
}

/// Begins an array or a map; [`end_items`] is given what this returns.
pub(super) fn begin_items(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len() - 1
}

/// Ends an array or a map of `count` items, all in one block.
pub(super) fn end_items(begin: usize, count: usize, out: &mut Vec<u8>) {
    // Of no items, what was begun is the end.
    if count == 0 {
        return;
    }
    let end = out.len();
    long(count as i64, out);
    let length = out.len() - end;
    // The count takes one byte up to 63 items: that one is there already.
    let mut count = [0; 10];
    count[..length].copy_from_slice(&out[end..]);
    out.truncate(end);
    out.splice(begin..=begin, count[..length].iter().copied());
    out.push(0);
}

/// A decimal's text, `-12.30` or `1.5e3`, as its unscaled number's bytes, big endian. Errors: `None` where it is no number, has
/// digits beyond the scale or more than `precision` of them.
pub(crate) fn decimal(text: &str, precision: usize, scale: usize) -> Option<Vec<u8>> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    // How many zeros the number needs behind it; below zero: how many it must have to lose.
    let shift = i64::from(exponent) + scale as i64 - fraction.len() as i64;
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..leading);
    if digits.is_empty() {
        return Some(vec![0]);
    }
    if shift < 0 {
        let lost = usize::try_from(-shift).ok()?;
        if lost > digits.len() || digits[digits.len() - lost..].iter().any(|digit| *digit != 0) {
            return None;
        }
        digits.truncate(digits.len() - lost);
    } else if digits.len() as i64 + shift <= precision as i64 {
        digits.resize(digits.len() + usize::try_from(shift).ok()?, 0);
    } else {
        return None;
    }
    (digits.len() <= precision).then(|| two_complement(&digits, negative))
}

/// Digits, most significant first, as the shortest big-endian bytes.
fn two_complement(digits: &[u8], negative: bool) -> Vec<u8> {
    let mut bytes = vec![0u8];
    for digit in digits {
        let mut carry = u32::from(*digit);
        for byte in bytes.iter_mut().rev() {
            let sum = u32::from(*byte) * 10 + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
        while bytes.len() > 1 && bytes[0] == 0xff && bytes[1] & 0x80 != 0 {
            bytes.remove(0);
        }
    }
    bytes
}
