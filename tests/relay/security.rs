//! TLS, SASL and a registry with a password: what works, and what a user reads when it does not.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Relay, World, holds_all, presses, project, service, world};

const SASL_VARIABLE: &str = "PRESSLINE__KAFKA__SASL__PASSWORD";
const REGISTRY_VARIABLE: &str = "PRESSLINE__REGISTRY__PASSWORD";

fn tls_file(name: &str) -> String {
    format!("{}/{name}", service("PRESSLINE_TEST_TLS_DIR"))
}

/// Ten presses from end to end, then a stop.
fn relays(world: &World, relay: &mut Relay, first: u128) {
    world.send(&presses(0, first..first + 10));
    world.await_relayed(relay);
    relay.await_ready();
    assert_eq!(relay.stop(), 0);
    assert_eq!(world.output().len() as u128, first + 10);
}

fn tls(certificate: &str) -> Vec<String> {
    vec![
        format!("kafka.bootstrap_servers={}", service("PRESSLINE_TEST_BOOTSTRAP_TLS")),
        format!("kafka.tls.ca={}", tls_file("ca.pem")),
        format!("kafka.tls.certificate={}", tls_file(&format!("{certificate}.cert"))),
        format!("kafka.tls.key={}", tls_file(&format!("{certificate}.key"))),
    ]
}

fn sasl(listener: &str, mechanism: &str, more: &[String]) -> Vec<String> {
    let mut sets = vec![
        format!("kafka.bootstrap_servers={}", service(listener)),
        format!("kafka.sasl.mechanism={mechanism}"),
        format!("kafka.sasl.username={}", service("PRESSLINE_TEST_SASL_USER")),
    ];
    sets.extend_from_slice(more);
    sets
}

fn run(world: &World, sets: &[String], change: impl FnOnce(&mut Command)) -> Relay {
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    world.run_with(&sets, change)
}

#[test]
fn tls_with_client_certificates() {
    let Some(world) = world("tls") else { return };
    relays(&world, &mut run(&world, &tls("service"), |_| {}), 0);
}

#[test]
fn a_certificate_that_nobody_trusts_is_told_and_waited_for() {
    let Some(world) = world("tls-stranger") else { return };
    let mut relay = run(&world, &tls("stranger"), |_| {});
    relay.await_page(503, "SSL");
    relay.await_page(503, "set kafka.tls.certificate and kafka.tls.key to a certificate that the broker takes");
    assert_eq!(relay.stop(), 0);
}

#[test]
fn every_mechanism_with_the_password_from_file_or_environment() {
    let Some(world) = world("sasl") else { return };
    let password = service("PRESSLINE_TEST_SASL_PASSWORD");
    let file = world.write("secrets/sasl", &format!("{password}\n"));
    let from_file = format!("kafka.sasl.password_file={}", file.display());
    let plaintext = "kafka.sasl.plaintext=true".to_string();
    let ca = format!("kafka.tls.ca={}", tls_file("ca.pem"));
    let open = "PRESSLINE_TEST_BOOTSTRAP_SASL";
    let closed = "PRESSLINE_TEST_BOOTSTRAP_SASL_TLS";
    let ways = [
        (sasl(closed, "PLAIN", &[ca.clone(), from_file.clone()]), false),
        (sasl(open, "SCRAM-SHA-256", std::slice::from_ref(&plaintext)), true),
        (sasl(closed, "SCRAM-SHA-512", &[ca]), true),
        (sasl(open, "PLAIN", &[plaintext, from_file]), false),
    ];
    for (first, (sets, in_environment)) in (0..).step_by(10).zip(ways) {
        let mut relay = run(&world, &sets, |command| {
            if in_environment {
                command.env(SASL_VARIABLE, &password);
            }
        });
        relays(&world, &mut relay, first);
        assert!(!relay.log().contains(&password));
    }
}

#[test]
fn a_wrong_password_is_told_never_shown_and_waited_for() {
    let Some(world) = world("sasl-wrong") else { return };
    let wrong = "wrong-horse-battery";
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let sets = sasl("PRESSLINE_TEST_BOOTSTRAP_SASL", mechanism, &["kafka.sasl.plaintext=true".into()]);
        let mut relay = run(&world, &sets, |command| {
            command.env(SASL_VARIABLE, wrong).env("PRESSLINE__LOG__LEVEL", "debug");
        });
        relay.await_page(503, "uthentication failed");
        let (_, page) = relay.get("/readyz");
        holds_all(&page, &["set kafka.sasl (mechanism, username, and its password"]);
        assert_eq!(relay.stop(), 0);
        assert!(!relay.log().contains(wrong) && !page.contains(wrong), "{}", relay.log());
    }
    assert!(world.committed().is_empty());
}

fn protected() -> Vec<String> {
    vec![
        format!("registry.url={}", service("PRESSLINE_TEST_REGISTRY_TLS")),
        format!("registry.username={}", service("PRESSLINE_TEST_REGISTRY_USER")),
        format!("registry.ca={}", tls_file("ca.pem")),
    ]
}

#[test]
fn a_registry_with_tls_and_password() {
    let Some(world) = world("registry-tls") else { return };
    let password = service("PRESSLINE_TEST_REGISTRY_PASSWORD");
    let mut relay = run(&world, &protected(), |command| {
        command.env(REGISTRY_VARIABLE, &password);
    });
    relays(&world, &mut relay, 0);
    let file = world.write("secrets/registry", &password);
    let sets = [&protected()[..], &[format!("registry.password_file={}", file.display())]].concat();
    let mut relay = run(&world, &sets, |_| {});
    relays(&world, &mut relay, 10);
    assert!(!relay.log().contains(&password));
}

#[test]
fn a_wrong_password_or_authority_of_the_registry_is_told() {
    let Some(world) = world("registry-wrong") else { return };
    let wrong = "wrong-horse-battery";
    let mut relay = run(&world, &protected(), |command| {
        command.env(REGISTRY_VARIABLE, wrong);
    });
    relay.await_page(503, "it does not know this user or password (401); set registry.username");
    assert_eq!(relay.stop(), 0);
    assert!(!relay.log().contains(wrong), "{}", relay.log());

    let mut sets = protected();
    sets[2] = format!("registry.ca={}", tls_file("stranger-ca.pem"));
    let mut relay = run(&world, &sets, |command| {
        command.env(REGISTRY_VARIABLE, wrong);
    });
    relay.await_page(503, "certificate");
    assert_eq!(relay.stop(), 0);
}

#[test]
fn secrets_on_the_command_line_or_in_the_file_are_refused() {
    let Some(world) = world("secrets") else { return };
    let secret = "do-not-echo-me";
    let sets = sasl("PRESSLINE_TEST_BOOTSTRAP_SASL", "PLAIN", &[format!("kafka.sasl.password={secret}")]);
    let mut relay = run(&world, &sets, |_| {});
    assert_eq!(relay.exit_code(Duration::from_secs(10)), 1);
    holds_all(&relay.log(), &["command line", "a secret on the command line can be read by every user", SASL_VARIABLE]);
    assert!(!relay.log().contains(secret));

    world.write(
        &format!("pipelines/{}.toml", world.name),
        &format!(
            "[kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\npassword = \"{secret}\"\nplaintext = true\n{}",
            world.pipeline()
        ),
    );
    let mut relay = world.run(&[]);
    assert_eq!(relay.exit_code(Duration::from_secs(10)), 1);
    holds_all(
        &relay.log(),
        &[&format!("pipelines/{}.toml:4", world.name), "kafka.sasl.password", "unknown key", "_file"],
    );
    assert!(!relay.log().contains(secret));
}

/// A user of its own gets this password.
fn set_password(user: &str, password: &str) {
    let mut tool = Command::new(service("PRESSLINE_TEST_PYTHON"))
        .arg(project("tests/stack/scram.py"))
        .args(["--bootstrap-server", &service("PRESSLINE_TEST_BOOTSTRAP"), "--user", user])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(tool.wait().unwrap().success());
}

/// The broker asks for the password again every few seconds, so that the old one is refused while the relay runs.
#[test]
fn a_password_that_was_replaced_is_read_again_without_a_restart() {
    let Some(world) = world("sasl-rotated") else { return };
    let user = "rotating";
    let (old, new) = ("press-once-for-old", "press-twice-for-new");
    set_password(user, old);
    let file = world.write("secrets/sasl", old);
    let sets = sasl(
        "PRESSLINE_TEST_BOOTSTRAP_SASL",
        "SCRAM-SHA-256",
        &[format!("kafka.sasl.password_file={}", file.display()), "kafka.sasl.plaintext=true".into()],
    );
    let sets = [&sets[..], &[format!("kafka.sasl.username={user}")]].concat();
    let mut relay = run(&world, &sets, |_| {});
    world.send(&presses(0, 0..10));
    world.await_relayed(&mut relay);
    relay.await_ready();

    set_password(user, new);
    relay.await_page(503, "");
    world.write("secrets/sasl", new);
    world.send(&presses(0, 10..20));
    // A new client is tried every half minute.
    world.cluster.await_relayed(&world.group(), &world.raw, Duration::from_secs(180), || relay.still_runs());
    relay.await_ready();
    assert_eq!(world.output().len(), 20, "each once");
    assert_eq!(relay.stop(), 0);
    holds_all(&relay.log(), &["though a new client is answered; a new one is made"]);
    assert!(!relay.log().contains(old) && !relay.log().contains(new));
}
