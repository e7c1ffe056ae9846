//! Logs: events with fields, for people on a terminal and as JSON lines elsewhere, on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::access;
use crate::env::{self, Var};

/// How events are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// A line for people.
    Human,
    /// A line of JSON.
    Json,
}

/// Starts logging as the environment says; calling it again changes nothing. The filter falls
/// back to `info` when `PILOTAGE_LOG` does not parse, and says so.
pub fn init() {
    let format = match env::get(Var::LogFormat).as_deref() {
        Some("json") => LogFormat::Json,
        Some("human") => LogFormat::Human,
        _ if std::io::stderr().is_terminal() => LogFormat::Human,
        _ => LogFormat::Json,
    };
    let wanted = env::get(Var::Log).unwrap_or_else(|| "info".to_owned());
    let (filter, wrong) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let colour = std::io::stderr().is_terminal() && env::get(Var::NoColor).is_none();
    let _ = subscriber(format, filter, colour, std::io::stderr).try_init();
    access::init(format);
    if let Some(error) = wrong {
        tracing::warn!(%error, "PILOTAGE_LOG is not valid; logging at `info`");
    }
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Human => Box::new(builder.with_ansi(colour).with_target(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_break_in_a_field_starts_no_new_line() {
        for format in [LogFormat::Json, LogFormat::Human] {
            let sink = Sink::default();
            let writer = sink.clone();
            let make = move || writer.clone();
            let subscriber = subscriber(format, EnvFilter::new("info"), false, make);
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(user = "a\nERROR forged \x1b[31m", "seen");
            });
            let text = String::from_utf8(sink.0.lock().clone()).unwrap();
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains('\x1b'), "{text:?}");
        }
    }
}
