//! The text of a pipeline file: tables of keys, each with what it means.

/// A pipeline file on its way.
pub struct Draft {
    /// Name of the pipeline.
    pub name: String,
    /// Comments at its head.
    pub head: Vec<String>,
    tables: Vec<Table>,
    /// Statements that make the tables of the database; they stand at its end as a comment.
    pub statements: String,
}

/// A table of a TOML file.
pub struct Table {
    name: String,
    lines: Vec<Line>,
}

struct Line {
    key: String,
    /// As TOML.
    value: Value,
    comment: String,
}

enum Value {
    Plain(String),
    List(Vec<String>),
}

/// A secret of the configuration, to be put into a file of its own.
pub struct SecretFile {
    /// The file's name.
    pub name: String,
    /// What stands in it.
    pub secret: String,
}

/// A pipeline file, and what is to be said of it.
pub struct Made {
    /// The file.
    pub draft: Draft,
    /// Files beside it.
    pub secrets: Vec<SecretFile>,
    /// Lines for people.
    pub said: Vec<String>,
}

impl Draft {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), head: Vec::new(), tables: Vec::new(), statements: String::new() }
    }

    /// The table of this name, made where it is missing. Tables stand in the order in which they were made.
    pub fn table(&mut self, name: &str) -> &mut Table {
        let at = match self.tables.iter().position(|table| table.name == name) {
            Some(at) => at,
            None => {
                self.tables.push(Table { name: name.into(), lines: Vec::new() });
                self.tables.len() - 1
            }
        };
        &mut self.tables[at]
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text: String = self.head.iter().map(|line| format!("# {line}\n")).collect();
        for table in self.tables.iter().filter(|table| !table.lines.is_empty()) {
            text.push_str(&format!("\n[{}]\n", table.name));
            for Line { key, value, comment } in &table.lines {
                if !comment.is_empty() {
                    text.push_str(&format!("# {comment}\n"));
                }
                let value = match value {
                    Value::Plain(value) => value.clone(),
                    Value::List(items) => format!("[{}]", items.join(", ")),
                };
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        if !self.statements.is_empty() {
            text.push_str("\n# What makes the table, where it is not made by auto_create:\n#\n");
            text.extend(
                self.statements.trim_end().lines().map(|line| format!("# {line}").trim_end().to_string() + "\n"),
            );
        }
        text
    }
}

impl Table {
    /// Sets a key to a value in TOML.
    pub fn set(&mut self, key: &str, value: impl Into<String>, comment: &str) -> &mut Self {
        let line = Line { key: key.into(), value: Value::Plain(value.into()), comment: comment.into() };
        match self.lines.iter_mut().find(|line| line.key == key) {
            Some(known) => *known = line,
            None => self.lines.push(line),
        }
        self
    }

    /// Adds a text to a list; whether it was not in it.
    pub fn add(&mut self, key: &str, item: &str, comment: &str) -> bool {
        if !self.lines.iter().any(|line| line.key == key) {
            self.lines.push(Line { key: key.into(), value: Value::List(Vec::new()), comment: comment.into() });
        }
        let item = quoted(item);
        match self.lines.iter_mut().find(|line| line.key == key).map(|line| &mut line.value) {
            Some(Value::List(items)) if !items.contains(&item) => {
                items.push(item);
                true
            }
            _ => false,
        }
    }
}

/// A text as a TOML string.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A name as a TOML key.
pub fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { name.into() } else { quoted(name) }
}

/// A name for a pipeline and its file.
pub fn pipeline_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = text.chars().map(plain).take(100).collect();
    if name.is_empty() { "pipeline".into() } else { name }
}
