//! Results as JUnit's XML, which build servers read.

use std::fmt::Write as _;
use std::time::Duration;

use super::result::{Checked, TestResult};

/// The document.
pub fn document(checked: &[Checked]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all = || checked.iter().flat_map(|checked| &checked.results);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "<testsuites name=\"pressline test\" {}>", counts(all()));
    for Checked { file, results, .. } in checked {
        let _ = writeln!(text, "  <testsuite name=\"{}\" {}>", escaped(file), counts(results.iter()));
        for result in results {
            case(file, result, &mut text);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn counts<'r>(results: impl Iterator<Item = &'r TestResult>) -> String {
    let (mut tests, mut failures, mut errors, mut time) = (0, 0, 0, Duration::ZERO);
    for result in results {
        tests += 1;
        failures += usize::from(result.is_failure());
        errors += usize::from(result.is_error());
        time += result.took;
    }
    format!(
        "tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" time=\"{:.6}\"",
        time.as_secs_f64()
    )
}

fn case(file: &str, result: &TestResult, text: &mut String) {
    let (place, line) = result.place.rsplit_once(':').unwrap_or((result.place.as_str(), "1"));
    let _ = write!(
        text,
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{line}\" time=\"{:.6}\"",
        escaped(file),
        escaped(&result.name),
        escaped(place),
        result.took.as_secs_f64()
    );
    if result.told.is_empty() {
        text.push_str("/>\n");
        return;
    }
    let kind = if result.is_error() { "error" } else { "failure" };
    let summary = result.told.lines().next().unwrap_or_default();
    let _ = write!(
        text,
        ">\n      <{kind} message=\"{}\">{}</{kind}>\n    </testcase>\n",
        escaped(summary.trim()),
        escaped(&result.told)
    );
}

/// Text for an attribute or an element; characters that XML cannot hold are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}
