//! What figment says of a configuration, in words. Of an offending value only the type is named: the value could be a secret.

use figment::error::{Actual, Kind};

/// A key's path: `["source", "topic"]`.
pub type KeyPath = Vec<String>;

/// What begins the messages of our own types, which hold no value.
const OWN: [&str; 2] = ["property ", "address: "];
/// The keys and tables at the top of a pipeline's file; those of a relay and of sinks are read apart, and of an unknown one
/// both say the same.
pub const TOP: [&str; 13] = [
    "name",
    "instance",
    "delivery",
    "workers",
    "kafka",
    "registry",
    "source",
    "transforms",
    "output",
    "dead_letter",
    "batch",
    "place",
    "sink",
];

/// Notes a key, what is wrong with it, and what to do.
pub type Complain<'a> = dyn FnMut(&str, &str, &str) + 'a;

/// One thing that is wrong with a key.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// The key.
    pub path: KeyPath,
    /// What was found and expected.
    pub what: String,
    /// What to do.
    pub cure: String,
    /// The key is not set.
    pub is_missing: bool,
    /// The key is known, its value does not fit.
    pub is_of_value: bool,
}

/// An error of figment; `exists` tells whether a key is set.
pub fn of(error: &figment::Error, exists: impl Fn(&[String]) -> bool) -> Complaint {
    let mut path = error.path.clone();
    let (mut is_missing, mut is_of_value) = (false, false);
    let (what, cure) = match &error.kind {
        Kind::UnknownField(name, expected) => {
            // figment's path ends in the name already where the key stands in a table of a file.
            let deeper: KeyPath = path.iter().chain([name]).cloned().collect();
            if path.last() != Some(name) || exists(&deeper) {
                path = deeper;
            }
            ("unknown key".to_string(), unknown_key_cure(&path, expected))
        }
        Kind::MissingField(name) => {
            path.push(name.to_string());
            is_missing = true;
            (
                "required and not set".to_string(),
                "set it in the pipeline's file, pressline.toml or the environment".into(),
            )
        }
        Kind::Message(message) if OWN.iter().any(|own| message.starts_with(own)) => {
            let what = message.strip_prefix("address: ").unwrap_or(message);
            (what.to_string(), "correct the value".into())
        }
        kind => {
            is_of_value = true;
            of_value(kind)
        }
    };
    Complaint { path, what, cure, is_missing, is_of_value }
}

fn of_value(kind: &Kind) -> (String, String) {
    match kind {
        Kind::InvalidType(actual, expected) => {
            let expected = in_words(&expected.to_string());
            (format!("found {}, expected {expected}", kind_of(actual)), "change the value".into())
        }
        Kind::InvalidValue(actual, expected) => {
            let expected = in_words(&expected.to_string());
            (format!("found {} that does not fit, expected {expected}", kind_of(actual)), "change the value".into())
        }
        Kind::UnknownVariant(found, expected) => (
            format!("found `{found}`, expected one of {}", list(expected)),
            did_you_mean(found, expected).unwrap_or_else(|| "use one of those".into()),
        ),
        Kind::InvalidLength(found, expected) => {
            (format!("found {found} items, expected {expected}"), "change the list".into())
        }
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => {
            ("found a number out of range".into(), "use a smaller number".into())
        }
        Kind::Message(_) => {
            ("the value cannot be read as what this key expects".into(), "see docs/configuration.md".into())
        }
        _ => ("found something this key does not take".into(), "see docs/configuration.md".into()),
    }
}

fn unknown_key_cure(path: &[String], expected: &[&str]) -> String {
    match path.last().map(String::as_str) {
        Some("password" | "key_password") => {
            "secrets do not stand in the configuration: use the key with `_file` at its end, or the environment".into()
        }
        Some(name) => {
            let expected =
                if path.len() == 1 && TOP.contains(expected.first().unwrap_or(&"")) { &TOP[..] } else { expected };
            match did_you_mean(name, expected) {
                Some(question) => format!("{question} Expected one of {}", list(expected)),
                None => format!("expected one of {}", list(expected)),
            }
        }
        None => format!("expected one of {}", list(expected)),
    }
}

/// The known word that a misspelt one is most like.
pub fn did_you_mean(found: &str, known: &[&str]) -> Option<String> {
    let found = found.to_lowercase();
    let like = |word: &&&str| strsim::damerau_levenshtein(&found, &word.to_lowercase());
    let nearest = known.iter().min_by_key(like)?;
    // A third of the letters may differ.
    (like(&nearest) * 3 <= nearest.len().max(found.len())).then(|| format!("did you mean `{nearest}`?"))
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// What serde expects, without the names of Rust's types.
fn in_words(expected: &str) -> String {
    match expected {
        "a string" | "string" | "str" => "text",
        "a boolean" | "bool" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u64" | "usize" => "a whole number, 0 or more",
        "i64" | "isize" => "a whole number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "i16" => "a whole number from -32768 to 32767",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "f32" | "f64" => "a number",
        "path string" | "a path" | "struct RelativePathBuf" => "a path",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("enum ") => "text",
        other => other,
    }
    .to_string()
}

fn kind_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}
