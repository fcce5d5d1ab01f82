//! Builds what the workers of a pipeline's relay share, and has them run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::avro::registry::Registry;
use crate::avro::schema;
use crate::avro::schema::SchemaFile;
use crate::config::finding::sentences;
use crate::config::{GeocoderConfig, MemoryShare, PipelineConfig};
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::producer::OutputLimits;
use crate::kafka::replay_range::ReplayRange;
use crate::metrics;
use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::enrich::Caches;
use crate::pipeline::press::event::Actions;
use crate::pipeline::relay::{Shared, Worker};
use crate::place::reload::Follower;
use crate::place::{Chain, DatabaseSet, Gazetteer, GazetteerFiles, Geocoder, reload};
use crate::runtime::status::Status;
use crate::runtime::supervise::{CLOSE_TIMEOUT, Ending, Team, WorkerError, supervise, without_panic};

/// Places kept as ready-made fragments: all that a busy day sees, in a few MB.
const CACHED_PLACES: usize = 100_000;

/// Sets of GeoIP databases that are open: pipelines with the same files share them, at tens of megabytes each.
#[derive(Default)]
pub struct Library {
    open: tokio::sync::Mutex<BTreeMap<Wanted, Weak<DatabaseSet>>>,
    gazetteers: tokio::sync::Mutex<BTreeMap<GazetteerFiles, Weak<Gazetteer>>>,
    /// By address, with the settings they run with.
    geocoders: tokio::sync::Mutex<BTreeMap<String, (GeocoderConfig, Weak<Geocoder>)>>,
}

/// What makes two sets the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    files: Vec<PathBuf>,
    counted: bool,
    poll: Option<Duration>,
}

impl Library {
    /// Opens the files, or takes what another pipeline has opened; they are kept up to date from then on.
    async fn open(&self, config: &PipelineConfig) -> Result<Arc<DatabaseSet>, String> {
        let place = &config.place;
        let wanted = Wanted { files: config.place_files(), counted: place.min_addresses > 0, poll: place.poll() };
        let mut open = self.open.lock().await;
        if let Some(database_set) = open.get(&wanted).and_then(Weak::upgrade) {
            return Ok(database_set);
        }
        let (paths, counted) = (wanted.files.clone(), wanted.counted);
        // Read whole and verified: not on the threads that serve HTTP.
        let database_set = tokio::task::spawn_blocking(move || DatabaseSet::open(&paths, counted)).await;
        let database_set = Arc::new(database_set.map_err(|e| e.to_string())?.map_err(|e| format!("place.files: {e}"))?);
        for database in database_set.subscribe().borrow().databases() {
            metrics::mmdb_reload(&database.file, None);
        }
        tokio::spawn(reload::keep(Arc::downgrade(&database_set), wanted.files.clone(), place.poll()));
        open.insert(wanted, Arc::downgrade(&database_set));
        Ok(database_set)
    }

    /// Reads the gazetteer's files, or takes what another pipeline has read.
    async fn gazetteer(&self, files: GazetteerFiles) -> Result<Arc<Gazetteer>, String> {
        let mut gazetteers = self.gazetteers.lock().await;
        if let Some(gazetteer) = gazetteers.get(&files).and_then(Weak::upgrade) {
            return Ok(gazetteer);
        }
        let paths = files.clone();
        let gazetteer = tokio::task::spawn_blocking(move || Gazetteer::open(&paths)).await;
        let gazetteer = gazetteer.map_err(|e| e.to_string())?.map_err(|e| format!("place.gazetteer: {e}"))?;
        let (cities, names, subdivisions) = (gazetteer.cities(), gazetteer.names(), gazetteer.subdivisions());
        tracing::info!(cities, names, subdivisions, "gazetteer");
        let gazetteer = Arc::new(gazetteer);
        gazetteers.insert(files, Arc::downgrade(&gazetteer));
        Ok(gazetteer)
    }

    /// Starts a geocoder, or takes what another pipeline has started: two for one server would ask twice as fast.
    async fn geocoder(&self, config: &GeocoderConfig) -> Result<Arc<Geocoder>, String> {
        let mut geocoders = self.geocoders.lock().await;
        let url = config.url.trim_end_matches('/');
        if let Some((running, geocoder)) = geocoders.get(url)
            && let Some(geocoder) = geocoder.upgrade()
        {
            return if running == config {
                Ok(geocoder)
            } else {
                Err("place.geocoder: another pipeline uses the same url with other settings, found here, expected the \
                     same; move the table to pressline.toml, which holds for all pipelines"
                    .into())
            };
        }
        let geocoder = Arc::new(Geocoder::start(config)?);
        geocoders.insert(url.to_owned(), (config.clone(), Arc::downgrade(&geocoder)));
        Ok(geocoder)
    }
}

/// Schema and places of a pipeline.
pub struct Materials {
    /// The output's schema.
    pub schema: SchemaFile,
    /// GeoIP databases.
    pub places: Arc<DatabaseSet>,
}

/// Runs a pipeline until it is told to stop or must. `materials` are those in memory already; without them they are read
/// from the configuration's files. `memory` is what each worker may hold. With `replay_range` it ends by itself.
pub async fn run(
    config: PipelineConfig,
    materials: Option<Materials>,
    library: Arc<Library>,
    memory: MemoryShare,
    replay_range: Option<Arc<ReplayRange>>,
    status: Arc<Status>,
    mut stop: watch::Receiver<bool>,
) -> Ending {
    let name = config.name.clone();
    let stop_workers = Arc::new(AtomicBool::new(false));
    let shared = match prepare(config, materials, &library, memory, &status, &stop_workers, &mut stop).await {
        Ok(Some(shared)) => Arc::new(Shared { replay_range, ..shared }),
        Ok(None) => return Ending::Stopped,
        Err(message) => {
            status.set("start", &message);
            return Ending::Refused(message);
        }
    };
    announce(&shared);
    let databases = shared.places.subscribe();
    let follower = Follower {
        pipeline: name.clone(),
        config: shared.config.place.clone(),
        chain: Arc::clone(&shared.chain),
        status: Arc::clone(&shared.status),
        tag: Arc::clone(&shared.tag_stale),
    };
    let follower = tokio::spawn(follower.follow(databases));
    let (workers, status) = (shared.config.workers, Arc::clone(&shared.status));
    let team = Team { name, workers, status, stop_workers };
    let ending = supervise(team, stop, move |slot| run_once(&shared, slot)).await;
    follower.abort();
    ending
}

fn run_once(shared: &Arc<Shared>, slot: usize) -> Result<(), WorkerError> {
    let mut worker = Worker::open(Arc::clone(shared), slot)?;
    let result = without_panic(|| worker.run());
    worker.close(matches!(result, Err(WorkerError::Fenced(_))), CLOSE_TIMEOUT);
    result
}

/// Everything that can be wrong before the first event: schema, places, registry, plan.
async fn prepare(
    config: PipelineConfig,
    materials: Option<Materials>,
    library: &Library,
    memory: MemoryShare,
    status: &Arc<Status>,
    stop_workers: &Arc<AtomicBool>,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Shared>, String> {
    let Materials { schema, places } = match materials {
        Some(materials) => materials,
        None => read_materials(&config, library, status).await?,
    };
    let chain = Arc::new(open_chain(&config, library).await?);
    let actions = Arc::new(Actions::new(config.source.actions.clone()).map_err(|e| format!("source.actions: {e}"))?);
    let registry = Registry::new(&config.registry).map_err(|e| e.to_string())?;
    status.set("start", "waiting for the schema registry");
    let subject = config.subject();
    let name = config.name.clone();
    let on_wait = |error: &crate::avro::registry::RegistryError, wait: Duration| {
        status.set("start", &error.to_string());
        tracing::warn!(pipeline = %name, retry_in_ms = wait.as_millis(), "{error}");
    };
    let registered =
        registry.ensure_with_backoff(&subject, &schema.compact, config.output.register, stop, on_wait).await;
    let Some(id) = registered.map_err(|e| e.to_string())? else { return Ok(None) };
    let place_of_schema = schema.path.display().to_string();
    let encoder = Encoder::compile(&schema.schema, id.0, &actions, &place_of_schema).map_err(|f| sentences(&f))?;
    tracing::info!(pipeline = %config.name, subject, schema_id = id.0, "schema is registered");
    match registry.kept_otherwise(id, &schema.compact).await {
        Ok(differences) if differences.is_empty() => {}
        Ok(differences) => tracing::warn!(
            pipeline = %config.name, subject, schema_id = id.0, differences = differences.join("; "),
            "the registry keeps an older text of this schema, which readers get; it takes both for the same"
        ),
        Err(error) => tracing::debug!(pipeline = %config.name, %error, "the registered schema was not compared"),
    }
    // The demo's broker answers no question about a topic.
    let asked =
        if config.source.topic_ids { vec![config.output.topic.clone(), config.dead_topic()] } else { Vec::new() };
    Ok(Some(Shared {
        actions,
        encoder: Arc::new(encoder),
        places,
        chain,
        caches: Arc::new(Caches::new(CACHED_PLACES)),
        tag_stale: Arc::default(),
        memory,
        committed_watermark: Arc::default(),
        breaker: Arc::new(CircuitBreaker::new(config.dead_letter.max_dead_share, config.dead_letter.window)),
        output: Arc::new(OutputLimits::new(&config.kafka, asked)),
        is_announced: AtomicBool::new(false),
        replay_range: None,
        stop: Arc::clone(stop_workers),
        status: Arc::clone(status),
        config,
    }))
}

async fn read_materials(config: &PipelineConfig, library: &Library, status: &Status) -> Result<Materials, String> {
    let schema = schema::load(&config.output.schema.relative()).map_err(|f| sentences(&f))?;
    status.set("start", "reading the GeoIP databases");
    let places = library.open(config).await?;
    Ok(Materials { schema, places })
}

/// The steps of the place lookup behind the databases.
async fn open_chain(config: &PipelineConfig, library: &Library) -> Result<Chain, String> {
    let gazetteer = match GazetteerFiles::named(&config.place.gazetteer) {
        Some(files) => Some(library.gazetteer(files).await?),
        None => None,
    };
    let geocoder = match &config.place.geocoder {
        Some(geocoder) => Some(library.geocoder(geocoder).await?),
        None => None,
    };
    Ok(Chain::new(&config.name, gazetteer, geocoder))
}

fn announce(shared: &Shared) {
    let config = &shared.config;
    for database in shared.places.subscribe().borrow().databases() {
        tracing::info!(
            pipeline = %config.name, file = %database.file, kind = %database.database_type,
            attribution = config.place.credit(database.attribution), "GeoIP database"
        );
    }
    tracing::info!(
        pipeline = %config.name, from = %config.source.topic, to = %config.output.topic,
        brokers = %config.kafka.bootstrap_servers, "connecting"
    );
}
