//! JSON text, written piece by piece so that fields keep their order, and safe to print on a terminal.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// What stands in place of an address.
pub const WITHHELD: &str = "\"<withheld>\"";

/// How values are shown.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Times as dates rather than numbers.
    pub people: bool,
    /// Addresses are shown.
    pub addresses: bool,
}

/// Names, in lower case without `_`, `-` and `.`, of fields that hold an address.
const ADDRESS_NAMES: [&str; 12] = [
    "ip",
    "ipv4",
    "ipv6",
    "ipaddr",
    "ipaddress",
    "clientaddress",
    "remoteaddr",
    "remoteaddress",
    "remotehost",
    "xforwardedfor",
    "forwarded",
    "peername",
];

impl Style {
    /// Whether the content of a field or header of this name is not shown.
    pub fn withholds(self, name: &str) -> bool {
        if self.addresses {
            return false;
        }
        let lower = name.to_ascii_lowercase();
        let words: Vec<&str> = lower.split(['_', '-', '.']).collect();
        // A word of its own (`client_ip`), so that `zip` and `ship` are shown; `clientIp` and the like by their capital.
        let small = |rest: &str| rest.ends_with(|c: char| c.is_ascii_lowercase());
        let camel = ["Ip", "IP", "IpAddress", "IPAddress", "IpAddr", "IPAddr"]
            .iter()
            .any(|end| name.strip_suffix(end).is_some_and(small));
        camel
            || words.iter().any(|w| ["ip", "ipv4", "ipv6"].contains(w))
            || ADDRESS_NAMES.contains(&words.concat().as_str())
    }
}

/// Appends text as a JSON string. Control characters of C1 and those that turn the direction of writing are escaped
/// too, so that a record cannot play with the terminal.
pub fn string(text: &str, out: &mut String) {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    for c in quoted.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
}

/// Appends bytes as a JSON string of hexadecimal digits.
pub fn hex(bytes: &[u8], out: &mut String) {
    out.push('"');
    for byte in bytes {
        out.push_str(&format!("{byte:02x}"));
    }
    out.push('"');
}

/// Appends a number; those that JSON has no way to write, as text.
pub fn number(number: f64, out: &mut String) {
    match serde_json::Number::from_f64(number) {
        Some(number) => out.push_str(&number.to_string()),
        None => string(&number.to_string(), out),
    }
}

/// Largest decimal that is written out, in bytes.
const MAX_DECIMAL_BYTES: usize = 256;
const MAX_SCALE: i64 = 1_000;

/// Appends a decimal (two's complement, big endian, times 10 to the minus `scale`) as a JSON string, exactly.
pub fn decimal(bytes: &[u8], scale: i64, out: &mut String) {
    let Ok(scale) = usize::try_from(scale) else { return hex(bytes, out) };
    if bytes.len() > MAX_DECIMAL_BYTES || scale > MAX_SCALE as usize {
        return hex(bytes, out);
    }
    out.push('"');
    out.push_str(&crate::avro::decimal_text(bytes, scale));
    out.push('"');
}

/// The JSON text compactly, fields in their order, addresses withheld. `None`: not JSON, or nested deeper than 127.
pub fn json(bytes: &[u8], style: Style) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Copy { out: &mut out, style }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(out)
}

/// Copies one JSON value to the text.
struct Copy<'a> {
    out: &'a mut String,
    style: Style,
}

impl Copy<'_> {
    fn again(&mut self) -> Copy<'_> {
        Copy { out: self.out, style: self.style }
    }
}

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copy<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.out.push_str(if flag { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, n: i64) -> Result<(), E> {
        self.out.push_str(&n.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, n: u64) -> Result<(), E> {
        self.out.push_str(&n.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, n: f64) -> Result<(), E> {
        number(n, self.out);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        string(text, self.out);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.out.push('[');
        let mut first = true;
        loop {
            let before = self.out.len();
            if !first {
                self.out.push(',');
            }
            if items.next_element_seed(self.again())?.is_none() {
                self.out.truncate(before);
                break;
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        self.out.push('{');
        let mut first = true;
        while let Some(name) = fields.next_key::<String>()? {
            if !first {
                self.out.push(',');
            }
            first = false;
            string(&name, self.out);
            self.out.push(':');
            let start = self.out.len();
            fields.next_value_seed(self.again())?;
            if self.style.withholds(&name) && &self.out[start..] != "null" {
                self.out.truncate(start);
                self.out.push_str(WITHHELD);
            }
        }
        self.out.push('}');
        Ok(())
    }
}
