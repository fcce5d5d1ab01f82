//! Pipelines that get into each other's way.

use std::collections::BTreeMap;

use super::{Report, Subject};
use crate::config::load::Loaded;

pub fn check(loaded: &Loaded, report: &mut Report) {
    let pipelines: Vec<Subject<'_>> = loaded
        .pipelines
        .iter()
        .filter_map(|(file, pipeline)| {
            pipeline.as_ref().ok().map(|config| Subject { file, name: &config.name, origin: &config.origin, config })
        })
        .collect();
    unique(
        &pipelines,
        report,
        |s| vec![s.config.group()],
        |subject, other, group| {
            subject.error(
            "source.group",
            format!("consumer group {group} is used by pipeline {other} too: they would take partitions and offsets from each other"),
            "give each pipeline its own source.group",
        )
        },
    );
    let way = |s: &Subject<'_>| vec![format!("{} to {}", s.config.source.topic, s.config.output.topic)];
    unique(&pipelines, report, way, |subject, other, way| {
        subject.error(
            "output.topic",
            format!("pipeline {other} relays {way} too: every event would be written twice"),
            "remove one of them, or let it write to another topic",
        )
    });
    let ids = |s: &Subject<'_>| (0..s.config.workers).map(|slot| s.config.transactional_id(slot)).collect();
    unique(&pipelines, report, ids, |subject, other, id| {
        subject.error(
            "instance",
            format!(
                "pipeline {other} has the transactional.id {id} too: their workers would fence each other for ever"
            ),
            "choose `name` and `instance` so that name.instance differs",
        )
    });
}

/// Complains, once a pipeline, when one of its keys is another's on the same brokers.
fn unique<'a>(
    pipelines: &[Subject<'a>],
    report: &mut Report,
    keys: impl Fn(&Subject<'a>) -> Vec<String>,
    complain: impl Fn(&Subject<'a>, &str, &str) -> crate::config::finding::Finding,
) {
    let mut owners: BTreeMap<(String, String), &str> = BTreeMap::new();
    for subject in pipelines {
        let servers = &subject.config.kafka.bootstrap_servers;
        let mut told = false;
        for key in keys(subject) {
            match owners.get(&(servers.clone(), key.clone())) {
                Some(other) if !told => {
                    report.findings.push(complain(subject, other, &key));
                    told = true;
                }
                Some(_) => {}
                None => drop(owners.insert((servers.clone(), key), &subject.config.name)),
            }
        }
    }
}
