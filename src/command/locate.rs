//! `pressline locate`: what the GeoIP databases and the gazetteer answer to addresses, and which step gave what. The
//! geocoder is asked only if told so: it answers at its own pace.
//!
//! The operator knows the addresses. They are shown as a number or a line all the same: what is printed may be
//! kept, and an address never is.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};

use tokio::runtime::Runtime;

use crate::command::places::{Databases, PlacesError};
use crate::config::PlaceConfig;
use crate::pipeline::press::event::ClientIp;
use crate::place::{
    Chain, Coarsening, FragmentCache, Gazetteer, GazetteerFiles, Geocoder, Lookup, Place, PlaceError, PlaceKey, Places,
    chain,
};
use crate::runtime::stdio;

/// `pressline locate`.
#[derive(Args)]
pub struct LocateArgs {
    /// IPv4 or IPv6 addresses
    #[arg(value_name = "ADDRESS", required_unless_present = "from_file")]
    addresses: Vec<String>,
    /// A file with an address on each line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "addresses")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    databases: Databases,
    /// Also ask the pipeline's geocoder, which is told names of places and takes about a second for each
    #[arg(long)]
    ask_geocoder: bool,
    /// One JSON object for each address
    #[arg(long)]
    json: bool,
}

/// What made a field what it is, in the order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldSource {
    /// As the database's record has it.
    Mmdb,
    /// Completed from ISO 3166.
    Names,
    /// Left out, since too few addresses are there, or since it is not that of most people of the country.
    Reduced,
    /// Completed from the gazetteer.
    Gazetteer,
    /// Answered by the geocoder.
    Geocoder,
    /// A rounded coordinate.
    Rounded,
}

impl FieldSource {
    fn name(self) -> &'static str {
        match self {
            FieldSource::Mmdb => "mmdb",
            FieldSource::Names => "names",
            FieldSource::Reduced => "reduced",
            FieldSource::Gazetteer => "gazetteer",
            FieldSource::Geocoder => "geocoder",
            FieldSource::Rounded => "rounded",
        }
    }
}

/// The steps behind the databases.
struct ChainSteps {
    chain: Chain,
    /// What a geocoder's answer would renew: not used here, where every address takes the whole way.
    unused: Arc<FragmentCache>,
    /// Threads of the geocoder, after the chain that holds it: fields are dropped in their order.
    _runtime: Option<Runtime>,
}

/// A place, with the last step that changed each field.
struct Trace {
    place: Place,
    steps: Vec<Option<FieldSource>>,
}

impl Trace {
    /// Takes the record of a key all the way that it takes into the output.
    fn of(places: &Places, key: PlaceKey, coarsening: &Coarsening, steps: &ChainSteps) -> Result<Trace, PlaceError> {
        let mut trace = Trace { place: Place::unknown(), steps: vec![None; fields(&Place::unknown()).len()] };
        trace.step(FieldSource::Mmdb, places.raw_place(key)?);
        trace.step(FieldSource::Names, places.place(key)?);
        let mut place = trace.place.clone();
        coarsening.reduce(places, key, &mut place)?;
        steps.chain.leave_out_of_country(&mut place);
        trace.step(FieldSource::Reduced, place.clone());
        let given = steps.chain.complete(&mut place, &Place::unknown(), Some((&steps.unused, key)));
        if given.coordinates == Some(chain::LookupStep::Geocoder) {
            let point = Place { latitude: place.latitude, longitude: place.longitude, ..trace.place.clone() };
            trace.step(FieldSource::Geocoder, point);
        }
        trace.step(FieldSource::Gazetteer, place.clone());
        coarsening.round(&mut place);
        trace.step(FieldSource::Rounded, place);
        Ok(trace)
    }

    fn step(&mut self, step: FieldSource, place: Place) {
        let changes = fields(&self.place).into_iter().zip(fields(&place));
        for (last, ((_, before), (_, after))) in self.steps.iter_mut().zip(changes) {
            if before != after {
                *last = Some(step);
            }
        }
        self.place = place;
    }
}

fn fields(place: &Place) -> [(&'static str, Value); 9] {
    [
        ("country_name", json!(place.country_name)),
        ("country_code", json!(place.country_code)),
        ("subdivision_name", json!(place.subdivision_name)),
        ("subdivision_code", json!(place.subdivision_code)),
        ("city_name", json!(place.city_name)),
        ("latitude", json!(place.latitude)),
        ("longitude", json!(place.longitude)),
        ("accuracy_km", json!(place.accuracy_km)),
        ("time_zone", json!(place.time_zone)),
    ]
}

/// What came of one address.
enum Answer {
    Found { file: String, build_epoch: u64, trace: Box<Trace> },
    Unknown,
    Private,
    NotAnAddress,
}

/// Shows the answers; false where something was no address. Errors: see [`PlacesError`].
pub fn run(args: &LocateArgs) -> Result<bool, PlacesError> {
    let settings = args.databases.settings()?;
    let coarsening = Coarsening::from(&settings);
    let paths = settings.paths();
    let places = if coarsening.min_addresses > 0 { Places::open_counted(&paths)? } else { Places::open(&paths)? };
    let gazetteer = GazetteerFiles::named(&settings.gazetteer).map(|files| Gazetteer::open(&files));
    let gazetteer = gazetteer.transpose().map_err(|error| PlacesError::Gazetteer(error.to_string()))?;
    let (geocoder, _runtime) = args.geocoder(&settings)?.unzip();
    let chain = Chain::uncounted(gazetteer.map(Arc::new), geocoder);
    let steps = ChainSteps { chain, unused: Arc::new(FragmentCache::new(1)), _runtime };
    let mut all_are_addresses = true;
    let mut show = |kind: &str, number: usize, text: &str| {
        if stdio::is_closed() {
            // Nobody reads the answers.
            return Ok(());
        }
        let answer = answer(&places, &coarsening, &steps, text)?;
        all_are_addresses &= !matches!(answer, Answer::NotAnAddress);
        stdio::print(if args.json { as_json(kind, number, &answer) } else { as_text(kind, number, &answer) });
        Ok(())
    };
    match &args.from_file {
        None => {
            for (index, text) in args.addresses.iter().enumerate() {
                show("address", index + 1, text)?;
            }
        }
        Some(file) => each_line(file, |number, text| show("line", number, text))?,
    }
    let databases = places.databases();
    let mut credits: Vec<&str> = databases.iter().map(|database| settings.credit(database.attribution)).collect();
    credits.extend(steps.chain.attributions().map(|credit| -> &str { credit }));
    credits.dedup();
    credits.iter().filter(|credit| !credit.is_empty()).for_each(stdio::tell);
    Ok(all_are_addresses)
}

impl LocateArgs {
    /// The geocoder, if it is to be asked, and the threads it runs on.
    fn geocoder(&self, settings: &PlaceConfig) -> Result<Option<(Arc<Geocoder>, Runtime)>, PlacesError> {
        if !self.ask_geocoder {
            return Ok(None);
        }
        let config = settings.geocoder.as_ref().ok_or_else(|| {
            PlacesError::Geocoder("not configured; give the pipeline a table [place.geocoder] with its url".into())
        })?;
        let runtime =
            Runtime::new().map_err(|source| PlacesError::Io { what: "the geocoder's threads".into(), source })?;
        let entered = runtime.enter();
        let geocoder = Geocoder::by_hand(config).map_err(PlacesError::Geocoder)?;
        drop(entered);
        Ok(Some((Arc::new(geocoder), runtime)))
    }
}

/// Visits the lines that are not empty, counted from 1.
fn each_line(file: &Path, mut visit: impl FnMut(usize, &str) -> Result<(), PlacesError>) -> Result<(), PlacesError> {
    let failed = |source| PlacesError::Io { what: file.display().to_string(), source };
    let lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(file).map_err(failed)?))
    };
    for (index, line) in lines.split(b'\n').enumerate() {
        let line = line.map_err(failed)?;
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            visit(index + 1, text.trim())?;
        }
    }
    Ok(())
}

fn answer(places: &Places, coarsening: &Coarsening, steps: &ChainSteps, text: &str) -> Result<Answer, PlaceError> {
    let Some(ip) = ClientIp::parse(text.trim()) else { return Ok(Answer::NotAnAddress) };
    Ok(match places.lookup(&ip) {
        Lookup::Unknown => Answer::Unknown,
        Lookup::Private => Answer::Private,
        Lookup::Found(key) => Answer::Found {
            file: places.file_name(key).unwrap_or_default().to_owned(),
            build_epoch: places.build_epoch(key).unwrap_or_default(),
            trace: Box::new(Trace::of(places, key, coarsening, steps)?),
        },
    })
}

fn as_text(kind: &str, number: usize, answer: &Answer) -> String {
    let Answer::Found { file, build_epoch, trace } = answer else {
        return format!("{kind} {number}: {}\n", in_words(answer));
    };
    let mut text = format!("{kind} {number}: {file}, built {}\n", date(*build_epoch));
    for ((name, value), step) in fields(&trace.place).into_iter().zip(&trace.steps) {
        let Some(step) = step else { continue };
        let value = match value {
            Value::String(text) if !text.is_empty() => text,
            Value::Number(number) => number.to_string(),
            _ => "-".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<17} {value:<32} {}", step.name());
    }
    text
}

/// The day, in UTC; a time that no calendar has is given as its number.
fn date(epoch: u64) -> String {
    let time = i64::try_from(epoch).ok().and_then(|epoch| jiff::Timestamp::from_second(epoch).ok());
    time.map_or_else(|| format!("at {epoch} s after 1970"), |time| time.strftime("%F").to_string())
}

fn in_words(answer: &Answer) -> &'static str {
    match answer {
        Answer::Found { .. } => "found",
        Answer::Unknown => "no database knows it",
        Answer::Private => "a private or reserved address, which has no public place: not looked up",
        Answer::NotAnAddress => "not an IPv4 or IPv6 address",
    }
}

fn as_json(kind: &str, number: usize, answer: &Answer) -> String {
    let outcome = match answer {
        Answer::Found { .. } => "found",
        Answer::Unknown => "not_found",
        Answer::Private => "private",
        Answer::NotAnAddress => "not_an_address",
    };
    let mut object = Map::from_iter([(kind.to_owned(), json!(number)), ("outcome".to_owned(), json!(outcome))]);
    if let Answer::Found { file, build_epoch, trace } = answer {
        let fields = fields(&trace.place);
        let steps = fields.iter().zip(&trace.steps).filter_map(|((name, _), step)| Some((name, (*step)?.name())));
        object.insert("file".to_owned(), json!(file));
        object.insert("build_epoch".to_owned(), json!(build_epoch));
        object.insert("steps".to_owned(), steps.map(|(name, step)| ((*name).to_owned(), json!(step))).collect());
        object.insert("place".to_owned(), fields.iter().map(|(n, value)| ((*n).to_owned(), value.clone())).collect());
    }
    format!("{}\n", Value::Object(object))
}
