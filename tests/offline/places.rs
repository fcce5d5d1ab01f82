//! `pressline locate` and `pressline places report`, as an operator calls them.
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use maxminddb_writer::metadata::IpVersion;
use serde_json::{Value, json};

/// Helsinki has 65,536 addresses, Hanko 256 and a network of /48, Utsjoki 16: Lappi no more than that.
fn database(folder: &Path) -> PathBuf {
    let record = |state: &str, city: &str, latitude: f64| {
        json!({"country": {"iso_code": "FI"}, "subdivisions": [{"names": {"en": state}}],
               "city": {"names": {"en": city}}, "location": {"latitude": latitude, "longitude": 24.9384}})
    };
    let networks = [
        (0x5101_0000u128 << 64, 16 + 32, record("Uusimaa", "Helsinki", 60.1699)),
        (0x5102_0300u128 << 64, 24 + 32, record("Uusimaa", "Hanko", 59.8237)),
        (0x5103_0000u128 << 64, 28 + 32, record("Lappi", "Utsjoki", 69.9077)),
        (0x5104_0000u128 << 64, 16 + 32, json!({"country": {"iso_code": "SE"}})),
    ];
    let mut database = maxminddb_writer::Database::default();
    database.metadata.ip_version = IpVersion::V6;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "GeoLite2-City".to_owned();
    database.metadata.build_epoch = 1_793_491_200;
    for (bits, len, value) in networks {
        let data = database.insert_value(&value).unwrap();
        let (bits, len) = (bits >> 64, len + 64);
        database.insert_node((0..len).map(move |bit| bits >> (127 - bit) & 1 == 1), data);
    }
    let hanko = database.insert_value(record("Uusimaa", "Hanko", 59.8237)).unwrap();
    let bits = 0x2a01u128 << 112;
    database.insert_node((0..48).map(move |bit| bits >> (127 - bit) & 1 == 1), hanko);
    let file = folder.join("GeoLite2-City.mmdb");
    std::fs::write(&file, database.write_to(Vec::new()).unwrap()).unwrap();
    file
}

/// A folder with a database and a pipeline that uses it with these lines in `[place]`.
fn folder(place: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    database(folder.path());
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    std::fs::write(
        folder.path().join("pipelines/presses.toml"),
        format!(
            "kafka.bootstrap_servers = \"127.0.0.1:1\"\nregistry.url = \"http://127.0.0.1:1\"\n[source]\ntopic = \"raw\"\n\
             [output]\ntopic = \"out\"\nschema = \"out.avsc\"\n[place]\nfiles = [\"../GeoLite2-City.mmdb\"]\n{place}"
        ),
    )
    .unwrap();
    folder
}

fn pressline(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressline"));
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PRESSLINE__")) {
        command.env_remove(name);
    }
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn each_field_is_shown_with_the_step_that_gave_it_and_no_address_is() {
    let folder = folder("min_addresses = 1024\nround_coordinates = 0.1\n");
    let addresses = ["81.1.2.3", "81.2.3.4", "81.3.0.1", "2a01::17", "10.1.2.3", "9.9.9.9"];
    let output = pressline(folder.path(), &[&["locate"][..], &addresses].concat(), "");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    let blocks: Vec<&str> = out.split("address ").skip(1).collect();
    assert_eq!(blocks.len(), 6, "{out}");
    let row = |block: usize, field: &str| {
        let line = blocks[block].lines().find(|line| line.trim_start().starts_with(field)).unwrap_or_default();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert!(blocks[0].starts_with("1: GeoLite2-City.mmdb, built 2026-11-01\n"), "{out}");
    for (field, shown) in [
        ("country_name", "Finland names"),
        ("country_code", "FI mmdb"),
        ("subdivision_name", "Uusimaa mmdb"),
        ("subdivision_code", "18 names"),
        ("city_name", "Helsinki mmdb"),
        ("latitude", "60.2 rounded"),
        ("longitude", "24.9 rounded"),
        ("accuracy_km", ""),
    ] {
        assert_eq!(row(0, field), shown, "{out}");
    }
    // Hanko has 256 IPv4 addresses and as many networks of /56.
    for block in [1, 3] {
        assert_eq!((row(block, "city_name").as_str(), row(block, "latitude").as_str()), ("- reduced", "- reduced"));
        assert_eq!(row(block, "subdivision_name"), "Uusimaa mmdb");
    }
    assert_eq!(row(2, "subdivision_name"), "- reduced");
    assert_eq!(row(2, "country_code"), "FI mmdb");
    assert!(blocks[4].contains("private or reserved") && blocks[5].contains("no database knows it"), "{out}");
    assert!(err.contains("GeoLite2 data created by MaxMind"), "{err}");
    for address in addresses {
        assert!(!out.contains(address) && !err.contains(address), "{address}:\n{out}{err}");
    }
}

/// A server with Nominatim's `/search` that knows one point of Sweden; gives its address and what it was asked.
fn geocoder() -> (String, std::sync::mpsc::Receiver<String>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let (asked, questions) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let mut connection = connection.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            asked.send(String::from_utf8(head).unwrap()).unwrap();
            let body = r#"[{"lat":"62.1","lon":"15.2","address":{"country_code":"se"}}]"#;
            let length = body.len();
            write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .unwrap();
        }
    });
    (format!("http://{address}"), questions)
}

#[test]
fn the_geocoder_is_asked_on_demand_about_places_and_never_about_addresses() {
    let (url, questions) = geocoder();
    let folder = folder(&format!("[place.geocoder]\nurl = \"{url}\"\ncontact = \"tests@example.org\"\n"));
    let located = |more: &[&str]| {
        let output = pressline(folder.path(), &[&["locate", "--json", "81.4.3.2"], more].concat(), "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(located(&[])["place"]["latitude"], json!(null));
    assert!(questions.try_recv().is_err(), "it was asked without being told to");
    let found = located(&["--ask-geocoder"]);
    assert_eq!(
        (&found["place"]["latitude"], &found["steps"]["latitude"]),
        (&json!(62.1), &json!("geocoder")),
        "{found}"
    );
    assert_eq!((&found["place"]["longitude"], &found["steps"]["longitude"]), (&json!(15.2), &json!("geocoder")));
    let question = questions.recv().unwrap();
    assert!(question.contains("Sweden") && !question.contains("81.4"), "{question}");
    let output =
        pressline(folder.path(), &["locate", "--mmdb", "GeoLite2-City.mmdb", "--ask-geocoder", "81.4.3.2"], "");
    assert!(text(&output.stderr).contains("place.geocoder: not configured"), "{}", text(&output.stderr));
}

#[test]
fn a_file_of_addresses_is_answered_by_line_and_what_is_none_is_told_without_its_text() {
    let folder = folder("");
    let lines = "81.1.2.3\n\n  81.3.0.1 \r\nsecret 81.1.2.3\n";
    let output =
        pressline(folder.path(), &["locate", "--json", "--from-file", "-", "--mmdb", "GeoLite2-City.mmdb"], lines);
    assert_eq!(output.status.code(), Some(1), "something was no address");
    let out = text(&output.stdout);
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = answers.iter().map(|answer| (answer["line"].as_u64(), answer["outcome"].as_str())).collect();
    assert_eq!(lines, [(Some(1), Some("found")), (Some(3), Some("found")), (Some(4), Some("not_an_address"))]);
    assert_eq!(answers[1]["place"]["city_name"], "Utsjoki");
    assert_eq!(answers[1]["steps"]["country_name"], "names");
    assert_eq!(answers[1]["steps"].get("accuracy_km"), None);
    assert_eq!(
        (&answers[1]["file"], &answers[1]["build_epoch"]),
        (&json!("GeoLite2-City.mmdb"), &json!(1_793_491_200))
    );
    assert!(!out.contains("secret") && !text(&output.stderr).contains("secret"));
}

#[test]
fn the_report_counts_what_the_database_knows() {
    let folder = folder("min_addresses = 1024\n");
    let output = pressline(folder.path(), &["places", "report", "--json"], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &report["report"];
    let held = |v4: u64, v6: u64| json!({"v4": v4, "v6": v6});
    assert_eq!(report["min_addresses"], 1024);
    let all = &report["all"];
    assert_eq!(all["all"], held(65_536 * 2 + 256 + 16, 65_536));
    assert_eq!(all["country"], all["all"]);
    for field in ["subdivision", "city", "coordinates"] {
        assert_eq!(all[field], held(65_536 + 256 + 16, 65_536), "{field}");
    }
    assert_eq!(all["small"], held(256 + 16, 65_536));
    assert_eq!((&all["cities"], &all["small_cities"]), (&json!(3), &json!(2)));
    assert_eq!(report["countries"]["SE"]["all"], held(65_536, 0));
    assert_eq!(report["countries"]["SE"]["city"], held(0, 0));
    let output = pressline(folder.path(), &["places", "report", "--min-addresses", "100"], "");
    let table = text(&output.stdout);
    assert!(table.contains("1 of 3 cities have fewer than 100 addresses"), "{table}");
    let sweden = table.lines().find(|line| line.starts_with("SE")).unwrap();
    let cells: Vec<&str> = sweden.split_whitespace().collect();
    assert_eq!(cells[..7], ["SE", "65536", "100.0%", "0.0%", "0.0%", "0.0%", "0.0%"], "{table}");
}
