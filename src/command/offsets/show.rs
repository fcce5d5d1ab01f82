//! `pressline offsets show`: where every partition stands.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{OffsetsError, Positions, Stand};
use crate::kafka::coordinator::Partition;
use crate::kafka::topic_id::TopicId;

/// One relay's or sink's positions as text.
pub fn table(positions: &Positions) -> Result<String, OffsetsError> {
    let stands = positions.read()?;
    let group = &positions.group;
    let members = match group.members()?.len() {
        0 => "no live member".to_string(),
        1 => "1 live member".to_string(),
        count => format!("{count} live members"),
    };
    let id = group.topic_id.as_ref().map(TopicId::as_str);
    let mut text = format!(
        "{} {}: topic {} (id {}), group {} ({members}), positions {}\n",
        positions.advice.pipeline,
        positions.advice.part.name(),
        group.topic,
        id.unwrap_or("none"),
        group.name,
        positions.kept()
    );
    text.push_str(&aligned(&lines(&stands, id)));
    Ok(text)
}

fn lines(stands: &BTreeMap<Partition, Stand>, id: Option<&str>) -> Vec<Vec<String>> {
    let shown_apart = stands.values().any(|stand| stand.shown.is_some());
    let mut heading = vec!["PARTITION", "POSITION", "TOPIC", "LAG", "PENDING", "TOPIC ID"];
    if shown_apart {
        heading.push("COMMITTED");
    }
    let mut lines = vec![heading.into_iter().map(String::from).collect::<Vec<_>>()];
    for (partition, stand) in stands {
        let (low, high) = stand.range;
        let none = || "-".to_string();
        let pending = stand.pending.zip(stand.position);
        let mut line = vec![
            partition.to_string(),
            stand.position.map_or_else(|| "none".into(), |position| position.to_string()),
            format!("{low}..{high}"),
            stand.position.map_or_else(none, |position| lag(position, low, high)),
            pending
                .map_or_else(none, |(pending, start)| format!("{start}..{}, attempt {}", pending.end, pending.attempt)),
            match (&stand.topic_id, id) {
                (None, _) => none(),
                (Some(noted), Some(id)) if noted == id => "matches".into(),
                (Some(noted), _) => format!("{noted}: ANOTHER TOPIC"),
            },
        ];
        if shown_apart {
            line.push(stand.shown.map_or_else(none, |shown| shown.to_string()));
        }
        lines.push(line);
    }
    lines
}

fn lag(position: i64, low: i64, high: i64) -> String {
    if position < low {
        format!("{}, of which retention took {}", high - position, low - position)
    } else if position > high {
        "PAST THE END".into()
    } else {
        (high - position).to_string()
    }
}

/// Columns under their headings.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in lines {
        let mut padded = String::from(" ");
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(padded, " {cell:<width$} ");
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kafka::coordinator::Pending;

    #[test]
    fn what_is_wrong_with_a_position_shows() {
        let stand = |position, range| Stand { position, pending: None, topic_id: Some("a".into()), shown: None, range };
        let mut stands = BTreeMap::from([
            (0, stand(Some(7), (0, 10))),
            (1, stand(Some(7), (9, 10))),
            (2, stand(Some(11), (0, 10))),
            (3, stand(None, (0, 10))),
        ]);
        stands.get_mut(&0).unwrap().pending = Some(Pending { end: 9, attempt: 2 });
        let text = aligned(&lines(&stands, Some("a")));
        let shown: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(
            shown[1].starts_with("0          7         0..10  3") && shown[1].contains("7..9, attempt 2"),
            "{text}"
        );
        assert!(shown[2].contains("3, of which retention took 2"), "{text}");
        assert!(shown[3].contains("PAST THE END"), "{text}");
        assert!(shown[4].contains("none") && shown[4].contains("matches"), "{text}");
        assert!(aligned(&lines(&stands, Some("b"))).contains("a: ANOTHER TOPIC"));
    }
}
