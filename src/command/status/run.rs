//! From the arguments to what is shown, once or again and again.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ask::{self, Answer, Daemon};
use super::{StatusArgs, StatusError, page};
use crate::runtime::{stdio, supervise, terminal};

/// How the daemons are, which the exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Each has what it needs.
    Ready,
    /// One waits for something.
    NotReady,
    /// One does not answer.
    Unreachable,
}

/// Runs the command. Blocks; must not be called from within an async runtime.
pub fn run(args: &StatusArgs) -> Result<Health, StatusError> {
    let daemons = ask::daemons(&args.daemons)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StatusError::Client(error.to_string()))?;
    let look = || {
        let answers = runtime.block_on(answers(args, &daemons));
        (health(&answers), answers)
    };
    if !args.watch {
        let (health, answers) = look();
        stdio::print(shown(args, &answers));
        return Ok(health);
    }
    let stop = crate::command::generate::send::stop_on_signal().map_err(|e| StatusError::Client(e.to_string()))?;
    let _screen = (!args.json && stdio::out_is_terminal()).then(Screen::enter);
    let mut last = Health::Ready;
    while !stop.load(Ordering::Relaxed) && !stdio::is_closed() {
        let (health, answers) = look();
        last = health;
        stdio::print(redrawn(args, &shown(args, &answers)));
        supervise::sleep_unless(Duration::from_secs_f64(args.every), &stop);
    }
    Ok(last)
}

async fn answers(args: &StatusArgs, daemons: &[Daemon]) -> Vec<Answer> {
    // All at once: one that is silent takes its time.
    let asked: Vec<_> = daemons.iter().map(|daemon| (daemon, tokio::spawn(daemon.clone().ask()))).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for (daemon, asked) in asked {
        answers.push(asked.await.unwrap_or_else(|error| daemon.failed(error.to_string())));
    }
    if let Some(wanted) = &args.pipeline {
        for report in answers.iter_mut().filter_map(|answer| answer.status.as_mut()) {
            report.pipelines.retain(|one| one.name.contains(wanted));
        }
    }
    answers
}

fn health(answers: &[Answer]) -> Health {
    let of_one = |answer: &Answer| match &answer.status {
        None => Health::Unreachable,
        Some(report) if report.ready => Health::Ready,
        Some(_) => Health::NotReady,
    };
    answers.iter().map(of_one).max().unwrap_or(Health::Unreachable)
}

fn shown(args: &StatusArgs, answers: &[Answer]) -> String {
    if args.json {
        return format!("{}\n", serde_json::json!({ "daemons": answers }));
    }
    let options = page::Options {
        columns: terminal::columns_or_usual(),
        colours: stdio::out_has_colours(),
        partitions: args.partitions,
    };
    page::page(answers, options)
}

/// The terminal's other screen, so that what stood there before is there again in the end.
struct Screen;

impl Screen {
    fn enter() -> Self {
        stdio::print("\x1b[?1049h\x1b[?25l");
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        stdio::print("\x1b[?25h\x1b[?1049l");
    }
}

/// On a terminal in place of what was shown before, else below it.
fn redrawn(args: &StatusArgs, text: &str) -> String {
    if args.json || !stdio::out_is_terminal() {
        return text.to_string();
    }
    let rows = stdio::out_rows().unwrap_or(usize::MAX).saturating_sub(1);
    // Home; each line to its end, and what is below: cleared. So nothing flickers.
    let mut screen = String::from("\x1b[H");
    for line in text.lines().take(rows) {
        let _ = write!(screen, "{line}\x1b[K\r\n");
    }
    screen.push_str("\x1b[J");
    screen
}
