//! Passwords and TLS, as libpq has them.

use std::path::PathBuf;

use pressline::config::sink::PostgresConfig;
use pressline::sink::postgres::{Connection, ErrorClass, PgError};

use crate::support::{Server, server};

async fn open(config: &PostgresConfig) -> Result<Connection, PgError> {
    Connection::open(config, "security").await
}

/// Whether the connection of `application` is encrypted.
async fn is_encrypted(server: &Server, application: &str) -> bool {
    let sql = format!(
        "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'pressline/{application}'"
    );
    server.value(&sql).await == "t"
}

#[tokio::test]
async fn a_wrong_password_names_user_matters_and_no_secret() {
    let Some(server) = server("password").await else { return };
    let user = std::env::var("PRESSLINE_TEST_POSTGRES_USER").unwrap_or_else(|_| "postgres".into());
    let error = open(&server.config_as(&user, "open sesame", "")).await.err().unwrap();
    assert_eq!(error.class, ErrorClass::Authentication);
    assert!(error.to_string().contains("28P01") && !error.to_string().contains("sesame"), "{error}");
    let mut config = server.config("");
    config.database = "no_such_database".into();
    let error = open(&config).await.err().unwrap();
    assert_eq!((error.class, error.is("3D000")), (ErrorClass::Schema, true));
    config.port = 1;
    let error = open(&config).await.err().unwrap();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.to_string().contains(":1/no_such_database"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let Some(server) = server("silent").await else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = server.config("connect_timeout_ms = 200");
    config.host = "127.0.0.1".into();
    config.port = listener.local_addr().unwrap().port();
    let error = open(&config).await.err().unwrap();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.what.contains("within 200 ms"), "{error}");
}

/// The folder with ca.pem, or `None`, said aloud.
fn authority() -> Option<PathBuf> {
    let folder = std::env::var_os("PRESSLINE_TEST_TLS_DIR");
    if folder.is_none() {
        println!("skipped: PRESSLINE_TEST_TLS_DIR is not set");
    }
    folder.map(PathBuf::from)
}

#[tokio::test]
async fn sslmodes_are_libpqs() {
    let (Some(server), Some(folder)) = (server("tls").await, authority()) else { return };
    let right = folder.join("ca.pem");
    let wrong = server.path("wrong.pem");
    std::fs::write(&wrong, OTHER_AUTHORITY).unwrap();
    let none = PathBuf::new();
    // The certificate is for localhost and 127.0.0.1; the server listens on 127.0.0.2 too.
    let (named, address) = ("localhost", "127.0.0.2");
    for (mode, host, ca, expected) in [
        ("disable", named, &none, Ok(false)),
        ("prefer", address, &none, Ok(true)),
        ("prefer", address, &wrong, Ok(true)),
        ("require", address, &none, Ok(true)),
        ("require", address, &right, Ok(true)),
        ("require", address, &wrong, Err("UnknownIssuer")),
        ("verify-ca", address, &right, Ok(true)),
        ("verify-ca", named, &right, Ok(true)),
        ("verify-ca", named, &wrong, Err("UnknownIssuer")),
        ("verify-ca", named, &none, Err("")),
        ("verify-full", named, &right, Ok(true)),
        ("verify-full", address, &right, Err("not valid for name")),
        ("verify-full", named, &wrong, Err("UnknownIssuer")),
    ] {
        let ca_line = if *ca == none { String::new() } else { format!("ca = \"{}\"", ca.display()) };
        let config = server.config(&format!("host = \"{host}\"\nsslmode = \"{mode}\"\n{ca_line}"));
        let application = format!("tls-{mode}-{host}");
        let case = format!("{mode} {host} {ca_line}");
        match (Connection::open(&config, &application).await, expected) {
            (Ok(_connection), Ok(encrypted)) => {
                assert_eq!(is_encrypted(&server, &application).await, encrypted, "{case}");
            }
            (Err(error), Err(text)) => {
                assert_eq!(error.class, ErrorClass::Authentication, "{case}: {error}");
                assert!(error.to_string().contains(text), "{case}: {error}");
            }
            (Ok(_), Err(_)) => panic!("{case}: connected"),
            (Err(error), Ok(_)) => panic!("{case}: {error}"),
        }
        // The server forgets an ended connection a moment later.
        while !server
            .sql(&format!("SELECT 1 FROM pg_stat_activity WHERE application_name = 'pressline/{application}'"))
            .await
            .is_empty()
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// Breaks off the first connection's TLS handshake, and hands the second one on to the server.
async fn break_the_first_handshake(server: &Server) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = server.config("");
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        first.read_exact(&mut [0; 8]).await.unwrap();
        first.write_all(b"S").await.unwrap();
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect((config.host, config.port)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut second, &mut server).await;
    });
    port
}

#[tokio::test]
async fn prefer_does_without_tls_where_the_handshake_fails_and_require_does_not() {
    let Some(server) = server("fallback").await else { return };
    for (mode, connects) in [("prefer", true), ("require", false)] {
        let mut config = server.config(&format!("sslmode = \"{mode}\""));
        config.host = "127.0.0.1".into();
        config.port = break_the_first_handshake(&server).await;
        let application = format!("fallback-{mode}");
        match Connection::open(&config, &application).await {
            Ok(_connection) => {
                assert!(connects, "{mode}");
                assert!(!is_encrypted(&server, &application).await);
            }
            Err(error) => assert!(!connects && error.class == ErrorClass::Transient, "{mode}: {error}"),
        }
    }
}

const OTHER_AUTHORITY: &str = include_str!("other_authority.pem");
