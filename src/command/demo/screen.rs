//! What the terminal shows: who runs where, one line for each press, and sums.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use super::watch::{Counts, End, Enriched, Seen};
use crate::runtime::stdio;
use crate::runtime::terminal::columns_or_usual;

/// Lines a second that a person can still follow, generously; the others are only counted.
const LINES_PER_SECOND: u64 = 100;
/// Columns that a line needs with the coordinates.
const WIDE: usize = 100;
/// Delays above this count as this, milliseconds.
const LONGEST_DELAY_MS: usize = 60_000;

/// How a line is laid out.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Between two columns.
    gap: &'static str,
    /// Of the place's column.
    place: usize,
    /// Of the coordinates' column.
    at: usize,
}

impl Layout {
    /// What fits: 80 columns without coordinates, else up to [`WIDE`].
    fn of(columns: usize) -> Self {
        match columns >= WIDE {
            true => Self { gap: "  ", place: 28, at: 12 },
            false => Self { gap: " ", place: 24, at: 0 },
        }
    }

    /// Of the place with its code and coordinates.
    fn result(self) -> usize {
        "CC  ".len() + self.place + self.at
    }

    fn heading(self) -> String {
        let gap = self.gap;
        let (raw, result) = (11 + 8 + 11 + 2 * gap.len(), 2 + self.result());
        let (before, after) = ("raw press (JSON)", "enriched press (Avro)");
        format!("{:<8}{gap}{before:<raw$}{gap}{after:<result$} {:>7}", "time UTC", "delay")
    }
}

/// ANSI colours, all empty where nobody sees them.
#[derive(Clone, Copy, Debug, Default)]
struct Colours {
    dim: &'static str,
    good: &'static str,
    bad: &'static str,
    strong: &'static str,
    end: &'static str,
}

impl Colours {
    fn of_terminal() -> Self {
        if !stdio::out_has_colours() {
            return Self::default();
        }
        Self { dim: "\x1b[2m", good: "\x1b[32m", bad: "\x1b[31m", strong: "\x1b[1m", end: "\x1b[0m" }
    }
}

/// Delays by millisecond, so that a long run needs no more memory than a short one.
pub struct Delays {
    by_ms: Vec<u64>,
    total: u64,
}

impl Default for Delays {
    fn default() -> Self {
        Self { by_ms: vec![0; LONGEST_DELAY_MS + 1], total: 0 }
    }
}

impl Delays {
    /// Counts one.
    pub fn add(&mut self, delay: Duration) {
        let ms = usize::try_from(delay.as_millis()).unwrap_or(usize::MAX).min(LONGEST_DELAY_MS);
        self.by_ms[ms] += 1;
        self.total += 1;
    }

    /// Milliseconds that a share of the delays does not exceed; 0 without any.
    pub fn quantile_ms(&self, share: f64) -> usize {
        let rank = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        self.by_ms
            .iter()
            .position(|count| {
                seen += count;
                seen >= rank
            })
            .unwrap_or(0)
    }
}

/// Where browsers and clients go.
pub struct Addressed {
    /// Host and port of the pages.
    pub page: String,
    /// Address of registry and metrics.
    pub http: String,
}

/// The terminal, or whatever standard output is. Errors of its functions: standard output is closed.
pub struct Screen {
    out: BufWriter<stdio::Out>,
    colours: Colours,
    layout: Layout,
    second: Instant,
    shown: u64,
    hidden: u64,
    delays: Delays,
}

impl Screen {
    /// Standard output.
    pub fn new() -> Self {
        Self {
            out: BufWriter::new(stdio::Out),
            colours: Colours::of_terminal(),
            layout: Layout::of(columns_or_usual()),
            second: Instant::now(),
            shown: 0,
            hidden: 0,
            delays: Delays::default(),
        }
    }

    /// What runs where and what to try.
    pub fn banner(&mut self, bootstrap: &str, addressed: &Addressed, credit: &str, rate: f64) -> io::Result<()> {
        let Colours { dim, strong, end, .. } = self.colours;
        let Addressed { page, http } = addressed;
        writeln!(
            self.out,
            "{strong}http://{page}/{end}   a button to press, and the map on /live\n\n\
             {strong}pressline demo{end}: fake button presses in, enriched Avro out, {rate} events/s\n\n  \
             All data is in memory only and gone when the demo ends (Ctrl-C).\n  \
             The broker is librdkafka's mock cluster: it shows the real relay at work, but\n  \
             proves neither exactly once (the mock stores no transaction's offsets and\n  \
             hides no aborted records) nor speed.\n\n  \
             Kafka     {strong}{bootstrap}{end}   raw_presses \u{2192} button_presses, raw_presses.dead\n  \
             registry  {strong}{http}{end}\n  \
             metrics   {strong}{http}/metrics{end}\n  \
             places    {credit}\n            {dim}an extract of a few thousand cities{end}\n\n\
             Try, in another terminal:\n\n  \
             pressline consume button_presses --from-beginning \\\n    --bootstrap-servers {bootstrap} --registry {http}\n  \
             pressline consume raw_presses.dead --from-beginning \\\n    --bootstrap-servers {bootstrap}\n  \
             curl -s {http}/metrics\n  \
             pressline generate --bootstrap-servers {bootstrap} --count 500 --rate 100\n"
        )?;
        writeln!(self.out, "{dim}{}{end}", self.layout.heading())?;
        self.out.flush()
    }

    /// One press from end to end, in one line.
    pub fn press(&mut self, seen: &Seen) -> io::Result<()> {
        if let Some(delay) = seen.delay {
            self.delays.add(delay);
        }
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.begin_second()?;
        }
        if self.shown >= LINES_PER_SECOND {
            self.hidden += 1;
            return Ok(());
        }
        self.shown += 1;
        let line = line(seen, &self.colours, self.layout);
        writeln!(self.out, "{line}")
    }

    fn begin_second(&mut self) -> io::Result<()> {
        if self.hidden > 0 {
            let Colours { dim, end, .. } = self.colours;
            writeln!(self.out, "{dim}          \u{2026} and {} more{end}", self.hidden)?;
        }
        (self.second, self.shown, self.hidden) = (Instant::now(), 0, 0);
        Ok(())
    }

    /// The sums so far.
    pub fn summary(&mut self, counts: &Counts) -> io::Result<()> {
        self.begin_second()?;
        let Colours { strong, end, .. } = self.colours;
        writeln!(self.out, "{strong}{}{end}", sums(counts, &self.delays))
    }

    /// The last words.
    pub fn closing(&mut self, counts: &Counts, sent: u64) -> io::Result<()> {
        self.begin_second()?;
        let Colours { strong, end, .. } = self.colours;
        writeln!(
            self.out,
            "\n{strong}{}{end}\nThe demo's own visitors sent {sent}. The demo has ended, its data is gone.",
            sums(counts, &self.delays)
        )?;
        self.flush()
    }

    /// Brings everything out.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn sums(counts: &Counts, delays: &Delays) -> String {
    let Counts { raw, enriched, dead } = counts;
    let way = match counts.on_the_way() {
        0 => String::new(),
        on_the_way => format!(" + {on_the_way} on the way"),
    };
    format!(
        "{raw} in = {enriched} out + {dead} dead{way}; delay p50 {} ms, p99 {} ms",
        delays.quantile_ms(0.5),
        delays.quantile_ms(0.99)
    )
}

fn line(seen: &Seen, colours: &Colours, layout: Layout) -> String {
    let Layout { gap, place: place_width, at: at_width } = layout;
    let Colours { dim, good, bad, end, .. } = colours;
    let (session, action) = match (&seen.raw, &seen.end) {
        (Some(raw), _) => (raw.session.as_str(), raw.action.as_str()),
        (None, End::Enriched(enriched)) => (enriched.session.as_str(), enriched.action.as_str()),
        (None, _) => ("?", "?"),
    };
    let ip = match seen.raw.as_ref().map(|raw| raw.has_address) {
        Some(Some(true)) => "ip withheld",
        Some(Some(false)) => "no ip",
        Some(None) => "unreadable",
        None => "",
    };
    let delay = seen.delay.map(shown_delay).unwrap_or_default();
    let mut timestamp_us = seen.timestamp_ms.map(|ms| ms.saturating_mul(1_000));
    let result = match &seen.end {
        End::Enriched(enriched) => {
            let colour = if enriched.country_code == "--" { dim } else { good };
            let place = fit(&places(enriched), place_width);
            let coordinates = enriched.coordinates.filter(|_| at_width > 0);
            let at = coordinates.map(|(north, east)| format!("{north:.1} {east:.1}")).unwrap_or_default();
            let code = &enriched.country_code;
            timestamp_us = Some(enriched.timestamp_us);
            format!("\u{2192} {colour}{code}  {place}{end}{dim}{at:>at_width$}{end}")
        }
        End::Dead { reason, field } => {
            let short = format!("dead: {reason}");
            let long = if field.is_empty() { short.clone() } else { format!("{short} in {field}") };
            format!("{bad}\u{2717} {}{end}", fit(&[long, short], layout.result()))
        }
        End::Unreadable(reason) => {
            format!("{bad}\u{2717} {}{end}", fit(&[format!("cannot be decoded: {reason}")], layout.result()))
        }
    };
    let time = timestamp_us.map(clock).unwrap_or_default();
    format!("{time:<8}{gap}{action:<11}{gap}{session:<8}{gap}{dim}{ip:<11}{end}{gap}{result} {delay:>7}")
}

/// In seven characters.
fn shown_delay(delay: Duration) -> String {
    match delay.as_millis() {
        ms @ ..10_000 => format!("{ms} ms"),
        _ => format!("{:.0} s", delay.as_secs_f64()),
    }
}

/// The most that fits, from the longest to the shortest.
fn places(enriched: &Enriched) -> Vec<String> {
    let Enriched { city, subdivision, country, .. } = enriched;
    let join = |parts: &[&String]| {
        let known: Vec<&str> = parts.iter().map(|p| p.as_str()).filter(|p| !p.is_empty()).collect();
        known.join(", ")
    };
    if [city, subdivision, country].iter().all(|name| name.is_empty()) {
        return vec!["place unknown".into()];
    }
    if city == subdivision {
        return vec![join(&[city, country]), join(&[city])];
    }
    vec![join(&[city, subdivision, country]), join(&[city, country]), join(&[city])]
}

fn fit(candidates: &[String], width: usize) -> String {
    let fitting = candidates.iter().find(|text| text.chars().count() <= width);
    let text = match (fitting, candidates.last()) {
        (Some(text), _) => text.clone(),
        (None, Some(last)) => last.chars().take(width - 1).chain(['\u{2026}']).collect(),
        (None, None) => String::new(),
    };
    format!("{text:<width$}")
}

fn clock(timestamp_us: i64) -> String {
    jiff::Timestamp::from_microsecond(timestamp_us).map(|t| t.strftime("%H:%M:%S").to_string()).unwrap_or_default()
}
