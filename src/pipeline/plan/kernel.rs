//! Runs records through a plan. One a worker: it has the buffers, which are used again for each record, so that a record of a
//! schema that is known costs no allocation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compile::{OutputSchema, compile};
use super::output::Key;
use super::predicate::Input;
use super::program::{AddressSlot, Op, TransformPlan};
use super::walk::Span;
use crate::avro::format::{Decoded, Decoder};
use crate::avro::schema::SchemaText;
use crate::avro::{Cursor, Shape};
use crate::config::{BadIp, PipelineConfig};
use crate::kafka::dead_letter::{Reason, Reject, interned};
use crate::pipeline::press::enrich::{Enricher, LookupOutcome};
use crate::pipeline::press::event::ClientIp;

/// Most schemas that are remembered: ids are the sender's.
const MOST_SCHEMAS: usize = 1_000;

/// What is the same for all schemas of a pipeline's input: made at the start.
pub struct Frame {
    /// The pipeline.
    pub config: PipelineConfig,
    /// What its output is to have; in every plan the same.
    pub output: OutputSchema,
    /// Topics that values are written to, by index.
    pub topics: Vec<String>,
    /// Byte 0 and schema id of each; none where JSON is written.
    pub headers: Vec<[u8; 5]>,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written to the topic of this index. [`Kernel::value`] and [`Kernel::key`] are what is written.
    Write(usize),
    /// A filter was false.
    Filtered,
}

/// See the module.
pub struct Kernel {
    frame: Arc<Frame>,
    decoder: Decoder,
    plans: BTreeMap<u32, Result<Arc<TransformPlan>, Reject>>,
    /// The plan of the last record: the next one's, mostly.
    last: Option<(u32, Arc<TransformPlan>)>,
    enricher: Option<Enricher>,
    arena: Vec<u8>,
    slots: Vec<Span>,
    places: Vec<Arc<[u8]>>,
    value: Vec<u8>,
    scratch: Vec<u8>,
    key: Vec<u8>,
    has_key: HasKey,
    /// The registry has the records' schemas.
    is_registered: bool,
    /// How the lookups of the last record ended.
    pub lookups: Vec<LookupOutcome>,
    /// When the database of the last record's place was built.
    pub build: Option<u64>,
}

enum HasKey {
    No,
    Own,
    Input,
}

impl Kernel {
    /// A kernel. `enricher` makes the fragments of [`super::place_fields`]; needed where the pipeline looks places up. Errors, in
    /// words: the source's format.
    pub fn new(frame: Arc<Frame>, enricher: Option<Enricher>) -> Result<Self, String> {
        let format = frame.config.source.format().unwrap_or_default();
        let decoder = Decoder::new(&format)?;
        Ok(Self {
            frame,
            decoder,
            is_registered: format.format.has_registered_schemas(),
            plans: BTreeMap::new(),
            last: None,
            enricher,
            arena: Vec::with_capacity(1024),
            slots: Vec::new(),
            places: Vec::new(),
            value: Vec::with_capacity(512),
            scratch: Vec::new(),
            key: Vec::new(),
            has_key: HasKey::No,
            lookups: Vec::new(),
            build: None,
        })
    }

    /// The topic of an index.
    pub fn topic(&self, index: usize) -> &str {
        self.frame.topics.get(index).map_or("", String::as_str)
    }

    /// The lookup of places, where there is one.
    pub fn enricher(&mut self) -> Option<&mut Enricher> {
        self.enricher.as_mut()
    }

    /// The id of a record's schema, where the registry has to be asked for it before the record is run.
    pub fn unknown_schema(&mut self, payload: Option<&[u8]>) -> Option<u32> {
        if !self.is_registered {
            return None;
        }
        let (id, _) = crate::avro::format::wire_format(payload?)?;
        let is_last = self.last.as_ref().is_some_and(|(last, _)| *last == id);
        (!is_last && !self.plans.contains_key(&id)).then_some(id)
    }

    /// Takes a schema of the registry. One that the pipeline's plan does not fit makes its records dead letters.
    pub fn learn(&mut self, id: u32, schema: &SchemaText) {
        let learnt = match self.decoder.learn(id, schema) {
            Ok(shape) => self.plan_of(&shape),
            Err(what) => {
                tracing::warn!(pipeline = %self.frame.config.name, schema_id = id, "records of this schema are dead letters: {what}");
                Err(Reject::field(Reason::UnknownSchema, "", "the schema cannot be read"))
            }
        };
        self.keep(id, learnt);
    }

    /// Records of this id are dead letters: the registry does not have it.
    pub fn is_absent(&mut self, id: u32) {
        self.keep(id, Err(Reject::record(Reason::UnknownSchema)));
    }

    /// Asks for it again when a record has it.
    pub fn forget(&mut self, id: u32) {
        self.plans.remove(&id);
    }

    fn keep(&mut self, id: u32, plan: Result<Arc<TransformPlan>, Reject>) {
        if self.plans.len() >= MOST_SCHEMAS {
            self.plans.clear();
        }
        self.plans.insert(id, plan);
    }

    fn plan_of(&self, shape: &Shape) -> Result<Arc<TransformPlan>, Reject> {
        compile(&self.frame.config, shape, Some(&self.frame.output)).map(Arc::new).map_err(|faults| {
            let fault = faults.first();
            let what = fault.map_or("", |fault| &fault.what);
            let key = fault.map_or("", |fault| &fault.key);
            tracing::warn!(
                pipeline = %self.frame.config.name,
                "records of a schema that the pipeline does not fit are dead letters: {key}: {what}"
            );
            Reject::field(Reason::UnknownSchema, interned(key), "the pipeline does not fit the schema")
        })
    }

    /// Runs one record's value. `now_key` is the record's own key. Errors: it is a dead letter.
    #[inline]
    pub fn run(&mut self, payload: Option<&[u8]>, key: Option<&[u8]>) -> Result<Verdict, Reject> {
        self.lookups.clear();
        self.build = None;
        if payload.is_some_and(|payload| payload.len() > self.frame.config.source.max_record_bytes) {
            return Err(Reject::record(Reason::TooLarge));
        }
        self.arena.clear();
        let (schema, datum) = match self.decoder.decode(payload, &mut self.arena)? {
            Decoded::Datum { schema, bytes } => (schema, bytes),
            Decoded::Unknown(schema) => (schema, Default::default()),
            // Only sinks read envelopes.
            Decoded::Nothing | Decoded::Truncated => return Err(Reject::record(Reason::NullValue)),
        };
        let plan = match &self.last {
            Some((last, plan)) if *last == schema => Arc::clone(plan),
            _ => {
                let plan = match self.plans.get(&schema) {
                    Some(plan) => plan.clone()?,
                    None => match self.decoder.shape(schema).cloned() {
                        // A schema that came along with the record, or is declared.
                        Some(shape) => {
                            let plan = self.plan_of(&shape);
                            self.keep(schema, plan.clone());
                            // The datum is borrowed from the arena, which keeping a plan does not touch.
                            return match plan {
                                Ok(plan) => {
                                    self.last = Some((schema, plan));
                                    self.run(payload, key)
                                }
                                Err(reject) => Err(reject),
                            };
                        }
                        None => return Err(Reject::record(Reason::UnknownSchema)),
                    },
                };
                self.last = Some((schema, Arc::clone(&plan)));
                plan
            }
        };
        plan.walk
            .run(datum, &mut self.slots)
            .map_err(|error| Reject::field(Reason::NotAvro, "", interned(&error.to_string())))?;
        self.places.clear();
        let mut topic = None;
        for op in &plan.ops {
            let input = Input { datum, slots: &self.slots, places: &self.places };
            match op {
                Op::Filter(_, predicate) => match predicate.holds(&input) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Verdict::Filtered),
                    Err(fail) => return Err(Reject::field(Reason::StepFailed, "filter", fail.detail())),
                },
                Op::Route(_, predicate, to) if topic.is_none() => match predicate.holds(&input) {
                    Ok(true) => topic = Some(*to),
                    Ok(false) => {}
                    Err(fail) => return Err(Reject::field(Reason::StepFailed, "route", fail.detail())),
                },
                Op::Route(..) => {}
                Op::LookUp(address) => {
                    let bad_ip = self.frame.config.source.bad_ip;
                    let (fragment, outcome, build) = look_up(address, &input, self.enricher.as_ref(), bad_ip)?;
                    self.build = self.build.or(build);
                    self.lookups.push(outcome);
                    self.places.push(fragment);
                }
            }
        }
        let topic = topic.unwrap_or(0);
        let input = Input { datum, slots: &self.slots, places: &self.places };
        self.value.clear();
        plan.put(&input, self.frame.headers.get(topic), &mut self.scratch, &mut self.value)?;
        self.has_key = match &plan.key {
            Key::None => HasKey::No,
            Key::Input if key.is_some() => HasKey::Input,
            Key::Input => HasKey::No,
            Key::Field(field) => match field.put(&input, &mut self.key) {
                Ok(true) => HasKey::Own,
                Ok(false) => HasKey::No,
                Err(reason) => return Err(Reject::field(reason, interned(&field.name), "")),
            },
        };
        Ok(Verdict::Write(topic))
    }

    /// The value of the last record that is written.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Its key; `own` is the input record's.
    pub fn key<'k>(&'k self, own: Option<&'k [u8]>) -> Option<&'k [u8]> {
        match self.has_key {
            HasKey::No => None,
            HasKey::Own => Some(&self.key),
            HasKey::Input => own,
        }
    }
}

/// A place as an Avro fragment, what the lookup came to, and when the database was built whose record it is (seconds since the epoch).
type Looked = (Arc<[u8]>, LookupOutcome, Option<u64>);

/// Looks the place of an address up, and lets the address go.
fn look_up(
    slot: &AddressSlot,
    input: &Input<'_>,
    enricher: Option<&Enricher>,
    bad_ip: BadIp,
) -> Result<Looked, Reject> {
    let Some(enricher) = enricher else { return Err(Reject::field(Reason::StepFailed, "enrich", "no place database")) };
    let address = match slot.text(input) {
        None | Some("") => None,
        Some(text) => match ClientIp::parse(text) {
            Some(address) => Some(address),
            None if bad_ip == BadIp::UnknownPlace => None,
            None => return Err(Reject::field(Reason::BadIp, interned(&slot.name), "")),
        },
    };
    let found = address.map(|address| enricher.search(&address));
    Ok(enricher.fragment_of(found))
}

impl AddressSlot {
    fn text<'a>(&self, input: &Input<'a>) -> Option<&'a str> {
        let mut bytes = input.slots.get(self.slot)?.of(input.datum)?;
        if let Some(null_first) = self.null_first {
            let (branch, rest) = bytes.split_first()?;
            if (*branch == 2) != null_first {
                return None;
            }
            bytes = rest;
        }
        Cursor::new(bytes).text().ok()
    }
}

impl TransformPlan {
    /// Appends what is written for a record.
    fn put(
        &self,
        input: &Input<'_>,
        header: Option<&[u8; 5]>,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        if self.is_json {
            out.push(b'{');
            for (index, put) in self.puts.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put.json(input, scratch, out).map_err(|reason| Reject::field(reason, interned(&put.name), ""))?;
            }
            out.push(b'}');
            return Ok(());
        }
        out.extend_from_slice(header.unwrap_or(&[0; 5]));
        for put in &self.puts {
            put.avro(input, out).map_err(|reason| Reject::field(reason, interned(&put.name), ""))?;
        }
        Ok(())
    }
}
