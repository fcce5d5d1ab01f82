//! `check --online` of changes in Debezium's envelope: what the connector lacks at the source, each with the statement that cures it.

use crate::loads::load;
use crate::offsets::Database;
use crate::relay::holds_all;

#[test]
fn what_the_connector_lacks_is_said_and_cured_by_what_is_said() {
    let Some(database) = Database::new("source_database") else { return };
    let Some(load) = load("source_database", "postgres", |_| database.tables("")) else { return };
    let (name, schema) = (load.name.clone(), database.schema().to_string());
    let changes = "auto_create = true\nmode = \"upsert\"\ndeletes = true\npk_mode = \"record_key\"\n";
    let tables = database.tables(changes);
    let server: Vec<&str> =
        tables.lines().filter(|line| !line.contains("table") && line.contains(" = ")).take(5).collect();
    let file = |more: &str| {
        let text = format!(
            "[source]\ntopic = \"{}\"\nformat = \"json\"\nenvelope = \"debezium\"\nfields = {{ id = \"long\", note = \"string\" }}\n\
             key = {{ format = \"json\", fields = {{ id = \"long\" }} }}\n[source.database]\n{}\nrole = \"{name}\"\nslot = \"{name}\"\n\
             publication = \"{name}\"\n{more}{tables}",
            load.topic,
            server.join("\n")
        );
        load.write(&format!("pipelines/{name}.toml"), &text);
    };
    file("");
    let check = || load.says(&["check", "--online"]).1;
    // What is said, and that what cures it does.
    let cured = |says: &[&str], cure: &str| {
        let (said, cure) = (check(), cure.replace("SCHEMA.", &format!("{schema}.")));
        let says: Vec<String> = says.iter().map(|part| part.replace("SCHEMA", &schema)).collect();
        let parts: Vec<&str> = says.iter().map(String::as_str).collect();
        holds_all(&said, &parts);
        assert!(said.contains(&cure), "{cure} in\n{said}");
        // Where it is a word of SQL, it is no name.
        database.sql(&cure.replace("ON SCHEMA ", "ON schema "));
        let said = check();
        assert!(!says.iter().all(|part| said.contains(part)), "{says:?} after {cure}:\n{said}");
    };
    holds_all(&check(), &["source.database.table: not set", "is not PREFIX.SCHEMA.TABLE, as Debezium writes it"]);
    file(&format!("table = \"{schema}.customers\"\n"));
    holds_all(
        &check(),
        &[
            &format!("there is no role \"{name}\""),
            &format!("there is no table \"{schema}\".\"customers\""),
            &format!("there is no publication \"{name}\""),
            &format!("there is no replication slot \"{name}\" yet"),
        ],
    );
    database
        .sql(&format!("CREATE ROLE \"{name}\" LOGIN; CREATE TABLE SCHEMA.customers (id bigint NOT NULL, note text)"));
    database.sql(&format!(
        "CREATE TABLE SCHEMA.other (id bigint PRIMARY KEY); CREATE PUBLICATION \"{name}\" FOR TABLE SCHEMA.other"
    ));
    cured(
        &["source.database.role: PostgreSQL", &format!("role \"{name}\" has not the right REPLICATION")],
        &format!("ALTER ROLE \"{name}\" REPLICATION"),
    );
    cured(
        &["may not read table SCHEMA.customers"],
        &format!("GRANT USAGE ON SCHEMA {schema} TO \"{name}\"; GRANT SELECT ON {schema}.customers TO \"{name}\""),
    );
    cured(
        &[
            "table SCHEMA.customers has no primary key and REPLICA IDENTITY DEFAULT",
            "PostgreSQL refuses its updates and deletes",
        ],
        "ALTER TABLE SCHEMA.customers REPLICA IDENTITY FULL",
    );
    holds_all(&check(), &["has no primary key, so that its records have no key", "ALTER TABLE", "ADD PRIMARY KEY"]);
    database.sql(
        "ALTER TABLE SCHEMA.customers ADD PRIMARY KEY (id); ALTER TABLE SCHEMA.customers REPLICA IDENTITY NOTHING",
    );
    assert!(!check().contains("has no primary key"));
    cured(
        &["table SCHEMA.customers has REPLICA IDENTITY NOTHING", "a large value of note in table"],
        "ALTER TABLE SCHEMA.customers REPLICA IDENTITY FULL",
    );
    database.sql("ALTER TABLE SCHEMA.customers REPLICA IDENTITY DEFAULT");
    holds_all(
        &check(),
        &["a large value of note in table", "(TOAST)", "unavailable_value", "or see the sink's `toast`"],
    );
    database.sql("ALTER TABLE SCHEMA.customers SET UNLOGGED");
    cured(&["table SCHEMA.customers is unlogged"], "ALTER TABLE SCHEMA.customers SET LOGGED");
    cured(
        &[&format!("publication \"{name}\" has not table SCHEMA.customers")],
        &format!("ALTER PUBLICATION \"{name}\" ADD TABLE \"{schema}\".\"customers\""),
    );
    database.sql(&format!("ALTER PUBLICATION \"{name}\" SET (publish = 'insert')"));
    cured(
        &["does not publish update, delete, truncate"],
        &format!("ALTER PUBLICATION \"{name}\" SET (publish = 'insert, update, delete, truncate')"),
    );
    database.sql(&format!("SELECT pg_create_physical_replication_slot('{name}')"));
    cured(&["is a physical one"], &format!("SELECT pg_drop_replication_slot('{name}')"));
    database.sql(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"));
    let said = check();
    holds_all(
        &said,
        &[&format!("replication slot \"{name}\" is inactive: no connector reads it"), "start the connector"],
    );
    assert!(!said.contains("holds back"), "{said}");
    file(&format!("table = \"{schema}.customers\"\nmax_retained_wal_mb = 2\n"));
    database.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 3000000))");
    holds_all(
        &check(),
        &["MiB of WAL (source.database.max_retained_wal_mb: 2)", "heartbeat.interval.ms", "max_slot_wal_keep_size"],
    );
    // Of a partitioned table it is the parts that count.
    database.sql("DROP TABLE SCHEMA.customers");
    database.sql(
        "CREATE TABLE SCHEMA.customers (id bigint, note text) PARTITION BY RANGE (id); CREATE TABLE SCHEMA.low PARTITION OF \
         SCHEMA.customers FOR VALUES FROM (0) TO (9)",
    );
    holds_all(
        &check(),
        &[
            &format!("table {schema}.low has no primary key"),
            &format!("publication \"{name}\" has not table {schema}.low"),
        ],
    );
    database.sql(&format!("ALTER PUBLICATION \"{name}\" ADD TABLE SCHEMA.customers"));
    assert!(!check().contains("has not table"));
    database.sql(&format!(
        "SELECT pg_drop_replication_slot('{name}'); DROP PUBLICATION \"{name}\"; DROP OWNED BY \"{name}\"; DROP ROLE \"{name}\""
    ));
}

#[test]
fn a_source_that_cannot_be_reached_is_said_with_its_keys() {
    let Some(database) = Database::new("source_away") else { return };
    let Some(load) = load("source_away", "postgres", |_| database.tables("")) else { return };
    let file = |more: &str| {
        let changes = "auto_create = true\nmode = \"upsert\"\ndeletes = true\npk_mode = \"record_key\"\n";
        let text = format!(
            "[source]\ntopic = \"{}\"\nformat = \"json\"\nenvelope = \"debezium\"\nfields = {{ id = \"long\" }}\nkey = {{ format = \
             \"json\", fields = {{ id = \"long\" }} }}\n[source.database]\nuser = \"nobody\"\ndatabase = \"shop\"\n{more}{}",
            load.topic,
            database.tables(changes)
        );
        load.write(&format!("pipelines/{}.toml", load.name), &text);
        load.says(&["check", "--online"]).1
    };
    holds_all(
        &file("port = 1\ntable = \"public.t\"\n"),
        &["source.database.host: PostgreSQL 127.0.0.1:1/shop: cannot connect", "fix source.database.host and port"],
    );
    holds_all(
        &file("slot = \"\"\nport = 0\n"),
        &["source.database.slot: empty", "source.database.port: 0, which is no port"],
    );
}
