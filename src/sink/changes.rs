//! Changes of rows: what a record with a key does to the row of that key.
//!
//! A change lies in a batch as one datum, the key's fields before the value's: an Avro record is nothing but its
//! fields one behind another. A [`ChangeShape`] is the shape of such datums, which have a number of their own for each pair of
//! schemas.

use super::Why;
use crate::avro::format::datum;
use crate::avro::{Field, Shape};
use crate::config::changes::{ChangesConfig, KeyFormat, PkMode};
use crate::config::sink::ColumnsConfig;
use crate::testing::mutant;

/// Ends the name of a field that goes nowhere, whatever the configuration says. No schema has such a name.
const HIDDEN: &str = " (not used: the key has it)";
/// The same, of the key.
const UNSELECTED: &str = " (not used: not in pk_fields)";

/// Column of the version of a row.
pub const VERSION: &str = "_version";
/// Column that marks a row as deleted.
pub const DELETED: &str = "_deleted";

/// Bytes and the schema that they were written by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datum<'b> {
    /// The schema's id; `None`: none, it is one text or bytes.
    pub schema_id: Option<u32>,
    /// The bytes.
    pub bytes: &'b [u8],
}

/// The shape of a key that is one text or bytes; `None`: a schema says it.
pub fn plain_key(format: KeyFormat) -> Option<Shape> {
    match format {
        KeyFormat::Avro => None,
        KeyFormat::Text => Some(Shape::String),
        KeyFormat::Bytes => Some(Shape::Bytes),
    }
}

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'b> {
    /// The row of this key has these values from now on.
    Upsert {
        /// The key; `None`: it is in the row.
        key: Option<Datum<'b>>,
        /// The values.
        row: Datum<'b>,
    },
    /// The row of this key, which is there, has these values from now on, and keeps the others.
    Update {
        /// The key.
        key: Datum<'b>,
        /// The values.
        row: Datum<'b>,
        /// Number of the set of fields that it keeps, from 1.
        kept: u32,
    },
    /// There is no row of this key any more.
    Delete {
        /// The key.
        key: Datum<'b>,
    },
}

impl<'b> Change<'b> {
    /// Of a record's key, where keys are read, and its value; one without a value is a delete where the sink takes such. Errors: it is no
    /// change.
    pub fn of(key: Option<Datum<'b>>, row: Option<Datum<'b>>, deletes: bool) -> Result<Self, Why> {
        match (row, key) {
            (Some(row), key) => Ok(Self::Upsert { key, row }),
            (None, Some(key)) if deletes => Ok(Self::Delete { key }),
            (None, _) => Err(Why::NullValue),
        }
    }
}

/// What a change's key is written by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySchema {
    /// It is in the value.
    InRow,
    /// It is one text or bytes.
    Plain,
    /// The schema of this id.
    Registered(u32),
}

impl KeySchema {
    /// The schema's id.
    pub fn id(self) -> Option<u32> {
        match self {
            Self::Registered(id) => Some(id),
            Self::InRow | Self::Plain => None,
        }
    }
}

/// The schemas of a change's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Of the key.
    pub key: KeySchema,
    /// Of the value; `None`: a delete.
    pub row: Option<u32>,
    /// Number of the set of the value's fields that are not there, because the row keeps them; 0: all are there.
    pub kept: u32,
}

/// How records are read as changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    config: ChangesConfig,
    /// Each datum begins with the fields [`DELETED`] and [`VERSION`].
    is_stamped: bool,
    /// The number of each is its place here.
    pairs: Vec<Pair>,
    last: usize,
}

impl Changes {
    /// By a sink's configuration. `is_stamped`: each change has a version.
    pub fn new(config: ChangesConfig, is_stamped: bool) -> Self {
        Self { config, is_stamped, pairs: Vec::new(), last: 0 }
    }

    /// Whether records are changes.
    pub fn are_read(&self) -> bool {
        self.config.is_upsert()
    }

    /// What a record of this key and value does. Errors: it is no change.
    pub fn read<'b>(&self, key: Option<&'b [u8]>, value: Option<&'b [u8]>) -> Result<Change<'b>, Why> {
        let key = match self.config.pk_mode {
            PkMode::RecordKey => Some(self.key(key)?),
            _ => None,
        };
        let row = value.map(|value| wire_format(value).ok_or(Why::NotWireFormat)).transpose()?;
        Change::of(key, row, self.config.deletes)
    }

    /// A record's key, by the sink's `key_format`. Errors: it has none, or one of another format.
    pub fn key<'b>(&self, key: Option<&'b [u8]>) -> Result<Datum<'b>, Why> {
        let bytes = key.ok_or(Why::NoKey)?;
        match self.config.key_format {
            KeyFormat::Avro => wire_format(bytes).ok_or(Why::KeyNotWireFormat),
            KeyFormat::Text | KeyFormat::Bytes => Ok(Datum { schema_id: None, bytes }),
        }
    }

    /// Appends the change's datum; its number.
    pub fn write(&mut self, change: &Change<'_>, offset: i64, out: &mut Vec<u8>) -> u32 {
        let (key, row, kept) = match change {
            Change::Upsert { key, row } => (*key, Some(*row), 0),
            Change::Update { key, row, kept } => (Some(*key), Some(*row), *kept),
            Change::Delete { key } => (Some(*key), None, 0),
        };
        if self.is_stamped {
            datum::long(i64::from(row.is_none()), out);
            datum::long(version(offset), out);
        }
        if let Some(Datum { schema_id, bytes }) = key {
            if schema_id.is_none() {
                datum::long(bytes.len() as i64, out);
            }
            out.extend_from_slice(bytes);
        }
        out.extend_from_slice(row.map(|row| row.bytes).unwrap_or_default());
        let key = match key {
            None => KeySchema::InRow,
            Some(Datum { schema_id: None, .. }) => KeySchema::Plain,
            Some(Datum { schema_id: Some(id), .. }) => KeySchema::Registered(id),
        };
        self.number(Pair { key, row: row.and_then(|row| row.schema_id), kept })
    }

    fn number(&mut self, pair: Pair) -> u32 {
        // Mostly as the one before.
        if self.pairs.get(self.last) != Some(&pair) {
            self.last = match self.pairs.iter().position(|known| *known == pair) {
                Some(place) => place,
                None => {
                    self.pairs.push(pair);
                    self.pairs.len() - 1
                }
            };
        }
        u32::try_from(self.last).unwrap_or(u32::MAX)
    }

    /// The schemas of the changes with this number.
    pub fn pair(&self, number: u32) -> Option<Pair> {
        self.pairs.get(number as usize).copied()
    }
}

/// The version of the record at this offset. No two changes of a key have the same, and it only grows: a key keeps its partition.
pub fn version(offset: i64) -> i64 {
    // 0 stays free for rows that were there before.
    if mutant::is("versions_tie") { offset / 1_000 + 1 } else { offset + 1 }
}

fn wire_format(bytes: &[u8]) -> Option<Datum<'_>> {
    match bytes {
        [0, a, b, c, d, datum @ ..] => {
            Some(Datum { schema_id: Some(u32::from_be_bytes([*a, *b, *c, *d])), bytes: datum })
        }
        _ => None,
    }
}

/// The shape of changes, and which of its columns are the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeShape {
    /// A record of the key's fields and the value's.
    pub shape: Shape,
    /// Columns of the key.
    pub key: Vec<String>,
    /// It has no value.
    pub is_delete: bool,
    /// Columns that the row keeps as they are: there must be one.
    pub kept: Vec<String>,
}

impl ChangeShape {
    /// The same without those of the value's fields that stand at these places: the row keeps what it has in their columns.
    pub fn keeping(mut self, kept: &[usize], value: &Shape, columns: &ColumnsConfig) -> Self {
        let (Shape::Record(fields), Shape::Record(of_value)) = (&mut self.shape, value) else { return self };
        let first = fields.len().saturating_sub(of_value.len());
        let mut place = 0;
        fields.retain(|field| {
            let is_kept = place >= first && kept.contains(&(place - first));
            place += 1;
            if is_kept && !Self::hides(&field.name) && !columns.ignore.contains(&field.name) {
                self.kept.push(columns.rename.get(&field.name).unwrap_or(&field.name).clone());
            }
            !is_kept
        });
        self
    }

    /// Whether a field goes nowhere, whatever the configuration says.
    pub fn hides(field: &str) -> bool {
        field.ends_with(HIDDEN) || field.ends_with(UNSELECTED)
    }

    /// Of a key's and a value's shape; `key` is `None` where the key is in the value, `value` where it is a delete. Errors, in words:
    /// they have not the fields of the key.
    pub fn of(
        (config, is_stamped): (&ChangesConfig, bool),
        columns: &ColumnsConfig,
        key: Option<&Shape>,
        value: Option<&Shape>,
    ) -> Result<Self, String> {
        let column = |field: &String| columns.rename.get(field).unwrap_or(field).clone();
        let mut fields = Vec::new();
        if is_stamped {
            fields.extend([field(DELETED, Shape::Int), field(VERSION, Shape::Long)]);
        }
        let mut chosen = config.pk_fields.clone();
        if let Some(key) = key {
            let of_key = key_fields(key, &config.pk_fields)?;
            if chosen.is_empty() {
                chosen = of_key.iter().map(|field| field.name.clone()).collect();
            }
            has_all(&chosen, &of_key, "key")?;
            fields.extend(of_key.into_iter().map(|field| hidden(field, UNSELECTED, |name| !chosen.contains(name))));
        }
        let names: Vec<String> = chosen.iter().map(column).collect();
        if let Some(value) = value {
            let Shape::Record(of_value) = value else {
                return Err(format!("the value's schema is {value}, not a record"));
            };
            if key.is_none() {
                has_all(&chosen, of_value, "value")?;
            }
            let is_in_key = |name: &String| key.is_some() && names.contains(&column(name));
            fields.extend(of_value.iter().cloned().map(|field| hidden(field, HIDDEN, is_in_key)));
        }
        if let Some(ignored) = chosen.iter().find(|name| columns.ignore.contains(name)) {
            return Err(format!("field {ignored} of the key is in columns.ignore: take it out there"));
        }
        Ok(Self { shape: Shape::Record(fields), key: names, is_delete: value.is_none(), kept: Vec::new() })
    }
}

fn field(name: &str, shape: Shape) -> Field {
    Field::new(name, shape)
}

fn hidden(field: Field, mark: &str, is_hidden: impl Fn(&String) -> bool) -> Field {
    if is_hidden(&field.name) { Field { name: format!("{}{mark}", field.name), ..field } } else { field }
}

/// A key that is one value is a record of one field, which its datum is, too.
fn key_fields(key: &Shape, named: &[String]) -> Result<Vec<Field>, String> {
    match (key, named) {
        (Shape::Record(fields), _) => Ok(fields.clone()),
        (one, [name]) => Ok(vec![field(name, one.clone())]),
        (one, _) => Err(format!("the key is one value ({one}), expected one name in pk_fields: name its column there")),
    }
}

fn has_all(names: &[String], fields: &[Field], place: &str) -> Result<(), String> {
    match names.iter().find(|name| !fields.iter().any(|field| field.name == **name)) {
        None => Ok(()),
        Some(missing) => {
            let has: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            Err(format!(
                "pk_fields names {missing}, which the record's {place} has not (it has {}): correct pk_fields, or pk_mode",
                has.join(", ")
            ))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::avro::Cursor;
    use crate::config::sink::WriteMode;

    fn config(pk_fields: &[&str]) -> ChangesConfig {
        ChangesConfig {
            mode: WriteMode::Upsert,
            deletes: true,
            pk_mode: PkMode::RecordKey,
            pk_fields: pk_fields.iter().map(ToString::to_string).collect(),
            key_format: KeyFormat::Avro,
            ..ChangesConfig::default()
        }
    }

    fn record(fields: &[(&str, Shape)]) -> Shape {
        Shape::Record(fields.iter().map(|(name, shape)| field(name, shape.clone())).collect())
    }

    fn names(change: &ChangeShape) -> Vec<String> {
        let Shape::Record(fields) = &change.shape else { panic!() };
        fields.iter().map(|field| field.name.clone()).collect()
    }

    #[test]
    fn a_datum_is_the_key_and_the_value_one_behind_the_other() {
        let mut changes = Changes::new(config(&[]), true);
        let (key, value) = ([0, 0, 0, 0, 3, 2], [0, 0, 0, 0, 4, 4, 6]);
        let mut out = Vec::new();
        let upsert = changes.read(Some(&key), Some(&value)).unwrap();
        let number = changes.write(&upsert, 1_000, &mut out);
        let mut cursor = Cursor::new(&out);
        let read: Vec<i64> = (0..5).map(|_| cursor.long().unwrap()).collect();
        assert_eq!((read, cursor.finish()), (vec![0, 1_001, 1, 2, 3], Ok(())));
        assert_eq!(changes.pair(number).unwrap().row, Some(4));
        let delete = changes.read(Some(&key), None).unwrap();
        assert_ne!(changes.write(&delete, 0, &mut out), number);
        assert_eq!(changes.write(&upsert, 0, &mut out), number);
        assert_eq!(changes.read(None, Some(&value)), Err(Why::NoKey));
        assert_eq!(changes.read(Some(b"id"), Some(&value)), Err(Why::KeyNotWireFormat));
        assert_eq!(changes.read(Some(&key), Some(b"{}")), Err(Why::NotWireFormat));
        let without = Changes::new(ChangesConfig { deletes: false, ..config(&[]) }, false);
        assert_eq!(without.read(Some(&key), None), Err(Why::NullValue));
    }

    #[test]
    fn columns_that_a_row_keeps_are_not_in_the_change() {
        let key = record(&[("id", Shape::Long)]);
        let value =
            record(&[("id", Shape::Long), ("big", Shape::String), ("note", Shape::String), ("odd", Shape::String)]);
        let columns = ColumnsConfig {
            rename: [("big".to_string(), "large".to_string())].into(),
            ignore: vec!["odd".into()],
            ..ColumnsConfig::default()
        };
        let whole = ChangeShape::of((&config(&[]), true), &columns, Some(&key), Some(&value)).unwrap();
        assert!(whole.kept.is_empty());
        let part = whole.keeping(&[1, 3], &value, &columns);
        assert_eq!(names(&part).last().map(String::as_str), Some("note"));
        assert_eq!(
            (names(&part).len(), part.kept),
            (5, vec!["large".to_string()]),
            "one that goes nowhere is not missed"
        );
        let mut changes = Changes::new(config(&[]), false);
        let (key, row) = (Datum { schema_id: Some(3), bytes: &[2] }, Datum { schema_id: Some(4), bytes: &[4] });
        let mut number = |change| changes.write(&change, 0, &mut Vec::new());
        let whole = number(Change::Upsert { key: Some(key), row });
        let part = number(Change::Update { key, row, kept: 1 });
        assert_ne!(whole, part);
        assert_eq!(changes.pair(part).unwrap().kept, 1);
    }

    #[test]
    fn a_text_is_a_record_of_one_field() {
        let mut changes = Changes::new(ChangesConfig { key_format: KeyFormat::Text, ..config(&["id"]) }, false);
        let mut out = Vec::new();
        let text = "x".repeat(200);
        let delete = changes.read(Some(text.as_bytes()), None).unwrap();
        changes.write(&delete, 0, &mut out);
        let mut cursor = Cursor::new(&out);
        assert_eq!((cursor.text(), cursor.finish()), (Ok(text.as_str()), Ok(())));
    }

    #[test]
    fn the_keys_fields_come_first_and_hide_the_values() {
        let key = record(&[("id", Shape::Long), ("region", Shape::String)]);
        let value = record(&[("id", Shape::Long), ("name", Shape::String)]);
        let of = |config: &ChangesConfig, key, value| {
            ChangeShape::of((config, false), &ColumnsConfig::default(), key, value)
        };
        let all = of(&config(&[]), Some(&key), Some(&value)).unwrap();
        assert_eq!(names(&all), ["id", "region", "id (not used: the key has it)", "name"]);
        assert_eq!(all.key, ["id", "region"]);
        let one = of(&config(&["id"]), Some(&key), Some(&value)).unwrap();
        assert_eq!(names(&one)[1], "region (not used: not in pk_fields)");
        assert!(ChangeShape::hides(&names(&one)[1]) && ChangeShape::hides(&names(&one)[2]) && !one.is_delete);
        assert!(of(&config(&[]), Some(&key), None).unwrap().is_delete);
        let plain = of(&config(&["id"]), Some(&Shape::Long), Some(&value)).unwrap();
        assert_eq!(names(&plain), ["id", "id (not used: the key has it)", "name"]);
        for (config, key) in [(config(&[]), &Shape::Long), (config(&["x"]), &key)] {
            assert!(of(&config, Some(key), Some(&value)).is_err());
        }
        let by_value = ChangesConfig { pk_mode: PkMode::RecordValue, ..config(&["id"]) };
        assert_eq!(names(&of(&by_value, None, Some(&value)).unwrap()), ["id", "name"]);
    }
}
