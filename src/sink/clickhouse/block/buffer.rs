//! The bytes of one column (or of an array's items) as they grow row by row.

use super::dictionary::Dictionary;

/// Which of its parts a column uses follows from its type; the others stay empty.
#[derive(Debug, Default)]
pub struct Buffer {
    /// `Nullable`: one byte a row, 1 for null.
    pub nulls: Vec<u8>,
    /// `Array` and `Map`: how many items there are up to and with this row.
    pub ends: Vec<u64>,
    /// Values: numbers little endian, texts with their length before them; the scratch space of a dictionary.
    pub data: Vec<u8>,
    /// `LowCardinality`.
    pub dictionary: Option<Box<Dictionary>>,
    /// `Array`: the items; `Map`: keys and values.
    pub items: Vec<Buffer>,
    mark: (usize, usize, usize),
}

impl Buffer {
    /// A column of a dictionary whose key 0 is `default`.
    pub fn low_cardinality(default: &[u8]) -> Self {
        Self { dictionary: Some(Box::new(Dictionary::new(default))), ..Self::default() }
    }

    /// A column of arrays (one buffer of items) or maps (keys and values).
    pub fn nested(items: Vec<Buffer>) -> Self {
        Self { items, ..Self::default() }
    }

    /// A text, its length before it as ClickHouse writes it.
    #[inline]
    pub fn text(&mut self, bytes: &[u8]) {
        varuint(bytes.len() as u64, &mut self.data);
        self.data.extend_from_slice(bytes);
    }

    /// A row begins.
    #[inline]
    pub fn begin(&mut self) {
        self.mark = (self.nulls.len(), self.ends.len(), self.data.len());
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.begin();
        }
        if !self.items.is_empty() {
            self.begin_items();
        }
    }

    /// Apart, so that the usual column's part is inlined.
    fn begin_items(&mut self) {
        self.items.iter_mut().for_each(Self::begin);
    }

    /// Takes out what the row that began last has written.
    pub fn undo(&mut self) {
        self.nulls.truncate(self.mark.0);
        self.ends.truncate(self.mark.1);
        self.data.truncate(self.mark.2);
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.undo();
        }
        for items in &mut self.items {
            items.undo();
        }
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.nulls.clear();
        self.ends.clear();
        self.data.clear();
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.clear();
        }
        for items in &mut self.items {
            items.clear();
        }
    }

    /// Bytes held, as a measure of what the block weighs.
    pub fn bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |dictionary| dictionary.bytes());
        let items: usize = self.items.iter().map(Buffer::bytes).sum();
        self.nulls.len() + 8 * self.ends.len() + self.data.len() + dictionary + items
    }
}

/// ClickHouse's `VarUInt`: seven bits a byte, the lowest first.
#[inline]
pub fn varuint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
