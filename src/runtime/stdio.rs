//! The standard streams. Everything that pressline prints goes through here, because the macros of `std` panic where a
//! stream cannot be written.
//!
//! A reader of standard output that left early (`| head`) is no failure: the command ends quietly. Any other failure, such as
//! a full disk, is an error of the command. What cannot be written to standard error is dropped; lines of the log are counted.

// The one place that may touch them.
#![allow(clippy::disallowed_methods)]

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

/// Why standard output could not be written first; nothing is written after that.
static FAILED: Mutex<Option<(io::ErrorKind, String)>> = Mutex::new(None);
/// Lines of the log that could not be written.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Standard output. Its errors are kept for [`finish`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        attempt(|| io::stdout().write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        attempt(|| io::stdout().write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        attempt(|| io::stdout().flush())
    }
}

fn attempt<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Ok(mut failed) = FAILED.lock() else { return Err(io::Error::other("a writer of standard output panicked")) };
    if let Some((kind, text)) = failed.as_ref() {
        return Err(io::Error::new(*kind, text.clone()));
    }
    write().inspect_err(|error| {
        if error.kind() != io::ErrorKind::Interrupted {
            *failed = Some((error.kind(), error.to_string()));
        }
    })
}

/// Prints a line. What cannot be written changes nothing about what the command does: [`finish`] tells of it at its end.
pub fn say(line: impl Display) {
    print(format_args!("{line}\n"));
}

/// Prints text as it is, and at once.
pub fn print(text: impl Display) {
    let _ = Out.write_all(text.to_string().as_bytes()).and_then(|()| Out.flush());
}

/// Writes a line to standard error, or drops it where that cannot be written.
pub fn tell(line: impl Display) {
    // One write, so that lines of several threads do not mix.
    let line = format!("{line}\n");
    let _ = above_bar(|| io::stderr().write_all(line.as_bytes()));
}

/// The command's exit code, unless standard output could not be written: then 1 and a line that says why. A reader that left
/// early is no failure.
pub fn finish(code: ExitCode) -> ExitCode {
    if has_failed() { ExitCode::FAILURE } else { code }
}

/// The last look at standard output: reports it if it could not be written. Not where its reader left early.
pub fn has_failed() -> bool {
    let _ = Out.flush();
    let Ok(failed) = FAILED.lock() else { return true };
    let Some((_, text)) = failed.as_ref().filter(|(kind, _)| *kind != io::ErrorKind::BrokenPipe) else { return false };
    tell(format_args!("error: standard output cannot be written: {text}\n    make room, or send it elsewhere"));
    true
}

/// Whether standard output cannot be written any more, for whatever reason: what a command fails of then is not its own.
pub fn is_closed() -> bool {
    FAILED.lock().is_ok_and(|failed| failed.is_some())
}

/// Whether colours are wanted on a stream: on a terminal, and neither `NO_COLOR` nor `TERM=dumb` is set.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !plain
}

/// Whether standard output is a terminal that shows colours.
pub fn out_has_colours() -> bool {
    colours(&io::stdout())
}

/// Whether standard output is a terminal.
pub fn out_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal that standard output is, if it is one.
pub fn out_columns() -> Option<usize> {
    out_size().map(|size| usize::from(size.ws_col))
}

/// Its rows.
pub fn out_rows() -> Option<usize> {
    out_size().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

fn out_size() -> Option<rustix::termios::Winsize> {
    let out = io::stdout();
    out.is_terminal().then(|| rustix::termios::tcgetwinsize(out.as_fd()).ok()).flatten()
}

/// Whether standard error is a terminal that shows colours.
pub fn err_has_colours() -> bool {
    colours(&io::stderr())
}

/// Whether standard error is a terminal.
pub fn err_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Where the log is written: standard error. It never fails, since a subscriber's own report of a failure would panic.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if above_bar(|| io::stderr().write_all(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of the log that could not be written so far.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The bar on the terminal, if one is shown: a log line has to clear it first.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

pub(super) fn shown() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something that writes whole lines to the terminal, with the bar out of the way.
pub fn above_bar<R>(write: impl FnOnce() -> R) -> R {
    // Not held while it writes: what it calls may come here too.
    let bar = shown().clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}
