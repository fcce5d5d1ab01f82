//! The presses again, through the general kernel: one field has another name, so that the press kernel does not run them.

use std::sync::Arc;

use figment::Figment;
use figment::providers::{Format, Toml};
use pressline::config::PipelineConfig;
use pressline::pipeline::plan::kernel::{Frame, Kernel};
use pressline::pipeline::plan::place_fields::PlaceFields;
use pressline::pipeline::plan::schemas::{declared_input, design};
use pressline::pipeline::press::enrich::{Caches, Enricher};
use pressline::place::{Coarsening, DatabaseSet};

const PIPELINE: &str = r#"
name = "general"
[kafka]
bootstrap_servers = "127.0.0.1:1"
[registry]
url = "http://127.0.0.1:1"
[source]
topic = "raw"
format = "json"
[source.fields]
session_id = "uuid"
timestamp = "timestamp-micros"
cohort = "int?"
action = "string"
ip = "string?"
[output]
topic = "out"
key = "session_id"
"#;

/// A place is looked up, and one field renamed.
pub const RENAMED: &str = "[[transforms]]\nenrich = \"ip\"\n[[transforms]]\nrename = { action = \"what\" }\n";

/// A kernel for these transforms; `stock` where they look places up.
pub fn kernel(transforms: &str, stock: Option<&DatabaseSet>) -> Kernel {
    let merged = Figment::from(Toml::string(PIPELINE)).merge(Toml::string(transforms));
    let config: PipelineConfig = merged.extract().unwrap();
    let input = declared_input(&config).unwrap().unwrap();
    let design = design(&config, &input).unwrap_or_else(|findings| panic!("{findings:?}"));
    let frame = Frame { config, output: design.output, topics: vec!["out".into()], headers: vec![[0; 5]] };
    let enricher = stock.map(|stock| {
        let caches = Arc::new(Caches::new(100_000));
        let coarsening = Coarsening { min_addresses: 300, round_coordinates: Some(0.1) };
        Enricher::following(stock.subscribe(), caches, Arc::new(PlaceFields), coarsening)
    });
    Kernel::new(Arc::new(frame), enricher).unwrap()
}
