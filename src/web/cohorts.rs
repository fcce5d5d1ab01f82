//! The groups of an experiment: what each sees.

use crate::config::WebConfig;
use crate::config::web::{CohortConfig, parse_colour};

/// The cohorts of the configuration; where it has none, our own.
pub fn of(config: &WebConfig) -> Vec<CohortConfig> {
    if config.cohorts.is_empty() { own() } else { config.cohorts.clone() }
}

/// Two, for a first experiment.
pub fn own() -> Vec<CohortConfig> {
    let cohort = |number, label: &str, colour: &str, text: &str| CohortConfig {
        number,
        label: label.into(),
        colour: colour.into(),
        text: text.into(),
    };
    vec![
        cohort(0, "Press me", "#0b6e4f", "It is a button. It does exactly one thing, and it does it well."),
        cohort(1, "Do not press", "#b3261e", "There is a button here. You need not concern yourself with it."),
    ]
}

/// The style sheet that gives each cohort's button its colour, with text that can be read on it.
pub fn style(cohorts: &[CohortConfig]) -> String {
    let rule = |cohort: &CohortConfig| {
        let rgb = parse_colour(&cohort.colour).unwrap_or([0x0b, 0x6e, 0x4f]);
        let [r, g, b] = rgb;
        let text = if luminance(rgb) > 0.179 { "#000000" } else { "#ffffff" };
        format!(".cohort-{} {{ --button: #{r:02x}{g:02x}{b:02x}; --button-text: {text}; }}\n", class(cohort.number))
    };
    cohorts.iter().map(rule).collect()
}

/// A number as a part of a class's name: CSS takes no minus sign before a digit.
pub fn class(number: i16) -> String {
    number.to_string().replace('-', "m")
}

/// Relative luminance, as WCAG has it: above 0.179 black text has more contrast than white.
fn luminance(rgb: [u8; 3]) -> f64 {
    let linear = |part: u8| {
        let share = f64::from(part) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    let [r, g, b] = rgb.map(linear);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_on_a_button_has_the_contrast_of_wcag_aa() {
        for rgb in [[0x0b, 0x6e, 0x4f], [0xb3, 0x26, 0x1e], [255, 255, 0], [127, 127, 127], [0, 0, 0]] {
            let back = luminance(rgb);
            let text = if back > 0.179 { 0.0 } else { 1.0 };
            let contrast = (f64::max(back, text) + 0.05) / (f64::min(back, text) + 0.05);
            assert!(contrast >= 4.5, "{rgb:?}: {contrast}");
        }
    }

    #[test]
    fn each_cohort_has_a_rule_of_its_own() {
        let style = style(&own());
        assert!(style.contains(".cohort-0 { --button: #0b6e4f; --button-text: #ffffff; }"), "{style}");
        assert_eq!(class(-3), "m3");
    }
}
