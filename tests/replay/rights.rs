//! The grants of docs/operations.md are enough for replays, and each of them is needed.

use std::time::Duration;

use crate::cluster::Raw;
use crate::daemon;
use crate::dead_letters::{ACTIONS, with_letters};
use crate::relay::{acls, documented_grants, holds_all, least_user, press, service};
use crate::support::{Stage, narrow_stage, stage};

/// What the page calls the replay; its target is the page's `button_presses_2`.
const NAME: &str = "again";

/// The lines of the page's section for replays that begin with `$grant`, with the names of this test.
fn documented(stage: &Stage, name: &str, into: &str) -> Vec<Vec<String>> {
    let named = |word: &str| match word {
        "raw_presses" => stage.world.raw.clone(),
        "button_presses_2" => into.to_string(),
        "button_presses_2.dead" => format!("{into}.dead"),
        other => other.replace(&format!(".{NAME}"), &format!(".{name}")),
    };
    documented_grants(3).map(|grant| grant.split(' ').map(named).collect()).collect()
}

#[test]
fn the_documented_grants_on_kafka_are_enough_and_none_is_too_many() {
    let Some(stage) = stage("replay_least") else { return };
    if std::env::var_os("PRESSLINE_TEST_SASL_LEAST_USER").is_none() {
        println!("skipped: PRESSLINE_TEST_SASL_LEAST_USER is not set");
        return;
    }
    let world = &stage.world;
    // A dead letter among them, so that its topic is written too.
    world.send(
        &[&(0..20).map(|number| Raw::value(0, press(number))).collect::<Vec<_>>()[..], &[Raw::value(0, "{")]].concat(),
    );
    let mut user = least_user();
    user.push("dead_letter.max_dead_share=1".into());
    let into = format!("{}-again", world.out);
    world.cluster.create_topics(&[(&into, 1), (&format!("{into}.dead"), 1)]);
    let name = format!("least-{}", world.name);
    let mut arguments = vec!["--sink", "relay", "--into", &into, "--name", &name];
    arguments.extend(user.iter().flat_map(|set| ["--set", set]));
    let password = [("PRESSLINE__KAFKA__SASL__PASSWORD", service("PRESSLINE_TEST_SASL_PASSWORD"))];
    let written = || world.cluster.read(&into).len();

    let grants = documented(&stage, &name, &into);
    assert_eq!(grants.len(), 5, "{grants:?}");
    for grant in &grants {
        acls("--add", grant);
    }
    for without in &grants {
        acls("--remove", without);
        let mut replay = stage.start_as(&password, &arguments);
        replay.await_log("grant ");
        replay.kill();
        println!("without {without:?}: {}", replay.log());
        assert_eq!(written(), 0, "replayed without {without:?}");
        acls("--add", without);
    }
    let mut replay = stage.start_as(&password, &arguments);
    assert_eq!(replay.exit_code(Duration::from_secs(60)), 0, "{}", replay.log());
    assert_eq!((written(), world.cluster.read(&format!("{into}.dead")).len()), (20, 1));
}

#[test]
fn the_documented_grants_let_letters_be_replayed() {
    let Some(stage) = narrow_stage("dlq_least") else { return };
    if std::env::var_os("PRESSLINE_TEST_SASL_LEAST_USER").is_none() {
        println!("skipped: PRESSLINE_TEST_SASL_LEAST_USER is not set");
        return;
    }
    with_letters(&stage);
    let world = &stage.world;
    let named = |word: &str| match word {
        "raw_presses" => world.raw.clone(),
        "raw_presses.dead" => world.dead.clone(),
        "button_presses" => world.out.clone(),
        "button_presses.dead" => format!("{}.dead", world.out),
        other => other.replace("button_presses", &world.name),
    };
    let grants = |block| documented_grants(block).map(|grant| grant.split(' ').map(named).collect::<Vec<String>>());
    for grant in grants(1) {
        acls("--add", &grant);
    }
    let user = least_user();
    let mut arguments = vec!["replay", "--sink", "relay"];
    arguments.extend(ACTIONS);
    arguments.extend(user.iter().flat_map(|set| ["--set", set]));
    let replay = || {
        let mut command = stage.dlq_command(&arguments);
        command.env("PRESSLINE__KAFKA__SASL__PASSWORD", service("PRESSLINE_TEST_SASL_PASSWORD"));
        let output = command.output().unwrap();
        let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        println!("{text}");
        (output.status.code(), text)
    };
    let (code, text) = replay();
    assert_eq!(code, Some(1), "{text}");
    holds_all(&text, &[&world.dead, "grant this user Read"]);
    for grant in grants(4) {
        acls("--add", &grant);
    }
    let (code, text) = replay();
    assert_eq!(code, Some(0), "{text}");
    holds_all(&text, &["2 letters = 2 replayed"]);
}

const ROLE: &str = "pressline_replayer";

/// What stands between `GRANT` and `ON` in the page's statements for replays, with the table of this test: right and table.
fn documented_in_postgres(archive: &str, offsets: &str) -> Vec<(String, String)> {
    let page = include_str!("../../docs/operations.md");
    let section = page.split("### PostgreSQL\n").nth(1).expect("a section on PostgreSQL's rights");
    let block = section.split("```sql\n").nth(2).and_then(|rest| rest.split("```").next()).expect("a replay's grants");
    let mut found = Vec::new();
    for grant in block.lines().filter_map(|line| line.strip_prefix("GRANT ")?.strip_suffix(" TO loader;")) {
        let (rights, table) = grant.split_once(" ON ").unwrap();
        let table = if table == "archive" { archive } else { offsets };
        found.extend(rights.split(", ").map(|right| (right.to_string(), table.to_string())));
    }
    found
}

#[test]
fn the_documented_grants_in_postgresql_are_enough_and_none_is_too_many() {
    let Some(stage) = stage("replay_role") else { return };
    daemon::send(&stage.world, 0..300);
    stage.run_live(300, &[]);
    let (archive, offsets, schema) = (stage.table("archive"), stage.table("positions"), &stage.postgres.schema);
    stage.sql(&format!("DO $$ BEGIN DROP OWNED BY {ROLE}; EXCEPTION WHEN undefined_object THEN NULL; END $$"));
    stage.sql(&format!("DROP ROLE IF EXISTS {ROLE}"));
    stage.sql(&format!("CREATE TABLE {archive} (LIKE {schema}.live INCLUDING ALL)"));
    // The sink's own rights on its positions; those on the table are the replay's.
    stage.sql(&format!(
        "CREATE ROLE {ROLE} LOGIN PASSWORD 'least'; GRANT USAGE ON schema {schema} TO {ROLE}; \
         GRANT SELECT, INSERT, UPDATE ON {offsets} TO {ROLE}"
    ));
    let grants = documented_in_postgres(&archive, &offsets);
    assert_eq!(grants.len(), 3, "{grants:?}");
    let (user, password) = (format!("sink.postgres.user={ROLE}"), stage.world.write("replayer", "least"));
    let password = format!("sink.postgres.password_file={}", password.display());
    let arguments = ["--sink", "postgres", "--into", &archive, "--set", &user, "--set", &password];
    let restart = [&arguments[..], &["--restart"]].concat();
    let change = |verb: &str, grants: &[(String, String)]| {
        for (right, table) in grants {
            stage.sql(&format!("{verb} {right} ON {table} {} {ROLE}", if verb == "GRANT" { "TO" } else { "FROM" }));
        }
    };
    change("GRANT", &grants);
    stage.done(&arguments, &["300 records = 300 written", "all accounted for"]);
    for without in &grants {
        stage.sql(&format!("TRUNCATE {archive}"));
        change("REVOKE", std::slice::from_ref(without));
        let mut replay = stage.start(&restart);
        replay.await_log("GRANT");
        replay.kill();
        assert_eq!(stage.postgres_count("archive"), 0, "replayed without {without:?}");
        change("GRANT", std::slice::from_ref(without));
        stage.done(&restart, &["300 records = 300 written", "all accounted for"]);
    }
    stage.sql(&format!("DROP OWNED BY {ROLE}; DROP ROLE {ROLE}"));
}
