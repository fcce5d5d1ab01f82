//! Builds what the workers of a pipeline's relay share, and has them run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::avro::Shape;
use crate::avro::registry::Registry;
use crate::avro::schema;
use crate::avro::schema::SchemaFile;
use crate::config::finding::sentences;
use crate::config::{GeocoderConfig, MemoryConfig, MemoryShare, PipelineConfig};
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::producer::OutputLimits;
use crate::kafka::replay_range::ReplayRange;
use crate::metrics;
use crate::pipeline::plan::kernel::Frame;
use crate::pipeline::plan::schemas;
use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::enrich::Caches;
use crate::pipeline::press::event::Actions;
use crate::pipeline::relay::{PlaceLookup, RelayShared, RelayWorker, Work};
use crate::place::reload::Follower;
use crate::place::{Chain, DatabaseSet, Gazetteer, GazetteerFiles, Geocoder, reload};
use crate::runtime::backoff::Backoff;
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

/// Schema and places of a pipeline of button presses.
pub struct Materials {
    /// The output's schema.
    pub schema: SchemaFile,
    /// GeoIP databases.
    pub places: Arc<DatabaseSet>,
}

/// Runs a pipeline until it is asked to stop or must. `materials` are those in memory already; without them they are read
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
        Ok(Some(shared)) => Arc::new(RelayShared { replay_range, ..shared }),
        Ok(None) => return Ending::Stopped,
        Err(message) => {
            status.set("start", &message);
            return Ending::refused(message);
        }
    };
    announce(&shared);
    let follower = shared.lookup.as_ref().map(|lookup| {
        let follower = Follower {
            pipeline: name.clone(),
            config: shared.config.place.clone(),
            chain: Arc::clone(&lookup.chain),
            status: Arc::clone(&shared.status),
            tag: Arc::clone(&shared.tag_stale),
        };
        tokio::spawn(follower.follow(lookup.places.subscribe()))
    });
    let (workers, status) = (shared.config.workers, Arc::clone(&shared.status));
    let team = Team { name, workers, status, stop_workers };
    let ending = supervise(team, stop, move |slot| run_once(&shared, slot)).await;
    if let Some(follower) = follower {
        follower.abort();
    }
    ending
}

/// What relays single records by the pipeline as it is now, outside of its loop. Waits for the registry until `stop` says so; `None`:
/// it did. Errors, in words: what the pipeline could not start with either.
pub async fn shared(
    config: PipelineConfig,
    mut stop: watch::Receiver<bool>,
) -> Result<Option<Arc<RelayShared>>, String> {
    let (status, stop_workers) = (Arc::new(Status::new(&config.name)), Arc::new(AtomicBool::new(false)));
    let memory = MemoryConfig::default().share(1);
    let library = Library::default();
    let shared = prepare(config, None, &library, memory, &status, &stop_workers, &mut stop).await?;
    Ok(shared.map(Arc::new))
}

fn run_once(shared: &Arc<RelayShared>, slot: usize) -> Result<(), WorkerError> {
    let mut worker = RelayWorker::open(Arc::clone(shared), slot)?;
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
) -> Result<Option<RelayShared>, String> {
    let registry = Arc::new(Registry::new(&config.registry).map_err(|e| e.to_string())?);
    let mut registrar = Registrar { config: &config, registry: &registry, status, stop };
    let (work, lookup) = if config.is_press() {
        let Materials { schema, places } = match materials {
            Some(materials) => materials,
            None => read_materials(&config, library, status).await?,
        };
        let lookup = lookup(&config, library, places).await?;
        match registrar.press(&schema).await? {
            Some(work) => (work, Some(lookup)),
            None => return Ok(None),
        }
    } else {
        let Some(frame) = registrar.frame().await? else { return Ok(None) };
        let lookup = match config.uses_places() {
            true => {
                status.set("start", "reading the GeoIP databases");
                let places = library.open(&config).await?;
                Some(lookup(&config, library, places).await?)
            }
            false => None,
        };
        (Work::Planned(Arc::new(frame)), lookup)
    };
    // The demo's broker answers no question about a topic.
    let written = config.output_topics().into_iter().map(String::from).chain([config.dead_topic()]);
    let asked = if config.source.topic_ids { written.collect() } else { Vec::new() };
    Ok(Some(RelayShared {
        work,
        lookup,
        registry,
        runtime: tokio::runtime::Handle::current(),
        unknown_schemas: Mutex::default(),
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

/// Gets schemas from the registry, and registers those of the output; waits for the registry as long as it takes.
struct Registrar<'r> {
    config: &'r PipelineConfig,
    registry: &'r Registry,
    status: &'r Status,
    stop: &'r mut watch::Receiver<bool>,
}

impl Registrar<'_> {
    /// What the press kernel needs. None: the pipeline is to stop.
    async fn press(&mut self, schema: &SchemaFile) -> Result<Option<Work>, String> {
        let actions = Actions::new(self.config.source.actions.clone()).map_err(|e| format!("source.actions: {e}"))?;
        let actions = Arc::new(actions);
        schemas::is_named(self.config, schema).map_err(|f| sentences(&f))?;
        let Some(id) = self.register(&self.config.subject(), &schema.compact).await? else { return Ok(None) };
        let place_of_schema = schema.path.display().to_string();
        let encoder = Encoder::compile(&schema.schema, id, &actions, &place_of_schema).map_err(|f| sentences(&f))?;
        Ok(Some(Work::Press { actions, encoder: Arc::new(encoder) }))
    }

    /// What a plan's kernel needs. None: the pipeline is to stop.
    async fn frame(&mut self) -> Result<Option<Frame>, String> {
        let config = self.config;
        let input = match schemas::declared_input(config).map_err(|f| sentences(&f))? {
            Some(shape) => shape,
            None => match self.newest().await? {
                Some(shape) => shape,
                None => return Ok(None),
            },
        };
        let design = schemas::design(config, &input).map_err(|f| sentences(&f))?;
        let topics: Vec<String> = config.output_topics().into_iter().map(String::from).collect();
        let mut headers = Vec::new();
        for topic in topics.iter().filter(|_| design.text.is_some()) {
            let text = design.text.as_deref().unwrap_or_default();
            let Some(id) = self.register(&config.subject_of(topic), text).await? else { return Ok(None) };
            let mut header = [0; 5];
            header[1..].copy_from_slice(&id.to_be_bytes());
            headers.push(header);
        }
        Ok(Some(Frame { config: config.clone(), output: design.output, topics, headers }))
    }

    /// The type of the newest schema of the source's subject.
    async fn newest(&mut self) -> Result<Option<Shape>, String> {
        let config = self.config;
        let subject = config.source_subject();
        let format = config.source.format().unwrap_or_default().format;
        if !format.has_registered_schemas() {
            return Err(format!(
                "source.schema: records in {} bring their schema along, and the output's fields must be known before the first \
                 one; name an Avro schema file of the records in source.schema",
                format.name()
            ));
        }
        let mut pause = Backoff::default();
        loop {
            let said = match self.registry.latest(&subject).await {
                Ok(Some(version)) => {
                    let shape = schemas::of_registered(config, &version.schema).map_err(|f| sentences(&f))?;
                    return Ok(Some(shape));
                }
                Ok(None) => format!(
                    "subject {subject} is not registered yet; register the schema of topic {}",
                    config.source.topic
                ),
                Err(error) if error.is_retriable() => error.to_string(),
                Err(error) => return Err(error.to_string()),
            };
            let wait = pause.next_wait();
            self.status.set("start", &said);
            tracing::warn!(pipeline = %config.name, retry_in_ms = wait.as_millis(), "{said}");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stop.changed() => return Ok(None),
            }
        }
    }

    /// Registers a schema, or looks it up. None: the pipeline is to stop.
    async fn register(&mut self, subject: &str, text: &str) -> Result<Option<u32>, String> {
        let (config, status, registry) = (self.config, self.status, self.registry);
        status.set("start", "waiting for the schema registry");
        let on_wait = |error: &crate::avro::registry::RegistryError, wait: Duration| {
            status.set("start", &error.to_string());
            tracing::warn!(pipeline = %config.name, retry_in_ms = wait.as_millis(), "{error}");
        };
        let registered = registry.ensure_with_backoff(subject, text, config.output.register, self.stop, on_wait).await;
        let Some(id) = registered.map_err(|e| e.to_string())? else { return Ok(None) };
        tracing::info!(pipeline = %config.name, subject, schema_id = id.0, "schema is registered");
        match registry.kept_otherwise(id, text).await {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => tracing::warn!(
                pipeline = %config.name, subject, schema_id = id.0, differences = differences.join("; "),
                "the registry keeps an older text of this schema, which readers get; it takes both for the same"
            ),
            Err(error) => tracing::debug!(pipeline = %config.name, %error, "the registered schema was not compared"),
        }
        Ok(Some(id.0))
    }
}

async fn lookup(config: &PipelineConfig, library: &Library, places: Arc<DatabaseSet>) -> Result<PlaceLookup, String> {
    let chain = Arc::new(open_chain(config, library).await?);
    Ok(PlaceLookup { places, chain, caches: Arc::new(Caches::new(CACHED_PLACES)) })
}

async fn read_materials(config: &PipelineConfig, library: &Library, status: &Status) -> Result<Materials, String> {
    let schema = schema::load(&config.schema_file().unwrap_or_default()).map_err(|f| sentences(&f))?;
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

fn announce(shared: &RelayShared) {
    let config = &shared.config;
    let databases = shared.lookup.iter().flat_map(|lookup| lookup.places.subscribe().borrow().databases());
    for database in databases {
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
