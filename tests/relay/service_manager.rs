//! What a service manager (systemd) is told: ready, alive, stopping. The test is the manager's end of the socket.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::{Relay, World, presses, world};

/// The manager's socket.
struct Manager {
    socket: UnixDatagram,
    heard: String,
}

impl Manager {
    fn new(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { socket, heard: String::new() }
    }

    fn run(&self, world: &World, sets: &[&str]) -> Relay {
        world.run_with(sets, |command| {
            command.env("NOTIFY_SOCKET", world.path("notify")).env("WATCHDOG_USEC", "3000000");
        })
    }

    /// Listens until this was said so often.
    #[track_caller]
    fn await_said(&mut self, relay: &mut Relay, what: &str, times: usize) {
        let begun = Instant::now();
        let mut message = [0; 4096];
        while self.heard.matches(what).count() < times {
            if let Ok(length) = self.socket.recv(&mut message) {
                self.heard.push_str(&String::from_utf8_lossy(&message[..length]));
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no {what}: {}\n{}", self.heard, relay.log());
        }
    }
}

#[test]
fn it_is_told_when_all_are_ready_then_that_they_are_alive_then_that_they_stop() {
    let Some(world) = world("manager") else { return };
    let mut manager = Manager::new(&world);
    let mut relay = manager.run(&world, &[]);
    manager.await_said(&mut relay, "READY=1\n", 1);
    relay.await_page(200, "ready");
    world.send(&presses(0, 0..10));
    manager.await_said(&mut relay, "WATCHDOG=1\n", 4);
    world.await_relayed(&mut relay);
    manager.await_said(&mut relay, "STATUS=ready\n", 1);
    assert!(!manager.heard.contains("STOPPING"), "{}", manager.heard);
    assert_eq!(relay.stop(), 0);
    manager.await_said(&mut relay, "STOPPING=1\n", 1);
}

#[test]
fn while_brokers_are_away_it_is_told_what_is_waited_for_and_the_start_is_extended() {
    let Some(world) = world("manager-waits") else { return };
    let mut manager = Manager::new(&world);
    let mut relay = manager.run(&world, &["kafka.bootstrap_servers=127.0.0.1:1"]);
    manager.await_said(&mut relay, "EXTEND_TIMEOUT_USEC=60000000\n", 3);
    manager.await_said(&mut relay, &format!("STATUS={}: worker 0: ", world.name), 1);
    assert!(!manager.heard.contains("READY=1") && !manager.heard.contains("WATCHDOG=1"), "{}", manager.heard);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn passwords_are_taken_from_the_manager_s_credentials() {
    let Some(world) = world("manager-credentials") else { return };
    let password = crate::support::service("PRESSLINE_TEST_SASL_PASSWORD");
    // As systemd lays them down: %d is this folder, each file for its process alone.
    let file = world.write("credentials/secret_kafka", &password);
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    std::fs::set_permissions(&file, permissions).unwrap();
    let sets = [
        format!("kafka.bootstrap_servers={}", crate::support::service("PRESSLINE_TEST_BOOTSTRAP_SASL")),
        "kafka.sasl.mechanism=PLAIN".into(),
        format!("kafka.sasl.username={}", crate::support::service("PRESSLINE_TEST_SASL_USER")),
        "kafka.sasl.plaintext=true".into(),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let mut relay = world.run_with(&sets, |command| {
        command.env("CREDENTIALS_DIRECTORY", world.path("credentials"));
        command.env("PRESSLINE__KAFKA__SASL__PASSWORD_FILE", &file);
    });
    world.send(&presses(0, 0..10));
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    assert!(!relay.log().contains(&password));
}
