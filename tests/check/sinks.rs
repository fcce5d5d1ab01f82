//! What `pressline check` says of sinks. Databases are named by `PRESSLINE_TEST_POSTGRES` and `PRESSLINE_TEST_CLICKHOUSE` and
//! their siblings; without them those tests are skipped.

use pressline::command::check::Report;
use tokio_postgres::NoTls;

use super::{House, Services, has, reqwest_client};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by tests/stack/stack.py run"))
}

pub fn skip(name: &str) -> bool {
    let skip = std::env::var(name).is_err();
    if skip {
        println!("skipped: {name} is not set");
    }
    skip
}

impl House {
    /// Appends a sink to the pipeline.
    fn sink(self, text: &str) -> Self {
        self.with("[place]", &format!("{text}\n[place]"))
    }
}

impl Services {
    /// The topics, the relay's subject registered with this schema, and a pipeline.
    async fn loaded_house(&self, schema: &str) -> House {
        self.topics().await;
        let url = format!("{}/subjects/{}-value/versions", self.registry, self.out());
        let body = serde_json::json!({ "schema": schema }).to_string();
        let kind = "application/vnd.schemaregistry.v1+json";
        let answer = reqwest_client().post(url).header("content-type", kind).body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        self.house()
    }
}

const SCHEMA: &str = include_str!("../../schemas/button_presses.avsc");

/// The schema without the fields that were added at its end.
fn older_schema() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    schema["fields"].as_array_mut().unwrap().truncate(9);
    schema.to_string()
}

/// The statement of a finding whose cure ends in one.
fn statement(report: &Report, begin: &str) -> String {
    let cures = report.findings.iter().map(|finding| finding.cure.as_str());
    let found = cures.filter_map(|cure| Some(&cure[cure.find(begin)?..])).next();
    let found = found.unwrap_or_else(|| panic!("no {begin} in {}", report.to_text()));
    found.split(';').next().unwrap().to_string()
}

#[tokio::test]
async fn findings_in_a_sinks_tables_are_told_once_and_offline() {
    let house = House::new().sink("[sink.postgres]\nuser = \"loader\"\ntable = \"t\"\nsslmod = \"require\"");
    let text = house.read().await;
    has(&text, "sink.postgres.sslmod: unknown key\n    did you mean `sslmode`?");
    has(&text, "sink.postgres.database: required and not set");
    has(&text, "2 errors, 0 warnings");
    let house = House::new().sink("[sink.postgres]\nuser = \"loader\"\ntable = \"t\"\ndatabase = \"d\"");
    let text = house.read().await;
    has(&text, "ok: p: sink.postgres of p.toml");
    has(&text, "0 errors, 0 warnings");
}

#[tokio::test]
async fn password_files_that_hold_no_password_are_told_offline() {
    for (sink, rest) in
        [("postgres", "user = \"loader\"\ndatabase = \"d\""), ("clickhouse", "url = \"http://127.0.0.1:8123\"")]
    {
        for (file, what) in [
            ("empty", "empty is empty, expected one line with the secret"),
            ("folder", "cannot read folder: it is a folder"),
            ("missing", "cannot read missing: No such file"),
        ] {
            let house = House::new().sink(&format!("[sink.{sink}]\n{rest}\ntable = \"t\"\npassword_file = \"{file}\""));
            std::fs::write(house.path("empty"), "\n").unwrap();
            std::fs::create_dir(house.path("folder")).unwrap();
            let text = house.read().await;
            has(&text, &format!("sink.{sink}.password_file: {what}"));
            has(&text, "that the user who runs pressline may read");
            has(&text, "1 error, 0 warnings");
        }
    }
}

#[tokio::test]
async fn hosts_that_only_libpq_takes_are_told_offline() {
    for (host, what) in [
        ("db1,db2", "several hosts"),
        ("[::1]", "an address in brackets"),
        ("[::1]:5432", "an address in brackets"),
        ("postgres://db1/d", "a URL, expected a host name or address"),
        ("db1:5432", "a host with a port"),
        ("db1 db2", "a host name with blanks in it"),
    ] {
        let house = House::new()
            .sink(&format!("[sink.postgres]\nhost = \"{host}\"\nuser = \"loader\"\ntable = \"t\"\ndatabase = \"d\""));
        let text = house.read().await;
        has(&text, &format!("sink.postgres.host: {what}"));
        has(&text, "1 error, 0 warnings");
    }
    for host in ["::1", "fe80::1%eth0", "db-1.example", "127.0.0.1", "/run/postgresql"] {
        let house = House::new()
            .sink(&format!("[sink.postgres]\nhost = \"{host}\"\nuser = \"loader\"\ntable = \"t\"\ndatabase = \"d\""));
        has(&house.read().await, "0 errors, 0 warnings");
    }
}

#[tokio::test]
async fn databases_that_are_not_there() {
    let house = House::new().sink(
        "[sink.postgres]\nport = 1\nuser = \"loader\"\ntable = \"t\"\ndatabase = \"d\"\n\
         [sink.clickhouse]\nurl = \"http://127.0.0.1:1\"\ntable = \"t\"",
    );
    let text = house.text(&house.check(true).await);
    has(&text, "sink.postgres.host: PostgreSQL 127.0.0.1:1/d: cannot connect: Connection refused");
    has(&text, "\n    start the server, fix sink.postgres.host and port, or open the port\n");
    has(&text, "sink.clickhouse.url: ClickHouse http://127.0.0.1:1: connection failed: ");
    has(&text, "\n    is the server up, and sink.clickhouse.url its HTTP interface?\n");
    // The registry, which relay and sinks share, is complained of once.
    assert_eq!(text.matches("registry.url: schema registry").count(), 1, "{text}");
    has(&text, "4 errors, 0 warnings");
}

/// A PostgreSQL schema of its own, and a client that looks into it.
pub struct Database {
    client: tokio_postgres::Client,
    schema: String,
}

impl Database {
    pub async fn new(test: &str) -> Self {
        let (host, port) =
            variable("PRESSLINE_TEST_POSTGRES").split_once(':').map(|(h, p)| (h.to_string(), p.to_string())).unwrap();
        let (client, connection) = tokio_postgres::Config::new()
            .host(&host)
            .port(port.parse().unwrap())
            .user(variable("PRESSLINE_TEST_POSTGRES_USER"))
            .password(variable("PRESSLINE_TEST_POSTGRES_PASSWORD"))
            .dbname(variable("PRESSLINE_TEST_POSTGRES_DATABASE"))
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let database = Self { client, schema: format!("check_{test}") };
        database.run(&format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", database.schema)).await;
        database
    }

    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
    }

    /// `[sink.postgres]`; a password file lies in the house.
    fn sink(&self, house: &House, user: &str, password: &str, more: &str) -> String {
        std::fs::write(house.path("password"), password).unwrap();
        let address = variable("PRESSLINE_TEST_POSTGRES");
        let (host, port) = address.split_once(':').unwrap();
        let (database, schema) = (variable("PRESSLINE_TEST_POSTGRES_DATABASE"), &self.schema);
        format!(
            "[sink.postgres]\nhost = \"{host}\"\nport = {port}\nuser = \"{user}\"\npassword_file = \"password\"\n\
             database = \"{database}\"\ntable = \"{schema}.presses\"\noffsets_table = \"{schema}.positions\"\n{more}"
        )
    }

    pub fn own_sink(&self, house: &House, more: &str) -> String {
        let [user, password] = ["USER", "PASSWORD"].map(|name| variable(&format!("PRESSLINE_TEST_POSTGRES_{name}")));
        self.sink(house, &user, &password, more)
    }
}

#[tokio::test]
async fn online_postgres_a_missing_table_and_the_statement_that_makes_it() {
    let Some(services) = Services::from_environment() else { return };
    if skip("PRESSLINE_TEST_POSTGRES") {
        return;
    }
    let database = Database::new("missing").await;
    let house = services.loaded_house(SCHEMA).await;
    let sink = database.own_sink(&house, "");
    let house = house.sink(&sink);
    let report = house.check(true).await;
    let text = house.text(&report);
    has(&text, "sink.postgres.table: PostgreSQL ");
    has(
        &text,
        "there is no table \"check_missing\".\"presses\"\n    make it, for example so, or set sink.postgres.auto_create = true:\n",
    );
    has(&text, "table of positions \"check_missing\".\"positions\" is not there, it will be made at start");
    has(&text, "1 error, 0 warnings");
    assert_eq!(report.exit_code(), 1);

    let made = house.with("[place]", "[place]").with("offsets_table", "auto_create = true\noffsets_table");
    let text = made.text(&made.check(true).await);
    has(&text, "ok: ");
    has(&text, "it will be made at start:\nCREATE TABLE IF NOT EXISTS \"check_missing\".\"presses\" (\n");
    has(&text, "0 errors, 0 warnings");

    database.run(&statement(&report, "CREATE TABLE")).await;
    let report = made.check(true).await;
    let text = made.text(&report);
    has(
        &text,
        &format!(
            "ok: {0}: table check_missing.presses takes subject {1}-value, version 1 (id ",
            services.unique,
            services.out()
        ),
    );
    has(&text, &format!("plan: {}: postgres table check_missing.presses, subject ", services.unique));
    has(&text, "    field             Avro type");
    has(&text, "timestamp with time zone  microseconds, exact\n");
    has(&text, "0 errors, 0 warnings");
    let json = report.to_json();
    let plan = &json["plans"][0];
    assert_eq!((&plan["sink"], &plan["table"]), (&"postgres".into(), &"check_missing.presses".into()));
    let line = serde_json::json!({
        "field": "session_id", "avro_type": "string (uuid)", "column": "session_id", "column_type": "uuid",
        "conversion": plan["lines"][0]["conversion"],
    });
    assert_eq!(plan["lines"][0], line);
    assert_eq!(plan["lines"].as_array().unwrap().len(), 13);
}

#[tokio::test]
async fn online_postgres_everything_that_does_not_fit_at_once() {
    let Some(services) = Services::from_environment() else { return };
    if skip("PRESSLINE_TEST_POSTGRES") {
        return;
    }
    let database = Database::new("misfit").await;
    database
        .run(
            "CREATE TABLE check_misfit.presses (session_id uuid, \"timestamp\" real, action text, country_name text, \
             country_code text, subdivision_name text, subdivision_code text, loaded_at timestamptz DEFAULT now(), owner text \
             NOT NULL)",
        )
        .await;
    let house = services.loaded_house(&older_schema()).await;
    let sink = database.own_sink(&house, "columns.ignore = [\"subdivision_name\", \"subdivision_nam\"]\n");
    let house = house.sink(&sink);
    let report = house.check(true).await;
    let text = house.text(&report);
    has(&text, "the table has no column cohort for field cohort");
    has(&text, "the table has no column city_name for field city_name");
    has(&text, "column timestamp (real) from field timestamp");
    has(&text, "column owner (text): no field fills it, and it takes no null and has no default");
    has(&text, "subdivision_nam: sink.postgres.columns names a field that the schema does not have");
    let line = |field: &str, column: &str| {
        let all = report.plans.iter().flat_map(|plan| &plan.lines);
        let mut of = all.filter(|line| line.field == field && line.column == column);
        of.next().unwrap_or_else(|| panic!("no line of {field} {column}")).conversion.clone()
    };
    assert_eq!(line("timestamp", "timestamp"), "does not fit");
    assert_eq!(line("cohort", ""), "no column");
    assert_eq!(line("subdivision_name", ""), "dropped, as columns.ignore says");
    assert_eq!(line("", "loaded_at"), "no field: left to its default");
    assert_eq!(report.exit_code(), 1);
    // The relay's own schema, which is the next to be written, is newer than the registered one: both are compared.
    let schemas: Vec<&str> = report.plans.iter().map(|plan| plan.schema.as_str()).collect();
    assert_eq!(schemas.len(), 2);
    assert!(schemas[0].ends_with("s.avsc, not registered yet") && schemas[1].contains("version 1 (id "), "{schemas:?}");

    // Each ALTER that was printed works.
    for column in ["cohort", "city_name", "latitude", "longitude", "accuracy_km", "time_zone"] {
        database
            .run(&statement(&report, &format!("ALTER TABLE \"check_misfit\".\"presses\" ADD COLUMN \"{column}\"")))
            .await;
    }
    database.run("ALTER TABLE check_misfit.presses ALTER owner DROP NOT NULL").await;
    let report = house.check(true).await;
    let text = house.text(&report);
    has(&text, "column timestamp (real) from field timestamp");
    has(&text, "1 error, 2 warnings\n");
}

#[tokio::test]
async fn online_postgres_doors_and_rights() {
    let Some(services) = Services::from_environment() else { return };
    if skip("PRESSLINE_TEST_POSTGRES") {
        return;
    }
    let database = Database::new("rights").await;
    let house = services.loaded_house(SCHEMA).await;
    let sink = database.sink(&house, "postgres", "a-wrong-one", "");
    let house = house.sink(&sink);
    let text = house.text(&house.check(true).await);
    has(&text, "sink.postgres.password_file: PostgreSQL ");
    has(
        &text,
        "the server refuses the password (SQLSTATE 28P01)\n    set the right password in sink.postgres.password_file or",
    );
    assert!(!text.contains("a-wrong-one"), "{text}");

    database
        .run(
            "DROP ROLE IF EXISTS check_reader; CREATE ROLE check_reader LOGIN PASSWORD 'reads'; GRANT USAGE ON SCHEMA \
             check_rights TO check_reader; CREATE TABLE check_rights.presses (session_id uuid); CREATE TABLE \
             check_rights.positions (pipeline text, topic text, topic_id text, \"partition\" integer, next_offset bigint, \
             updated_at timestamptz); GRANT SELECT ON ALL TABLES IN SCHEMA check_rights TO check_reader",
        )
        .await;
    let ignored = "columns.ignore = [\"timestamp\", \"cohort\", \"action\", \"country_name\", \"country_code\", \
                   \"subdivision_name\", \"subdivision_code\", \"city_name\", \"latitude\", \"longitude\", \"accuracy_km\", \
                   \"time_zone\"]\n";
    let house = services.house();
    let sink = database.sink(&house, "check_reader", "reads", ignored);
    let house = house.sink(&sink);
    let text = house.text(&house.check(true).await);
    has(
        &text,
        "check_rights.presses: the user may not insert into the table\n    GRANT INSERT ON \"check_rights\".\"presses\"",
    );
    has(
        &text,
        "sink.postgres.offsets_table: the user lacks INSERT, UPDATE on the table of positions check_rights.positions",
    );
    has(&text, "\n    GRANT INSERT, UPDATE ON \"check_rights\".\"positions\" TO the user\n");
    has(&text, "2 errors, 0 warnings");

    database.run("DROP TABLE check_rights.presses, check_rights.positions").await;
    let house = house.with("offsets_table", "auto_create = true\noffsets_table");
    let text = house.text(&house.check(true).await);
    has(&text, "sink.postgres.auto_create: ");
    has(&text, "and the user may not make it (auto_create)\n");
    has(
        &text,
        "there is no table of positions \"check_rights\".\"positions\", and the user may not make it\n    let an owner run:\nCREATE TABLE",
    );
    database.run("GRANT INSERT, SELECT, UPDATE ON ALL TABLES IN SCHEMA check_rights TO check_reader").await;
    database.run("ALTER ROLE check_reader SET default_transaction_read_only = on").await;
    let text = house.text(&house.check(true).await);
    has(&text, "the server or the user may only read (a standby?)");
    database.run("DROP SCHEMA check_rights CASCADE; DROP ROLE check_reader").await;

    let house = services.house();
    let sink = database.own_sink(&house, "sslmode = \"verify-full\"\n");
    let house = house.sink(&sink);
    let text = house.text(&house.check(true).await);
    has(&text, "sink.postgres.sslmode: PostgreSQL ");
    has(&text, "TLS: ");
}

/// A ClickHouse table's name that no other run has, and statements by hand.
struct Store {
    table: String,
}

impl Store {
    fn new(services: &Services) -> Self {
        Self { table: services.unique.replace('-', "_") }
    }

    async fn run(&self, sql: &str) {
        let answer = reqwest_client()
            .post(variable("PRESSLINE_TEST_CLICKHOUSE"))
            .basic_auth(
                variable("PRESSLINE_TEST_CLICKHOUSE_USER"),
                Some(variable("PRESSLINE_TEST_CLICKHOUSE_PASSWORD")),
            )
            .body(sql.to_string())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{}: {sql}", answer.text().await.unwrap());
    }

    fn sink(&self, house: &House, password: &str, more: &str) -> String {
        std::fs::write(house.path("ch-password"), password).unwrap();
        let [url, user, database] =
            ["", "_USER", "_DATABASE"].map(|name| variable(&format!("PRESSLINE_TEST_CLICKHOUSE{name}")));
        format!(
            "[sink.clickhouse]\nurl = \"{url}\"\nuser = \"{user}\"\npassword_file = \"ch-password\"\ndatabase = \"{database}\"\n\
             table = \"{}\"\n{more}",
            self.table
        )
    }
}

#[tokio::test]
async fn online_clickhouse_tables_doors_and_plans() {
    let Some(services) = Services::from_environment() else { return };
    if skip("PRESSLINE_TEST_CLICKHOUSE") {
        return;
    }
    let (store, password) = (Store::new(&services), variable("PRESSLINE_TEST_CLICKHOUSE_PASSWORD"));
    let house = services.loaded_house(SCHEMA).await;
    let sink = store.sink(&house, "a-wrong-one", "");
    let house = house.sink(&sink);
    let text = house.text(&house.check(true).await);
    has(&text, "sink.clickhouse.user: ClickHouse http://");
    has(
        &text,
        "code 516 AUTHENTICATION_FAILED: wrong user or password\n    check sink.clickhouse.user, its password file",
    );
    assert!(!text.contains("a-wrong-one"), "{text}");

    std::fs::write(house.path("ch-password"), &password).unwrap();
    let missing = house.check(true).await;
    let text = house.text(&missing);
    has(
        &text,
        &format!("sink.clickhouse.table: ClickHouse {}: there is no table ", variable("PRESSLINE_TEST_CLICKHOUSE")),
    );
    has(&text, "\n    make it, for example so, or set sink.clickhouse.auto_create = true:\nCREATE TABLE IF NOT EXISTS");

    let definition = "(session_id UUID, timestamp DateTime, action String, country_name String, country_code String, \
                      subdivision_name String, subdivision_code String, _topic String) ENGINE = MergeTree ORDER BY timestamp";
    store.run(&format!("CREATE TABLE pressline.{} {definition}", store.table)).await;
    let report = house.check(true).await;
    let text = house.text(&report);
    has(&text, "_partition, _offset: delivery = \"exactly_once\" rests on these columns, which the table lacks");
    has(&text, "the table has no column cohort for field cohort");
    has(&text, "field timestamp (long (timestamp-micros)) does not fit column timestamp (DateTime): ");
    let line = report.plans[0].lines.iter().find(|line| line.field == "timestamp").unwrap();
    assert_eq!((line.column_type.as_str(), line.conversion.as_str()), ("DateTime", "does not fit"));
    for column in ["cohort", "city_name", "latitude", "longitude", "accuracy_km", "time_zone"] {
        let begin = format!("ALTER TABLE `pressline`.`{}` ADD COLUMN `{column}`", store.table);
        store.run(&statement(&report, &begin)).await;
    }
    let text = house.text(&house.check(true).await);
    assert!(!text.contains("the table has no column"), "{text}");

    store.run(&format!("DROP TABLE pressline.{}", store.table)).await;
    store.run(&statement(&missing, "CREATE TABLE")).await;
    let report = house.check(true).await;
    let text = house.text(&report);
    has(&text, &format!("table pressline.{}: the user may insert and read", store.table));
    has(&text, "the record's offset\n");
    has(&text, "0 errors, 0 warnings");
    assert_eq!(report.to_json()["plans"][0]["sink"], "clickhouse");
    store.run(&format!("DROP TABLE pressline.{}", store.table)).await;
}
