//! A sink in mode `upsert`, as a user runs it: text keys, tombstones, records without a key, and all of it loaded again.

use super::Load;
use crate::cluster::Raw;

/// What `[sink.NAME]` has for it.
pub const SETTINGS: &str = "auto_create = true\nmode = \"upsert\"\ndeletes = true\npk_mode = \"record_key\"\npk_fields = \
                            [\"id\"]\nkey_format = \"text\"\n";

fn change(load: &Load, key: Option<&str>, number: Option<i64>) -> Raw {
    let (partition, key) = (Some(key.map_or(0, |key| i32::from(key.len() % 2 == 0))), key.map(String::from));
    Raw { partition, key, value: number.map(|number| load.value(number)), ..Raw::default() }
}

/// `rows`: the table's rows as `id|n`, in their order.
pub fn follows(load: &Load, rows: impl Fn() -> Vec<String>) {
    let send = |changes: &[(Option<&str>, Option<i64>)]| {
        let records: Vec<Raw> = changes.iter().map(|(key, number)| change(load, *key, *number)).collect();
        load.cluster.send(&load.topic, &records);
    };
    send(&[(Some("a"), Some(1)), (Some("bb"), Some(2)), (Some("a"), Some(3)), (Some("c"), Some(4)), (Some("c"), None)]);
    let mut run = load.run();
    load.await_loaded(&mut run);
    assert_eq!(rows(), ["a|3", "bb|2"]);
    send(&[
        (Some("bb"), None),
        (Some("c"), Some(5)),
        (None, Some(6)),
        (Some("dd"), None),
        (Some("dd"), Some(7)),
        (None, None),
    ]);
    load.await_loaded(&mut run);
    assert_eq!(rows(), ["a|3", "c|5", "dd|7"]);
    assert_eq!(run.stop(), 0);
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    let reasons: Vec<&str> = letters.iter().filter_map(|letter| letter.header("pressline.reason")).collect();
    assert_eq!(reasons, ["no_key", "no_key"]);
    // All changes once more, over what they came to.
    load.tool_ok(&["offsets", "set", "--to", "beginning", "--yes"]);
    load.load_all();
    assert_eq!(rows(), ["a|3", "c|5", "dd|7"]);
    load.tool_fails(&["reconcile"], &["mode is upsert"]);
}
