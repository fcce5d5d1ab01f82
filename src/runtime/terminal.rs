//! What people see of the commands: how wide the terminal is, one bar at a time with lines above it, numbers with their noun.

use std::fmt::Display;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::runtime::stdio;

/// Columns if the terminal does not report its width.
const USUAL_COLUMNS: usize = 80;

/// Columns of the terminal that standard output is; of a file or a pipe as many as `COLUMNS` says, else `None`.
pub fn columns() -> Option<usize> {
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    stdio::out_columns().or_else(said).filter(|columns| *columns > 0)
}

/// [`columns`], or the usual number.
pub fn columns_or_usual() -> usize {
    columns().unwrap_or(USUAL_COLUMNS)
}

/// A number with its noun: `1 offset`, `2 offsets`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let s = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// A bar on standard error, cleared when it is dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Of a known or an unknown total. `None` where standard error is no terminal.
    pub fn new(total: Option<u64>, things: &str) -> Option<Self> {
        if !stdio::err_is_terminal() {
            return None;
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let bar = match style(total.is_some(), things) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        *stdio::shown() = Some(bar.clone());
        Some(Self(bar))
    }

    /// So many were done before: they tell nothing about the speed now.
    pub fn begin_at(&self, done: u64) {
        self.0.set_position(done);
        self.0.reset_eta();
    }

    /// So many are done.
    pub fn at(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        *stdio::shown() = None;
        self.0.finish_and_clear();
    }
}

fn style(bounded: bool, things: &str) -> Result<ProgressStyle, indicatif::style::TemplateError> {
    let template = if bounded {
        // The bar takes the rest of the line.
        format!("{{wide_bar}} {{human_pos}}/{{human_len}} {things}, {{rate}}, {{eta}} left")
    } else {
        format!("{{spinner}} {{human_pos}} {things}, {{rate}}")
    };
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    Ok(ProgressStyle::with_template(&template)?.with_key("rate", rate))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use indicatif::{ProgressDrawTarget, TermLike};

    use std::sync::Mutex;

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Debug)]
    struct Kept(u16, Arc<Mutex<String>>);

    impl TermLike for Kept {
        fn width(&self) -> u16 {
            self.0
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.1.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.1.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_of_something_is_not_several() {
        assert_eq!(counted(1, "offset"), "1 offset");
        assert_eq!(counted(0_i32, "partition"), "0 partitions");
        assert_eq!(counted(2_u64, "dead letter"), "2 dead letters");
    }

    #[test]
    fn a_bar_fills_the_terminal_and_no_more() {
        for width in [60, 80, 120] {
            let term = Kept(width, Arc::default());
            let bar =
                ProgressBar::with_draw_target(Some(1_000_000), ProgressDrawTarget::term_like(Box::new(term.clone())));
            bar.set_style(style(true, "offsets").unwrap());
            bar.set_position(123_456);
            bar.tick();
            let shown = term.1.lock().unwrap().clone();
            assert_eq!(shown.trim_end().chars().count(), usize::from(width), "{shown}");
            assert!(shown.contains("123,456/1,000,000 offsets, "), "{shown}");
            // Whole numbers: no fraction of a record.
            assert!(!shown.contains('.'), "{shown}");
        }
    }
}
