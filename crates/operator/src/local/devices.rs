//! The accelerators of this machine, as NVIDIA's own tool lists them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pilotage_plan::world::Gpu;
use tokio::process::Command;

use super::program;

/// How long the tool may take: with a driver that hangs it never ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found. Where there is no tool, or it fails, there is nothing to use, and why is said.
pub async fn accelerators(search: &OsStr) -> Vec<Gpu> {
    let Ok(tool) = program::find("nvidia-smi", None, search) else { return Vec::new() };
    listed(&tool).await.unwrap_or_else(|reason| {
        tracing::warn!(reason, "nvidia-smi lists no accelerators");
        Vec::new()
    })
}

async fn listed(tool: &Path) -> Result<Vec<Gpu>, String> {
    let mut command = Command::new(tool);
    command
        .args(["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let told = tokio::time::timeout(PATIENCE, command.output());
    let told = told.await.map_err(|_| format!("it took more than {} s", PATIENCE.as_secs()))?;
    let told = told.map_err(|error| error.to_string())?;
    if !told.status.success() {
        return Err(String::from_utf8_lossy(&told.stdout).trim().chars().take(200).collect());
    }
    Ok(read(&String::from_utf8_lossy(&told.stdout)))
}

/// A line for each: its name, a comma, its memory in MiB.
fn read(text: &str) -> Vec<Gpu> {
    let one = |line: &str| {
        let (name, memory) = line.rsplit_once(',')?;
        let mib: Option<u64> = memory.trim().parse().ok();
        let memory_bytes = mib.and_then(|mib| mib.checked_mul(1 << 20));
        Some(Gpu { name: name.trim().to_owned(), id: None, memory_bytes })
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "NVIDIA H200, 143771\nTesla T4, [N/A]\n\nnonsense\n";
        let gpu = |name: &str, mib: Option<u64>| Gpu {
            name: name.to_owned(),
            id: None,
            memory_bytes: mib.map(|mib| mib << 20),
        };
        assert_eq!(read(text), [gpu("NVIDIA H200", Some(143_771)), gpu("Tesla T4", None)]);
    }
}
