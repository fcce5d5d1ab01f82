//! Settings of files, environment and command line: what is wrong is told all at once, with the layer that it came from.

use super::{House, PIPELINE, both, has};

/// `check` with one variable.
fn with(house: &House, name: &str, value: &str) -> String {
    both(&house.pressline("check").env(name, value).output().unwrap())
}

#[test]
fn a_value_of_the_environment_is_read_as_its_key_takes_it() {
    let house = House::new();
    for (name, value) in [
        ("PRESSLINE__INSTANCE", "1"),
        ("PRESSLINE__INSTANCE", "007"),
        ("PRESSLINE__INSTANCE", "true"),
        ("PRESSLINE__SOURCE__TOPIC", "1e5"),
        ("PRESSLINE__SOURCE__GROUP", "\"1\""),
        ("PRESSLINE__WORKERS", "2"),
        ("PRESSLINE__SOURCE__ACTIONS", "EnterPage"),
        ("PRESSLINE__SOURCE__ACTIONS", "EnterPage, ExitPage"),
        ("PRESSLINE__SOURCE__ACTIONS", "[EnterPage, ExitPage]"),
        ("PRESSLINE__SOURCE__HEADERS", "[1, 2]"),
        ("PRESSLINE__PLACE__FILES", "demo.mmdb"),
        ("PRESSLINE__KAFKA__CONSUMER__FETCH_MIN_BYTES", "1"),
        ("PRESSLINE__KAFKA__PROPERTIES__CLIENT_RACK", "007"),
        ("PRESSLINE__HTTP__LISTEN", "localhost:9187"),
        ("PRESSLINE__HTTP__LISTEN", ":9187"),
        ("PRESSLINE__HTTP__LISTEN", "[::1]:9187"),
        ("PRESSLINE__LOG__LEVEL", "warning"),
        ("PRESSLINE__LOG__LEVEL", "WARN,librdkafka=debug"),
    ] {
        let text = with(&house, name, value);
        has(&text, "0 errors, 0 warnings");
        let key = name.trim_start_matches("PRESSLINE__").replace("__", ".").to_lowercase();
        has(&house.check(&format!("--set {key}={}", value.replace(", ", ","))), "0 errors, 0 warnings");
    }
}

#[test]
fn a_finding_names_the_layer_that_the_value_came_from() {
    let house = House::new();
    house.write("pressline.toml", "\n[registry]\nurl = \"registry:8081\"\n");
    house.write("pipelines/presses.toml", &PIPELINE.replace("[registry]\nurl = \"http://127.0.0.1:1\"\n", ""));
    has(&house.check(""), "error: pressline.toml:3: registry.url: not an http:// or https:// address");
    let variable = with(&house, "PRESSLINE__REGISTRY__URL", "");
    has(&variable, "error: environment PRESSLINE__REGISTRY__URL: registry.url: required and not set");
    has(&house.check("--set registry.url=x"), "error: command line: registry.url: not an http");
    has(&house.check("--set workers=0"), "error: command line: workers: out of range");
    has(&house.check("--set place.files=[]"), "error: command line: place.files: empty");
    let variable = with(&house, "PRESSLINE__WORKERS", "");
    has(
        &variable,
        "error: environment PRESSLINE__WORKERS: workers: empty\n    set it to a value, or unset the variable",
    );
    house.write("pressline.toml", "");
    house.write("pipelines/presses.toml", PIPELINE);
    let variable = with(&house, "PRESSLINE__KAFKA__CONSUMER__FETCH_MIN_BYTES", "many");
    has(
        &variable,
        "error: environment PRESSLINE__KAFKA__CONSUMER__FETCH_MIN_BYTES: kafka.consumer.fetch.min.bytes: librdkafka",
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let house = House::new();
    let text = PIPELINE
        .replace(
            "[source]",
            "[source]\ntopik = \"x\"\nmax_depth = \"deep\"\nstatic_membership = 7\nstart = \"begining\"",
        )
        .replace("topic = \"button_presses\"\n", "")
        + "[batch]\nmax_record = 5\nmax_bytes = -1\n[sinks.postgres]\nhost = \"h\"\n";
    house.write("pipelines/presses.toml", &text);
    let found = house.check("--set workers=0.5");
    for expected in [
        "presses.toml:7: source.topik: unknown key\n    did you mean `topic`? Expected one of `topic`, `format`",
        "presses.toml:8: source.max_depth: found text, expected a whole number, 0 or more\n",
        "presses.toml:9: source.static_membership: found a whole number, expected true or false\n",
        "presses.toml:10: source.start: found `begining`, expected one of `auto`, `beginning`, `end`\n    did you mean `beginning`?",
        "presses.toml:12: output.topic: required and not set\n",
        "presses.toml:17: batch.max_record: unknown key\n    did you mean `max_records`?",
        "presses.toml:18: batch.max_bytes: found a whole number that does not fit, expected a whole number, 0 or more",
        "presses.toml:19: sinks: unknown key\n    did you mean `sink`?",
        "command line: workers: found a number with a fraction, expected a whole number, 0 or more",
        "9 errors, 0 warnings",
    ] {
        has(&found, expected);
    }
    for rust in ["usize", "u64", "i32", "sequence", "struct"] {
        assert!(!found.contains(rust), "{rust}: {found}");
    }
    house.write("pipelines/presses.toml", "");
    has(&house.check(""), "error: pipelines/presses.toml: kafka.bootstrap_servers: required and not set");
}

#[test]
fn a_level_that_is_none_is_refused_by_name() {
    let house = House::new();
    for (level, what) in [
        ("verbose", "`verbose` is not a level, expected error, warn, info, debug or trace"),
        ("off", "`off`: errors are always shown"),
        ("", "no level in ``"),
        ("info,librdkafka=loud", "`loud` is not a level"),
        ("info,debug", "two levels for everything"),
    ] {
        has(&house.check(&format!("--set log.level={level}")), &format!("command line: log.level: {what}"));
        let output = house.pressline(&format!("run --set log.level={level}")).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{level}");
        has(&both(&output), what);
    }
    // Errors come through whatever the filter is about.
    house.write("pipelines/presses.toml", &format!("workers = 0\n{PIPELINE}"));
    let output = house.pressline("run --set log.level=librdkafka=debug").output().unwrap();
    has(&both(&output), "ERROR this pipeline is not started");
}

#[test]
fn a_time_out_of_0_is_refused() {
    let house = House::new();
    let sinks = "[sink.postgres]\ndatabase = \"d\"\nuser = \"u\"\ntable = \"t\"\n[sink.clickhouse]\nurl = \"http://h\"\ntable = \"t\"\n";
    house.write("pipelines/presses.toml", &format!("{PIPELINE}{sinks}"));
    has(&house.check(""), "0 errors, ");
    for key in [
        "registry.timeout_ms",
        "sink.postgres.statement_timeout_ms",
        "sink.postgres.connect_timeout_ms",
        "sink.clickhouse.timeout_ms",
        "sink.clickhouse.connect_timeout_ms",
        "http.header_timeout_ms",
        "http.max_connections",
        "memory.fetch_mb",
        "memory.batch_mb",
    ] {
        has(&house.check(&format!("--set {key}=0")), &format!("error: command line: {key}: 0"));
    }
    let interval = "kafka.consumer.statistics.interval.ms";
    has(&house.check(&format!("--set {interval}=0")), &format!("error: command line: {interval}: may not be 0"));
}

#[test]
fn a_secret_that_is_empty_is_refused() {
    let house = House::new();
    house.write("empty", "\n");
    let sinks = "[sink.postgres]\ndatabase = \"d\"\nuser = \"u\"\ntable = \"t\"\n[sink.clickhouse]\nurl = \"http://h\"\ntable = \"t\"\n";
    house.write("pipelines/presses.toml", &format!("{PIPELINE}{sinks}"));
    let text = with(&house, "PRESSLINE__SINK__POSTGRES__PASSWORD", "");
    has(&text, "sink.postgres.password_file: environment variable PRESSLINE__SINK__POSTGRES__PASSWORD is empty");
    let text = with(&house, "PRESSLINE__SINK__CLICKHOUSE__PASSWORD", "");
    has(&text, "sink.clickhouse.password_file: environment variable PRESSLINE__SINK__CLICKHOUSE__PASSWORD is empty");
    for sink in ["postgres", "clickhouse"] {
        has(&house.check(&format!("--set sink.{sink}.password_file=empty")), "empty is empty, expected one line");
        has(&house.check(&format!("--set sink.{sink}.password_file=.")), "cannot read .: it is a folder");
        has(&house.check(&format!("--set sink.{sink}.password_file=absent")), "cannot read absent: No such file");
    }
    // A command that asks no database does not look for its password.
    let output = house.pressline("topics create --set sink.postgres.password_file=absent").output().unwrap();
    has(&both(&output), "no broker at 127.0.0.1:1 answers");
}

#[test]
fn keys_that_would_have_no_effect_are_refused() {
    let house = House::new();
    let sink = "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[registry]\nurl = \"http://127.0.0.1:1\"\n[sink]\ntopic = \"t\"\n\
                [sink.clickhouse]\nurl = \"http://h\"\ntable = \"t\"\n";
    house.write("pipelines/presses.toml", &format!("workers = 8\n{sink}[dead_letter]\nmax_dead_share = 0.1\n"));
    let text = house.check("");
    has(&text, "presses.toml:1: workers: has no effect: this file has no [source]\n    set `consumer.workers`");
    has(&text, "presses.toml:11: dead_letter: has no effect: this file has no [source]");
    house.write("pipelines/presses.toml", sink);
    has(&house.check("--set workers=8"), "error: command line: workers: has no effect: no pipeline has a [source]");
    has(&with(&house, "PRESSLINE__BATCH__MAX_RECORDS", "8"), "warning: environment PRESSLINE__BATCH__MAX_RECORDS: ");
    for (set, what) in [
        ("sink.clickhouse.order_by=a", "sink.clickhouse.order_by: has no effect without auto_create"),
        ("sink.clickhouse.ca=s.avsc", "sink.clickhouse.ca: has no effect: the url is http://"),
        ("registry.password_file=s.avsc", "registry.password_file: has no effect without registry.username"),
        (
            "kafka.consumer.linger.ms=5",
            "kafka.consumer.linger.ms: a property of producers, which a consumer ignores\n    move it to kafka.producer",
        ),
        (
            "kafka.producer.fetch.min.bytes=5",
            "kafka.producer.fetch.min.bytes: a property of consumers, which a producer ignores\n    move it to kafka.consumer",
        ),
    ] {
        has(&house.check(&format!("--set {set}")), &format!("error: command line: {what}"));
    }
}

#[test]
fn variables_with_single_underscores_are_noticed() {
    let house = House::new();
    let text = with(&house, "PRESSLINE_KAFKA_BOOTSTRAP_SERVERS", "h:1");
    has(&text, "warning: environment PRESSLINE_KAFKA_BOOTSTRAP_SERVERS: not read: ");
    has(&text, "did you mean PRESSLINE__KAFKA__BOOTSTRAP_SERVERS?");
    for kubernetes in
        ["PRESSLINE_KAFKA_SERVICE_HOST", "PRESSLINE_KAFKA_PORT_9092_TCP", "PRESSLINE_PORT", "PRESSLINE_OTHER"]
    {
        has(&with(&house, kubernetes, "x"), "0 errors, 0 warnings");
    }
}

#[test]
fn a_url_is_hinted_at_with_its_own_port() {
    let house = House::new();
    let sink = "[sink.clickhouse]\nurl = \"127.0.0.1:8123\"\ntable = \"t\"\n";
    house.write("pipelines/presses.toml", &format!("{PIPELINE}{sink}"));
    has(
        &house.check(""),
        "sink.clickhouse.url: not an http:// or https:// address\n    write it like http://127.0.0.1:8123",
    );
    for (listen, what) in [("127.0.0.1", "no port"), ("localhost:port", "no port from 0 to 65535"), ("9187", "no port")]
    {
        let what = format!("command line: http.listen: {what}");
        has(&house.check(&format!("--set http.listen={listen}")), &what);
    }
}

#[test]
fn a_pipeline_is_named_or_its_file() {
    let house = House::new();
    house.write("pipelines/other.toml", &format!("name = \"second\"\n{}", PIPELINE.replace("_presses", "_others")));
    for (named, expected) in [
        ("presses", "ok: presses: configuration pipelines/presses.toml"),
        ("second", "ok: second: configuration pipelines/other.toml"),
        ("pipelines/other.toml", "ok: second: configuration pipelines/other.toml"),
    ] {
        let text = house.check(named);
        has(&text, expected);
        assert_eq!(text.matches(": configuration ").count(), 1, "{text}");
    }
    has(&house.check("other"), "error: other: no such file, and no pipeline of that name in ");
    let elsewhere = house.pressline("check").current_dir("/").output().unwrap();
    has(
        &both(&elsewhere),
        "error: pipelines: no such folder in /\n    start pressline in the folder that has pipelines/",
    );
    let output = house.pressline("offsets show").output().unwrap();
    has(&both(&output), "there are several pipelines; name one with --pipeline");
    std::fs::remove_file(house.path("pipelines/other.toml")).unwrap();
    let output = house.pressline("offsets show").output().unwrap();
    has(&both(&output), "127.0.0.1:1");
    let output = house.pressline("healthcheck --set http.listen=127.0.0.1:0").output().unwrap();
    has(&both(&output), "http.listen: port 0 is a free one that nobody knows here");
    let output = house.pressline("healthcheck --set http.listen=127.0.0.1:1").output().unwrap();
    has(&both(&output), "does not answer on 127.0.0.1:1: ");
    has(&both(&output), "is it running, and is http.listen its own?");
}

#[test]
fn a_table_on_the_command_line() {
    let house = House::new();
    has(&house.check("--set batch={max_wait_ms=5}"), "0 errors, 0 warnings");
    has(
        &house.check("--set batch={max_wait=5}"),
        "command line: batch.max_wait: unknown key\n    did you mean `max_wait_ms`?",
    );
    has(&house.check("--set batch=5"), "command line: batch: found a whole number, expected a table");
    has(&house.check("--set .batch=5"), "command line: --set: a part of the key is empty");
    has(&house.check("--set kafka.sasl={password=hunter2}"), "secrets do not stand in the configuration");
}
