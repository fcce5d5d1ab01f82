//! `pressline reload` and SIGHUP beside a daemon that runs: only what changed begins again, and what is wrong changes nothing.

use serde_json::Value;

use crate::cluster::await_that;
use crate::relay::{Relay, World, holds_all, presses, world};
use crate::status::{report, url};

/// Exit code and all that was said.
fn reload(world: &World, url: &str) -> (i32, String) {
    let output = world.pressline().args(["reload", "--url", url]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// Name → workers, of those that run.
fn pipelines(world: &World, url: &str) -> Vec<(String, usize)> {
    let report = report(world, url);
    let of = |one: &Value| (one["name"].as_str().unwrap().to_string(), one["workers"].as_array().unwrap().len());
    report["pipelines"].as_array().unwrap().iter().map(of).collect()
}

/// Name and file of another pipeline.
fn second(world: &World) -> (String, String) {
    let name = format!("{}-second", world.name);
    let text = world.pipeline().replace("[source]\n", "[source]\nstart = \"beginning\"\n");
    (name.clone(), format!("name = \"{name}\"\n{text}"))
}

fn relays_all(world: &World, daemon: &mut Relay, numbers: std::ops::Range<u128>) {
    let end = numbers.end as usize;
    world.send(&presses(0, numbers));
    world.await_relayed(daemon);
    assert_eq!(world.output().len(), end, "each event once");
}

#[test]
fn only_what_changed_begins_again_and_what_is_wrong_changes_nothing() {
    let Some(world) = world("reload") else { return };
    let file = format!("pipelines/{}.toml", world.name);
    let mut daemon = world.run(&[]);
    daemon.await_ready();
    let url = url(&mut daemon);
    relays_all(&world, &mut daemon, 0..20);
    let (code, said) = reload(&world, &url);
    assert_eq!((code, said.as_str()), (0, format!("{url}: unchanged: {}\n", world.name).as_str()));

    // A key that there is not: nothing changes, not even what is right beside it.
    let (other, text) = second(&world);
    world.write("pipelines/second.toml", &text);
    world.write(&file, &format!("workers = 2\nworkres = 2\n{}", world.pipeline()));
    let (code, said) = reload(&world, &url);
    assert_eq!(code, 1, "{said}");
    holds_all(&said, &[&format!("{file}:2"), "workres", "nothing was changed"]);
    assert_eq!(pipelines(&world, &url), [(world.name.clone(), 1)]);
    relays_all(&world, &mut daemon, 20..40);

    world.write(&file, &format!("workers = 2\n{}", world.pipeline()));
    let (code, said) = reload(&world, &url);
    assert_eq!(code, 0, "{said}");
    holds_all(&said, &[&format!("restarted: {}\n", world.name), &format!("started: {other}\n")]);
    await_that("two workers, and the second pipeline", || {
        daemon.still_runs();
        let mut found = pipelines(&world, &url);
        found.sort();
        found == [(world.name.clone(), 2), (other.clone(), 1)]
    });
    daemon.await_ready();

    // A setting of the process is not taken, and that is said.
    std::fs::remove_file(world.path("pipelines/second.toml")).unwrap();
    let shared = std::fs::read_to_string(world.path("pressline.toml")).unwrap();
    world.write("pressline.toml", &format!("{shared}[log]\nformat = \"json\"\n"));
    let (code, said) = reload(&world, &url);
    assert_eq!(code, 0, "{said}");
    holds_all(
        &said,
        &[&format!("stopped: {other}\n"), &format!("unchanged: {}\n", world.name), "takes a restart of the process"],
    );
    await_that("the second one's end", || pipelines(&world, &url) == [(world.name.clone(), 2)]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_hangup_reads_the_configuration_again_and_no_web_page_can() {
    let Some(world) = world("reload-hangup") else { return };
    let file = format!("pipelines/{}.toml", world.name);
    let mut daemon = world.run(&[]);
    daemon.await_ready();
    let url = url(&mut daemon);
    relays_all(&world, &mut daemon, 0..20);
    world.write(&file, &format!("workers = 3\n{}", world.pipeline()));
    daemon.signal("HUP");
    await_that("three workers", || pipelines(&world, &url) == [(world.name.clone(), 3)]);
    daemon.await_log("the configuration was read again");
    relays_all(&world, &mut daemon, 20..40);
    // Without the header that no form can send.
    assert_eq!(daemon.request("POST", "/reload").0, 403);
    assert_eq!(daemon.request("GET", "/reload").0, 405);
    assert_eq!(daemon.stop(), 0);
}
