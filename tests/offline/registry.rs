//! The registry client against a scripted server, and, where `PRESSLINE_TEST_REGISTRY` names one, against a real registry.
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use figment::value::magic::RelativePathBuf;
use pressline::avro::registry::{Compatibility, Registry, RegistryError, SchemaId};
use pressline::avro::schema::Reference;
use pressline::config::RegistryConfig;
use tokio::sync::watch;

const V1: &str = r#"{"type":"record","name":"r","fields":[{"name":"cohort","type":["null","int"],"default":null}]}"#;
const V2: &str =
    r#"{"type":"record","name":"r","fields":[{"name":"cohort","type":"string"},{"name":"x","type":"int"}]}"#;

/// One expected request and its answer: method, path with query, status, body.
type Step = (&'static str, &'static str, u16, String);

/// One request's `authorization` header and body.
type Seen = (Option<String>, String);

struct Stub {
    config: RegistryConfig,
    /// `authorization` headers and bodies that came.
    seen: Arc<Mutex<Vec<Seen>>>,
    left: Arc<Mutex<Vec<Step>>>,
}

fn config(url: String) -> RegistryConfig {
    RegistryConfig { url, username: None, password_file: None, ca: None, timeout_ms: 2_000 }
}

/// Answers exactly these requests, in this order; anything else gets a 599 that names it.
async fn stub(steps: &[(&'static str, &'static str, u16, &str)]) -> Stub {
    let steps: Vec<Step> = steps.iter().map(|(m, p, s, b)| (*m, *p, *s, b.to_string())).rev().collect();
    let (seen, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(steps)));
    let (noted, script) = (seen.clone(), left.clone());
    let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let authorization = headers.get("authorization").map(|v| v.to_str().unwrap().to_string());
        noted.lock().unwrap().push((authorization, String::from_utf8(body.to_vec()).unwrap()));
        let next = script.lock().unwrap().pop();
        let asked = format!("{method} {uri}");
        async move {
            match next {
                Some((method, path, status, body)) if asked == format!("{method} /base{path}") => {
                    (StatusCode::from_u16(status).unwrap(), body)
                }
                _ => (
                    StatusCode::from_u16(499).unwrap(),
                    format!(r#"{{"error_code":0,"message":"unexpected: {asked}"}}"#),
                ),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await.unwrap() });
    Stub { config: config(format!("http://{address}/base/")), seen, left }
}

impl Stub {
    fn registry(&self) -> Registry {
        Registry::new(&self.config).unwrap()
    }

    fn address(&self) -> String {
        self.config.url.trim_end_matches('/').to_string()
    }

    #[track_caller]
    fn all_asked(&self) {
        assert_eq!(*self.left.lock().unwrap(), [] as [Step; 0], "requests that were not made");
    }
}

const LOOK_UP: &str = "/subjects/t-value";
const COMPATIBLE: &str = "/compatibility/subjects/t-value/versions/latest?verbose=true";
const VERSIONS: &str = "/subjects/t-value/versions";
const LATEST: &str = "/subjects/t-value/versions/latest";
const NO_SUBJECT: &str = r#"{"error_code":40401,"message":"Subject 't-value' not found."}"#;
const NO_SCHEMA: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

#[tokio::test]
async fn a_known_schema_is_only_looked_up() {
    let stub = stub(&[("POST", LOOK_UP, 200, r#"{"subject":"t-value","version":3,"id":41,"schema":"{}"}"#)]).await;
    assert_eq!(stub.registry().ensure("t-value", V1, true).await, Ok(SchemaId(41)));
    stub.all_asked();
    let (authorization, body) = stub.seen.lock().unwrap().remove(0);
    assert_eq!(authorization, None);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["schema"], V1);
}

#[tokio::test]
async fn a_new_subject_is_registered() {
    let stub = stub(&[
        ("POST", LOOK_UP, 404, NO_SUBJECT),
        ("GET", LATEST, 404, NO_SUBJECT),
        ("POST", COMPATIBLE, 404, NO_SUBJECT),
        ("POST", VERSIONS, 200, r#"{"id":7}"#),
    ])
    .await;
    assert_eq!(stub.registry().ensure("t-value", V1, true).await, Ok(SchemaId(7)));
    stub.all_asked();
}

#[tokio::test]
async fn a_schema_that_was_registered_with_other_blanks_is_found() {
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(V1).unwrap()).unwrap();
    let latest = serde_json::json!({"subject": "t-value", "version": 3, "id": 9, "schema": pretty}).to_string();
    let stub = stub(&[("POST", LOOK_UP, 404, NO_SCHEMA), ("GET", LATEST, 200, &latest)]).await;
    assert_eq!(stub.registry().ensure("t-value", V1, false).await, Ok(SchemaId(9)));
    stub.all_asked();
}

#[tokio::test]
async fn without_register_nothing_is_registered() {
    let stub = stub(&[("POST", LOOK_UP, 404, NO_SCHEMA), ("GET", LATEST, 404, NO_SUBJECT)]).await;
    let error = stub.registry().ensure("t-value", V1, false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "schema registry {}: subject t-value: our schema is not registered, and output.register is false; register the \
             schema there, or set output.register = true",
            stub.address()
        )
    );
    assert!(error.is_retriable(), "it may be starting, and somebody may register it");
    stub.all_asked();
}

#[tokio::test]
async fn an_incompatible_schema_is_told_with_reason_and_fields() {
    let latest = serde_json::json!({"subject": "t-value", "version": 3, "id": 9, "schema": V1}).to_string();
    let stub = stub(&[
        ("POST", LOOK_UP, 404, NO_SCHEMA),
        ("GET", LATEST, 404, NO_SUBJECT),
        ("POST", COMPATIBLE, 200, r#"{"is_compatible":false,"messages":["READER_FIELD_MISSING_DEFAULT_VALUE: x"]}"#),
        ("GET", LATEST, 200, &latest),
    ])
    .await;
    let error = stub.registry().ensure("t-value", V2, true).await.unwrap_err();
    assert!(!error.is_retriable());
    let text = error.to_string();
    for part in [
        "subject t-value: our schema is incompatible with version 3",
        "the registry's reason: READER_FIELD_MISSING_DEFAULT_VALUE: x",
        "field `cohort`: version 3 has [null, int], ours has string",
        "field `x`: only in ours, without a default",
        "change output.schema so that readers of the older version can go on",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    stub.all_asked();
}

#[tokio::test]
async fn a_conflict_at_registration_is_incompatible_too() {
    let latest = serde_json::json!({"version": 3, "id": 9, "schema": V1}).to_string();
    let stub = stub(&[
        ("POST", LOOK_UP, 404, NO_SCHEMA),
        ("GET", LATEST, 404, NO_SUBJECT),
        ("POST", COMPATIBLE, 200, r#"{"is_compatible":true}"#),
        ("POST", VERSIONS, 409, r#"{"error_code":409,"message":"older version 1 does not agree"}"#),
        ("POST", LOOK_UP, 404, NO_SCHEMA),
        ("GET", LATEST, 200, &latest),
    ])
    .await;
    let text = stub.registry().ensure("t-value", V2, true).await.unwrap_err().to_string();
    assert!(text.contains("the registry's reason: older version 1 does not agree"), "{text}");
    assert!(text.contains("field `x`: only in ours"), "{text}");
}

#[tokio::test]
async fn a_schema_that_another_process_registered_a_moment_ago_is_used() {
    let stub = stub(&[
        ("POST", LOOK_UP, 404, NO_SUBJECT),
        ("GET", LATEST, 404, NO_SUBJECT),
        ("POST", COMPATIBLE, 404, NO_SUBJECT),
        ("POST", VERSIONS, 409, r#"{"error_code":409,"message":"An artifact with ID 't-value' already exists."}"#),
        ("POST", LOOK_UP, 200, r#"{"id":7}"#),
    ])
    .await;
    assert_eq!(stub.registry().ensure("t-value", V1, true).await, Ok(SchemaId(7)));
    stub.all_asked();
}

#[tokio::test]
async fn the_reason_is_read_as_apicurio_words_it() {
    let stub = stub(&[
        ("POST", LOOK_UP, 404, NO_SCHEMA),
        ("GET", LATEST, 404, NO_SUBJECT),
        ("POST", COMPATIBLE, 200, r#"{"is_compatible":false,"reason":"reader union lacking writer type"}"#),
        ("GET", LATEST, 404, NO_SUBJECT),
    ])
    .await;
    let text = stub.registry().ensure("t-value", V2, true).await.unwrap_err().to_string();
    assert!(text.contains("the registry's reason: reader union lacking writer type"), "{text}");
}

#[tokio::test]
async fn a_refusal_carries_code_and_message() {
    let stub = stub(&[("POST", LOOK_UP, 422, r#"{"error_code":42201,"message":"Invalid Avro schema"}"#)]).await;
    let error = stub.registry().ensure("t-value", V1, true).await.unwrap_err();
    assert!(!error.is_retriable());
    let text = error.to_string();
    assert!(text.contains("it refused the request (422, code 42201): Invalid Avro schema; fix the schema"), "{text}");
}

#[tokio::test]
async fn a_wrong_base_path_is_not_taken_for_an_unknown_subject() {
    let stub = stub(&[("POST", LOOK_UP, 404, "<html>nothing here</html>")]).await;
    let text = stub.registry().ensure("t-value", V1, true).await.unwrap_err().to_string();
    assert!(text.contains("(404): no reason given; set registry.url to the base of the Confluent API"), "{text}");
    stub.all_asked();
}

#[tokio::test]
async fn what_time_may_cure_is_retriable() {
    for (status, body, expected) in [
        (500, "oops", "not available: it answered 500;"),
        (503, r#"{"error_code":50301,"message":"leader unknown"}"#, "not available: it answered 503: leader unknown;"),
        (429, "", "not available: it answered 429;"),
        (200, r#"{"id": 4"#, "found a truncated answer, expected an answer of the Confluent API;"),
        (200, "<html>log in</html>", "found an answer that is not the API's JSON,"),
        (200, "{}", "found an answer without a schema id,"),
        (401, "", "it does not know this user or password (401); set registry.username"),
        (403, "", "this user may not do that (403); give this user the right"),
    ] {
        let stub = stub(&[("POST", LOOK_UP, status, body)]).await;
        let error = stub.registry().ensure("t-value", V1, true).await.unwrap_err();
        assert!(error.is_retriable(), "{status}: {error}");
        assert!(error.to_string().contains(expected), "no {expected:?} in {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let stub = stub(&[("POST", LOOK_UP, 302, "")]).await;
    let error = stub.registry().ensure("t-value", V1, true).await.unwrap_err();
    assert!(
        error.to_string().contains("(302): no reason given; set registry.url to the address it redirects to"),
        "{error}"
    );
}

#[tokio::test]
async fn user_and_password_are_sent_and_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let mut stub = stub(&[("POST", LOOK_UP, 401, "")]).await;
    stub.config.username = Some("ann".into());
    stub.config.password_file = Some(RelativePathBuf::from(file.path()));
    let error = stub.registry().ensure("t-value", V1, true).await.unwrap_err();
    // base64 of ann:s3cret
    assert_eq!(stub.seen.lock().unwrap()[0].0.as_deref(), Some("Basic YW5uOnMzY3JldA=="));
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("s3cret") && !text.contains("ann:"), "{text}");
    }
}

/// Serves one connection with these bytes, after `wait`, then closes it.
fn raw_server(bytes: &'static str, wait: Duration) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        std::thread::sleep(wait);
        let _ = stream.write_all(bytes.as_bytes());
    });
    format!("http://{address}")
}

#[tokio::test]
async fn slow_cut_off_and_absent_servers() {
    let mut slow = config(raw_server("", Duration::from_secs(5)));
    slow.timeout_ms = 200;
    let cut = config(raw_server("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":", Duration::ZERO));
    let absent = config("http://127.0.0.1:1".into());
    for (config, expected) in [
        (slow, "it did not answer within registry.timeout_ms"),
        (cut, "end of file before message length reached"),
        (absent, "Connection refused"),
    ] {
        let error = Registry::new(&config).unwrap().ensure("t-value", V1, true).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(expected), "no {expected:?} in {error}");
        assert!(error.to_string().contains(&config.url), "{error}");
    }
}

#[tokio::test]
async fn the_client_waits_for_a_registry_that_comes_back() {
    let stub = stub(&[("POST", LOOK_UP, 500, ""), ("POST", LOOK_UP, 200, r#"{"id":5}"#)]).await;
    let (_keep, mut stop) = watch::channel(false);
    let mut waits = Vec::new();
    let on_wait = |error: &RegistryError, wait| waits.push((error.to_string(), wait));
    let id = stub.registry().ensure_with_backoff("t-value", V1, true, &mut stop, on_wait).await;
    assert_eq!(id, Ok(Some(SchemaId(5))));
    assert_eq!(waits.len(), 1);
    // Half a second, a quarter more or less.
    assert!(waits[0].0.contains("it answered 500") && waits[0].1 >= Duration::from_millis(375), "{waits:?}");
}

#[tokio::test]
async fn a_stop_ends_the_wait_at_once_also_for_a_schema_that_somebody_else_must_register() {
    let (send, mut stop) = watch::channel(false);
    let absent = Registry::new(&config("http://127.0.0.1:1".into())).unwrap();
    let begin = std::time::Instant::now();
    let ended = absent.ensure_with_backoff("t-value", V1, true, &mut stop, |_, _| send.send(true).unwrap()).await;
    assert_eq!(ended, Ok(None));
    assert!(begin.elapsed() < Duration::from_millis(450), "{:?}", begin.elapsed());

    let stub = stub(&[("POST", LOOK_UP, 404, NO_SCHEMA), ("GET", LATEST, 404, NO_SUBJECT)]).await;
    let (send, mut stop) = watch::channel(false);
    let on_wait = |error: &RegistryError, _| {
        assert!(matches!(error, RegistryError::NotRegistered { .. }), "{error}");
        send.send(true).unwrap();
    };
    let ended = stub.registry().ensure_with_backoff("t-value", V1, false, &mut stop, on_wait).await;
    assert_eq!(ended, Ok(None));
}

#[tokio::test]
async fn reading_versions_and_ids() {
    let latest = serde_json::json!({"version": 3, "id": 9, "schema": V1}).to_string();
    let stub = stub(&[
        ("GET", LATEST, 200, &latest),
        ("GET", LATEST, 404, NO_SUBJECT),
        ("GET", "/schemas/ids/9", 200, &latest),
        ("GET", "/schemas/ids/10", 404, NO_SCHEMA),
        ("GET", "/schemas/ids/11", 404, "404 page not found"),
        ("POST", "/compatibility/subjects/a%2Fb/versions/latest?verbose=true", 200, r#"{"is_compatible":true}"#),
    ])
    .await;
    let registry = stub.registry();
    let found = registry.latest("t-value").await.unwrap().unwrap();
    assert_eq!((found.version, found.id, found.schema.text.as_str()), (3, SchemaId(9), V1));
    assert_eq!(registry.latest("t-value").await, Ok(None));
    assert_eq!(registry.schema_by_id(SchemaId(9)).await, Ok(V1.into()));
    let error = registry.schema_by_id(SchemaId(10)).await.unwrap_err();
    assert!(error.is_absent() && error.to_string().contains("no schema has the id 10"), "{error}");
    // A proxy's page, or a wrong path.
    let error = registry.schema_by_id(SchemaId(11)).await.unwrap_err();
    assert!(!error.is_absent() && error.to_string().contains("registry.url"), "{error}");
    let verdict = registry.compatibility("a/b", V1).await;
    assert_eq!(verdict, Ok(Compatibility { compatible: true, messages: vec![] }));
    stub.all_asked();
}

#[test]
fn a_client_that_cannot_be_made_says_which_key() {
    let message = |config: RegistryConfig| match Registry::new(&config) {
        Ok(_) => panic!("it was made"),
        Err(error) => error.to_string(),
    };
    assert!(message(config("ftp://x".into())).starts_with("registry.url: not an http:// or https:// address; "));
    let secret = message(config("http://ann:s3cret@127.0.0.1".into()));
    assert!(secret.starts_with("registry.url: holds a user name or password"), "{secret}");
    assert!(!secret.contains("s3cret"));
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    let with_ca = || RegistryConfig { ca: Some(RelativePathBuf::from(&pem)), ..config("https://127.0.0.1".into()) };
    assert!(message(with_ca()).contains("ca.pem: cannot be read: "));
    std::fs::write(&pem, "no certificate").unwrap();
    assert!(message(with_ca()).contains("ca.pem: holds no certificate"), "{}", message(with_ca()));
}

const INNER: &str = r#"{"type":"enum","name":"Kind","namespace":"n","symbols":["A"]}"#;

#[tokio::test]
async fn references_are_fetched_and_theirs() {
    let main = r#"{"id":5,"schema":"\"n.Kind\"","references":[{"name":"n.Kind","subject":"kind","version":2}]}"#;
    let answer = |schema: &str, references: &str| {
        format!(r#"{{"id":6,"version":2,"schema":{},"references":[{references}]}}"#, serde_json::json!(schema))
    };
    let kind = answer("\"n.Other\"", r#"{"name":"n.Other","subject":"other","version":1}"#);
    // Each is fetched once, also where they refer to each other.
    let other = answer(INNER, r#"{"name":"n.Kind","subject":"kind","version":2}"#);
    let stub = stub(&[
        ("GET", "/schemas/ids/5", 200, main),
        ("GET", "/subjects/kind/versions/2", 200, &kind),
        ("GET", "/subjects/other/versions/1", 200, &other),
        ("GET", "/schemas/ids/5", 200, main),
        ("GET", "/subjects/kind/versions/2", 404, NO_SUBJECT),
        ("GET", "/schemas/ids/7", 200, r#"{"schema":"syntax = \"proto3\";","schemaType":"PROTOBUF"}"#),
        ("GET", "/schemas/ids/8", 200, r#"{"schema":"\"int\"","schemaType":"AVRO"}"#),
    ])
    .await;
    let registry = stub.registry();
    let found = registry.schema_by_id(SchemaId(5)).await.unwrap();
    let reference = |name: &str, text: &str| Reference { name: name.into(), text: text.into() };
    let expected = vec![reference("n.Kind", "\"n.Other\""), reference("n.Other", INNER)];
    assert_eq!((found.text.as_str(), found.references), ("\"n.Kind\"", expected));
    // One that is not there yet is waited for like a schema that is not there.
    let error = registry.schema_by_id(SchemaId(5)).await.unwrap_err();
    assert!(error.is_absent() && error.to_string().contains("refers to version 2 of subject kind"), "{error}");
    assert_eq!(registry.schema_by_id(SchemaId(7)).await.unwrap().other_kind.as_deref(), Some("PROTOBUF"));
    assert_eq!(registry.schema_by_id(SchemaId(8)).await.unwrap().other_kind, None);
    stub.all_asked();
}

#[tokio::test]
async fn a_registry_that_lacks_what_it_had_is_told_from_a_whole_one() {
    let latest = serde_json::json!({"version": 3, "id": 9, "schema": V1}).to_string();
    let steps = [
        ("GET", LATEST, 200, latest.as_str()),
        ("GET", "/schemas/ids/9", 200, latest.as_str()),
        // Whole.
        ("GET", "/schemas/ids/9", 200, latest.as_str()),
        ("GET", LATEST, 200, latest.as_str()),
        // Without the id, then without the subject, then away.
        ("GET", "/schemas/ids/9", 404, NO_SCHEMA),
        ("GET", "/schemas/ids/9", 200, latest.as_str()),
        ("GET", LATEST, 404, NO_SUBJECT),
        ("GET", "/schemas/ids/9", 500, ""),
    ];
    let stub = stub(&steps).await;
    let registry = stub.registry();
    assert_eq!(registry.has_what_it_had().await, Ok(true), "nothing was had, so nothing is asked");
    registry.latest("t-value").await.unwrap();
    registry.schema_by_id(SchemaId(9)).await.unwrap();
    // Another client of this process knows it as well.
    let other = stub.registry();
    assert_eq!(other.has_what_it_had().await, Ok(true));
    assert_eq!(other.has_what_it_had().await, Ok(false));
    assert_eq!(other.has_what_it_had().await, Ok(false));
    assert!(other.has_what_it_had().await.unwrap_err().is_retriable());
    stub.all_asked();
}

#[tokio::test]
async fn what_a_registration_may_not_do_has_its_own_cure() {
    for (status, body, cure) in [
        (404, NO_SUBJECT, "let the registry's user write the subject"),
        (403, r#"{"error_code":40301,"message":"no"}"#, "let the registry's user write the subject"),
        (405, "", "let the registry's user write the subject"),
        (422, r#"{"error_code":42205,"message":"Subject t-value is in read-only mode"}"#, "lift the mode"),
        (422, r#"{"error_code":42201,"message":"Invalid"}"#, "fix the schema in output.schema"),
    ] {
        let stub = stub(&[
            ("POST", LOOK_UP, 404, NO_SCHEMA),
            ("GET", LATEST, 404, NO_SUBJECT),
            ("POST", COMPATIBLE, 404, NO_SUBJECT),
            ("POST", VERSIONS, status, body),
        ])
        .await;
        let text = stub.registry().ensure("t-value", V1, true).await.unwrap_err().to_string();
        assert!(text.contains(cure) && !text.contains("proxy"), "{status}: {text}");
        assert_eq!(text.contains("subject t-value: it does not take a registration"), status < 422, "{text}");
    }
}

#[tokio::test]
async fn a_password_that_was_renewed_is_read_again() {
    let latest = serde_json::json!({"version": 3, "id": 9, "schema": V1}).to_string();
    let stub = stub(&[
        ("GET", LATEST, 200, &latest),
        ("GET", LATEST, 401, ""),
        ("GET", LATEST, 200, &latest),
        ("GET", LATEST, 401, ""),
    ])
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "old\n").unwrap();
    let registry = Registry::new(&RegistryConfig {
        username: Some("u".into()),
        password_file: Some(RelativePathBuf::from(file.clone())),
        ..stub.config.clone()
    })
    .unwrap();
    assert!(registry.latest("t-value").await.is_ok());
    std::fs::write(&file, "new\n").unwrap();
    assert!(registry.latest("t-value").await.is_ok(), "refused once, and asked again with the new one");
    // The same password is not tried twice.
    assert!(matches!(registry.latest("t-value").await, Err(RegistryError::Authentication { status: 401, .. })));
    let sent: Vec<_> = stub.seen.lock().unwrap().iter().map(|(header, _)| header.clone().unwrap()).collect();
    assert!(sent[0] == sent[1] && sent[1] != sent[2] && sent[2] == sent[3], "{sent:?}");
    stub.all_asked();
}

#[tokio::test]
async fn an_authority_that_was_renewed_is_read_again() {
    let [Ok(url), Ok(user), Ok(password), Ok(folder)] =
        ["REGISTRY_TLS", "REGISTRY_USER", "REGISTRY_PASSWORD", "TLS_DIR"]
            .map(|name| std::env::var(format!("PRESSLINE_TEST_{name}")))
    else {
        println!("skipped: PRESSLINE_TEST_REGISTRY_TLS is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (ca, secret) = (dir.path().join("ca.pem"), dir.path().join("password"));
    let authority = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    std::fs::write(&ca, authority("stranger-ca.pem")).unwrap();
    std::fs::write(&secret, password).unwrap();
    let registry = Registry::new(&RegistryConfig {
        username: Some(user),
        password_file: Some(RelativePathBuf::from(secret)),
        ca: Some(RelativePathBuf::from(ca.clone())),
        timeout_ms: 10_000,
        ..config(url)
    })
    .unwrap();
    let subject = "nobody-has-this-subject-value";
    let refused = registry.latest(subject).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    // Half of the file, as somebody may just be writing it.
    let right = authority("ca.pem");
    std::fs::write(&ca, &right[..right.len() / 2]).unwrap();
    assert!(registry.latest(subject).await.is_err());
    std::fs::write(&ca, right).unwrap();
    assert_eq!(registry.latest(subject).await, Ok(None));
}

#[tokio::test]
async fn a_real_registry() {
    let Ok(url) = std::env::var("PRESSLINE_TEST_REGISTRY") else {
        println!("skipped: PRESSLINE_TEST_REGISTRY is not set");
        return;
    };
    let registry = Registry::new(&RegistryConfig { timeout_ms: 20_000, ..config(url.clone()) }).unwrap();
    let subject = format!("pressline-test-{}-value", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
    assert_eq!(registry.latest(&subject).await, Ok(None));
    let absent = registry.ensure(&subject, V1, false).await;
    assert!(matches!(absent, Err(RegistryError::NotRegistered { .. })), "{absent:?}");

    let id = registry.ensure(&subject, V1, true).await.unwrap();
    assert_eq!(registry.ensure(&subject, V1, false).await, Ok(id), "a second look finds the same id");
    let known: serde_json::Value = serde_json::from_str(&registry.schema_by_id(id).await.unwrap().text).unwrap();
    assert_eq!(known, serde_json::from_str::<serde_json::Value>(V1).unwrap());
    let latest = registry.latest(&subject).await.unwrap().unwrap();
    assert_eq!(latest.id, id);

    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    let level = client
        .put(format!("{url}/config/{subject}"))
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .body(r#"{"compatibility":"BACKWARD"}"#);
    assert!(level.send().await.unwrap().status().is_success());
    let verdict = registry.compatibility(&subject, V2).await.unwrap();
    assert!(!verdict.compatible, "{verdict:?}");
    let text = registry.ensure(&subject, V2, true).await.unwrap_err().to_string();
    assert!(text.contains(&format!("our schema is incompatible with version {}", latest.version)), "{text}");
    assert!(text.contains("field `cohort`: version"), "{text}");
    println!("{text}");

    let broken = registry.ensure(&subject, r#"{"type":"record"}"#, true).await.unwrap_err();
    assert!(matches!(broken, RegistryError::Refused { .. }), "{broken:?}");
    println!("{broken}");
}

#[tokio::test]
async fn a_real_registry_behind_tls_and_a_password() {
    let variable = |name: &str| std::env::var(format!("PRESSLINE_TEST_{name}"));
    let (Ok(url), Ok(folder), Ok(user), Ok(password)) =
        (variable("REGISTRY_TLS"), variable("TLS_DIR"), variable("REGISTRY_USER"), variable("REGISTRY_PASSWORD"))
    else {
        println!("skipped: PRESSLINE_TEST_REGISTRY_TLS, _TLS_DIR, _REGISTRY_USER and _REGISTRY_PASSWORD are not set");
        return;
    };
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), format!("{password}\n")).unwrap();
    let right = RegistryConfig {
        username: Some(user),
        password_file: Some(RelativePathBuf::from(secret.path())),
        ca: Some(RelativePathBuf::from(format!("{folder}/ca.pem"))),
        timeout_ms: 20_000,
        ..config(url)
    };
    assert_eq!(Registry::new(&right).unwrap().latest("pressline-nobody-has-it").await, Ok(None));

    let nobody = RegistryConfig { username: None, ..right.clone() };
    let error = Registry::new(&nobody).unwrap().latest("pressline-nobody-has-it").await.unwrap_err();
    assert!(matches!(error, RegistryError::Authentication { status: 401, .. }), "{error:?}");

    let stranger = RegistryConfig { ca: None, ..right };
    let text = match Registry::new(&stranger) {
        Ok(registry) => registry.latest("pressline-nobody-has-it").await.unwrap_err().to_string(),
        // A machine without a certificate store.
        Err(error) => error.to_string(),
    };
    assert!(
        text.contains("certificate: UnknownIssuer; set registry.ca to the authority") || text.contains("CA"),
        "{text}"
    );
    println!("{text}");
}
