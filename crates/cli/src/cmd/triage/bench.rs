//! `pilotage triage`: results of benchmarks to a verdict.

use std::path::Path;

use anyhow::Context as _;
use pilotage_lens::triage::bench::{self, FILES_MAX, ResultFile, TEXT_BYTES_MAX};
use pilotage_lens::triage::{Verdict, text, triage};
use pilotage_shell::files;

use crate::args::Triage;
use crate::exit::{Ended, Wrong};
use crate::output::{self, Format};

/// Says what is wrong, and ends with 1 where anything is.
pub(crate) fn run(args: &Triage) -> anyhow::Result<()> {
    let mut results = Vec::new();
    for path in &args.bench {
        results.extend(read(path)?);
        if results.len() > FILES_MAX {
            let most = format!("more than {FILES_MAX} results");
            return Err(Wrong::new(most).hint("give those of one server, at some rates").into());
        }
    }
    let report = triage(&bench::evidence(&results));
    match args.output {
        Format::Json => output::json(&report)?,
        Format::Table => output::piece(&text::text(&report)),
    }
    match report.verdict {
        Verdict::NothingWrong { .. } => Ok(()),
        Verdict::Found { .. } | Verdict::NotEnough { .. } => Err(Ended(1).into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<ResultFile>> {
    let shown = path.display();
    let bytes = files::read_bounded(path, TEXT_BYTES_MAX as u64)
        .with_context(|| format!("{shown} cannot be read"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Wrong::new(format!("{shown} is no text, so no result of a benchmark")))?;
    let results = bench::parse(&text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let wrong = Wrong::new(format!("{shown}: {error}{}", cause.unwrap_or_default()));
        wrong.hint(
            "`vllm bench serve --save-result` and `pilotage bench run -o vllm` write what is read",
        )
    })?;
    Ok(results)
}
