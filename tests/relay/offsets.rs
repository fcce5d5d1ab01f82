//! `pressline offsets` for a relay: its positions are the group's offsets.

use std::time::Duration;

use crate::support::{World, holds_all, presses, world};

pub fn tool(world: &World, arguments: &[&str]) -> (bool, String) {
    let output = world.pressline().arg("offsets").args(arguments).args(["--pipeline", &world.name]).output().unwrap();
    let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    println!("{text}");
    (output.status.success(), text)
}

#[test]
fn a_relay_goes_on_where_it_is_set() {
    let Some(world) = world("offsets-set") else { return };
    world.send(&presses(0, 0..100));
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    let (ok, text) = tool(&world, &["show"]);
    assert!(ok);
    holds_all(&text, &[&format!("group {} (1 live member)", world.group()), "0          100       0..100  0"]);
    let set = ["set", "--sink", "relay", "--partition", "0", "--to", "90", "--yes"];
    let (ok, text) = tool(&world, &set);
    assert!(!ok && text.contains("a live member"), "{text}");
    assert_eq!(relay.stop(), 0);
    let (ok, text) = tool(&world, &set);
    assert!(ok);
    holds_all(&text, &["up to 10 offsets relayed again", "before=\"100\" after=90"]);
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    assert_eq!(world.output().len(), 110, "exactly 90 to 99 a second time");
}

#[test]
fn the_command_in_a_refusal_is_the_way_out() {
    let Some(world) = world("offsets-way-out") else { return };
    world.send(&presses(0, 0..20));
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    world.cluster.delete_group(&world.group());
    let mut relay = world.run(&[]);
    assert_eq!(relay.exit_code(Duration::from_secs(60)), 1);
    holds_all(&relay.log(), &[&format!("`pressline offsets set --pipeline {} --sink relay --to ", world.name)]);
    let (ok, text) = tool(&world, &["set", "--sink", "relay", "--to", "end", "--yes"]);
    assert!(ok && text.contains("a first position"), "{text}");
    world.send(&presses(1, 20..30));
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    assert_eq!(world.output().len(), 30);
}
