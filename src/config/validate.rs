//! What the configuration's types cannot say: values that make no sense, alone or together.

use figment::value::magic::RelativePathBuf;

use super::complaint::Complain;
use super::layers::ConfigOrigin;
use super::sink::{ClickHouseConfig, LoadConfig, PostgresConfig, SinkBatchConfig, SinkConsumerConfig, SslMode};
use super::{
    CreateConfig, GeocoderConfig, KafkaConfig, OnStale, PipelineConfig, ProcessConfig, REPLAYS, RegistryConfig,
    SaslMechanism, properties, secret,
};
use crate::config::finding::Finding;
use crate::config::format::{Envelope, Format};

/// What is senseless in the process's settings.
pub fn process(config: &ProcessConfig, origin: &ConfigOrigin) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain = complainer(origin, &mut findings);
    if let Err(what) = super::log_filter::filter(&config.log.level) {
        complain(
            "log.level",
            &what,
            "use one of the levels, or levels for single targets such as info,librdkafka=debug",
        );
    }
    if config.http.max_connections == 0 {
        complain("http.max_connections", "0, which would answer nobody", "use at least 1");
    }
    milliseconds("http.header_timeout_ms", config.http.header_timeout_ms, &mut complain);
    for (key, mebibytes) in [("memory.fetch_mb", config.memory.fetch_mb), ("memory.batch_mb", config.memory.batch_mb)] {
        if mebibytes == 0 {
            complain(key, "0, which would let nothing through", "use at least 1");
        }
    }
    drop(complain);
    findings.extend(super::web::findings(&config.web, origin));
    findings
}

/// Whose passwords and certificates a command needs: these must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secrets {
    /// None: they may be on another machine.
    None,
    /// Kafka's alone.
    Kafka,
    /// Those of the registry and the databases, too.
    All,
}

/// What is senseless in a relay's configuration.
pub fn relay(config: &PipelineConfig, secrets: Secrets) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain = complainer(&config.origin, &mut findings);
    ids(&config.name, &config.instance, &mut complain);
    for (key, topic) in [
        ("source.topic", &config.source.topic),
        ("output.topic", &config.output.topic),
        ("dead_letter.topic", &config.dead_topic()),
    ] {
        topic_name(key, topic, &mut complain);
    }
    if config.source.topic == config.output.topic {
        complain(
            "output.topic",
            "the same topic as source.topic",
            "write to another topic: this would read its own output",
        );
    }
    if [&config.source.topic, &config.output.topic].contains(&&config.dead_topic()) {
        complain("dead_letter.topic", "the same topic as source or output", "give dead letters a topic of their own");
    }
    if config.uses_places() && config.place.files.is_empty() {
        complain("place.files", "empty", "name at least one mmdb file");
    }
    plan_keys(config, &mut complain);
    for (key, what, cure) in config.source.without_effect() {
        complain(&format!("source.{key}"), what, cure);
    }
    config.source.subject_keys().complain("source", false, &mut complain);
    config.output.subject_keys().complain("output", config.output.schema.is_none(), &mut complain);
    if let Some(geocoder) = &config.place.geocoder {
        geocoder_keys(geocoder, &mut complain);
    }
    ranges(config, &mut complain);
    for (table, create) in [
        ("source", &config.source.create),
        ("output", &config.output.create),
        ("dead_letter", &config.dead_letter.create),
    ] {
        creation(table, create, &mut complain);
    }
    services(&config.kafka, &config.registry, secrets, &mut complain);
    drop(complain);
    findings
}

/// What is senseless in the sinks' configuration.
pub fn load(config: &LoadConfig, secrets: Secrets) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain = complainer(&config.origin, &mut findings);
    ids(&config.name, &config.instance, &mut complain);
    let reads_source = config.source.is_some() && config.sink.topic.is_empty();
    topic_name(if reads_source { "source.topic" } else { "sink.topic" }, config.topic(), &mut complain);
    if let (Some(source), None) = (&config.source, &config.output) {
        source.subject_keys().complain("source", false, &mut complain);
    }
    if config.sink.postgres.is_none() && config.sink.clickhouse.is_none() {
        complain("sink", "no sink in it", "add [sink.postgres] or [sink.clickhouse], or remove [sink]");
    }
    if let Some(postgres) = &config.sink.postgres {
        sink("postgres", config, &postgres.batch, &postgres.consumer, &mut complain);
        postgres_keys(postgres, secrets, &mut complain);
    }
    if let Some(clickhouse) = &config.sink.clickhouse {
        sink("clickhouse", config, &clickhouse.batch, &clickhouse.consumer, &mut complain);
        clickhouse_keys(clickhouse, secrets, &mut complain);
    }
    record_types(config, &mut complain);
    for key in config.unfilled_tables() {
        let cure = "parts stand between dots and are counted from 0: \"${topic.2}\" is customers of inventory.public.customers";
        complain(key, "the topic's name has no part of that number", cure);
    }
    for (key, what, cure) in config.faults_of_envelope() {
        complain(&key, what, cure);
    }
    creation("sink.dead_letter", &config.sink.dead_letter.create, &mut complain);
    services(&config.kafka, &config.registry, secrets, &mut complain);
    drop(complain);
    findings
}

/// `sink.records` goes by the names of Avro's records.
fn record_types(config: &LoadConfig, complain: &mut Complain<'_>) {
    if config.sink.records.is_empty() {
        return;
    }
    if config.format().format != Format::Avro {
        let cure = "remove it, or load a topic in Avro";
        complain("sink.records", "has no effect: only Avro's records have names", cure);
    } else if config.upserts() || config.envelope() != Envelope::None {
        let what = "not possible for changes: a delete does not say which type its row was of";
        complain("sink.records", what, "remove it, or set mode = \"insert\"");
    }
}

/// What a pipeline with transforms needs, and what one of button presses does.
fn plan_keys(config: &PipelineConfig, complain: &mut Complain<'_>) {
    if config.is_press() {
        if config.output.schema.is_none() {
            complain("output.schema", "required and not set", "name the Avro schema file of the output");
        }
        return;
    }
    if config.source.format.is_none() {
        let key = if config.transforms.is_empty() { "source" } else { "transforms" };
        complain(
            key,
            "source.format is not set, which stands for button presses, and those have no other settings",
            "set source.format to the format of the topic's values: avro, json, connect_json or json_schema",
        );
    }
    if config.output.schema.is_some() && !config.output.fields.is_empty() {
        complain("output.fields", "has no effect beside output.schema, which names the fields", "remove one of them");
    }
    for (index, topic) in config.transforms.iter().enumerate().filter_map(|(index, t)| Some((index, t.topic.as_ref()?)))
    {
        let key = format!("transforms.{index}.topic");
        topic_name(&key, topic, complain);
        if *topic == config.source.topic {
            complain(&key, "the same topic as source.topic", "write to another topic: this would read its own output");
        } else if *topic == config.dead_topic() {
            complain(&key, "the topic of the dead letters", "give dead letters a topic of their own");
        }
    }
}

fn complainer<'a>(origin: &'a ConfigOrigin, findings: &'a mut Vec<Finding>) -> impl FnMut(&str, &str, &str) + 'a {
    |key, what, cure| findings.push(Finding::error(origin.place(key), key, what, cure))
}

/// A time-out: nothing is ever done within 0, and what it means elsewhere ("off") would wait for ever.
fn milliseconds(key: &str, value: u64, complain: &mut Complain<'_>) {
    const DAY: u64 = 86_400_000;
    if !(1..=DAY).contains(&value) {
        let what = if value == 0 { "0, within which nothing can be done" } else { "longer than a day" };
        complain(key, what, "use 1 to 86400000 milliseconds");
    }
}

/// Characters of a topic's name, at most: Kafka makes folders of the names.
const LONGEST_TOPIC: usize = 249;

/// Whether Kafka takes it for a topic's name.
pub(crate) fn is_topic(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=LONGEST_TOPIC).contains(&name.len()) && name.chars().all(is_legal) && ![".", ".."].contains(&name)
}

/// Whether it can be part of groups, transactional ids and metrics.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 100 && id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn ids(name: &str, instance: &str, complain: &mut Complain<'_>) {
    for (key, id) in [("name", name), ("instance", instance)] {
        if !is_id(id) {
            complain(key, "not usable in ids and metrics", "use 1 to 100 of A-Z a-z 0-9 . _ -");
        }
    }
    if name.starts_with(REPLAYS) {
        complain("name", "the ids of replays begin so", "give the pipeline a name that does not begin with `replay.`");
    }
}

fn topic_name(key: &str, topic: &str, complain: &mut Complain<'_>) {
    if topic.is_empty() {
        complain(key, "no topic", "name one");
    } else if topic.len() > LONGEST_TOPIC {
        let cure = format!("Kafka takes at most {LONGEST_TOPIC}: set a shorter one");
        complain(key, &format!("a topic name of {} characters", topic.len()), &cure);
    } else if !is_topic(topic) {
        complain(key, "not a topic name", "use A-Z a-z 0-9 . _ -; for several topics a sink has source.topics");
    }
}

fn creation(table: &str, create: &CreateConfig, complain: &mut Complain<'_>) {
    if create.partitions.is_some_and(|partitions| !(1..=10_000).contains(&partitions)) {
        complain(&format!("{table}.create.partitions"), "out of range", "use 1 to 10000, or leave it to the brokers");
    }
    if create.replication.is_some_and(|replication| !(1..=100).contains(&replication)) {
        let cure = "use 1 to 100, at most the number of brokers, or leave it to the brokers";
        complain(&format!("{table}.create.replication"), "out of range", cure);
    }
}

fn services(kafka: &KafkaConfig, registry: &RegistryConfig, secrets: Secrets, complain: &mut Complain<'_>) {
    if kafka.bootstrap_servers.trim().is_empty() {
        complain("kafka.bootstrap_servers", "empty", "name at least one host:port");
    }
    if kafka.open_transaction_warn_ms < 1_000 {
        complain("kafka.open_transaction_warn_ms", "below 1000", "use 1000 (a second) or more");
    }
    let keys = "registry.username and registry.password_file";
    if registry.url.is_empty() {
        let cure = "set it in the pipeline's file, pressline.toml or the environment";
        complain("registry.url", "required and not set", cure);
    } else {
        http_address("registry.url", &registry.url, "http://127.0.0.1:8081", keys, complain);
    }
    no_authority_without_tls("registry", &registry.url, registry.ca.is_some(), complain);
    milliseconds("registry.timeout_ms", registry.timeout_ms, complain);
    tls_and_sasl(kafka, complain);
    if secrets >= Secrets::Kafka {
        kafka_secrets(kafka, complain);
    }
    if registry.username.is_none() && registry.password_file.is_some() {
        complain(
            "registry.password_file",
            "has no effect without registry.username",
            "set registry.username, or remove it",
        );
    }
    if secrets == Secrets::All && registry.username.is_some() {
        let file = registry.password_file.as_ref();
        secret_is_there("registry.password_file", secret::REGISTRY_PASSWORD, file, complain);
    }
    if secrets == Secrets::All {
        files_are_there(&[("registry.ca", &registry.ca)], complain);
    }
    property_tables(kafka, complain);
}

fn http_address(key: &str, url: &str, example: &str, keys: &str, complain: &mut Complain<'_>) {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        complain(key, "not an http:// or https:// address", &format!("write it like {example}"));
    }
    if url.contains('@') {
        complain(key, "holds a user name or password", &format!("use {keys}"));
    }
}

/// A certificate authority for a server that is asked without TLS.
fn no_authority_without_tls(table: &str, url: &str, is_set: bool, complain: &mut Complain<'_>) {
    if is_set && url.starts_with("http://") {
        complain(
            &format!("{table}.ca"),
            "has no effect: the url is http://",
            "write https:// in the url, or remove `ca`",
        );
    }
}

fn sink(
    name: &str,
    config: &LoadConfig,
    batch: &SinkBatchConfig,
    consumer: &SinkConsumerConfig,
    complain: &mut Complain<'_>,
) {
    let key = |rest: &str| format!("sink.{name}.{rest}");
    if !(1..=64).contains(&consumer.workers) {
        complain(&key("consumer.workers"), "out of range", "use 1 to 64");
    }
    if !(0.0..=1.0).contains(&consumer.max_dead_share) {
        complain(&key("consumer.max_dead_share"), "not a share", "use 0.0 (any dead letter stops) to 1.0 (never stop)");
    }
    topic_name(&key("consumer.dead_letter_topic"), &config.dead_topic(consumer), complain);
    if config.dead_topic(consumer) == config.topic() {
        complain(
            &key("consumer.dead_letter_topic"),
            "the topic that is loaded",
            "give dead letters a topic of their own",
        );
    }
    if !(1..=10_000_000).contains(&batch.max_rows) {
        complain(&key("batch.max_rows"), "out of range", "use 1 to 10000000");
    }
    // Positions within a batch are 32 bits.
    if !(1024..=1 << 30).contains(&batch.max_bytes) {
        complain(&key("batch.max_bytes"), "out of range", "use 1024 to 1073741824 bytes");
    }
    if batch.max_wait_ms.is_some_and(|ms| ms > 60_000) {
        complain(&key("batch.max_wait_ms"), "too long", "use at most 60000");
    }
}

fn postgres_keys(config: &PostgresConfig, secrets: Secrets, complain: &mut Complain<'_>) {
    for (key, what, cure) in config.changes().faults() {
        complain(&format!("sink.postgres.{key}"), what, cure);
    }
    milliseconds("sink.postgres.statement_timeout_ms", config.statement_timeout_ms, complain);
    milliseconds("sink.postgres.connect_timeout_ms", config.connect_timeout_ms, complain);
    if config.port == 0 {
        complain("sink.postgres.port", "0, which is no port", "use the server's port, mostly 5432");
    }
    if config.sslmode == SslMode::Disable {
        for (key, is_set) in [("ca", config.ca.is_some()), ("certificate", config.certificate.is_some())] {
            if is_set {
                let cure = "remove it, or set sslmode to verify-full";
                complain(&format!("sink.postgres.{key}"), "has no effect: sslmode is disable", cure);
            }
        }
    }
    for (key, value) in [
        ("sink.postgres.host", &config.host),
        ("sink.postgres.database", &config.database),
        ("sink.postgres.user", &config.user),
        ("sink.postgres.table", &config.table),
        ("sink.postgres.offsets_table", &config.offsets_table),
    ] {
        if value.is_empty() || value.contains('\0') {
            complain(key, "empty, or with a NUL character", "set it");
        }
    }
    if config.certificate.is_some() != config.key.is_some() {
        complain(
            "sink.postgres.certificate",
            "a client certificate needs both `certificate` and `key`",
            "set both or neither",
        );
    }
    let files = [
        ("sink.postgres.ca", &config.ca),
        ("sink.postgres.certificate", &config.certificate),
        ("sink.postgres.key", &config.key),
    ];
    if let Some((what, cure)) = host_fault(&config.host) {
        complain("sink.postgres.host", what, cure);
    }
    if secrets == Secrets::All {
        files_are_there(&files, complain);
        let password = config.password_file.as_ref();
        secret_is_readable("sink.postgres.password_file", secret::POSTGRES_PASSWORD, password, complain);
    }
}

fn clickhouse_keys(config: &ClickHouseConfig, secrets: Secrets, complain: &mut Complain<'_>) {
    let keys = "sink.clickhouse.user and sink.clickhouse.password_file";
    http_address("sink.clickhouse.url", &config.url, "http://127.0.0.1:8123", keys, complain);
    no_authority_without_tls("sink.clickhouse", &config.url, config.ca.is_some(), complain);
    for (key, what, cure) in config.faults_of_changes() {
        complain(&format!("sink.clickhouse.{key}"), what, cure);
    }
    milliseconds("sink.clickhouse.timeout_ms", config.timeout_ms, complain);
    milliseconds("sink.clickhouse.connect_timeout_ms", config.connect_timeout_ms, complain);
    for (key, is_set) in [("order_by", !config.order_by.is_empty()), ("partition_by", !config.partition_by.is_empty())]
    {
        if is_set && !config.auto_create {
            let cure = "set auto_create = true, or remove it and see to the table";
            complain(&format!("sink.clickhouse.{key}"), "has no effect without auto_create", cure);
        }
    }
    for (key, value) in [("sink.clickhouse.database", &config.database), ("sink.clickhouse.table", &config.table)] {
        if value.is_empty() || value.contains('\0') {
            complain(key, "empty, or with a NUL character", "set it");
        }
    }
    // A table with such a name may well exist, but none is created.
    if let Some((database, table)) = config.table.split_once('.').filter(|_| config.auto_create) {
        complain(
            "sink.clickhouse.table",
            "a dot in the name of a table that is to be made",
            &format!("set sink.clickhouse.database = \"{database}\" and table = \"{table}\""),
        );
    }
    if secrets == Secrets::All {
        files_are_there(&[("sink.clickhouse.ca", &config.ca)], complain);
        let password = config.password_file.as_ref();
        secret_is_readable("sink.clickhouse.password_file", secret::CLICKHOUSE_PASSWORD, password, complain);
    }
}

/// What is wrong with a host, and what to do about it: forms that libpq and other clients take in its place.
fn host_fault(host: &str) -> Option<(&'static str, &'static str)> {
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if host.contains("://") {
        Some(("a URL, expected a host name or address", "set host, port, database and user one by one"))
    } else if host.contains(',') {
        Some((
            "several hosts, of which pressline connects to none",
            "name the one that takes writes, or a name or proxy that leads to it",
        ))
    } else if host.starts_with('[') {
        Some(("an address in brackets", "write it without brackets, and the port in sink.postgres.port"))
    } else if host.contains(char::is_whitespace) {
        Some(("a host name with blanks in it", "write the host's name or address alone"))
    } else if host.contains(':') && !host.starts_with('/') && !is_address && !host.contains('%') {
        Some(("a host with a port", "write the port in sink.postgres.port"))
    } else {
        None
    }
}

fn geocoder_keys(config: &GeocoderConfig, complain: &mut Complain<'_>) {
    let example = "https://nominatim.openstreetmap.org";
    http_address("place.geocoder.url", &config.url, example, "a server without a login", complain);
    no_authority_without_tls("place.geocoder", &config.url, config.ca.is_some(), complain);
    files_are_there(&[("place.geocoder.ca", &config.ca)], complain);
    let contact = config.contact.trim();
    let is_reachable = contact.contains('@') || contact.contains("://");
    if !is_reachable || contact.len() > 200 || !contact.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        complain(
            "place.geocoder.contact",
            "no mail or web address",
            "say how the server's owner can reach you, such as ops@example.org: public servers shut out who does not",
        );
    }
    if !(0.001..=1000.0).contains(&config.requests_per_second) {
        complain("place.geocoder.requests_per_second", "out of range", "use 0.001 to 1000; public servers allow 1");
    }
    if !(100..=60_000).contains(&config.timeout_ms) {
        complain("place.geocoder.timeout_ms", "out of range", "use 100 to 60000");
    }
    if config.max_wait_ms > 5_000 {
        complain("place.geocoder.max_wait_ms", "too long", "use at most 5000: the transaction would near its time-out");
    }
    if !(100..=1_000_000).contains(&config.cache_entries) {
        complain("place.geocoder.cache_entries", "out of range", "use 100 to 1000000");
    }
    for (key, days) in
        [("place.geocoder.answer_days", config.answer_days), ("place.geocoder.miss_days", config.miss_days)]
    {
        if !(1..=3_650).contains(&days) {
            complain(key, "out of range", "use 1 to 3650 days");
        }
    }
    if let Some(file) = config.cache_file.as_ref().map(RelativePathBuf::relative)
        && (file.is_dir() || !file.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir()))
    {
        complain("place.geocoder.cache_file", "not in a folder that is there", "name a file in an existing folder");
    }
}

fn files_are_there(files: &[(&str, &Option<RelativePathBuf>)], complain: &mut Complain<'_>) {
    for (key, file) in files {
        let Some(path) = file.as_ref().map(RelativePathBuf::relative) else { continue };
        if !path.is_file() {
            let what = if path.exists() { "is no file" } else { "does not exist" };
            complain(key, &format!("{} {what}", path.display()), "name an existing file");
        } else if let Err(error) = std::fs::File::open(&path) {
            complain(key, &format!("cannot read {}: {error}", path.display()), readable_cure());
        }
    }
}

fn readable_cure() -> &'static str {
    "name a file that the user who runs pressline may read"
}

/// A secret that may be left out: what is named must be there.
fn secret_is_readable(key: &str, variable: &str, file: Option<&RelativePathBuf>, complain: &mut Complain<'_>) {
    if let Err(error) = secret::read(variable, file.map(RelativePathBuf::relative).as_deref()) {
        let cure = format!("{}, with one line in it, or set the environment variable {variable}", readable_cure());
        complain(key, &error.to_string(), &cure);
    }
}

fn ranges(config: &PipelineConfig, complain: &mut Complain<'_>) {
    if !(1..=64).contains(&config.workers) {
        complain("workers", "out of range", "use 1 to 64");
    }
    if !(0.0..=1.0).contains(&config.dead_letter.max_dead_share) {
        complain("dead_letter.max_dead_share", "not a share", "use 0.0 (any dead letter stops) to 1.0 (never stop)");
    }
    if !(10..=10_000_000).contains(&config.dead_letter.window) {
        complain("dead_letter.window", "out of range", "use 10 to 10000000 records");
    }
    if !(1..=1_000_000).contains(&config.batch.max_records) {
        complain("batch.max_records", "out of range", "use 1 to 1000000");
    }
    if config.batch.max_bytes < 1024 {
        complain("batch.max_bytes", "too small", "use at least 1024 bytes");
    }
    if config.batch.max_wait_ms > 5_000 {
        complain("batch.max_wait_ms", "too long", "use at most 5000: the transaction would near its time-out");
    }
    if !(2..=100).contains(&config.source.max_depth) {
        complain("source.max_depth", "out of range", "use 2 to 100");
    }
    if config.place.poll_seconds > 86_400 {
        complain("place.poll_seconds", "too long", "use at most 86400, or 0 for SIGHUP only");
    }
    let degrees = config.place.round_coordinates;
    if degrees != 0.0 && !(0.000_1..=10.0).contains(&degrees) {
        complain("place.round_coordinates", "out of range", "use 0.0001 to 10 degrees, or 0 for no rounding");
    }
    if config.source.max_raw_retention_ms == Some(0) {
        complain("source.max_raw_retention_ms", "0, which no topic can keep to", "use at least 1, or remove it");
    }
    if config.place.on_stale != OnStale::Warn && config.place.max_age_days == 0 {
        let cure = "set place.max_age_days, or remove it";
        complain("place.on_stale", "has no effect while place.max_age_days is 0", cure);
    }
    if config.source.max_record_bytes < 64 {
        complain("source.max_record_bytes", "too small", "use at least 64 bytes");
    }
}

fn tls_and_sasl(kafka: &KafkaConfig, complain: &mut Complain<'_>) {
    if kafka.tls.as_ref().is_some_and(|tls| tls.certificate.is_some() != tls.key.is_some()) {
        complain("kafka.tls", "a client certificate needs both `certificate` and `key`", "set both or neither");
    }
    if let Some(sasl) = &kafka.sasl {
        if sasl.plaintext && kafka.tls.is_some() {
            complain("kafka.sasl.plaintext", "contradicts kafka.tls", "remove one of them");
        }
        if sasl.plaintext && sasl.mechanism == SaslMechanism::Plain && !loopback(&kafka.bootstrap_servers) {
            complain("kafka.sasl.plaintext", "PLAIN without TLS shows the password to the network", "use TLS or SCRAM");
        }
    }
}

/// The secrets and files without which Kafka cannot be reached, as far as they are missing.
pub fn missing_for_kafka(config: &LoadConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    kafka_secrets(&config.kafka, &mut complainer(&config.origin, &mut findings));
    findings
}

fn kafka_secrets(kafka: &KafkaConfig, complain: &mut Complain<'_>) {
    if let Some(tls) = &kafka.tls {
        let files =
            [("kafka.tls.ca", &tls.ca), ("kafka.tls.certificate", &tls.certificate), ("kafka.tls.key", &tls.key)];
        files_are_there(&files, complain);
        let passphrase = tls.key_password_file.as_ref();
        secret_is_readable("kafka.tls.key_password_file", secret::TLS_KEY_PASSWORD, passphrase, complain);
    }
    if let Some(sasl) = &kafka.sasl {
        secret_is_there("kafka.sasl.password_file", secret::SASL_PASSWORD, sasl.password_file.as_ref(), complain);
    }
}

fn loopback(servers: &str) -> bool {
    servers.split(',').all(|s| ["127.", "localhost:", "[::1]"].iter().any(|l| s.trim().starts_with(l)))
}

fn secret_is_there(key: &str, variable: &str, file: Option<&RelativePathBuf>, complain: &mut Complain<'_>) {
    let cure = format!("set {key} or the environment variable {variable}");
    match secret::read(variable, file.map(RelativePathBuf::relative).as_deref()) {
        Ok(Some(_)) => {}
        Ok(None) => complain(key, "no password given", &cure),
        Err(error) => complain(key, &error.to_string(), &cure),
    }
}

fn property_tables(kafka: &KafkaConfig, complain: &mut Complain<'_>) {
    for (table, properties) in
        [("properties", &kafka.properties), ("consumer", &kafka.consumer), ("producer", &kafka.producer)]
    {
        for (name, value) in &properties.0 {
            let key = format!("kafka.{table}.{name}");
            if let Some(reason) = properties::refusal(name) {
                complain(&key, &format!("may not be set: {reason}"), "remove it");
            } else if let Some(reason) = properties::value_refusal(name, value) {
                complain(&key, &format!("may not be {value}"), reason);
            } else if let Some(side) = properties::other_side(table, name) {
                let what = format!("a property of {side}s, which a {table} ignores");
                complain(&key, &what, &format!("move it to kafka.{side}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_the_names_that_kafka_takes() {
        let longest = "t".repeat(249);
        for name in ["t", "button_presses.dead", "A-1", longest.as_str()] {
            assert!(is_topic(name), "{name}");
        }
        for name in ["", ".", "..", "^presses.*", "a b", "ä", "t/1", &"t".repeat(250)] {
            assert!(!is_topic(name), "{name}");
        }
    }
}
