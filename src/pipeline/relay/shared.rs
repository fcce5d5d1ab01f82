//! What all workers of a relay share.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::Handle;

use crate::avro::registry::Registry;
use crate::config::{MemoryShare, PipelineConfig};
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::consumer::CommittedWatermark;
use crate::kafka::producer::OutputLimits;
use crate::kafka::replay_range::ReplayRange;
use crate::pipeline::plan::kernel::Frame;
use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::enrich::Caches;
use crate::pipeline::press::event::Actions;
use crate::place::{Chain, DatabaseSet};
use crate::runtime::status::Status;

/// What all workers of a pipeline share: made once, before the first worker starts.
pub struct RelayShared {
    /// Configuration.
    pub config: PipelineConfig,
    /// What makes outputs of records.
    pub work: Work,
    /// Where places come from, where they are looked up.
    pub lookup: Option<PlaceLookup>,
    /// Where schemas of records come from.
    pub registry: Arc<Registry>,
    /// What the registry is asked on.
    pub runtime: Handle,
    /// Schemas that the registry does not have, and since when records have them.
    pub unknown_schemas: Mutex<BTreeMap<u32, Instant>>,
    /// Set while output records are to be tagged since a database is stale.
    pub tag_stale: Arc<AtomicBool>,
    /// What each worker may hold.
    pub memory: MemoryShare,
    /// What this process knows to be committed.
    pub committed_watermark: Arc<CommittedWatermark>,
    /// Stops the pipeline when too much becomes dead letters.
    pub breaker: Arc<CircuitBreaker>,
    /// What the topics take that are written to.
    pub output: Arc<OutputLimits>,
    /// It was said what is relayed, and with which guarantee.
    pub is_announced: AtomicBool,
    /// Relays only what lies within; `None`: without end.
    pub replay_range: Option<Arc<ReplayRange>>,
    /// Set when the pipeline is to stop.
    pub stop: Arc<AtomicBool>,
    /// What `/readyz` tells.
    pub status: Arc<Status>,
}

/// What makes outputs of records: the same for all workers.
pub enum Work {
    /// The press kernel.
    Press {
        /// Allow list of actions.
        actions: Arc<Actions>,
        /// Plan of the output's schema.
        encoder: Arc<Encoder>,
    },
    /// The pipeline file's plan.
    Planned(Arc<Frame>),
}

/// Where places come from.
pub struct PlaceLookup {
    /// GeoIP databases.
    pub places: Arc<DatabaseSet>,
    /// Steps of the place lookup behind them.
    pub chain: Arc<Chain>,
    /// Ready-made fragments.
    pub caches: Arc<Caches>,
}
