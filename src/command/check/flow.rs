//! One thing that leaves: what it comes from, and where it stays.

use std::collections::BTreeMap;

use serde::Serialize;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueOrigin {
    /// The visitor's address.
    Address,
    /// This field of the ingress record.
    Field(String),
    /// This header of the ingress record.
    Header(String),
    /// The ingress record's own time.
    RecordTime,
    /// Topic, partition or offset of a record.
    Position,
    /// Text that stands in the configuration, the schema or the program.
    Program,
}

/// What a value went through on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// The place lookup: of the address, only what the database says of its network goes on.
    Lookup,
    /// Validated: nothing but its type can hold goes on.
    Validation,
    /// A filter that drops a value with an address in its text.
    AddressFilter,
    /// The limits of a plausible time.
    TimeLimits,
    /// Nothing.
    Nothing,
}

/// Where a value is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// In a topic, as long as its retention says.
    Topic(String),
    /// In a table, until its owner deletes it.
    Table(String),
    /// With the group's offsets, `offsets.retention.minutes` after its last member left.
    Offsets,
    /// Where metrics are scraped to.
    Metrics,
    /// Where standard error goes.
    Log,
    /// By the geocoding server that is asked, as its operator says.
    Geocoder(String),
    /// In a file on the machine that pressline runs on.
    File(String),
}

/// One thing that leaves; for the record's sake also the address in the ingress topic, which pressline only reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Pipeline.
    pub pipeline: String,
    /// What it is: `ingress`, `value`, `key`, `header`, `time`, `request`, `column`, `note`, `label`, `text`.
    pub part: &'static str,
    /// Its name; empty where there is only one.
    pub name: String,
    /// Where it comes from.
    pub origin: ValueOrigin,
    /// Through what.
    pub through: Through,
    /// Whether it is personal data, and why.
    pub personal: &'static str,
    /// Where it is kept.
    pub kept: Kept,
}

impl Flow {
    /// Whether the address gets out here other than through the lookup.
    pub fn breaks_the_rule(&self) -> bool {
        self.origin == ValueOrigin::Address && self.through != Through::Lookup
    }
}

/// A table in Markdown; `retentions` tells of topics how long they keep records, where that was asked.
pub fn to_markdown(flows: &[Flow], retentions: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "| Pipeline | What | Where it comes from | Through | Personal data | Kept |\n|---|---|---|---|---|---|\n",
    );
    for flow in flows {
        let name = if flow.name.is_empty() { String::new() } else { format!(" `{}`", flow.name) };
        let Flow { pipeline, part, personal, .. } = flow;
        let (origin, through, kept) = (origin(&flow.origin), through(flow.through), kept(&flow.kept, retentions));
        text.push_str(&format!("| {pipeline} | {part}{name} | {origin} | {through} | {personal} | {kept} |\n"));
    }
    text
}

fn origin(origin: &ValueOrigin) -> String {
    match origin {
        ValueOrigin::Address => "the address".into(),
        ValueOrigin::Field(name) => format!("`{name}`"),
        ValueOrigin::Header(name) => format!("ingress header `{name}`"),
        ValueOrigin::RecordTime => "the ingress record's time".into(),
        ValueOrigin::Position => "topic, partition, offset".into(),
        ValueOrigin::Program => "configuration or program".into(),
    }
}

fn through(through: Through) -> &'static str {
    match through {
        Through::Lookup => "place lookup",
        Through::Validation => "validation of its type",
        Through::AddressFilter => "dropped with an address in it",
        Through::TimeLimits => "dropped before 2000 and ahead of tomorrow",
        Through::Nothing => "-",
    }
}

fn kept(kept: &Kept, retentions: &BTreeMap<String, String>) -> String {
    match kept {
        Kept::Topic(topic) => match retentions.get(topic) {
            Some(time) => format!("topic {topic}, {time}"),
            None => format!("topic {topic}, by its retention"),
        },
        Kept::Table(table) => format!("{table}, until its owner deletes it"),
        Kept::Offsets => "the group's offsets, by the broker's offsets.retention.minutes".into(),
        Kept::Metrics => "metrics, where they are scraped to".into(),
        Kept::Log => "log, where standard error goes".into(),
        Kept::Geocoder(url) => format!("geocoder {url}, as its operator says"),
        Kept::File(path) => format!("file {path}, until it is deleted"),
    }
}
