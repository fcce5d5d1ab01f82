//! A pipeline's relay, one record at a time.

use std::sync::Arc;

use serde_json::Value;

use super::{GivenPlace, SCHEMA_ID, WIRE_FORMAT, fields_of, given};
use crate::avro::schema::{self, SchemaText};
use crate::avro::{Field, Shape};
use crate::command::places::PlacesError;
use crate::config::{OutputFormat, PipelineConfig};
use crate::kafka::dead_letter::Reject;
use crate::pipeline::plan::kernel::{Frame, Kernel as PlanKernel, Verdict};
use crate::pipeline::plan::place_fields::PlaceFields;
use crate::pipeline::plan::schemas;
use crate::pipeline::press::decode::{Decoder, Limits};
use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::enrich::{Enricher, Fragments, LookupOutcome};
use crate::pipeline::press::event::{Actions, Press};
use crate::place::{Chain, Coarsening, FragmentCache, Gazetteer, GazetteerFiles, Places};

/// Places that are remembered.
const CACHED_PLACES: usize = 1_000;

/// A relay's kernel, with the fields of its output.
pub struct Trial {
    config: PipelineConfig,
    kernel: Kernel,
    /// Of the output, where it is Avro.
    fields: Vec<Field>,
}

enum Kernel {
    Press { decoder: Decoder, enricher: Box<Enricher>, encoder: Arc<Encoder> },
    Planned(Box<PlanKernel>),
}

/// What becomes of one record.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An output record.
    Written(Written),
    /// A filter was false.
    Filtered,
    /// A dead letter.
    Dead(Reject),
}

/// An output record.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its topic.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its fields, in their order.
    pub fields: Vec<(String, Value)>,
    /// Its value as it is written.
    pub value: Vec<u8>,
    /// How each lookup of a place ended.
    pub lookups: Vec<LookupOutcome>,
    /// Fields of a button press that are not kept.
    pub unknown_fields: u32,
}

impl Trial {
    /// Compiles a pipeline's relay. With `given`, these answer instead of its GeoIP databases. Errors: the pipeline, its schemas or
    /// its databases.
    pub fn new(config: PipelineConfig, given: Option<&[GivenPlace]>) -> Result<Self, PlacesError> {
        if config.is_press() { Self::of_presses(config, given) } else { Self::planned(config, given) }
    }

    fn of_presses(config: PipelineConfig, given: Option<&[GivenPlace]>) -> Result<Self, PlacesError> {
        let schema = schema::load(&config.schema_file().unwrap_or_default()).map_err(PlacesError::Findings)?;
        let actions = Actions::new(config.source.actions.clone());
        let actions = Arc::new(actions.map_err(|error| PlacesError::Which(format!("source.actions: {error}")))?);
        let encoder = Encoder::compile(&schema.schema, SCHEMA_ID, &actions, &schema.path.display().to_string());
        let encoder = Arc::new(encoder.map_err(PlacesError::Findings)?);
        let shape = Shape::parse(&schema.compact);
        let fields = fields_in(shape.map_err(|what| PlacesError::Which(format!("output.schema: {what}")))?)?;
        let enricher = Box::new(enricher(&config, given, encoder.clone())?);
        let limits = Limits { max_record_bytes: config.source.max_record_bytes, max_depth: config.source.max_depth };
        let decoder = Decoder::new(limits, actions).with_bad_ip(config.source.bad_ip);
        Ok(Self { config, kernel: Kernel::Press { decoder, enricher, encoder }, fields })
    }

    fn planned(config: PipelineConfig, given: Option<&[GivenPlace]>) -> Result<Self, PlacesError> {
        let input = schemas::declared_input(&config).map_err(PlacesError::Findings)?.ok_or_else(|| {
            let place = config.origin.place("source");
            let what = "source.schema is not set, and nobody asks a registry here; name an Avro schema file of the records there";
            PlacesError::Which(format!("{place}: {what}, or as `schema` in the fixtures"))
        })?;
        let design = schemas::design(&config, &input).map_err(PlacesError::Findings)?;
        let topics: Vec<String> = config.output_topics().into_iter().map(String::from).collect();
        let headers = match config.output.format {
            OutputFormat::Avro => vec![WIRE_FORMAT; topics.len()],
            OutputFormat::Json => Vec::new(),
        };
        let fields = fields_in(design.plan.output)?;
        let enricher = match config.uses_places() {
            true => Some(enricher(&config, given, Arc::new(PlaceFields))?),
            false => None,
        };
        let frame = Frame { config: config.clone(), output: design.output, topics, headers };
        let mut kernel = PlanKernel::new(Arc::new(frame), enricher).map_err(PlacesError::Which)?;
        if config.source.format.is_some_and(|format| format.has_registered_schemas())
            && let Some(path) = &config.source.schema
        {
            let file = schema::load(&path.relative()).map_err(PlacesError::Findings)?;
            kernel.learn(SCHEMA_ID, &SchemaText::from(file.compact.as_str()));
        }
        Ok(Self { config, kernel: Kernel::Planned(Box::new(kernel)), fields })
    }

    /// The pipeline.
    pub fn config(&self) -> &PipelineConfig {
        &self.config
    }

    /// Relays one record. Errors, in words: what was written cannot be read again, which is a defect of pressline.
    pub fn relay(&mut self, value: Option<&[u8]>, key: Option<&[u8]>, now_us: i64) -> Result<Outcome, String> {
        let Self { config, kernel, fields } = self;
        let mut written = Written {
            topic: config.output.topic.clone(),
            key: None,
            fields: Vec::new(),
            value: Vec::new(),
            lookups: Vec::new(),
            unknown_fields: 0,
        };
        match kernel {
            Kernel::Press { decoder, enricher, encoder } => {
                let press = match decoder.decode(value, now_us) {
                    Ok(press) => press,
                    Err(reject) => return Ok(Outcome::Dead(reject)),
                };
                written.unknown_fields = press.unknown_fields;
                let (address, body) = Press::split(press);
                let (fragment, lookup) = enricher.fragment(address.as_ref());
                encoder.encode(&body, &fragment, &mut written.value);
                written.key = Some(body.session_id.as_bytes().to_vec());
                written.lookups.push(lookup);
            }
            Kernel::Planned(kernel) => match kernel.run(value, key) {
                Err(reject) => return Ok(Outcome::Dead(reject)),
                Ok(Verdict::Filtered) => return Ok(Outcome::Filtered),
                Ok(Verdict::Write(topic)) => {
                    written.topic = kernel.topic(topic).to_owned();
                    written.key = kernel.key(key).map(<[u8]>::to_vec);
                    written.value = kernel.value().to_vec();
                    written.lookups.clone_from(&kernel.lookups);
                }
            },
        }
        written.fields = match config.output.format {
            OutputFormat::Avro => fields_of(fields, written.value.get(WIRE_FORMAT.len()..).unwrap_or_default())?,
            OutputFormat::Json => json_fields(fields, &written.value)?,
        };
        Ok(Outcome::Written(written))
    }
}

/// The fields of a JSON object, in the order of the output's.
fn json_fields(fields: &[Field], value: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let mut read: serde_json::Map<String, Value> = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    Ok(fields.iter().filter_map(|field| Some((field.name.clone(), read.remove(&field.name)?))).collect())
}

fn fields_in(shape: Shape) -> Result<Vec<Field>, PlacesError> {
    match shape {
        Shape::Record(fields) => Ok(fields),
        _ => Err(PlacesError::Which("output.schema: expected a record".into())),
    }
}

/// The lookup of places, as the relay has it, without a geocoder: that is another machine.
fn enricher(
    config: &PipelineConfig,
    given: Option<&[GivenPlace]>,
    fragments: Arc<dyn Fragments>,
) -> Result<Enricher, PlacesError> {
    let mut coarsening = Coarsening::from(&config.place);
    let places = match given {
        Some(given) => {
            // An answer that is given holds for one address: how many people live there is not known.
            coarsening.min_addresses = 0;
            Places::from_bytes("places", given::database(given))?
        }
        None if coarsening.min_addresses > 0 => Places::open_counted(&config.place.paths())?,
        None => Places::open(&config.place.paths())?,
    };
    let gazetteer = GazetteerFiles::named(&config.place.gazetteer).map(|files| Gazetteer::open(&files));
    let gazetteer = gazetteer.transpose().map_err(|error| PlacesError::Gazetteer(error.to_string()))?;
    let chain = Chain::uncounted(gazetteer.map(Arc::new), None);
    let cache = Arc::new(FragmentCache::new(CACHED_PLACES));
    Ok(Enricher::new(Arc::new(places), cache, fragments).with_coarsening(coarsening).with_chain(Arc::new(chain)))
}
