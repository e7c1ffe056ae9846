//! `pilotage triage`: its flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::scripted::duration;
use crate::output::Format;

/// Say why it is slow, what to change, and what would come of that.
///
/// Looks at the gateway that runs on this machine, or at the one at --url: its status, its records of requests, its
/// metrics, and those of the servers behind it that can be reached from here. With --prometheus, asks a Prometheus
/// server for what vLLM, SGLang, TGI, TensorRT-LLM, DCGM, kube-state-metrics and Pilotage expose, and for alert rules.
/// With --bench, reads results of `vllm bench serve --save-result` (with --save-detailed they tell more) or of `pilotage
/// bench run -o vllm`; several of one server at different rates tell where it stops growing.
///
/// What limits a model is found by a model of its batch, its KV cache and its memory bandwidth, and each finding says
/// what it rests on, which flag to set for which runtime, and what would show that it is wrong. What nobody exposes is
/// unknown, and said to be. By how much a change would help follows from the weights and the hardware: `pilotage up`
/// knows both; elsewhere --weights and --hardware say them.
///
/// Ends with 0 where nothing is wrong, with 1 where something is, or where too little is known to tell, and with 2
/// where nobody could be asked, or what was named could not be read. Of several models those count that can be judged,
/// and what is more likely so than not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Triage {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The model, where there are several; without it each of them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bench", "evidence"])]
    pub(crate) model: Option<String>,
    /// How long to look, as 30s or 10m; of a gateway 30s, of Prometheus the last 10m
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["bench", "evidence"])]
    pub(crate) window: Option<Duration>,
    /// The end of the window, in seconds since 1970; without it now
    #[arg(long, value_name = "SECONDS", requires = "prometheus")]
    pub(crate) at: Option<f64>,
    /// Compare with the window that was so long before, as 1h or 7d, when all was well
    #[arg(long, value_name = "TIME", value_parser = long, requires = "prometheus")]
    pub(crate) before: Option<Duration>,
    /// What all series must have, in Prometheus' language, such as namespace="llm"
    #[arg(long, value_name = "LABELS", default_value = "", requires = "prometheus")]
    pub(crate) selector: String,
    /// The model's files, as `pilotage plan` takes them: a folder, a config.json, a GGUF file, hf:OWNER/REPO. With
    /// --hardware, findings say by how much a change would help
    #[arg(long, value_name = "MODEL")]
    pub(crate) weights: Option<String>,
    /// The hardware class that each replica runs on, and how many of them it has: l4x2. `pilotage plan hardware` lists
    /// them
    #[arg(long, value_name = "ID[xN]")]
    pub(crate) hardware: Option<String>,
    /// Accelerators that divide each layer there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) tensor_parallel: Option<u32>,
    /// A file with the key: the admin key of the gateway, or Prometheus' bearer token
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// A file with headers to send, one `Name: value` a line, for a proxy before Prometheus
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    pub(crate) header_file: Option<PathBuf>,
    /// What was saved when all was well, to compare with
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bench", "before"])]
    pub(crate) baseline: Option<PathBuf>,
    /// Save what was seen, to be looked at elsewhere or compared with later
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Text for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Where `pilotage up` keeps its data
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Where evidence comes from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Source {
    /// The address of a gateway's admin listener; its key is in --key-file or PILOTAGE_ADMIN_KEY
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The address of a Prometheus server
    #[arg(long, value_name = "URL")]
    pub(crate) prometheus: Option<String>,
    /// Results of benchmarks
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) bench: Vec<PathBuf>,
    /// What --save wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) evidence: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  pilotage triage                                             what runs on this machine
  pilotage triage --url http://gw:9901 --key-file admin.key --model llama --window 1m
  pilotage triage --prometheus http://prometheus:9090 --selector 'namespace=\"llm\"' --before 1d
  vllm bench serve --model m --request-rate 4 --save-result --save-detailed --result-filename r4.json
  pilotage triage --bench r1.json r2.json r4.json --weights hf:Qwen/Qwen2.5-7B-Instruct --hardware rtx-4090";

/// A time that may be hours or days.
fn long(text: &str) -> Result<Duration, String> {
    let seconds = |digits: &str, unit: f64| {
        let number: Option<f64> = digits.parse().ok();
        let span = number.and_then(|number| Duration::try_from_secs_f64(number * unit).ok());
        span.ok_or_else(|| "is no number with a unit, as 6h".to_owned())
    };
    match (text.strip_suffix('h'), text.strip_suffix('d')) {
        (Some(hours), _) => seconds(hours, 3600.0),
        (_, Some(days)) => seconds(days, 86_400.0),
        _ => duration(text),
    }
}
