//! What a person sees: a line for each relay and sink, what there is to say of some below, in the columns of the terminal.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::ask::Answer;
use crate::daemon::report::ProcessReport;
use crate::runtime::figures::{LastError, PipelineReport};
use crate::runtime::terminal::counted;

/// Narrower than this, lines are too short to read.
const LEAST_COLUMNS: usize = 60;

/// How it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Width of the terminal.
    pub columns: usize,
    /// Whether it shows colours.
    pub colours: bool,
    /// Also each partition.
    pub partitions: bool,
}

/// The page of all daemons.
pub fn page(answers: &[Answer], options: Options) -> String {
    let columns = options.columns.max(LEAST_COLUMNS);
    let mut page = Page { text: String::new(), options: Options { columns, ..options } };
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            page.line("", "");
        }
        page.daemon(answer);
    }
    page.text
}

const BAD: &str = "\x1b[31m";
const GOOD: &str = "\x1b[32m";
const DIM: &str = "\x1b[2m";
const OFF: &str = "\x1b[0m";

struct Page {
    text: String,
    options: Options,
}

impl Page {
    /// Words in lines of the terminal's width, the first after `indent`, the others a little further in. `colour` may be empty.
    fn line(&mut self, indent: &str, text: &str) {
        self.coloured("", indent, text);
    }

    fn coloured(&mut self, colour: &str, indent: &str, text: &str) {
        for line in wrapped(indent, text, self.options.columns) {
            if colour.is_empty() || !self.options.colours {
                self.text.push_str(&line);
            } else {
                self.text.push_str(&format!("{colour}{line}{OFF}"));
            }
            self.text.push('\n');
        }
    }

    fn daemon(&mut self, answer: &Answer) {
        let Some(report) = &answer.status else {
            let error = answer.error.as_deref().unwrap_or("no answer");
            return self.coloured(BAD, "", &format!("{}: {error}", answer.url));
        };
        self.coloured(if report.ready { GOOD } else { BAD }, "", &heading(&answer.url, report));
        for line in &report.not_started {
            self.coloured(BAD, "", line);
        }
        if report.pipelines.is_empty() {
            return;
        }
        self.line("", "");
        self.table(&pipelines(&report.pipelines));
        for pipeline in &report.pipelines {
            self.pipeline(pipeline, &report.now);
        }
        self.places(report);
    }

    fn pipeline(&mut self, pipeline: &PipelineReport, now: &str) {
        let about = &pipeline.about;
        self.line("", "");
        self.line("", &format!("{}: {} -> {}, group {}", pipeline.name, about.from, about.to, about.group));
        for wait in &pipeline.waiting_for {
            self.coloured(BAD, "  ", &format!("waits: {wait}"));
        }
        for note in &pipeline.notes {
            self.line("  ", &format!("note: {note}"));
        }
        let records = &pipeline.records;
        self.line(
            "  ",
            &format!(
                "since the start: {} written, {} filtered, {}{}",
                grouped(records.written),
                grouped(records.filtered),
                counted(records.dead.values().sum::<u64>(), "dead letter"),
                reasons(pipeline)
            ),
        );
        if let Some(error) = &pipeline.last_error {
            self.error(error, now);
        }
        if self.options.partitions && !pipeline.partitions.is_empty() {
            self.table(&partitions(pipeline));
        }
    }

    fn error(&mut self, error: &LastError, now: &str) {
        let ago = age(&error.at, now);
        let times = match error.times {
            1 => String::new(),
            times => format!(", {times} times since {}", error.since),
        };
        let (colour, over) = if error.over { (DIM, ", over") } else { (BAD, "") };
        self.coloured(colour, "  ", &format!("last error {ago} ago{times}{over}: {}", error.what));
        self.coloured(colour, "    ", &format!("see docs/runbooks.md#{}", error.runbook.to_lowercase()));
    }

    fn places(&mut self, report: &ProcessReport) {
        let mut shown = BTreeSet::new();
        for database in report.pipelines.iter().flat_map(|pipeline| &pipeline.place_databases) {
            if !shown.insert(&database.file) {
                continue;
            }
            if shown.len() == 1 {
                self.line("", "");
            }
            let stale =
                if database.is_stale { ", TOO OLD: see docs/runbooks.md#presslineplacedatabaseold" } else { "" };
            let built = database.built.get(..10).unwrap_or(&database.built);
            let text = format!(
                "GeoIP database {} ({}), built {built}, {:.0} days old{stale}",
                database.file, database.kind, database.age_days
            );
            self.coloured(if database.is_stale { BAD } else { "" }, "", &text);
        }
    }

    /// Rows of cells, the first to the left and the others to the right.
    fn table(&mut self, rows: &[Vec<String>]) {
        let count = rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
        let first = widths.first().copied().unwrap_or_default().min(self.options.columns.saturating_sub(others));
        for row in rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    line.push_str(&format!("{:<first$}", shortened(cell, first)));
                } else {
                    line.push_str(&format!("  {cell:>width$}"));
                }
            }
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }
}

fn heading(url: &str, report: &ProcessReport) -> String {
    let memory =
        report.memory.resident_bytes.map(|bytes| format!(", {} MiB of memory", bytes >> 20)).unwrap_or_default();
    let ready = if report.ready { "ready" } else { "NOT READY" };
    format!("{url}: pressline {}, up {}{memory}, {ready}", report.version, duration(report.uptime_seconds))
}

fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(String::from).to_vec()
}

/// One row each.
fn pipelines(pipelines: &[PipelineReport]) -> Vec<Vec<String>> {
    let heading = cells(["PIPELINE", "STATE", "WRK", "PART", "REC/S", "LAG", "BEHIND", "PENDING", "DEAD"]);
    let row = |one: &PipelineReport| {
        vec![
            one.name.clone(),
            match one.state.as_str() {
                "not_ready" => "WAITS".to_string(),
                other => other.to_string(),
            },
            one.workers.len().to_string(),
            one.partitions.len().to_string(),
            short(one.records.per_second),
            one.lag_records.map_or_else(unknown, |lag| short(lag as f64)),
            one.lag_seconds.map_or_else(unknown, duration),
            one.pending_seconds.map_or_else(unknown, duration),
            short(one.records.dead.values().sum::<u64>() as f64),
        ]
    };
    [heading].into_iter().chain(pipelines.iter().map(row)).collect()
}

fn partitions(pipeline: &PipelineReport) -> Vec<Vec<String>> {
    let heading = cells(["  PARTITION", "WORKER", "POSITION", "LAG", "BEHIND", "PENDING"]);
    let row = |one: &crate::runtime::figures::PartitionReport| {
        vec![
            format!("  {}", one.partition),
            one.worker.to_string(),
            one.position.to_string(),
            one.lag_records.map_or_else(unknown, |lag| lag.to_string()),
            one.lag_seconds.map_or_else(unknown, duration),
            one.pending_seconds.map_or_else(unknown, duration),
        ]
    };
    [heading].into_iter().chain(pipeline.partitions.iter().map(row)).collect()
}

fn unknown() -> String {
    "-".to_string()
}

fn reasons(pipeline: &PipelineReport) -> String {
    let reasons: Vec<String> =
        pipeline.records.dead.iter().map(|(reason, count)| format!("{reason} {}", grouped(*count))).collect();
    if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) }
}

/// In at most five characters: 9999, 12.3k, 123k, 1.2M.
fn short(number: f64) -> String {
    let mut number = number;
    if number < 9_999.5 {
        return if number > 0.0 && number < 9.95 { trimmed(format!("{number:.1}")) } else { format!("{number:.0}") };
    }
    let mut unit = "";
    for next in ["k", "M", "G", "T"] {
        if number < 999.5 {
            break;
        }
        number /= 1_000.0;
        unit = next;
    }
    if number < 99.95 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") }
}

fn trimmed(text: String) -> String {
    text.strip_suffix(".0").map(String::from).unwrap_or(text)
}

/// In at most seven characters: 12s, 5m 3s, 3h 12m, 12d 3h.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// By the daemon's own clock.
fn age(at: &str, now: &str) -> String {
    match (at.parse::<Timestamp>(), now.parse::<Timestamp>()) {
        (Ok(at), Ok(now)) => duration(now.duration_since(at).as_secs_f64()),
        _ => "some time".to_string(),
    }
}

/// 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Words in lines of a width; what a server said cannot move the cursor.
fn wrapped(indent: &str, text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = indent.to_string();
    let mut is_empty = true;
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for word in clean.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let space = usize::from(!is_empty);
            let room = columns.saturating_sub(line.chars().count() + space).max(usize::from(is_empty));
            if word.len() > room && !is_empty {
                lines.push(std::mem::replace(&mut line, format!("{indent}    ")));
                is_empty = true;
                continue;
            }
            let rest = word.split_off(room.min(word.len()));
            line.extend(std::iter::repeat_n(' ', space).chain(word));
            is_empty = false;
            word = rest;
        }
    }
    lines.push(line.trim_end().to_string());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::report::MemoryReport;
    use crate::runtime::figures::{About, PartitionReport, PlaceDatabaseReport, RecordsReport, WorkerReport};

    fn sink() -> PipelineReport {
        PipelineReport {
            name: "button_presses.clickhouse".into(),
            about: About {
                kind: "clickhouse".into(),
                from: "button_presses".into(),
                to: "presses".into(),
                group: "pressline.button_presses.clickhouse".into(),
            },
            state: "not_ready".into(),
            waiting_for: vec![
                "worker 0: ClickHouse: the disk is full \x1b[2J, and this sentence goes on for longer than a line"
                    .into(),
            ],
            workers: vec![WorkerReport::default(), WorkerReport::default()],
            partitions: vec![PartitionReport {
                partition: 3,
                worker: 1,
                position: 123_456_789,
                lag_records: Some(1_234_567),
                lag_seconds: Some(7_380.0),
                open_transaction_records: 0,
                pending_seconds: Some(61.0),
            }],
            lag_records: Some(1_234_567),
            lag_seconds: Some(7_380.0),
            pending_seconds: Some(61.0),
            records: RecordsReport {
                written: 1_234_567,
                dead: [("too_long".to_string(), 12_345)].into(),
                per_second: 1_234.4,
                ..RecordsReport::default()
            },
            last_error: Some(LastError {
                what: "the server's disk is full".into(),
                since: "2026-01-01T00:00:00Z".into(),
                at: "2026-01-01T00:01:00Z".into(),
                times: 14,
                over: false,
                runbook: "PresslineSinkRetries".into(),
                ..LastError::default()
            }),
            place_databases: vec![PlaceDatabaseReport {
                file: "city.mmdb".into(),
                kind: "DBIP-City".into(),
                built: "2025-12-01T00:00:00Z".into(),
                age_days: 31.0,
                is_stale: true,
            }],
            ..PipelineReport::default()
        }
    }

    fn shown(columns: usize) -> String {
        let status = ProcessReport {
            version: "0.1.0".into(),
            now: "2026-01-01T00:01:12Z".into(),
            uptime_seconds: 90_061.0,
            memory: MemoryReport { resident_bytes: Some(64 << 20), ..MemoryReport::default() },
            pipelines: vec![sink()],
            ..ProcessReport::default()
        };
        let answers = [
            Answer { url: "http://127.0.0.1:9187".into(), status: Some(status), error: None },
            Answer { url: "http://127.0.0.1:9188".into(), status: None, error: Some("no pressline answers".into()) },
        ];
        page(&answers, Options { columns, colours: false, partitions: true })
    }

    #[test]
    fn a_person_reads_it_on_80_columns() {
        let text = shown(80);
        for line in [
            "http://127.0.0.1:9187: pressline 0.1.0, up 1d 1h, 64 MiB of memory, NOT READY",
            "PIPELINE                   STATE  WRK  PART  REC/S   LAG  BEHIND  PENDING   DEAD",
            "button_presses.clickhouse  WAITS    2     1   1234  1.2M   2h 3m    1m 1s  12.3k",
            "  since the start: 1,234,567 written, 0 filtered, 12345 dead letters (too_long",
            "  last error 12s ago, 14 times since 2026-01-01T00:00:00Z: the server's disk is",
            "    see docs/runbooks.md#presslinesinkretries",
            "  3               1  123456789  1234567   2h 3m    1m 1s",
            "http://127.0.0.1:9188: no pressline answers",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}\nin\n{text}");
        }
        assert!(text.contains("TOO OLD"), "{text}");
        for columns in [60, 80, 132] {
            let text = shown(columns);
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest.is_some_and(|longest| longest <= columns.max(80)), "{columns}\n{text}");
            assert!(!text.contains('\x1b'), "what a server said cannot clear the screen");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (3.0, "3"),
            (9.94, "9.9"),
            (9.96, "10"),
            (9_999.0, "9999"),
            (9_999.6, "10.0k"),
            (99_949.0, "99.9k"),
            (123_456.0, "123k"),
            (999_700.0, "1.0M"),
            (12e9, "12.0G"),
        ] {
            assert_eq!(short(number), text);
        }
        for (seconds, text) in
            [(0.2, "0s"), (59.4, "59s"), (61.0, "1m 1s"), (3_599.0, "59m 59s"), (86_399.0, "23h 59m")]
        {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
    }

    #[test]
    fn a_word_longer_than_the_line_is_cut() {
        assert_eq!(
            wrapped("  ", "abcdefgh ij", 6),
            ["  abcd", "      e", "      f", "      g", "      h", "      i", "      j"]
        );
        assert_eq!(wrapped("", "one two three", 9), ["one two", "    three"]);
    }
}
