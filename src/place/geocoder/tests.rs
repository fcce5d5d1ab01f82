//! The geocoder against a stub that answers, is slow, limits, lies, is down and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::with_local_recorder;
use axum::body::Body;
use axum::extract::{RawQuery, State as Extract};
use axum::http::{HeaderMap, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::super::chain::{Chain, LookupStep};
use super::answer::Point;
use super::client::seconds_now;
use super::question::Question;
use super::*;
use crate::place::{FragmentCache, Place, PlaceKey};

/// What a stub does with the n-th request, given its query.
type Behaviour = dyn Fn(usize, &str) -> Reply + Send + Sync;

enum Reply {
    /// Status, headers, body.
    Now(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The same, later.
    After(Duration, Vec<u8>),
}

struct Stub {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(Instant, String, String)>>>,
    server: tokio::task::JoinHandle<()>,
}

type Shown = (Arc<Mutex<Vec<(Instant, String, String)>>>, Arc<Behaviour>);

impl Stub {
    async fn start(behaviour: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Stub {
        Self::start_at("127.0.0.1:0".parse().unwrap(), behaviour).await
    }

    async fn start_at(address: SocketAddr, behaviour: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Stub {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shown: Shown = (Arc::clone(&requests), Arc::new(behaviour));
        let router = axum::Router::new().route("/nominatim/search", get(answer)).with_state(shown);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Stub { address, requests, server }
    }

    /// Queries so far.
    fn queries(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, query, _)| query.clone()).collect()
    }

    /// From each request to the next.
    fn gaps(&self) -> Vec<Duration> {
        self.requests.lock().unwrap().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

async fn answer(
    Extract((requests, behaviour)): Extract<Shown>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let query = query.unwrap_or_default();
    let agent = headers.get("user-agent").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let number = {
        let mut requests = requests.lock().unwrap();
        requests.push((Instant::now(), query.clone(), agent));
        requests.len() - 1
    };
    let (status, headers, body) = match behaviour(number, &query) {
        Reply::Now(status, headers, body) => (status, headers, body),
        Reply::After(wait, body) => {
            tokio::time::sleep(wait).await;
            (200, Vec::new(), body)
        }
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap()
}

fn hit(north: &str, east: &str, country: &str) -> Vec<u8> {
    format!(r#"[{{"lat":"{north}","lon":"{east}","address":{{"country_code":"{country}"}}}}]"#).into_bytes()
}

fn ok(body: Vec<u8>) -> Reply {
    Reply::Now(200, Vec::new(), body)
}

fn lyon(_: usize, _: &str) -> Reply {
    ok(hit("45.75", "4.85", "fr"))
}

/// A geocoder under test, with its metrics and a cache of fragments.
struct Scene {
    geocoder: Geocoder,
    metrics: PrometheusHandle,
    cache: Arc<FragmentCache>,
}

fn config(address: SocketAddr) -> GeocoderConfig {
    let text =
        format!(r#"{{"url":"http://{address}/nominatim","contact":"ops@example.org","requests_per_second":50.0}}"#);
    serde_json::from_str(&text).unwrap()
}

fn start(config: &GeocoderConfig) -> Scene {
    let recorder = PrometheusBuilder::new().build_recorder();
    let geocoder = with_local_recorder(&recorder, || Geocoder::start(config)).unwrap();
    Scene { geocoder, metrics: recorder.handle(), cache: Arc::new(FragmentCache::new(100)) }
}

fn place(city: &str) -> Place {
    Place {
        country_code: "FR".to_owned(),
        country_name: "France".to_owned(),
        subdivision_name: "Rhône".to_owned(),
        city_name: city.to_owned(),
        ..Place::unknown()
    }
}

fn key(offset: u32) -> PlaceKey {
    PlaceKey::new(1, 0, offset)
}

impl Scene {
    /// Asks about a city for a fragment, as a worker does that makes it.
    fn ask(&self, city: &str, offset: u32) -> Option<Point> {
        let mut point = None;
        let made = self.cache.get_or_insert_with(key(offset), || {
            point = self.geocoder.point(&place(city), Some((&self.cache, key(offset))));
            Ok::<_, ()>(format!("{point:?}").into_bytes())
        });
        made.unwrap();
        point
    }

    /// What is known about a city, without asking.
    fn known(&self, city: &str) -> Option<Point> {
        self.geocoder.point(&place(city), None)
    }

    fn metric(&self, name: &str, labels: &str) -> u64 {
        let page = self.metrics.render();
        let line = page.lines().find(|line| line.starts_with(name) && line.contains(labels));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or_else(|| panic!("{name} {labels} in {page}"))
            .parse()
            .unwrap()
    }

    fn requests(&self, answer: &str) -> u64 {
        self.metric("pressline_geocoder_requests_total", &format!("answer=\"{answer}\""))
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < deadline, "not within 20 s: {what}\n{}", self.metrics.render());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_place_is_asked_about_once_and_its_fragments_are_made_again() {
    let stub = Stub::start(lyon).await;
    let scene = start(&config(stub.address));
    // Three records of one place, in other spellings, and the same record again.
    for (city, offset) in [("Lyon", 1), ("LYON", 2), ("Lyön", 3), ("Lyon", 1)] {
        assert_eq!(scene.ask(city, offset), None, "nothing waits for the answer");
    }
    assert_eq!(scene.cache.stats().entries, 3);
    scene.until("answered", |scene| scene.requests("found") == 1).await;
    scene.until("renewed", |scene| scene.cache.stats().entries == 0).await;
    assert_eq!(scene.ask("Lyon", 1), Some((45.75, 4.85)));
    assert_eq!(scene.ask("lyon", 9), Some((45.75, 4.85)), "a record that was not there before");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stub.queries().len(), 1);
    assert_eq!(scene.metric("pressline_geocoder_lookups_total", "entry=\"asked\""), 3);
    assert_eq!(scene.metric("pressline_geocoder_lookups_total", "entry=\"known\""), 2);
    assert_eq!(scene.metric("pressline_geocoder_waiting_places", ""), 0);
    assert_eq!(scene.metric("pressline_geocoder_cache_entries", ""), 1);
}

#[tokio::test]
async fn it_says_who_asks_and_asks_for_names_only() {
    let stub = Stub::start(lyon).await;
    let scene = start(&config(stub.address));
    scene.ask("Lyon & co", 1);
    scene.until("asked", |scene| scene.requests("found") == 1).await;
    let (_, query, agent) = stub.requests.lock().unwrap()[0].clone();
    assert_eq!(agent, format!("pressline/{} (ops@example.org)", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        query,
        "format=jsonv2&limit=1&addressdetails=1&accept-language=en&countrycodes=fr&city=Lyon+%26+co&state=Rh%C3%B4ne&country=France"
    );
    let free = GeocoderConfig { query: crate::config::GeocoderQuery::Free, ..config(stub.address) };
    let scene = start(&free);
    scene.ask("", 1);
    scene.until("asked", |scene| scene.requests("found") == 1).await;
    assert!(stub.queries()[1].ends_with("&countrycodes=fr&q=Rh%C3%B4ne%2C+France"), "{:?}", stub.queries());
    // Nothing is known about who is nowhere.
    assert_eq!(scene.geocoder.point(&Place::unknown(), Some((&scene.cache, key(5)))), None);
    assert_eq!(scene.metric("pressline_geocoder_waiting_places", ""), 0);
}

#[tokio::test]
async fn requests_leave_no_faster_than_allowed() {
    let stub = Stub::start(lyon).await;
    let scene = start(&GeocoderConfig { requests_per_second: 10.0, ..config(stub.address) });
    for n in 0..15 {
        scene.ask(&format!("city {n}"), n);
    }
    scene.until("all answered", |scene| scene.requests("found") == 15).await;
    let (gaps, took) = (stub.gaps(), stub.gaps().iter().sum::<Duration>());
    println!(
        "15 requests, 10/s allowed: {:.2}/s, shortest gap {:?}",
        14.0 / took.as_secs_f64(),
        gaps.iter().min().unwrap()
    );
    // 1.4 s from the first to the last. On a busy machine each may arrive late, and the next one then seems early: so single gaps
    // say nothing, and a late first one shortens the whole.
    assert!(took >= Duration::from_millis(1_100), "{took:?}: {gaps:?}");
}

#[tokio::test]
async fn a_slow_server_holds_nobody_up_and_is_asked_again() {
    let slow = |number, _: &str| match number {
        0 => Reply::After(Duration::from_secs(30), Vec::new()),
        _ => lyon(0, ""),
    };
    let stub = Stub::start(slow).await;
    let scene = start(&GeocoderConfig { timeout_ms: 200, ..config(stub.address) });
    let began = Instant::now();
    for n in 0..100 {
        assert_eq!(scene.ask(&format!("city {n}"), n), None);
    }
    assert!(began.elapsed() < Duration::from_millis(600), "{:?} for 100 places", began.elapsed());
    scene.until("all answered", |scene| scene.requests("found") == 100).await;
    assert_eq!(scene.requests("failed"), 1);
    assert!(scene.known("city 0").is_some(), "the first was asked about again");
}

#[tokio::test]
async fn a_pause_that_the_server_asks_for_is_kept() {
    let in_three_seconds = || {
        let time = jiff::Timestamp::from_second(seconds_now() + 3).unwrap();
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap()
    };
    let limiting = move |number, _: &str| match number {
        0 => Reply::Now(429, vec![("retry-after", "2".into())], b"slow down".to_vec()),
        1 => Reply::Now(503, vec![("retry-after", in_three_seconds())], Vec::new()),
        _ => lyon(0, ""),
    };
    let stub = Stub::start(limiting).await;
    let scene = start(&config(stub.address));
    scene.ask("Lyon", 1);
    scene.until("answered", |scene| scene.known("Lyon").is_some()).await;
    let gaps = stub.gaps();
    assert!(gaps[0] >= Duration::from_millis(1_990) && gaps[0] < Duration::from_secs(3), "{gaps:?}");
    // Dates have whole seconds only.
    assert!(gaps[1] >= Duration::from_millis(1_990) && gaps[1] < Duration::from_secs(4), "{gaps:?}");
    assert_eq!((scene.requests("rate_limited"), scene.requests("failed")), (1, 1));
}

#[tokio::test]
async fn lies_are_refused_counted_and_not_asked_for_again() {
    let lies = |_, query: &str| {
        let city = query.split("city=").nth(1).unwrap().split('&').next().unwrap().to_owned();
        ok(match city.as_str() {
            "north" => hit("91", "4.85", "fr"),
            "nan" => hit("NaN", "NaN", "fr"),
            "abroad" => hit("52.5", "13.4", "de"),
            _ => b"[]".to_vec(),
        })
    };
    let stub = Stub::start(lies).await;
    let scene = start(&config(stub.address));
    for (offset, city) in ["north", "nan", "abroad", "nowhere"].iter().enumerate() {
        scene.ask(city, offset as u32);
    }
    scene.until("all settled", |scene| scene.requests("refused") == 3 && scene.requests("not_found") == 1).await;
    for (offset, city) in ["north", "nan", "abroad", "nowhere"].iter().enumerate() {
        assert_eq!(scene.ask(city, offset as u32), None, "{city}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stub.queries().len(), 4, "a miss is kept");
    assert_eq!(scene.metric("pressline_geocoder_lookups_total", "entry=\"missing\""), 4);
}

#[tokio::test]
async fn what_is_no_answer_is_neither_believed_nor_read_to_its_end() {
    let broken = |number, _: &str| match number {
        // Sound in all but its size.
        0 => ok([
            &b"[{\"lat\":\"1\",\"lon\":\"2\",\"address\":{\"country_code\":\"fr\"},\"x\":\""[..],
            &vec![b'a'; 10 << 20],
            b"\"}]",
        ]
        .concat()),
        1 => ok(b"<html>please log in</html>".to_vec()),
        2 => Reply::Now(302, vec![("location", "/nominatim/search?moved".into())], Vec::new()),
        _ => lyon(0, ""),
    };
    let stub = Stub::start(broken).await;
    let scene = start(&config(stub.address));
    scene.ask("Lyon", 1);
    scene.until("refused", |scene| scene.requests("unreadable") == 2).await;
    assert_eq!(scene.known("Lyon"), None);
    scene.until("answered in the end", |scene| scene.known("Lyon").is_some()).await;
    assert_eq!(scene.known("Lyon"), Some((45.75, 4.85)));
    assert_eq!(scene.requests("failed"), 1, "a redirect is a failure");
    assert!(!stub.queries().contains(&"moved".to_owned()), "a redirect was followed");
}

#[tokio::test]
async fn a_place_that_breaks_the_server_is_given_up_and_the_others_are_not() {
    let stub = Stub::start(|_, query| match query.contains("city=bad") {
        true => Reply::Now(500, Vec::new(), Vec::new()),
        false => lyon(0, ""),
    })
    .await;
    let scene = start(&config(stub.address));
    scene.ask("bad", 0);
    for n in 1..=3 {
        scene.ask(&format!("city {n}"), n);
        scene.until("the bad one failed", |scene| scene.requests("failed") == u64::from(n)).await;
        scene.until("the good one is answered", |scene| scene.known(&format!("city {n}")).is_some()).await;
    }
    scene.until("given up", |scene| scene.metric("pressline_geocoder_waiting_places", "") == 0).await;
    assert_eq!((scene.ask("bad", 0), scene.requests("failed")), (None, 3));
}

#[tokio::test]
async fn a_server_that_is_down_is_only_probed_and_its_return_is_noticed() {
    let stub = Stub::start(lyon).await;
    let address = stub.address;
    stub.server.abort();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let scene = start(&config(address));
    scene.ask("city 0", 0);
    let open = |scene: &Scene| scene.metric("pressline_geocoder_circuit_open", "") == 1;
    scene.until("the circuit opens", open).await;
    assert_eq!(scene.requests("failed"), 3);
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(scene.requests("failed"), 3, "nothing leaves while the circuit is open");
    for n in 1..20 {
        scene.ask(&format!("city {n}"), n);
    }
    assert_eq!(scene.metric("pressline_geocoder_waiting_places", ""), 20, "nothing is given up");
    let stub = Stub::start_at(address, lyon).await;
    scene.until("all answered", |scene| scene.requests("found") == 20).await;
    assert!(!open(&scene));
    assert_eq!(stub.queries().len(), 20);
}

#[tokio::test]
async fn answers_and_misses_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("geocoder.cache");
    let stub = Stub::start(|_, query| if query.contains("Lyon") { lyon(0, "") } else { ok(b"[]".to_vec()) }).await;
    let config = GeocoderConfig { cache_file: Some(file.clone().into()), ..config(stub.address) };
    let scene = start(&config);
    scene.ask("Lyon", 1);
    scene.ask("Atlantis", 2);
    scene.until("both settled", |scene| scene.metric("pressline_geocoder_cache_entries", "") == 2).await;
    drop(scene);
    let scene = start(&config);
    assert_eq!(scene.metric("pressline_geocoder_cache_entries", ""), 2);
    assert_eq!((scene.ask("Lyon", 1), scene.ask("Atlantis", 2)), (Some((45.75, 4.85)), None));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stub.queries().len(), 2, "neither was asked about again");
    drop(scene);
    // Torn by a full disk, say: another start is none the worse, and what was there is still to be looked at.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let scene = start(&config);
    assert_eq!(scene.metric("pressline_geocoder_cache_entries", ""), 0);
    assert_eq!(scene.ask("Lyon", 1), None);
    scene.until("asked again", |scene| scene.known("Lyon").is_some()).await;
    drop(scene);
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.len() == 2 && names.iter().any(|name| name.starts_with("geocoder.cache.refused-")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_waits_where_that_is_set_and_not_for_a_long_queue_nor_all_the_time() {
    let stub = Stub::start(|_, _| Reply::After(Duration::from_millis(300), hit("45.75", "4.85", "fr"))).await;
    let scene = Arc::new(start(&GeocoderConfig { max_wait_ms: 1_000, ..config(stub.address) }));
    let ask = |city: &'static str, offset| {
        let scene = Arc::clone(&scene);
        async move {
            let began = Instant::now();
            let point = tokio::task::spawn_blocking(move || scene.ask(city, offset)).await.unwrap();
            (point, began.elapsed())
        }
    };
    let (point, took) = ask("Lyon", 1).await;
    assert_eq!(point, Some((45.75, 4.85)));
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(1_000), "{took:?}");
    // Nine times as long as it waited, nobody waits again.
    let (point, took) = ask("Villeurbanne", 2).await;
    assert!(point.is_none() && took < Duration::from_millis(200), "{took:?}");
    tokio::time::sleep(Duration::from_millis(3_800)).await;
    assert_eq!(ask("Oullins", 3).await.0, Some((45.75, 4.85)));
    // The turn of the last in a queue cannot come in time.
    let slow = GeocoderConfig { max_wait_ms: 1_000, requests_per_second: 1.0, ..config(stub.address) };
    let scene = Arc::new(start(&slow));
    scene.geocoder.point(&place("first"), Some((&scene.cache, key(1))));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let waited = Arc::clone(&scene);
    let (waited, took) = tokio::task::spawn_blocking(move || {
        let fragment = |n| Some((&waited.cache, key(n)));
        let began = Instant::now();
        for n in 10..20 {
            let mut state = waited.geocoder.shared.state();
            let question = Question::of(&place(&format!("city {n}"))).unwrap();
            state.waiting.add(&question.key(), question, &waited.cache, key(n));
        }
        (waited.geocoder.point(&place("last"), fragment(99)), began.elapsed())
    })
    .await
    .unwrap();
    assert!(waited.is_none() && took < Duration::from_millis(200), "{took:?}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_in_words() {
    let address = "127.0.0.1:1".parse().unwrap();
    let refused = |config: GeocoderConfig| Geocoder::start(&config).err().expect("refused");
    let error = refused(GeocoderConfig {
        ca: Some(std::path::PathBuf::from("absent.pem").into()),
        url: "https://127.0.0.1:1".into(),
        ..config(address)
    });
    assert!(error.starts_with("place.geocoder.ca: absent.pem: "), "{error}");
    let error = refused(GeocoderConfig { url: "https://user:secret@h/".into(), ..config(address) });
    assert_eq!(error, "place.geocoder.url: holds a user name or password");
}

/// What the gazetteer knows exactly nobody is asked about; what it knows by the area goes out so until the answer is there.
#[tokio::test]
async fn in_the_chain_it_comes_last_and_is_told_no_more_than_the_place_has() {
    let stub = Stub::start(|_, _| ok(hit("30.50826", "-97.6789", "us"))).await;
    let scene = start(&config(stub.address));
    let Scene { geocoder, metrics, cache } = scene;
    let chain =
        Chain::new("test", Some(Arc::new(super::super::gazetteer::tests::gazetteer())), Some(Arc::new(geocoder)));
    let complete = |city: &str, subdivision: &str, offset| {
        let names = Place { country_code: "US".into(), subdivision_name: subdivision.into(), ..place(city) };
        let record = Place { country_name: "United States".into(), ..names };
        let mut place = record.clone();
        let steps = chain.complete(&mut place, &record, Some((&cache, key(offset))));
        (place, steps)
    };
    let (place, steps) = complete("Dallas", "Texas", 1);
    assert_eq!((place.latitude, steps.coordinates), (Some(32.78306), Some(LookupStep::Gazetteer)));
    let (place, steps) = complete("Round Rock", "Texas", 2);
    assert_eq!((place.latitude, place.accuracy_km), (Some(30.26715), Some(294)), "Austin stands for Texas");
    assert_eq!((steps.coordinates, place.time_zone), (Some(LookupStep::Gazetteer), None));
    // A place whose city was left out, because it is small, say.
    complete("", "Alaska", 3);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !metrics.render().contains("answer=\"found\"} 2") {
        assert!(Instant::now() < deadline, "{}", metrics.render());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked: Vec<String> =
        stub.queries().iter().map(|query| query.split("=us&").nth(1).unwrap().to_owned()).collect();
    assert_eq!(asked, ["city=Round+Rock&state=Texas&country=United+States", "state=Alaska&country=United+States"]);
    let (place, steps) = complete("Round Rock", "Texas", 2);
    assert_eq!((place.latitude, place.longitude, place.accuracy_km), (Some(30.50826), Some(-97.6789), None));
    assert_eq!((steps.coordinates, steps.time_zone), (Some(LookupStep::Geocoder), Some(LookupStep::Gazetteer)));
    assert_eq!(place.time_zone.as_deref(), Some("America/Chicago"), "that of Austin, the nearest city");
}

#[tokio::test]
async fn where_it_comes_before_the_gazetteer_that_stands_in_until_it_has_answered() {
    let stub =
        Stub::start(|number, _| if number == 0 { ok(hit("32.5", "-96.5", "us")) } else { ok(b"[]".to_vec()) }).await;
    let Scene { geocoder, metrics, cache } = start(&GeocoderConfig { before_gazetteer: true, ..config(stub.address) });
    let chain =
        Chain::new("test", Some(Arc::new(super::super::gazetteer::tests::gazetteer())), Some(Arc::new(geocoder)));
    let complete = |city: &str, offset| {
        let record = Place {
            country_code: "US".into(),
            country_name: "United States".into(),
            subdivision_name: "Texas".into(),
            ..place(city)
        };
        let mut place = record.clone();
        let steps = chain.complete(&mut place, &record, Some((&cache, key(offset))));
        (place.latitude, steps.coordinates)
    };
    let await_answers = async |answer: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !metrics.render().contains(&format!("answer=\"{answer}\"}} 1")) {
            assert!(Instant::now() < deadline, "{}", metrics.render());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let of_the_gazetteer = (Some(32.78306), Some(LookupStep::Gazetteer));
    assert_eq!(complete("Dallas", 1), of_the_gazetteer);
    await_answers("found").await;
    assert_eq!(complete("Dallas", 1), (Some(32.5), Some(LookupStep::Geocoder)));
    // What it does not know the gazetteer goes on answering.
    let austin = complete("Austin", 2);
    assert_eq!(austin.1, Some(LookupStep::Gazetteer));
    await_answers("not_found").await;
    assert_eq!(complete("Austin", 2), austin);
}
