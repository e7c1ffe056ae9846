//! `pilotage adapters`: its flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use pilotage_wire::dialect::Dialect;

/// Keep the LoRA adapters of an engine as a list says, while it runs.
///
/// The operator has this run beside engines on a cluster; nobody needs to type it. What the list
/// names is fetched and loaded, what it names no more is unloaded, and an engine that starts anew
/// gets all of it again. `/ready` says whether the engine may take requests, `/adapters` how far each is.
#[derive(Debug, clap::Args)]
#[command(after_help = ADAPTERS_EXAMPLES)]
pub(crate) struct Adapters {
    /// The file with the list, which is read again and again
    #[arg(long, value_name = "FILE")]
    pub(crate) list: PathBuf,
    /// Where the engine listens
    #[arg(long, value_name = "URL")]
    pub(crate) engine: String,
    /// Which server it is
    #[arg(long, value_name = "NAME", value_parser = dialect)]
    pub(crate) dialect: Dialect,
    /// Where to say how far it is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9470")]
    pub(crate) listen: SocketAddr,
}

const ADAPTERS_EXAMPLES: &str = "\
Examples:
  pilotage adapters --list adapters.json --engine http://127.0.0.1:8000 --dialect vllm
  echo '{\"adapters\":[{\"name\":\"sql\",\"source\":\"hf:OWNER/sql-lora\"}]}' > adapters.json";

/// One whose engines load adapters while they run.
fn dialect(text: &str) -> Result<Dialect, String> {
    let can = |dialect: &Dialect| dialect.differences().adapters.is_some();
    let known: Vec<Dialect> = Dialect::ALL.into_iter().filter(can).collect();
    known.iter().copied().find(|dialect| dialect.name() == text).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|dialect| dialect.name()).collect();
        format!("`{text}` loads no adapters while it runs; write one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_are_taken_that_load_adapters() {
        assert_eq!(dialect("vllm"), Ok(Dialect::Vllm));
        assert_eq!(dialect("sglang"), Ok(Dialect::Sglang));
        let error = dialect("tgi").unwrap_err();
        assert!(error.contains("write one of") && error.contains("sglang"), "{error}");
    }
}
