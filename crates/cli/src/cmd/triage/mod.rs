//! `pilotage triage`: what a gateway, a Prometheus server or results of benchmarks say, to a verdict.

mod bench;
mod fetch;
mod gateway;
mod prometheus;

use std::path::Path;

use anyhow::Context as _;
use pilotage_lens::triage::{Evidence, Verdict, text, triage};
use pilotage_shell::files;

use crate::args::Triage;
use crate::exit::{Ended, Wrong};
use crate::output::{self, Format};

/// Longest file with evidence that is read.
const EVIDENCE_BYTES_MAX: u64 = 64 << 20;

/// Says what is wrong, and ends with 1 where anything is.
pub(crate) async fn run(args: Triage) -> anyhow::Result<()> {
    let source = &args.source;
    let mut evidence = if !source.bench.is_empty() {
        bench::evidence(&source.bench)?
    } else if let Some(path) = &source.evidence {
        read(path)?
    } else if let Some(url) = &source.prometheus {
        prometheus::evidence(&args, url).await?
    } else {
        gateway::evidence(&args).await?
    };
    if let Some(path) = &args.baseline {
        evidence.baseline = Some(Box::new(read(path)?));
    }
    if let Some(path) = &args.save {
        let saved = serde_json::to_vec_pretty(&evidence)?;
        std::fs::write(path, saved).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let report = triage(&evidence);
    match args.output {
        Format::Json => output::json(&report)?,
        Format::Table => output::piece(&text::text(&report)),
    }
    match report.verdict {
        Verdict::NothingWrong { .. } => Ok(()),
        Verdict::Found { .. } | Verdict::NotEnough { .. } => Err(Ended(1).into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Evidence> {
    let shown = path.display();
    let bytes = files::read_bounded(path, EVIDENCE_BYTES_MAX)
        .with_context(|| format!("{shown} cannot be read"))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Wrong::new(format!("{shown} is no evidence: {error}"))
            .hint("`pilotage triage --save` writes what is read")
            .into()
    })
}
