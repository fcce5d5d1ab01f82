//! Names in SQL: quoted always, so that reserved words and capitals stay what the configuration says.

use std::fmt;

/// Longest name in bytes; PostgreSQL cuts longer ones with a mere notice (NAMEDATALEN - 1).
const MAX_NAME: usize = 63;

/// Why a column cannot have this name.
pub(super) fn column_fault(name: &str) -> Option<String> {
    match name.len() {
        0 => Some("the column's name is empty".into()),
        1..=MAX_NAME if name.contains('\0') => Some(format!("the column name {name:?} has a NUL character")),
        1..=MAX_NAME => None,
        length => Some(format!("the column name {name} has {length} bytes, PostgreSQL's names at most {MAX_NAME}")),
    }
}

/// A table as the configuration names it: `table` or `schema.table`. Case is kept; a part with a dot in it stands in
/// double quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// Schema; `None` where the search path decides.
    pub schema: Option<String>,
    /// Table.
    pub table: String,
}

impl TableName {
    /// Reads a name. Errors, in words: an empty part, a part too long, too many parts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = parts(text)?;
        let (table, schema) = (parts.pop(), parts.pop());
        let named = [&table, &schema].into_iter().flatten();
        for part in named {
            if part.is_empty() || part.contains('\0') {
                return Err(format!("`{text}` is not the name of a table: a part is empty"));
            }
            if part.len() > MAX_NAME {
                return Err(format!("`{part}` has {} bytes, PostgreSQL's names at most {MAX_NAME}", part.len()));
            }
        }
        match (table, parts.is_empty()) {
            (Some(table), true) => Ok(Self { schema, table }),
            _ => Err(format!("`{text}` is not the name of a table: expected `table` or `schema.table`")),
        }
    }
}

fn parts(text: &str) -> Result<Vec<String>, String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    if quoted {
        return Err(format!("`{text}` is not the name of a table: a double quote is not closed"));
    }
    parts.push(part);
    Ok(parts)
}

impl fmt::Display for TableName {
    /// As SQL: `"schema"."table"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quote_name(schema))?;
        }
        f.write_str(&quote_name(&self.table))
    }
}

/// A name as SQL.
pub fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL, whatever `standard_conforming_strings` is: behind a pooler another client may have set it.
pub fn quote_text(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_case_and_dots_in_quotes() {
        for (text, sql) in [
            ("order", "\"order\""),
            ("Shop.Orders", "\"Shop\".\"Orders\""),
            ("\"a.b\".c", "\"a.b\".\"c\""),
            ("\"say \"\"hi\"\"\"", "\"say \"\"hi\"\"\""),
        ] {
            assert_eq!(TableName::parse(text).map(|name| name.to_string()), Ok(sql.to_string()));
        }
        for text in ["", ".t", "a.b.c", "\"open", "s."] {
            assert!(TableName::parse(text).is_err(), "{text}");
        }
        assert!(TableName::parse(&"x".repeat(64)).is_err());
        assert_eq!(quote_text("it's"), "'it''s'");
        assert_eq!(quote_text(r"a\'b"), r" E'a\\''b'");
    }
}
