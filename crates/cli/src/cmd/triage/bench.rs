//! Results of benchmarks as evidence.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pilotage_lens::triage::Evidence;
use pilotage_lens::triage::bench::{self, FILES_MAX, ResultFile, TEXT_BYTES_MAX};
use pilotage_shell::files;

use crate::exit::Wrong;

/// What these files say.
pub(super) fn evidence(paths: &[PathBuf]) -> anyhow::Result<Evidence> {
    let mut results = Vec::new();
    for path in paths {
        results.extend(read(path)?);
        if results.len() > FILES_MAX {
            let most = format!("more than {FILES_MAX} results");
            return Err(Wrong::new(most).hint("give those of one server, at some rates").into());
        }
    }
    Ok(bench::evidence(&results))
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
