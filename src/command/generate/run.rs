//! From the arguments to the presses sent.

use jiff::Timestamp;

use crate::avro::registry::Registry;
use crate::command::generate::addresses::Addresses;
use crate::command::generate::audience::Audience;
use crate::command::generate::presses::Presses;
use crate::command::generate::{GenerateArgs, GenerateError, OrderFormat, Orders, Pace, What, orders, send, topics};
use crate::kafka::connection::Connected;
use crate::runtime::stdio;

/// Runs the command until the count is reached or SIGINT or SIGTERM comes, and prints the summary. Blocks; must not be
/// called from within an async runtime.
pub fn run(args: &GenerateArgs) -> Result<(), GenerateError> {
    let pace = Pace::of(args, Timestamp::now())?;
    let stop = send::stop_on_signal()?;
    let outcome = match &args.output {
        Some(file) => {
            let mut lines = send::Lines::create(file)?;
            let mut events = events(args, &pace, 0)?;
            send::send(events.as_mut(), &mut lines, &pace, &stop)
        }
        None => {
            let connected = args.connection.resolve()?;
            let topic = args.topic.clone().unwrap_or_else(|| match &connected.pipeline {
                Some(pipeline) => pipeline.source.topic.clone(),
                None if args.kind == What::Orders => "orders".into(),
                None => "raw_presses".into(),
            });
            topics::ready(args, &connected, &topic, pace.start_us)?;
            let schema_id = schema_id(args, &connected, &topic)?;
            let mut sender = send::Sender::new(&connected, &topic, pace.rate > 0.0)?;
            // Live events carry the time at which they are sent: the clock starts when everything else is ready.
            let pace = Pace::of(args, Timestamp::now())?;
            let mut events = events(args, &pace, schema_id)?;
            send::send(events.as_mut(), &mut sender, &pace, &stop)
        }
    };
    // Data on standard output must not be mixed with words.
    let to_stderr = args.output.as_ref().is_some_and(|file| file.as_os_str() == "-");
    let summary = match outcome {
        // `pressline generate --output - | head` has what it wanted; a full disk is reported at the end.
        Err(GenerateError::Unwritable { .. }) if to_stderr && stdio::is_closed() => return Ok(()),
        outcome => outcome?,
    };
    let text = if args.json { summary.json() } else { summary.to_string() };
    if to_stderr {
        stdio::tell(text)
    } else {
        stdio::say(text)
    }
    Ok(())
}

/// What makes the events; `schema_id` is that of orders in Avro.
pub(super) fn events(args: &GenerateArgs, pace: &Pace, schema_id: u32) -> Result<Box<dyn send::Events>, GenerateError> {
    if args.kind == What::Orders {
        if args.audience.simulate.is_some() {
            let what = "an audience presses and orders nothing; ask for presses".into();
            return Err(GenerateError::Argument { name: "simulate", what });
        }
        let times = (pace.start_us, pace.step_ns);
        return Ok(Box::new(Orders::new(args.tills, args.format, schema_id, args.seed, times)?));
    }
    let addresses = match args.mmdb.as_slice() {
        [] => Addresses::bundled(args.seed)?,
        files => Addresses::from_files(files, args.seed)?,
    };
    let recipe = pace.recipe(args);
    Ok(match args.audience.simulate {
        Some(span) => Box::new(Audience::new(&args.audience, span, recipe, &addresses, &args.mmdb)?),
        None => Box::new(Presses::new(recipe, addresses)?),
    })
}

/// Registers the schema of orders in Avro. Errors: no registry is named, or it does not take the schema.
fn schema_id(args: &GenerateArgs, connected: &Connected, topic: &str) -> Result<u32, GenerateError> {
    if args.kind != What::Orders || args.format != OrderFormat::Avro {
        return Ok(0);
    }
    let argument = |what: String| GenerateError::Argument { name: "format", what };
    let registry = connected.registry.as_ref();
    let registry = registry.ok_or_else(|| argument("avro needs a schema registry; name it with --registry".into()))?;
    let registry = Registry::new(registry).map_err(|error| argument(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let id = runtime.block_on(registry.ensure(&format!("{topic}-value"), orders::SCHEMA, true));
    id.map(|id| id.0).map_err(|error| argument(error.to_string()))
}
