//! Whether a table can keep what a delivery promises.

use super::ddl;
use super::table::{COORDINATES, Table, coordinate_type, is_coordinate};
use super::types::quoted;
use crate::config::finding::Finding;
use crate::config::sink::ClickHouseDelivery;

impl Table {
    /// What stands against the delivery, each with its cure; warnings among them.
    pub fn refusals(&self, delivery: ClickHouseDelivery) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.judge_engine(delivery, &mut findings);
        match delivery {
            ClickHouseDelivery::ExactlyOnce => {
                self.judge_coordinates(&mut findings);
                self.judge_ttl(&mut findings);
            }
            ClickHouseDelivery::Deduplicated => self.judge_window(&mut findings),
        }
        self.judge_views(&mut findings);
        findings
    }

    /// An insert that fails in a view has already reached the table, and the same token again reaches only what lacks it:
    /// in tables of views without a window of their own, that is all of it (both tried on ClickHouse 26.9).
    fn judge_views(&self, findings: &mut Vec<Finding>) {
        if self.views.is_empty() {
            return;
        }
        findings.push(Finding::warning(
            self.place(),
            self.views.join(", "),
            "materialized views read what is inserted: one that fails lacks all rows of that insert, which is told in the log and \
             the dead-letter topic; and after an insert that failed midway, their tables have rows twice unless they have a \
             deduplication window of their own",
            "ALTER TABLE (the view's table) MODIFY SETTING non_replicated_deduplication_window = 1000",
        ));
    }

    fn judge_engine(&self, delivery: ClickHouseDelivery, findings: &mut Vec<Finding>) {
        let plain =
            self.engine.strip_prefix("Replicated").or(self.engine.strip_prefix("Shared")).unwrap_or(&self.engine);
        let why = match plain {
            "MergeTree" => None,
            "Distributed" | "Buffer" => Some("keeps rows elsewhere for a while, where they can be lost or duplicated"),
            "Null" => Some("keeps nothing"),
            "View" | "MaterializedView" | "LiveView" | "WindowView" => Some("is no table"),
            _ if delivery == ClickHouseDelivery::Deduplicated && plain.ends_with("MergeTree") => None,
            _ if plain.ends_with("MergeTree") => {
                Some("merges rows away, so that nobody can tell which records are in the table")
            }
            _ => Some("has no atomic inserts and no deduplication"),
        };
        if let Some(why) = why {
            findings.push(Finding::error(
                self.place(),
                "engine",
                format!("engine {} {why}", self.engine),
                "write into a MergeTree, and feed others from it by a materialized view",
            ));
        }
        if self.engine.starts_with("Replicated") {
            findings.push(Finding::warning(
                self.place(),
                "engine",
                "after a crash pressline reads from the replica it is connected to, which may lag behind the one that was written",
                "let the address lead to one replica, or set insert_quorum = 'auto' for the user",
            ));
        }
    }

    fn judge_coordinates(&self, findings: &mut Vec<Finding>) {
        let missing: Vec<&str> = COORDINATES.into_iter().filter(|name| self.column(name).is_none()).collect();
        if !missing.is_empty() {
            findings.push(Finding::error(
                self.place(),
                missing.join(", "),
                "delivery = \"exactly_once\" rests on these columns, which the table lacks",
                format!("{}; or delivery = \"deduplicated\"", ddl::add_columns(self, &missing)),
            ));
        }
        for column in COORDINATES.into_iter().filter_map(|name| self.column(name)) {
            if !is_coordinate(column) {
                findings.push(Finding::error(
                    self.place(),
                    &column.name,
                    format!(
                        "column {} is {} {}, expected {}",
                        column.name,
                        column.default,
                        column.type_name,
                        coordinate_type(&column.name)
                    ),
                    ddl::modify_column(self, &column.name),
                ));
            }
            if column.has_ttl {
                findings.push(Finding::error(
                    self.place(),
                    &column.name,
                    format!(
                        "a TTL wipes column {}, so that nobody can tell which records are in the table",
                        column.name
                    ),
                    format!("ALTER TABLE {} MODIFY COLUMN {} REMOVE TTL", self.quoted(), quoted(&column.name)),
                ));
            }
        }
    }

    /// Rows that are gone before a crash is recovered from count as missing and are written again. Expired rows then go
    /// again, too; but sums that were rolled up, and views that have counted them, would have them twice.
    fn judge_ttl(&self, findings: &mut Vec<Finding>) {
        if self.ttl.is_empty() {
            return;
        }
        if self.ttl.contains(" GROUP BY ") {
            findings.push(Finding::error(
                self.place(),
                "TTL",
                "TTL ... GROUP BY rolls rows up, so that nobody can tell which records are in the table",
                "roll up in a materialized view",
            ));
            return;
        }
        if self.ttl.split(',').all(moves_or_recompresses) {
            return;
        }
        let cure = "keep rows far longer than the oldest record that is loaded is old";
        findings.push(if self.views.is_empty() {
            let what = "rows that expire before a crash is recovered from are written again, and expire again";
            Finding::warning(self.place(), "TTL", what, cure)
        } else {
            let what = "rows that expire before a crash is recovered from would reach the materialized views twice";
            Finding::error(self.place(), "TTL", what, cure)
        });
    }

    fn judge_window(&self, findings: &mut Vec<Finding>) {
        if self.deduplication_window == 0 {
            findings.push(Finding::error(
                self.place(),
                "non_replicated_deduplication_window",
                "delivery = \"deduplicated\" rests on the table's deduplication window, which is 0",
                format!("ALTER TABLE {} MODIFY SETTING non_replicated_deduplication_window = 1000", self.quoted()),
            ));
            return;
        }
        let lost = match self.is_replicated() {
            true => "older than replicated_deduplication_window_seconds",
            false => "lost in a crash of the server, which does not force its log of tokens to disk",
        };
        findings.push(Finding::warning(
            self.place(),
            "delivery",
            format!(
                "delivery = \"deduplicated\" does not promise each row once: a repeated insert is dropped only while its token \
                 is among the last {} inserts into the table, whoever made them, and not {lost}",
                self.deduplication_window
            ),
            format!(
                "for a promise that rests on what is in the table: {}, and delivery = \"exactly_once\"",
                ddl::add_columns(self, &COORDINATES)
            ),
        ));
    }
}

fn moves_or_recompresses(rule: &str) -> bool {
    [" TO DISK ", " TO VOLUME ", " RECOMPRESS "].iter().any(|word| rule.contains(word))
}
