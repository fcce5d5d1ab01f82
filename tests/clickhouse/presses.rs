//! button_presses, the table that `auto_create` makes: rows at random, compared one by one with what a SELECT returns.

use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::sink::clickhouse::create_table;
use rand::RngExt;
use rand_pcg::Pcg64;

use crate::support::{DATABASE, TOPIC, World, datum, plan, world};

const SCHEMA: &str = include_str!("../../schemas/button_presses.avsc");

/// Texts that a careless writer of lengths, quotes or UTF-8 stumbles over.
const TEXTS: [&str; 8] = ["", "--", "Finland", "Åland", "a\0b", "'\\\t\n", "𝒦𝓊𝓅𝓈 🐟", "Kaupunki"];

struct Press {
    session: uuid::Uuid,
    timestamp: i64,
    cohort: Option<i32>,
    texts: Vec<String>,
    latitude: Option<f64>,
    time_zone: Option<String>,
}

fn press(random: &mut Pcg64, distinct: u32) -> Press {
    let mut text = || {
        let text = TEXTS[random.random_range(0..TEXTS.len())];
        if distinct == 0 { text.to_string() } else { format!("{text}{}", random.random_range(0..distinct)) }
    };
    let texts = (0..6).map(|_| text()).collect();
    let time_zone = Some(text());
    Press {
        session: uuid::Uuid::from_u128(random.random()),
        timestamp: random.random_range(-2_208_988_800_000_000..10_413_791_999_999_999),
        cohort: random.random_bool(0.8).then(|| random.random()),
        texts,
        latitude: random.random_bool(0.5).then(|| random.random_range(-90.0..90.0)),
        time_zone: time_zone.filter(|zone| zone != "--"),
    }
}

fn optional(value: Option<Value>) -> Value {
    match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    }
}

impl Press {
    fn datum(&self) -> Vec<u8> {
        let names = ["action", "country_name", "country_code", "subdivision_name", "subdivision_code", "city_name"];
        let mut fields = vec![
            ("session_id".to_string(), Value::Uuid(self.session)),
            ("timestamp".to_string(), Value::TimestampMicros(self.timestamp)),
            ("cohort".to_string(), optional(self.cohort.map(Value::Int))),
        ];
        fields
            .extend(names.iter().zip(&self.texts).map(|(name, text)| (name.to_string(), Value::String(text.clone()))));
        fields.extend([
            ("latitude".to_string(), optional(self.latitude.map(Value::Double))),
            ("longitude".to_string(), optional(None)),
            ("accuracy_km".to_string(), optional(self.cohort.map(Value::Int))),
            ("time_zone".to_string(), optional(self.time_zone.clone().map(Value::String))),
        ]);
        datum(SCHEMA, Value::Record(fields))
    }

    /// As [`select`] shows it.
    fn shown(&self, offset: i64) -> String {
        let null = |value: Option<String>| value.unwrap_or("NULL".into());
        let cohort = null(self.cohort.map(|n| n.to_string()));
        let bits = null(self.latitude.map(|d| d.to_bits().to_string()));
        let zone = null(self.time_zone.clone());
        let texts = self.texts.join("|");
        format!("{}|{}|{cohort}|{texts}|{bits}|NULL|{cohort}|{zone}|{TOPIC}|3|{offset}", self.session, self.timestamp)
    }
}

fn select(world: &World, table: &str) -> Vec<String> {
    let bits = "if(latitude IS NULL, 'NULL', toString(reinterpretAsUInt64(assumeNotNull(latitude))))";
    let sql = format!(
        "SELECT concatWithSeparator('|', toString(session_id), toString(toUnixTimestamp64Micro(timestamp)), \
         ifNull(toString(cohort), 'NULL'), action, country_name, country_code, subdivision_name, subdivision_code, \
         city_name, {bits}, ifNull(toString(longitude), 'NULL'), ifNull(toString(accuracy_km), 'NULL'), \
         ifNull(time_zone, 'NULL'), _topic, toString(_partition), toString(_offset)) AS v \
         FROM {DATABASE}.{table} ORDER BY _offset"
    );
    world.select(&sql)
}

/// Inserts so many presses and compares.
fn round_trip(world: &World, rows: usize, distinct: u32) {
    let shape = Shape::parse(SCHEMA).unwrap();
    let name = world.name();
    world.run(&create_table(&shape, &world.config(&name), &[]).unwrap().sql);
    let table = world.describe(&name);
    let plan = plan(&shape, &table, &[]).unwrap();
    let mut block = plan.block();
    let mut random = Pcg64::new(rows as u128, u128::from(distinct));
    let mut wanted = Vec::new();
    for offset in 0..rows as i64 {
        let press = press(&mut random, distinct);
        let datum = press.datum();
        block.push(&plan, &datum, 3, offset).unwrap();
        wanted.push(press.shown(offset));
        // A row cut short anywhere leaves nothing behind.
        if offset % 7 == 0 {
            let cut = random.random_range(0..datum.len());
            block.push(&plan, &datum[..cut], 3, offset).unwrap_err();
        }
    }
    assert_eq!(block.rows(), rows);
    world.insert(&table, &block, "1").unwrap();
    let found = select(world, &name);
    assert_eq!(found.len(), rows);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
    world.run(&format!("DROP TABLE {DATABASE}.{name}"));
}

#[test]
fn rows_at_random_with_few_distinct_texts() {
    let Some(world) = world("presses_few") else { return };
    round_trip(&world, 5_000, 0);
    round_trip(&world, 1, 0);
}

#[test]
fn dictionaries_with_numbers_of_two_bytes() {
    let Some(world) = world("presses_two_bytes") else { return };
    for distinct in [16, 31, 32, 33, 5_000] {
        round_trip(&world, 4_000, distinct);
    }
}

#[test]
fn dictionaries_with_numbers_of_four_bytes() {
    let Some(world) = world("presses_four_bytes") else { return };
    round_trip(&world, 100_000, 1_000_000);
}
