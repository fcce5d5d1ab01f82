//! Where everything that leaves pressline comes from: the output's fields, keys, headers and times, dead letters, noted
//! offsets, tables, metrics and logs. Fit for a record of processing activities (GDPR, Article 30), and checked: nothing may
//! come from the address but through the place lookup.

use std::collections::BTreeMap;

use super::flow::{Flow, Kept, Through, ValueOrigin};
use super::headers::{plain, sounds_like_address};
use super::{Report, Subject};
use crate::config::finding::Finding;
use crate::config::sink::{ClickHouseDelivery, ColumnsConfig, LoadConfig};
use crate::config::{OnStale, PipelineConfig};
use crate::kafka::dead_letter::header;
use crate::metrics;
use crate::pipeline::plan::{Key, TransformPlan};
use crate::pipeline::press::encode;
use crate::pipeline::press::enrich::BUILD_HEADER;

const DIRECTLY: &str = "yes: the address itself";
const PSEUDONYM: &str = "yes: a pseudonym of the visitor";
const OF_PSEUDONYM: &str = "yes, beside the session id";
const UNCHECKED: &str = "as the sender fills it";
const POINTER: &str = "points at a raw record while that is kept";
const PLACE_ALONE: &str = "a place that somebody was in, without who or when";
const NO: &str = "no";

/// Traces one relay; `origins` are those of its encoder. Adds what breaks the rule to the findings.
pub fn relay(subject: &Subject<'_>, origins: &[(String, encode::FieldOrigin)], report: &mut Report) {
    let config = subject.config;
    let raw = Kept::Topic(config.source.topic.clone());
    let address = ValueOrigin::Field("ip".into());
    let mut flows = vec![flow(&config.name, "ingress", "ip", address, Through::Nothing, DIRECTLY, raw)];
    flows.extend(output(config, origins));
    flows.extend(headers(subject.config));
    flows.extend(places(subject.config));
    flows.extend(dead_letters(&subject.config.name, &subject.config.dead_topic(), &RELAY_LETTERS));
    flows.push(flow(
        &subject.config.name,
        "note",
        "topic id",
        ValueOrigin::Program,
        Through::Nothing,
        NO,
        Kept::Offsets,
    ));
    flows.extend(program(&subject.config.name));
    settle(subject, flows, report);
}

/// Traces a relay with transforms: what its plan's type check let through is read off the plan.
pub fn planned(subject: &Subject<'_>, plan: &TransformPlan, report: &mut Report) {
    let config = subject.config;
    let name = &config.name;
    let raw = || Kept::Topic(config.source.topic.clone());
    let ingress = |path: &Vec<String>| {
        let path = path.join(".");
        flow(name, "ingress", &path, ValueOrigin::Field(path.clone()), Through::Nothing, DIRECTLY, raw())
    };
    let mut flows: Vec<Flow> = plan.addresses().iter().map(ingress).collect();
    for topic in config.output_topics() {
        let topic = || Kept::Topic(topic.to_string());
        match plan.key() {
            Key::None => {}
            Key::Input => {
                let origin = ValueOrigin::Field("the record's own key".into());
                flows.push(flow(name, "key", "", origin, Through::Nothing, UNCHECKED, topic()));
            }
            Key::Field(field) => {
                let origin = ValueOrigin::Field(field.name.clone());
                flows.push(flow(name, "key", "", origin, Through::Nothing, UNCHECKED, topic()));
            }
        }
        flows.extend(plan.puts().iter().map(|put| {
            let (origin, through, personal) = match (plan.is_of_place(put), plan.is_constant(put)) {
                (true, _) => (ValueOrigin::Address, Through::Lookup, OF_PSEUDONYM),
                (_, true) => (ValueOrigin::Program, Through::Nothing, NO),
                _ => (ValueOrigin::Field(plan.origin(put)), Through::Nothing, UNCHECKED),
            };
            flow(name, "value", &put.name, origin, through, personal, topic())
        }));
        flows.push(flow(name, "time", "", ValueOrigin::RecordTime, Through::TimeLimits, UNCHECKED, topic()));
    }
    flows.extend(headers(config));
    if plan.lookups() > 0 {
        flows.extend(places(config));
    }
    flows.extend(dead_letters(name, &config.dead_topic(), &RELAY_LETTERS));
    flows.push(flow(name, "note", "topic id", ValueOrigin::Program, Through::Nothing, NO, Kept::Offsets));
    flows.extend(program(name));
    settle(subject, flows, report);
}

/// Traces the sinks of one pipeline; `origins` are those of the relay that fills the topic, empty where that is elsewhere.
pub fn sinks(subject: &Subject<'_, LoadConfig>, origins: &[(String, encode::FieldOrigin)], report: &mut Report) {
    let config = subject.config;
    let mut flows = Vec::new();
    if let Some(postgres) = &config.sink.postgres {
        let table = Kept::Table(format!("PostgreSQL {}", postgres.table));
        flows.extend(columns(config, &postgres.columns, origins, &table));
        let positions = Kept::Table(format!("PostgreSQL {}", postgres.offsets_table));
        flows.push(flow(&config.name, "column", "all", ValueOrigin::Position, Through::Nothing, NO, positions));
        flows.extend(dead_letters(&config.name, &config.dead_topic(&postgres.consumer), &SINK_LETTERS));
    }
    if let Some(clickhouse) = &config.sink.clickhouse {
        let table = Kept::Table(format!("ClickHouse {}.{}", clickhouse.database, clickhouse.table));
        flows.extend(columns(config, &clickhouse.columns, origins, &table));
        if clickhouse.delivery == ClickHouseDelivery::ExactlyOnce {
            for name in ["_topic", "_partition", "_offset"] {
                flows.push(flow(
                    &config.name,
                    "column",
                    name,
                    ValueOrigin::Position,
                    Through::Nothing,
                    NO,
                    table.clone(),
                ));
            }
        }
        flows.push(flow(
            &config.name,
            "note",
            "pending range",
            ValueOrigin::Position,
            Through::Nothing,
            NO,
            Kept::Offsets,
        ));
        flows.extend(dead_letters(&config.name, &config.dead_topic(&clickhouse.consumer), &SINK_LETTERS));
    }
    settle(subject, flows, report);
}

fn settle<C>(subject: &Subject<'_, C>, flows: Vec<Flow>, report: &mut Report) {
    // Both sinks may have their dead letters in one topic.
    let flows: Vec<Flow> = flows.into_iter().filter(|flow| !report.flows.contains(flow)).collect();
    let count = flows.len();
    // Headers have a finding of their own, which `run` heeds too.
    let broken: Vec<Finding> = flows
        .iter()
        .filter(|flow| flow.breaks_the_rule() && flow.part != "header")
        .map(|flow| past_the_lookup(subject, "output", flow))
        .collect();
    if broken.is_empty() && flows.iter().all(|flow| !flow.breaks_the_rule()) {
        report.ok(subject.line(format_args!(
            "data flow: {count} outputs traced, none derived from the IP address except via the GeoIP lookup"
        )));
    }
    report.findings.extend(broken);
    report.flows.extend(flows);
}

fn past_the_lookup<C>(subject: &Subject<'_, C>, key: &str, flow: &Flow) -> Finding {
    let (part, name) = (flow.part, &flow.name);
    subject.error(
        key,
        format!("{part} `{name}` comes from the address, past the place lookup"),
        "take it out of the output: the address goes nowhere but into the place lookup",
    )
}

fn flow(
    pipeline: &str,
    part: &'static str,
    name: &str,
    origin: ValueOrigin,
    through: Through,
    personal: &'static str,
    kept: Kept,
) -> Flow {
    Flow { pipeline: pipeline.into(), part, name: name.into(), origin, through, personal, kept }
}

fn output(config: &PipelineConfig, origins: &[(String, encode::FieldOrigin)]) -> Vec<Flow> {
    let topic = || Kept::Topic(config.output.topic.clone());
    let name = &config.name;
    let session_id = || ValueOrigin::Field("session_id".into());
    let mut flows = vec![flow(name, "key", "", session_id(), Through::Validation, PSEUDONYM, topic())];
    flows.extend(origins.iter().map(|(field, origin)| {
        let (origin, through, personal) = traced(*origin);
        flow(name, "value", field, origin, through, personal, topic())
    }));
    flows.push(flow(name, "time", "", ValueOrigin::RecordTime, Through::TimeLimits, OF_PSEUDONYM, topic()));
    flows
}

fn traced(origin: encode::FieldOrigin) -> (ValueOrigin, Through, &'static str) {
    match origin {
        encode::FieldOrigin::Event("session_id") => {
            (ValueOrigin::Field("session_id".into()), Through::Validation, PSEUDONYM)
        }
        encode::FieldOrigin::Event(field) => (ValueOrigin::Field(field.into()), Through::Validation, OF_PSEUDONYM),
        encode::FieldOrigin::Lookup => (ValueOrigin::Address, Through::Lookup, OF_PSEUDONYM),
        encode::FieldOrigin::Constant => (ValueOrigin::Program, Through::Nothing, NO),
    }
}

/// The headers that go along. Those known to carry the address come from it, whatever the filter would catch.
pub fn headers(config: &PipelineConfig) -> Vec<Flow> {
    let of = |header: &String| {
        let (origin, personal) = match super::headers::known_to_carry_addresses(header) {
            true => (ValueOrigin::Address, DIRECTLY),
            false => (ValueOrigin::Header(header.clone()), UNCHECKED),
        };
        let topic = Kept::Topic(config.output.topic.clone());
        flow(&config.name, "header", header, origin, Through::AddressFilter, personal, topic)
    };
    config.source.headers.iter().map(of).collect()
}

/// What the place lookup lets out beside the values.
fn places(config: &PipelineConfig) -> Vec<Flow> {
    let (name, place) = (&config.name, &config.place);
    let looked_up =
        |part, what, personal, kept| flow(name, part, what, ValueOrigin::Address, Through::Lookup, personal, kept);
    let mut flows = Vec::new();
    if place.build_header || place.on_stale == OnStale::Tag {
        let topic = Kept::Topic(config.output.topic.clone());
        flows.push(looked_up("header", BUILD_HEADER, OF_PSEUDONYM, topic));
    }
    if let Some(geocoder) = &place.geocoder {
        let names = "country, subdivision, city";
        flows.push(looked_up("request", names, PLACE_ALONE, Kept::Geocoder(geocoder.url.clone())));
        let file = geocoder.cache_file.as_ref().map(|file| file.relative().display().to_string());
        flows.extend(file.map(|file| looked_up("text", names, PLACE_ALONE, Kept::File(file))));
    }
    flows
}

const RELAY_LETTERS: [&str; 5] = [header::REASON, header::FIELD, header::MESSAGE, header::DETAIL, header::PIPELINE];
const SINK_LETTERS: [&str; 5] = [header::REASON, header::FIELD, header::MESSAGE, header::SINK, header::PIPELINE];

fn dead_letters(pipeline: &str, topic: &str, words: &[&str]) -> Vec<Flow> {
    let kept = || Kept::Topic(topic.into());
    let mut flows = vec![flow(pipeline, "key", "", ValueOrigin::Position, Through::Nothing, POINTER, kept())];
    let positions = [header::TOPIC, header::PARTITION, header::OFFSET];
    flows.extend(
        positions.map(|name| flow(pipeline, "header", name, ValueOrigin::Position, Through::Nothing, POINTER, kept())),
    );
    flows.extend(
        words.iter().map(|name| flow(pipeline, "header", name, ValueOrigin::Program, Through::Nothing, NO, kept())),
    );
    flows.push(flow(pipeline, "time", "", ValueOrigin::RecordTime, Through::TimeLimits, POINTER, kept()));
    flows
}

/// What all pipelines show of themselves.
fn program(pipeline: &str) -> Vec<Flow> {
    let labels: BTreeMap<&str, ValueOrigin> = metrics::ALL
        .iter()
        .flat_map(|metric| metric.labels.split(','))
        .filter(|label| !label.is_empty())
        .map(|label| (label, label_origin(label)))
        .collect();
    let mut flows: Vec<Flow> = labels
        .into_iter()
        .map(|(label, origin)| flow(pipeline, "label", label, origin, Through::Nothing, NO, Kept::Metrics))
        .collect();
    flows.push(flow(pipeline, "text", "", ValueOrigin::Program, Through::Nothing, NO, Kept::Log));
    flows
}

/// A label that nobody has traced is taken for the worst, so that the check fails until somebody has.
fn label_origin(label: &str) -> ValueOrigin {
    match label {
        "pipeline" | "worker" | "sink" | "file" | "version" => ValueOrigin::Program,
        "reason" | "trigger" | "cause" | "outcome" | "class" => ValueOrigin::Program,
        "part" | "step" | "geocoder" | "entry" | "answer" | "result" => ValueOrigin::Program,
        "partition" => ValueOrigin::Position,
        _ => ValueOrigin::Address,
    }
}

fn columns(
    config: &LoadConfig,
    columns: &ColumnsConfig,
    origins: &[(String, encode::FieldOrigin)],
    table: &Kept,
) -> Vec<Flow> {
    if origins.is_empty() {
        let topic = ValueOrigin::Field(format!("every field of topic {}", config.topic()));
        return vec![flow(&config.name, "column", "all", topic, Through::Nothing, UNCHECKED, table.clone())];
    }
    let loaded = origins.iter().filter(|(field, _)| !columns.ignore.contains(field));
    let of = |(field, origin): &(String, encode::FieldOrigin)| {
        let (origin, through, personal) = traced(*origin);
        let column = columns.rename.get(field).unwrap_or(field);
        flow(&config.name, "column", column, origin, through, personal, table.clone())
    };
    loaded.map(of).collect()
}

pub(super) fn check_headers(subject: &Subject<'_>, report: &mut Report) {
    let before = report.findings.len();
    for flow in headers(subject.config) {
        let header = &flow.name;
        if flow.breaks_the_rule() {
            report.findings.push(subject.error(
                "source.headers",
                format!("header `{header}` would carry the address into the output topic"),
                "remove it from the list: the address goes nowhere but into the place lookup",
            ));
        } else if sounds_like_address(&plain(header)) {
            report.findings.push(subject.warning(
                "source.headers",
                format!("header `{header}` sounds as if it carried an address"),
                "remove it from the list unless you know what it holds",
            ));
        }
    }
    let allowed = subject.config.source.headers.len();
    if report.findings.len() == before && allowed > 0 {
        report.ok(subject.line(format_args!("{allowed} allowed headers, none known to carry addresses")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lookup_lets_an_address_through() {
        let kept = || Kept::Topic("out".into());
        for through in [Through::Nothing, Through::Validation, Through::AddressFilter, Through::TimeLimits] {
            assert!(flow("p", "value", "x", ValueOrigin::Address, through, DIRECTLY, kept()).breaks_the_rule());
        }
        assert!(
            !flow("p", "value", "x", ValueOrigin::Address, Through::Lookup, OF_PSEUDONYM, kept()).breaks_the_rule()
        );
        assert!(!flow("p", "key", "", ValueOrigin::Position, Through::Nothing, NO, kept()).breaks_the_rule());
    }

    #[test]
    fn every_label_has_an_origin_and_an_unknown_one_breaks_the_rule() {
        assert!(program("p").iter().all(|flow| !flow.breaks_the_rule()));
        assert_eq!(label_origin("client"), ValueOrigin::Address);
    }
}
