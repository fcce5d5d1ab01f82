//! From the arguments to the records on standard output.

use std::io::{self, BufWriter, Write};

use crate::avro::registry::Registry;
use crate::command::consume::decode::{Decoder, FromRegistry, Schemas};
use crate::command::consume::text::Style;
use crate::command::consume::{ConsumeArgs, ConsumeError};
use crate::runtime::stdio;

/// Runs the command: prints to standard output until the end, the most records asked for, SIGINT, or until nobody
/// reads any more. Blocks; must not be called from within an async runtime.
pub fn run(args: &ConsumeArgs) -> Result<(), ConsumeError> {
    let stop = crate::command::generate::send::stop_on_signal().map_err(|e| io::Error::other(e.to_string()))?;
    let colours = stdio::out_has_colours() && !args.json;
    let mut out = BufWriter::with_capacity(1 << 16, stdio::Out);
    match print(args, colours, &stop, &mut out).and_then(|()| Ok(out.flush()?)) {
        // `pressline consume ... | head` has what it wanted; a full disk is reported at the end.
        Err(ConsumeError::Output(_)) if stdio::is_closed() => Ok(()),
        result => result,
    }
}

/// [`run`] into any writer.
pub fn print(
    args: &ConsumeArgs,
    colours: bool,
    stop: &std::sync::atomic::AtomicBool,
    out: &mut dyn Write,
) -> Result<(), ConsumeError> {
    let connected = args.connection.resolve()?;
    let schemas = match &connected.registry {
        None => None,
        Some(config) => Some(Box::new(FromRegistry {
            registry: Registry::new(config).map_err(|error| ConsumeError::Registry(Box::new(error)))?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        }) as Box<dyn Schemas>),
    };
    let style = Style { people: !args.json, addresses: args.show_addresses };
    let mut decoder = Decoder::new(schemas, style);
    if let Some(group) = &args.group {
        return super::group::share(args, group, &connected, (&mut decoder, style, colours), stop, out);
    }
    let mut records = super::read::Records::open(args, &connected)?;
    let mut shown = 0;
    while args.max.is_none_or(|max| shown < max) && !stop.load(std::sync::atomic::Ordering::Relaxed) {
        match records.poll()? {
            super::read::Next::Record(record) => {
                super::show::write(&record, &mut decoder, style, args.json, colours, out)?;
                shown += 1;
            }
            super::read::Next::Idle => out.flush()?,
            super::read::Next::Skipped => {}
            super::read::Next::End => break,
        }
    }
    out.flush()?;
    Ok(())
}
