//! Pipelines with transforms, between a real Kafka and a real registry: orders with an address in a nested field are filtered,
//! enriched and routed; what the cook gets goes on as JSON.

use std::time::{Duration, Instant};

use apache_avro::Schema;
use serde_json::{Value, json};

use crate::cluster::{PATIENCE, Raw};
use crate::support::{World, decode, holds_all, project, world};

/// One that the demo database knows; it must come out nowhere.
const ADDRESS: &str = "130.197.179.137";
/// No address, and no less personal.
const BAD_ADDRESS: &str = "130.197.179.137.";

const OUTPUT: &str = r#"{"type":"record","name":"out","fields":[
    {"name":"count","type":"int"},
    {"name":"order","type":{"type":"array","items":"string"}},
    {"name":"order_time","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"from_country_code","type":"string"},
    {"name":"from_city_name","type":"string"},
    {"name":"agent","type":"string"}]}"#;

fn write_pipelines(world: &World, cook: &str, answers: &str) {
    let (raw, out) = (&world.raw, &world.out);
    let mmdb = project("data/demo.mmdb");
    world.write(
        &format!("pipelines/{}.toml", world.name),
        &format!(
            r#"
[source]
topic = "{raw}"
format = "json"

[source.fields]
order_time = "long"
count = "int"
order = "array<string>"
client = {{ address = "string?", agent = "string" }}

[[transforms]]
filter = "count > 0"

[[transforms]]
enrich = "client.address"
prefix = "from_"
fields = ["country_code", "city_name"]

[[transforms]]
route = '"plaice & chips" in order'
topic = "{cook}"

[[transforms]]
rename = {{ "client.agent" = "agent" }}

[[transforms]]
drop = ["client"]

[[transforms]]
cast = {{ order_time = "timestamp-micros" }}

[output]
topic = "{out}"
key = "order_time"

[place]
files = ["{}"]
"#,
            mmdb.display()
        ),
    );
    world.write(
        "pipelines/answers.toml",
        &format!(
            r#"
name = "{}-answers"

[source]
topic = "{cook}"
format = "avro"

[[transforms]]
filter = 'order.exists(item, item.startsWith("plaice"))'

[output]
topic = "{answers}"
format = "json"
fields = ["order_time", "from_country_code"]
"#,
            world.name
        ),
    );
}

fn order(number: u32) -> Value {
    let order = if number.is_multiple_of(5) { "plaice & chips" } else { "cod & chips" };
    let address = if number.is_multiple_of(2) { json!(ADDRESS) } else { Value::Null };
    json!({
        "order_time": 1_700_000_000_000_000_u64 + u64::from(number), "count": number % 3, "order": ["chips & chips", order],
        "client": {"address": address, "agent": format!("till {number}")},
    })
}

#[test]
fn orders_are_filtered_enriched_and_routed_each_exactly_once() {
    let Some(world) = world("transforms") else { return };
    let (cook, answers) = (format!("{}-cook", world.name), format!("{}-answers", world.name));
    world.cluster.create_topics(&[(&cook, 1), (&answers, 1), (&format!("{cook}.dead"), 1)]);
    write_pipelines(&world, &cook, &answers);
    let mut checked = world.pressline();
    let checked = checked.args(["check", "--explain", &world.name]).output().unwrap();
    let explained = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{explained}{}", String::from_utf8_lossy(&checked.stderr));
    holds_all(&explained, &["client.address", "address: read by the place lookup and by nothing else", "(compiled)"]);

    let mut relay = world.run(&[]);
    let mut records: Vec<Raw> =
        (0..600).map(|number| Raw::value(i32::try_from(number % 3).unwrap(), order(number).to_string())).collect();
    let mut bad = order(1);
    bad["client"]["address"] = json!(BAD_ADDRESS);
    records.push(Raw::value(0, bad.to_string()));
    records.push(Raw::value(1, "{\"order_time\": 1"));
    let mut wrong = order(2);
    wrong["count"] = json!(ADDRESS);
    records.push(Raw::value(2, wrong.to_string()));
    world.send(&records);
    world.await_relayed(&mut relay);
    // By the count, since what ends the cook's topic is the marker of a transaction, which is no record.
    let of_answers = format!("pipeline=\"{}-answers\"", world.name);
    let deadline = Instant::now() + PATIENCE;
    while relay.metrics().with("pressline_records_in_total", &of_answers) < 80.0 {
        relay.still_runs();
        assert!(Instant::now() < deadline, "not all of the cook's orders were read");
        std::thread::sleep(Duration::from_millis(100));
    }

    let metrics = relay.metrics();
    let of_orders = format!("pipeline=\"{}\"", world.name);
    let count = |name: &str| metrics.with(name, &of_orders);
    assert_eq!(count("pressline_records_in_total"), 603.0);
    assert_eq!(count("pressline_records_filtered_total"), 200.0);
    assert_eq!(count("pressline_records_dead_total"), 3.0);
    assert_eq!(count("pressline_records_written_total"), 400.0);
    assert_eq!(count("pressline_place_lookups_total"), 400.0, "no address is looked up of what was filtered before");
    assert_eq!(relay.stop(), 0);

    let schema = Schema::parse_str(OUTPUT).unwrap();
    let (mut seen, mut places) = (Vec::new(), Vec::new());
    for (topic, with_plaice) in [(&world.out, false), (&cook, true)] {
        for record in world.cluster.read(topic) {
            assert!(!record.holds(ADDRESS.as_bytes()), "an address is in topic {topic}");
            let found = decode(&schema, &record);
            let number = u32::try_from(found["order_time"].as_u64().unwrap() - 1_700_000_000_000_000).unwrap();
            let sent = order(number);
            assert_eq!((&found["order"], &found["count"]), (&sent["order"], &sent["count"]));
            assert_eq!(found["agent"], sent["client"]["agent"]);
            assert_eq!(number.is_multiple_of(5), with_plaice);
            assert_eq!(record.key, sent["order_time"].to_string().into_bytes());
            let code = found["from_country_code"].as_str().unwrap().to_string();
            assert_eq!(code == "--", sent["client"]["address"].is_null(), "{found}");
            places.push(code);
            seen.push(number);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..600).filter(|number| number % 3 > 0).collect::<Vec<_>>());
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 2, "{places:?}");

    let mut reasons = Vec::new();
    for letter in world.dead_letters() {
        assert!(letter.value.is_none() && !letter.holds(ADDRESS.as_bytes()), "a dead letter holds an address");
        reasons.push((
            letter.header("pressline.reason").unwrap().to_string(),
            letter.header("pressline.field").unwrap().to_string(),
        ));
        assert!(letter.header("pressline.detail").is_some());
    }
    reasons.sort();
    let expected = [("bad_ip", "client.address"), ("not_json", ""), ("wrong_type", "count")];
    assert_eq!(reasons, expected.map(|(reason, field)| (reason.to_string(), field.to_string())));

    let answered = world.cluster.read(&answers);
    assert_eq!(answered.len(), seen.iter().filter(|number| number.is_multiple_of(5)).count());
    let answer: Value = serde_json::from_slice(answered[0].value.as_deref().unwrap()).unwrap();
    assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    let log = relay.log();
    assert!(!log.contains(ADDRESS) && !log.contains(" ERROR "), "{log}");
}
