//! The fish and chip shop of docs/orders.md: preparers who cannot keep up until one more helps, and the cook.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{PATIENCE, await_that};
use crate::support::{Relay, World, calm_world, project, world};

const PLAICE: &str = "plaice & chips";

/// Puts the shop's two pipeline files into the world, as they are shipped, with topics of its own.
fn open_kitchen(world: &World) -> [String; 2] {
    std::fs::remove_file(world.path(&format!("pipelines/{}.toml", world.name))).unwrap();
    let (cook, ready) = (format!("{}-cook", world.name), format!("{}-ready", world.name));
    for file in ["kitchen", "cook"] {
        let mut text = std::fs::read_to_string(project(&format!("pipelines/orders/{file}.toml"))).unwrap();
        for (name, own) in [("orders", &world.raw), ("cook", &cook), ("ready", &ready)] {
            text = text.replace(&format!("topic = \"{name}\""), &format!("topic = \"{own}\""));
        }
        // Groups are named after pipelines.
        world.write(&format!("pipelines/{}-{file}.toml", world.name), &text);
    }
    let made = world.pressline().args(["topics", "create"]).output().unwrap();
    assert!(
        made.status.success(),
        "{}{}",
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr)
    );
    [cook, ready]
}

fn take_orders(world: &World, count: usize) {
    let count = count.to_string();
    let taken = world.generate(&["--kind", "orders", "--tills", "3", "--count", &count]).wait_with_output().unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}

fn orders(world: &World, topic: &str) -> Vec<Value> {
    let values = world.cluster.read(topic).into_iter().map(|record| record.value.unwrap());
    let mut orders: Vec<Value> = values.map(|value| serde_json::from_slice(&value).unwrap()).collect();
    orders.sort_by_key(|order| order["order_time"].as_i64());
    orders
}

fn has_plaice(order: &Value) -> bool {
    order["order"].as_array().unwrap().iter().any(|dish| dish == PLAICE)
}

#[test]
fn the_cook_gets_the_plaice_and_every_order_is_ready_once() {
    let Some(world) = world("kitchen") else { return };
    let [cook, ready] = open_kitchen(&world);
    let mut shop = world.run(&[]);
    take_orders(&world, 500);
    let stranger = crate::cluster::Raw::value(0, r#"{"order_time": 1, "count": 1, "order": ["chips & chips"]}"#);
    world.cluster.send(&cook, &[stranger]);
    let group = format!("pressline.{}-kitchen", world.name);
    world.cluster.await_relayed(&group, &world.raw, PATIENCE, || shop.still_runs());
    // By the count, since what ends the cook's topic is the marker of a transaction, which is no record.
    let (of_cook, came) = (format!("pipeline=\"{}-cook\"", world.name), orders(&world, &cook).len() as f64);
    await_that("all of the cook's orders", || shop.metrics().with("pressline_records_in_total", &of_cook) >= came);
    assert_eq!(shop.stop(), 0, "{}", shop.log());

    let (taken, at_the_cook, prepared) = (orders(&world, &world.raw), orders(&world, &cook), orders(&world, &ready));
    assert_eq!(taken.len(), 500);
    let plaice: Vec<&Value> = taken.iter().filter(|order| has_plaice(order)).collect();
    assert!((100..400).contains(&plaice.len()), "{} with plaice", plaice.len());
    assert_eq!(at_the_cook.iter().skip(1).collect::<Vec<_>>(), plaice);
    assert_eq!(prepared, taken, "each order is ready once, as it was taken");
}

/// The last lag of the group that a preparer has told.
fn lag(preparer: &Relay) -> Option<i64> {
    preparer.log().lines().rev().find_map(|line| line.rsplit_once("of the group ")?.1.trim().parse().ok())
}

#[track_caller]
fn await_lag(preparer: &mut Relay, what: &str, so: impl Fn(i64) -> bool) {
    let begun = Instant::now();
    while !lag(preparer).is_some_and(&so) {
        preparer.still_runs();
        assert!(begun.elapsed() < PATIENCE, "the lag is not {what}:\n{}", preparer.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_lag_grows_with_too_few_preparers_and_shrinks_with_one_more() {
    // Two partitions, of which each of two preparers gets one.
    let Some(world) = calm_world("preparers", 2) else { return };
    let prepare = || {
        let mut command = world.pressline();
        command.args(["consume", &world.raw, "--group", &world.name, "--pace", "20"]);
        Relay::spawn(command)
    };
    let mut first = prepare();
    first.await_log("partitions 0, 1;");
    let mut tills = world.generate(&["--kind", "orders", "--tills", "3", "--rate", "30"]);
    await_lag(&mut first, "growing", |lag| lag > 20);
    await_lag(&mut first, "growing on", |lag| lag > 40);
    let mut second = prepare();
    await_lag(&mut second, "shrinking", |lag| lag < 30);
    await_lag(&mut second, "shrinking on", |lag| lag < 15);
    // Both are at work: nobody has all partitions.
    let shared = |preparer: &Relay| !preparer.log().lines().last().unwrap_or_default().contains("partitions 0, 1;");
    assert!(shared(&first) && shared(&second), "{}\n{}", first.log(), second.log());
    for preparer in [&mut first, &mut second] {
        assert_eq!(preparer.stop(), 0, "{}", preparer.log());
    }
    tills.kill().unwrap();
    tills.wait().unwrap();
}

#[test]
fn a_preparer_works_at_its_pace_where_no_more_orders_come() {
    let Some(world) = world("pace") else { return };
    take_orders(&world, 40);
    let begun = Instant::now();
    let mut preparer = world.pressline();
    preparer.args(["consume", &world.raw, "--group", &world.name, "--pace", "4", "--max", "40"]);
    let done = preparer.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    // Ten seconds, and some to join the group. Questions about the lag that hold up the member make two minutes of it.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}\n{said}", begun.elapsed());
    let last = said.lines().rev().find(|line| line.contains("lag")).unwrap_or_default();
    assert!(last.ends_with("lag 0, of the group 0"), "{said}");
}
