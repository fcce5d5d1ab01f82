//! `pressline offsets show`: where every partition stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{OffsetsError, Positions, Stand};
use crate::kafka::offset_note::Partition;
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
    let caught_up = caught_up(positions, &stands)?;
    text.push_str(&aligned(&lines(&stands, id, &caught_up)));
    for (partition, (stable, high)) in group.behind_transactions() {
        let _ = writeln!(
            text,
            "  partition {partition}: offsets {stable} to {} are behind an open transaction of another producer: nobody can read \
             them before it ends",
            high - 1
        );
    }
    Ok(text)
}

/// The partitions in which no record comes from the position on: what is behind it are markers of transactions.
pub fn caught_up(
    positions: &Positions,
    stands: &BTreeMap<Partition, Stand>,
) -> Result<BTreeSet<Partition>, OffsetsError> {
    let behind = |(partition, stand): (&Partition, &Stand)| {
        stand.position.filter(|position| (stand.range.0..stand.range.1).contains(position)).map(|at| (*partition, at))
    };
    positions.group.without_record(&stands.iter().filter_map(behind).collect())
}

/// `caught_up`: partitions in which no record comes from the position on.
fn lines(stands: &BTreeMap<Partition, Stand>, id: Option<&str>, caught_up: &BTreeSet<Partition>) -> Vec<Vec<String>> {
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
            match stand.position {
                Some(_) if caught_up.contains(partition) => "0".into(),
                Some(position) => lag(position, low, high),
                None => none(),
            },
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
    use crate::kafka::offset_note::Pending;

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
        let text = aligned(&lines(&stands, Some("a"), &BTreeSet::new()));
        let shown: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(
            shown[1].starts_with("0          7         0..10  3") && shown[1].contains("7..9, attempt 2"),
            "{text}"
        );
        assert!(shown[2].contains("3, of which retention took 2"), "{text}");
        assert!(shown[3].contains("PAST THE END"), "{text}");
        assert!(shown[4].contains("none") && shown[4].contains("matches"), "{text}");
        assert!(aligned(&lines(&stands, Some("b"), &BTreeSet::new())).contains("a: ANOTHER TOPIC"));
    }

    #[test]
    fn the_marker_of_the_last_commit_is_no_lag() {
        let stand = Stand { position: Some(10), pending: None, topic_id: None, shown: None, range: (0, 11) };
        let stands = BTreeMap::from([(0, stand.clone()), (1, stand)]);
        let lags: Vec<_> =
            lines(&stands, None, &BTreeSet::from([0])).into_iter().skip(1).map(|line| line[3].clone()).collect();
        assert_eq!(lags, ["0", "1"]);
    }
}
