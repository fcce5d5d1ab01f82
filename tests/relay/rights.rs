//! The grants of docs/operations.md are enough for the relay, and each of them is needed.

use crate::cluster::Raw;
use crate::support::{Relay, World, acls, documented_grants, kafka_acls, least_user, presses, service, world};

/// The lines of the page's section that begin with `$grant`, for the topics and ids of this test.
fn documented(world: &World) -> Vec<Vec<String>> {
    let named = |word: &str| match word {
        "raw_presses" => world.raw.clone(),
        "raw_presses.dead" => world.dead.clone(),
        "button_presses" => world.out.clone(),
        other => other.replace("button_presses", &world.name),
    };
    documented_grants(1).map(|grant| grant.split(' ').map(named).collect()).collect()
}

/// pressline as the user who may nothing without a grant.
fn run(world: &World) -> Relay {
    let mut sets = least_user();
    // The circuit breaker would stop the tenth dead letter.
    sets.push("dead_letter.max_dead_share=1".into());
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    world.run_with(&sets, |command| {
        command.env("PRESSLINE__KAFKA__SASL__PASSWORD", service("PRESSLINE_TEST_SASL_PASSWORD"));
    })
}

#[test]
fn the_documented_grants_are_enough_and_none_is_too_many() {
    let Some(world) = world("least") else { return };
    if std::env::var_os("PRESSLINE_TEST_SASL_LEAST_USER").is_none() {
        println!("skipped: PRESSLINE_TEST_SASL_LEAST_USER is not set");
        return;
    }
    let grants = documented(&world);
    assert_eq!(grants.len(), 5, "{grants:?}");
    for grant in &grants {
        kafka_acls(grant);
    }
    let mut sent = 0;
    let mut send = || {
        world.send(&presses(0, sent..sent + 5));
        // A dead letter, so that its topic is written too.
        world.send(&[Raw::value(0, "{")]);
        sent += 5;
        sent
    };
    let all = send();
    let mut relay = run(&world);
    world.await_relayed(&mut relay);
    relay.await_ready();
    assert_eq!(relay.stop(), 0);
    assert_eq!((world.output().len() as u128, world.dead_letters().len()), (all, 1));

    for (without, number) in grants.iter().zip(2..) {
        acls("--remove", without);
        let all = send();
        let mut relay = run(&world);
        let is_id = without.iter().any(|word| word == "--transactional-id");
        let is_output = !is_id && without.iter().any(|word| word == "Write");
        relay.await_log(if is_output { "grant this user Write and Describe on the output topic" } else { "uthoriz" });
        assert!((world.output().len() as u128) < all, "relayed without {without:?}");
        if is_id {
            relay.await_log("grant Write and Describe on it to this user");
        }
        acls("--add", without);
        // Granted meanwhile, it goes on by itself.
        world.await_relayed(&mut relay);
        assert_eq!(relay.stop(), 0);
        assert_eq!((world.output().len() as u128, world.dead_letters().len()), (all, number));
    }
}
