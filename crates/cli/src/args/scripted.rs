//! What can be typed to run scripted engines.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Run scripted engines: servers that speak like an inference server, without a model.
///
/// `instant` answers at once from prepared bytes, to measure a proxy in front of it; `vllm` takes the
/// time of a model with a KV cache, a queue and a batch. GET /scripted/stats tells what happened to an
/// engine; POST /scripted/fault makes it fail.
#[derive(Debug, clap::Args)]
#[command(after_help = ENGINE_EXAMPLES)]
pub(crate) struct BenchEngine {
    /// How answers come
    #[arg(long, value_enum, default_value_t)]
    pub(crate) kind: EngineKind,
    /// The address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) host: IpAddr,
    /// The port of the first engine; the others take the next ones
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    pub(crate) port: u16,
    /// How many engines
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) count: u16,
    /// Threads for all engines together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// The model's name in answers
    #[arg(long, value_name = "NAME", default_value = "scripted")]
    pub(crate) model: String,
    /// LoRA adapters that it lists
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) adapters: Vec<String>,
    /// Events with a token in a stream
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) chunks: u32,
    /// Bytes of each event, if that is more than its JSON needs
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) chunk_bytes: usize,
    /// Time between two events, as 15ms or 200us
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) chunk_gap: Duration,
    /// Time to the first event
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) first_gap: Duration,
    /// Events in one write to the socket, where there is no time between them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) chunks_per_write: u32,
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// What goes wrong, by name or by its id in `--list-faults`. May be given several times
    #[arg(long = "fault", value_name = "NAME")]
    pub(crate) faults: Vec<String>,
    /// The part of the requests that faults strike
    #[arg(long, value_name = "0..1", default_value_t = 1.0, requires = "faults")]
    pub(crate) fault_probability: f64,
    /// What decides which requests they strike
    #[arg(long, value_name = "N", default_value_t = 1, requires = "faults")]
    pub(crate) fault_seed: u64,
    /// List the faults, what they do, and what clients of a gateway are to see; then stop
    #[arg(long)]
    pub(crate) list_faults: bool,
}

/// The constants of a modelled engine.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --kind vllm")]
pub(crate) struct Pace {
    /// Sequences computed at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) sequences: usize,
    /// Time for one token of a prompt
    #[arg(long, value_name = "TIME", default_value = "200us", value_parser = duration)]
    pub(crate) prefill: Duration,
    /// Time for one more token of all sequences
    #[arg(long, value_name = "TIME", default_value = "15ms", value_parser = duration)]
    pub(crate) decode: Duration,
    /// Tokens in one step
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) step_tokens: u32,
    /// Blocks of the KV cache, of 16 tokens each
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) blocks: u32,
    /// Publish KV events over ZeroMQ, the first engine on this port, the others on the next ones
    #[arg(long, value_name = "PORT")]
    pub(crate) kv_events_port: Option<u16>,
    /// The topic of KV events
    #[arg(long, value_name = "TEXT", default_value = "kv-events")]
    pub(crate) kv_events_topic: String,
    /// Write KV events as newer vLLM does, with the fields' names
    #[arg(long)]
    pub(crate) kv_events_named: bool,
}

const ENGINE_EXAMPLES: &str = "\
Examples:
  pilotage bench engine                                     one on port 9000 that answers at once
  pilotage bench engine --chunks 1000 --chunks-per-write 64  streams as fast as they go
  pilotage bench engine --kind vllm --count 4                four with queue, batch and KV cache
  pilotage bench engine --fault crash-mid-stream --fault-probability 0.1";

/// How a scripted engine answers.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum EngineKind {
    /// At once, from prepared bytes
    #[default]
    Instant,
    /// In the time that a model takes
    Vllm,
}

/// A time with its unit: `15ms`, `200us`, `1.5s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("needs a unit: 200us, 15ms, 1.5s, 2m".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "is no number with a unit, as 15ms".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times() {
        assert_eq!(duration("15ms"), Ok(Duration::from_millis(15)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        for wrong in ["15", "ms", "-1s", "1h", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
