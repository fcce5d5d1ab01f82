//! ClickHouse's type names, as `DESCRIBE` writes them.

use std::fmt;

/// A column's type, as far as a plan needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `Bool`.
    Bool,
    /// `Int8` to `Int256`, `UInt8` to `UInt256`.
    Integer {
        /// 8, 16, 32, 64, 128 or 256.
        bits: u16,
        /// `Int`, not `UInt`.
        signed: bool,
    },
    /// `Float32`.
    Float32,
    /// `Float64`.
    Float64,
    /// `Decimal(precision, scale)`.
    Decimal {
        /// Most digits, up to 76.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `String`.
    String,
    /// `FixedString(length)`.
    FixedString(usize),
    /// `UUID`.
    Uuid,
    /// `Date`: 1970 to 2149.
    Date,
    /// `Date32`: 1900 to 2299.
    Date32,
    /// `DateTime`: seconds, 1970 to 2106; its zone only matters for reading.
    DateTime,
    /// `DateTime64(digits)`: ticks of 10 to the minus `digits` seconds.
    DateTime64(u8),
    /// `Time`: seconds.
    Time,
    /// `Time64(digits)`: ticks of 10 to the minus `digits` seconds.
    Time64(u8),
    /// `Enum8` or `Enum16`: labels with their numbers.
    Enum {
        /// `Enum16`.
        wide: bool,
        /// In the order of the type's text.
        labels: Vec<(String, i16)>,
    },
    /// `LowCardinality(inner)`.
    LowCardinality(Box<Type>),
    /// `Nullable(inner)`.
    Nullable(Box<Type>),
    /// `Array(items)`.
    Array(Box<Type>),
    /// `Map(keys, values)`.
    Map(Box<Type>, Box<Type>),
    /// `IPv4` or `IPv6`, which nothing is ever written into.
    Ip,
    /// Any other, such as `JSON` or `Tuple(...)`.
    Other,
}

impl Type {
    /// Parses a type's name. A type that is not known, or not understood, is [`Type::Other`].
    pub fn parse(text: &str) -> Self {
        let mut parser = Parser { rest: text.trim() };
        match parser.one() {
            Some(found) if parser.rest.is_empty() => found,
            _ => Self::Other,
        }
    }

    /// The type without `Nullable`, and whether it had it.
    pub fn unwrap_nullable(&self) -> (&Self, bool) {
        match self {
            Self::Nullable(inner) => (inner, true),
            other => (other, false),
        }
    }

    /// Whether an address could be written into it.
    pub fn holds_ip(&self) -> bool {
        match self {
            Self::Ip => true,
            Self::LowCardinality(inner) | Self::Nullable(inner) | Self::Array(inner) => inner.holds_ip(),
            Self::Map(keys, values) => keys.holds_ip() || values.holds_ip(),
            _ => false,
        }
    }
}

/// A type's name on one line, as old servers write it: newer ones break the longer ones up.
pub fn on_one_line(name: &str) -> String {
    let mut line = String::with_capacity(name.len());
    for part in name.lines().map(str::trim) {
        if line.ends_with(',') {
            line.push(' ');
        }
        line.push_str(part);
    }
    line
}

/// The name of the same type with null among its values; of [`Type::parse`]'s kinds that take one.
pub fn with_null(name: &str) -> String {
    let argument = |function: &str| name.strip_prefix(function)?.strip_suffix(')');
    if let Some(of) = argument("LowCardinality(") {
        return format!("LowCardinality(Nullable({of}))");
    }
    if let Some(arguments) = argument("SimpleAggregateFunction(") {
        let mut depth = 0;
        let comma = arguments.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0 && *c == ','
        });
        if let Some((at, _)) = comma {
            return with_null(arguments.get(at + 1..).unwrap_or_default().trim());
        }
    }
    format!("Nullable({name})")
}

/// An identifier in backticks, whatever is in it.
pub fn quoted(name: &str) -> impl fmt::Display {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string literal, whatever is in it.
pub fn literal(text: &str) -> impl fmt::Display {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// A type from here on.
    fn one(&mut self) -> Option<Type> {
        let name = self.word();
        let simple = match name {
            "Bool" => Some(Type::Bool),
            "Float32" => Some(Type::Float32),
            "Float64" => Some(Type::Float64),
            "String" => Some(Type::String),
            "UUID" => Some(Type::Uuid),
            "Date" => Some(Type::Date),
            "Date32" => Some(Type::Date32),
            "Time" => Some(Type::Time),
            "IPv4" | "IPv6" => Some(Type::Ip),
            _ => integer(name),
        };
        if simple.is_some() {
            return simple;
        }
        match name {
            "DateTime" => {
                if self.eat("(") {
                    self.text()?;
                    self.expect(")")?;
                }
                Some(Type::DateTime)
            }
            "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => self.sized_decimal(name),
            _ => {
                self.expect("(")?;
                let found = self.arguments(name)?;
                self.expect(")")?;
                Some(found)
            }
        }
    }

    fn arguments(&mut self, name: &str) -> Option<Type> {
        match name {
            "FixedString" => Some(Type::FixedString(self.number()?)),
            "DateTime64" => {
                let digits = self.number().filter(|digits| *digits <= 9u8)?;
                if self.eat(",") {
                    self.text()?;
                }
                Some(Type::DateTime64(digits))
            }
            "Time64" => Some(Type::Time64(self.number().filter(|digits| *digits <= 9u8)?)),
            // Written and read as the type that it aggregates.
            "SimpleAggregateFunction" => {
                self.word();
                if self.eat("(") {
                    while !self.eat(")") {
                        self.take_while(|c| c != '(' && c != ')' && c != '\'');
                        if self.rest.starts_with('\'') {
                            self.text()?;
                        } else if !self.rest.starts_with(')') {
                            return None;
                        }
                    }
                }
                self.expect(",")?;
                self.one()
            }
            "Decimal" => {
                let precision = self.number()?;
                let scale = if self.eat(",") { self.number()? } else { 0 };
                decimal(precision, scale)
            }
            "Enum8" | "Enum16" => Some(Type::Enum { wide: name == "Enum16", labels: self.labels()? }),
            "LowCardinality" => Some(Type::LowCardinality(Box::new(self.one()?))),
            "Nullable" => Some(Type::Nullable(Box::new(self.one()?))),
            "Array" => Some(Type::Array(Box::new(self.one()?))),
            "Map" => {
                let keys = self.one()?;
                self.expect(",")?;
                Some(Type::Map(Box::new(keys), Box::new(self.one()?)))
            }
            _ => None,
        }
    }

    /// `Decimal64(scale)`, which old servers write.
    fn sized_decimal(&mut self, name: &str) -> Option<Type> {
        let precision = match name {
            "Decimal32" => 9,
            "Decimal64" => 18,
            "Decimal128" => 38,
            _ => 76,
        };
        self.expect("(")?;
        let scale = self.number()?;
        self.expect(")")?;
        decimal(precision, scale)
    }

    /// `'a' = 1, 'b' = 2`.
    fn labels(&mut self) -> Option<Vec<(String, i16)>> {
        let mut labels = Vec::new();
        loop {
            let label = self.text()?;
            self.expect("=")?;
            labels.push((label, self.number()?));
            if !self.eat(",") {
                return Some(labels);
            }
        }
    }

    fn word(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.take_while(|c| c.is_ascii_digit() || c == '-').parse().ok()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// A literal in single quotes with ClickHouse's escapes.
    fn text(&mut self) -> Option<String> {
        self.expect("'")?;
        let mut text = String::new();
        let mut dead_letters = self.rest.char_indices();
        while let Some((at, letter)) = dead_letters.next() {
            match letter {
                '\'' => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(text);
                }
                '\\' => text.push(match dead_letters.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    '0' => '\0',
                    other => other,
                }),
                other => text.push(other),
            }
        }
        None
    }

    fn expect(&mut self, mark: &str) -> Option<()> {
        self.eat(mark).then_some(())
    }

    fn eat(&mut self, mark: &str) -> bool {
        match self.rest.trim_start().strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

fn integer(name: &str) -> Option<Type> {
    let (signed, bits) = match name.strip_prefix("UInt") {
        Some(bits) => (false, bits),
        None => (true, name.strip_prefix("Int")?),
    };
    let bits = bits.parse().ok().filter(|bits| [8, 16, 32, 64, 128, 256].contains(bits))?;
    Some(Type::Integer { bits, signed })
}

fn decimal(precision: u8, scale: u8) -> Option<Type> {
    (precision <= 76 && scale <= precision).then_some(Type::Decimal { precision, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_arguments_and_nesting() {
        let low = |inner| Type::LowCardinality(Box::new(inner));
        let nullable = |inner| Type::Nullable(Box::new(inner));
        assert_eq!(Type::parse("LowCardinality(Nullable(String))"), low(nullable(Type::String)));
        assert_eq!(Type::parse("DateTime64(6, 'Europe/Vienna')"), Type::DateTime64(6));
        assert_eq!(Type::parse("DateTime64(3)"), Type::DateTime64(3));
        assert_eq!(Type::parse("DateTime('UTC')"), Type::DateTime);
        assert_eq!(Type::parse("DateTime"), Type::DateTime);
        assert_eq!(Type::parse("Decimal(76, 3)"), Type::Decimal { precision: 76, scale: 3 });
        assert_eq!(Type::parse("Decimal64(3)"), Type::Decimal { precision: 18, scale: 3 });
        assert_eq!(Type::parse("UInt256"), Type::Integer { bits: 256, signed: false });
        assert_eq!(Type::parse("Array(Nullable(Int8))"), {
            Type::Array(Box::new(nullable(Type::Integer { bits: 8, signed: true })))
        });
        assert_eq!(
            Type::parse("Map(LowCardinality(String), FixedString(2))"),
            Type::Map(Box::new(low(Type::String)), Box::new(Type::FixedString(2)))
        );
    }

    #[test]
    fn labels_of_enums_with_escapes_and_negative_numbers() {
        let labels = vec![("a, 'b' = 1)".to_string(), -128), ("\\\n".to_string(), 2)];
        assert_eq!(Type::parse(r"Enum8('a, \'b\' = 1)' = -128, '\\\n' = 2)"), Type::Enum { wide: false, labels });
    }

    #[test]
    fn what_is_not_known_is_other() {
        for text in
            ["", "JSON", "Tuple(a Int8)", "Int7", "String)", "Array(", "Enum8('a' = 1", "Nullable(Object('json'))"]
        {
            assert_eq!(Type::parse(text), Type::Other, "{text}");
        }
    }

    #[test]
    fn an_aggregate_is_what_it_aggregates() {
        let of = |text: &str| Type::parse(&format!("SimpleAggregateFunction({text})"));
        assert_eq!(of("sum, UInt64"), Type::Integer { bits: 64, signed: false });
        assert_eq!(of("anyLast, Nullable(String)"), Type::Nullable(Box::new(Type::String)));
        assert_eq!(of("groupArrayArray(5), Array(String)"), Type::Array(Box::new(Type::String)));
        assert_eq!(of("sum"), Type::Other);
        assert_eq!(Type::parse("AggregateFunction(sum, UInt64)"), Type::Other);
        assert_eq!(
            with_null("SimpleAggregateFunction(groupArrayArray(5, 'a,'), LowCardinality(String))"),
            "LowCardinality(Nullable(String))"
        );
        assert_eq!(with_null("SimpleAggregateFunction(sum, Decimal(9, 2))"), "Nullable(Decimal(9, 2))");
    }

    #[test]
    fn a_name_of_several_lines_is_one() {
        let name = "Tuple(\n    a Array(String),\n    b Map(\n        String,\n        Int8))";
        assert_eq!(on_one_line(name), "Tuple(a Array(String), b Map(String, Int8))");
        assert_eq!(on_one_line("Enum8('a  b' = 1)"), "Enum8('a  b' = 1)");
    }

    #[test]
    fn addresses_are_seen_inside() {
        assert!(Type::parse("Array(Nullable(IPv6))").holds_ip());
        assert!(!Type::parse("Array(Nullable(String))").holds_ip());
    }

    #[test]
    fn identifiers_and_literals_cannot_break_out() {
        assert_eq!(quoted(r"a`b\").to_string(), r"`a\`b\\`");
        assert_eq!(literal(r"a'b\").to_string(), r"'a\'b\\'");
    }
}
