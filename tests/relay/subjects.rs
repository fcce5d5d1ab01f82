//! Subjects that are named by the record, or by topic and record, in a real registry: schemas are found and registered there, and
//! nowhere else.

use apache_avro::Schema;
use serde_json::{Value, json};

use crate::cluster::Raw;
use crate::registry::ask;
use crate::support::{World, decode, holds_all, world};

/// The registry's answer: its status line, and what it says.
fn asked(world: &World, method: &str, path: &str, body: &str) -> (String, Value) {
    let answer = ask(world, method, path, body);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_string(), serde_json::from_str(body).unwrap_or_default())
}

/// The newest schema of a subject with its id; `None`: there is no such subject.
fn newest(world: &World, subject: &str) -> Option<(u64, Schema)> {
    let (status, found) = asked(world, "GET", &format!("/subjects/{subject}/versions/latest"), "");
    if status.contains(" 404") {
        return None;
    }
    assert!(status.contains(" 200"), "{status}");
    Some((found["id"].as_u64().unwrap(), Schema::parse_str(found["schema"].as_str().unwrap()).unwrap()))
}

/// An order in the wire format: its time, below 64, and its dish.
fn order(id: u64, at: u8, dish: &str) -> Vec<u8> {
    let id = u32::try_from(id).unwrap().to_be_bytes();
    let length = u8::try_from(dish.len() * 2).unwrap();
    [&[0][..], &id, &[at * 2, length], dish.as_bytes()].concat()
}

/// `subject` names the one of a topic and a record.
fn schemas_stand_where(strategy: &str, subject: impl Fn(&str, &str) -> String) {
    let Some(world) = world(strategy) else { return };
    let cook = format!("{}-cook", world.name);
    world.cluster.create_topics(&[(&cook, 1)]);
    let shop = world.name.replace('-', "_");
    let (taken, made) = (format!("{shop}.Order"), format!("{shop}.Dish"));
    let fields = json!([{"name": "order_time", "type": "long"}, {"name": "order", "type": "string"}]);
    let schema = json!({"type": "record", "name": "Order", "namespace": shop, "fields": fields}).to_string();
    let path = format!("/subjects/{}/versions", subject(&world.raw, &taken));
    let (status, answer) = asked(&world, "POST", &path, &json!({ "schema": schema }).to_string());
    assert!(status.contains(" 200"), "{status} {answer}");
    let taken_id = answer["id"].as_u64().unwrap();

    let pipeline = |source: &str| {
        format!(
            "[source]\ntopic = \"{}\"\nformat = \"avro\"\n{source}\n[[transforms]]\nroute = 'order == \"plaice\"'\n\
             topic = \"{cook}\"\n[[transforms]]\nrename = {{ order = \"dish\" }}\n[output]\ntopic = \"{}\"\n\
             subject_name_strategy = \"{strategy}\"\nrecord = \"{made}\"\n",
            world.raw, world.out
        )
    };
    let named = format!("subject_name_strategy = \"{strategy}\"\nrecord = \"{taken}\"\n");
    let file = format!("pipelines/{}.toml", world.name);
    let check = |source: &str| {
        world.write(&file, &pipeline(source));
        let output = world.pressline().args(["check", "--online", &file]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    holds_all(
        &check(""),
        &[&format!("subject {}-value is not registered yet, so the transforms could not be checked", world.raw)],
    );
    holds_all(&check(&named), &["plan: 2 fields of the output", "0 errors"]);

    let mut relay = world.run(&[]);
    let dishes = ["cod", "plaice", "chips"];
    let orders = (0..30).map(|n: u8| Raw::value(i32::from(n % 3), order(taken_id, n, dishes[usize::from(n) % 3])));
    world.send(&orders.collect::<Vec<_>>());
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);

    for (topic, number) in [(&world.out, 20), (&cook, 10)] {
        let (id, schema) = newest(&world, &subject(topic, &made)).expect("a subject by the strategy");
        assert_eq!(schema.name().unwrap().fullname(None), made);
        let records = world.cluster.read(topic);
        assert_eq!(records.len(), number, "{topic}");
        for record in &records {
            assert_eq!(record.value.as_deref().unwrap()[1..5], u32::try_from(id).unwrap().to_be_bytes());
            let order = decode(&schema, record);
            assert_eq!(order["dish"], dishes[order["order_time"].as_u64().unwrap() as usize % 3]);
        }
        assert!(newest(&world, &format!("{topic}-value")).is_none(), "a subject of {topic} by its topic alone");
    }

    // A sink in a file of its own finds the schema there, too.
    let sink = format!(
        "[source]\ntopic = \"{}\"\nformat = \"avro\"\nsubject_name_strategy = \"{strategy}\"\nrecord = \"{made}\"\n\
         [sink.postgres]\nuser = \"loader\"\ndatabase = \"shop\"\ntable = \"dishes\"\n",
        world.out
    );
    let sink = world.write("sinks/dishes.toml", &sink);
    let output = world.pressline().args(["check", "--ddl"]).arg(sink).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let says = format!("for subject {}, version 1 ", subject(&world.out, &made));
    holds_all(&text, &[&says, "\"order_time\" bigint NOT NULL,\n    \"dish\" text NOT NULL\n"]);
}

#[test]
fn the_record_names_the_subject() {
    schemas_stand_where("record", |_, record| record.to_string());
}

#[test]
fn topic_and_record_name_the_subject() {
    schemas_stand_where("topic-record", |topic, record| format!("{topic}-{record}"));
}
