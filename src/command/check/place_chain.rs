//! The steps of the place lookup behind the databases: the gazetteer's files, and what is sent to the geocoder.

use reqwest::Url;

use super::{Report, Subject};
use crate::config::GeocoderConfig;
use crate::place::{Gazetteer, GazetteerFiles, Geocoder};
use crate::runtime::http_client;

/// The public server, and the most requests in a second that its usage policy allows
/// (<https://operations.osmfoundation.org/policies/nominatim/>).
const PUBLIC_SERVER: (&str, f64) = ("nominatim.openstreetmap.org", 1.0);

/// Checks gazetteer and geocoder of a pipeline; asks nobody.
pub fn check(subject: &Subject<'_>, report: &mut Report) {
    if let Some(files) = GazetteerFiles::named(&subject.config.place.gazetteer) {
        gazetteer(subject, &files, report);
    }
    if let Some(config) = &subject.config.place.geocoder {
        geocoder(subject, config, report);
    }
}

fn gazetteer(subject: &Subject<'_>, files: &GazetteerFiles, report: &mut Report) {
    // One by one, so that each bad file is named.
    let none = GazetteerFiles::default;
    let alone = [
        ("cities", GazetteerFiles { cities: files.cities.clone(), ..none() }),
        ("subdivisions", GazetteerFiles { subdivisions: files.subdivisions.clone(), ..none() }),
        ("countries", GazetteerFiles { countries: files.countries.clone(), ..none() }),
    ];
    for (key, file) in alone {
        let gazetteer = match Gazetteer::open(&file) {
            Ok(gazetteer) => gazetteer,
            Err(error) => {
                let text = error.to_string();
                let (what, cure) = text.rsplit_once("; ").unwrap_or((&text, "name another file"));
                report.findings.push(subject.error(&format!("place.gazetteer.{key}"), what, cure));
                continue;
            }
        };
        match key {
            "cities" if file.cities.is_some() => {
                report.ok(subject.line(format_args!("gazetteer: {} cities", gazetteer.cities())));
            }
            "subdivisions" if file.subdivisions.is_some() => {
                report.ok(subject.line(format_args!("gazetteer: {} subdivisions", gazetteer.subdivisions())));
            }
            _ => {}
        }
    }
    if files.cities.is_none() {
        let what = "not set: without cities the gazetteer has no coordinates and no time zones";
        report.findings.push(subject.warning("place.gazetteer.cities", what, "name GeoNames' cities500.txt"));
    } else if files.subdivisions.is_none() {
        let what = "not set: of cities with one name in a country the largest is always taken";
        report.findings.push(subject.warning(
            "place.gazetteer.subdivisions",
            what,
            "name GeoNames' admin1CodesASCII.txt",
        ));
    }
}

fn geocoder(subject: &Subject<'_>, config: &GeocoderConfig, report: &mut Report) {
    if let Err((key, what)) = Geocoder::check(config) {
        report.findings.push(subject.error(key, what, "fix the setting"));
        return;
    }
    let Ok(url) = Url::parse(&config.url) else { return };
    if url.scheme() == "http" && !http_client::is_loopback(&url) {
        report.findings.push(subject.warning(
            "place.geocoder.url",
            "http:// to another machine: the names of the places that visitors come from (never addresses) cross the network \
             in the clear, and answers can be forged on the way",
            "use https://, or a server on this machine",
        ));
    }
    if url.host_str() == Some(PUBLIC_SERVER.0) && config.requests_per_second > PUBLIC_SERVER.1 {
        report.findings.push(subject.warning(
            "place.geocoder.requests_per_second",
            "more than the 1 that the usage policy of nominatim.openstreetmap.org allows",
            "set it to 1, or run a server of your own",
        ));
    }
    if config.cache_file.is_none() {
        report.findings.push(subject.warning(
            "place.geocoder.cache_file",
            "not set: after each restart every place is asked for again",
            "name a file that pressline may write, such as /var/lib/pressline/geocoder.cache",
        ));
    }
    report.ok(subject.line(format_args!("geocoder {}, asked about places only", url.host_str().unwrap_or_default())));
}
