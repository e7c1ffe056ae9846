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

/// What the environment says about which accelerators may be used; none where it says nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Visible {
    /// `CUDA_VISIBLE_DEVICES`, which CUDA heeds: numbers or UUIDs, up to the first that there is not.
    pub cuda: Option<String>,
    /// `NVIDIA_VISIBLE_DEVICES`, which whoever started a container heeds. Its numbers are the host's, and
    /// `void` is also what a container says that got its accelerators by another way (CDI), so that of
    /// all it may say only UUIDs mean something here.
    pub container: Option<String>,
}

/// What was found and may be used, in the order of the tool. Where there is no tool, or it fails, there is
/// nothing to use, and why is said.
pub async fn accelerators(search: &OsStr, visible: &Visible) -> Vec<Gpu> {
    let Ok(tool) = program::find("nvidia-smi", None, search) else { return Vec::new() };
    let listed = listed(&tool).await.unwrap_or_else(|reason| {
        tracing::warn!(reason, "nvidia-smi lists no accelerators");
        Vec::new()
    });
    let there = listed.len();
    let usable = visible.of(listed);
    if usable.len() < there {
        let usable = usable.len();
        tracing::info!(there, usable, "the environment hides accelerators");
    }
    usable
}

impl Visible {
    fn of(&self, listed: Vec<Listed>) -> Vec<Gpu> {
        let in_cuda = |one: &Listed| {
            self.cuda.as_deref().is_none_or(|said| cuda(said, &listed).any(|seen| seen == one))
        };
        let given: Vec<&str> = entries(self.container.as_deref().unwrap_or_default())
            .filter(|entry| is_uuid(entry))
            .collect();
        let in_container =
            |one: &Listed| given.is_empty() || given.iter().any(|entry| one.is(entry));
        let seen = listed.iter().filter(|one| in_cuda(one) && in_container(one));
        seen.map(|one| one.gpu.clone()).collect()
    }
}

/// The accelerators that CUDA sees: those before the first entry that names none.
fn cuda<'a>(said: &'a str, listed: &'a [Listed]) -> impl Iterator<Item = &'a Listed> {
    entries(said).map_while(|entry| listed.iter().find(|one| one.is(entry)))
}

fn entries(said: &str) -> impl Iterator<Item = &str> {
    said.split(',').map(str::trim)
}

fn is_uuid(entry: &str) -> bool {
    entry.starts_with("GPU-")
}

/// An accelerator with its number.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Listed {
    index: u32,
    gpu: Gpu,
}

impl Listed {
    /// Whether that means it: its number, or its UUID, of which the beginning is enough.
    fn is(&self, entry: &str) -> bool {
        let by_id =
            || is_uuid(entry) && self.gpu.id.as_ref().is_some_and(|id| id.starts_with(entry));
        entry.parse() == Ok(self.index) || by_id()
    }
}

async fn listed(tool: &Path) -> Result<Vec<Listed>, String> {
    let mut command = Command::new(tool);
    command
        .args(["--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"])
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

/// A line for each: its number, its UUID, its name, its memory in MiB, with commas in between.
fn read(text: &str) -> Vec<Listed> {
    let one = |line: &str| {
        let (index, rest) = line.split_once(',')?;
        let (id, rest) = rest.split_once(',')?;
        let (name, memory) = rest.rsplit_once(',')?;
        let mib: Option<u64> = memory.trim().parse().ok();
        let memory_bytes = mib.and_then(|mib| mib.checked_mul(1 << 20));
        let id = Some(id.trim().to_owned()).filter(|id| is_uuid(id));
        let gpu = Gpu { id, name: name.trim().to_owned(), memory_bytes };
        Some(Listed { index: index.trim().parse().ok()?, gpu })
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "0, GPU-aa11, NVIDIA H200, 143771\n1, GPU-aa22, NVIDIA H200, 143771\n2, GPU-bb33, Tesla T4, [N/A]\n\nnonsense\n";

    #[test]
    fn lines_are_read() {
        let gpu = |index, id: &str, name: &str, mib: Option<u64>| Listed {
            index,
            gpu: Gpu {
                id: Some(id.to_owned()),
                name: name.to_owned(),
                memory_bytes: mib.map(|mib| mib << 20),
            },
        };
        let expect = [
            gpu(0, "GPU-aa11", "NVIDIA H200", Some(143_771)),
            gpu(1, "GPU-aa22", "NVIDIA H200", Some(143_771)),
            gpu(2, "GPU-bb33", "Tesla T4", None),
        ];
        assert_eq!(read(LISTED), expect);
    }

    #[test]
    fn what_is_hidden_is_not_used() {
        let check = |cuda: Option<&str>, container: Option<&str>, expect: &[&str]| {
            let visible =
                Visible { cuda: cuda.map(str::to_owned), container: container.map(str::to_owned) };
            let gpus = visible.of(read(LISTED));
            let ids: Vec<&str> = gpus.iter().filter_map(|gpu| gpu.id.as_deref()).collect();
            assert_eq!(ids, expect, "{visible:?}");
        };
        let all = ["GPU-aa11", "GPU-aa22", "GPU-bb33"];
        check(None, None, &all);
        check(Some(""), None, &[]);
        check(Some("-1"), None, &[]);
        check(Some("NoDevFiles"), None, &[]);
        check(Some("none"), None, &[]);
        check(Some("2, 0"), None, &["GPU-aa11", "GPU-bb33"]);
        check(Some("1,7,0"), None, &["GPU-aa22"]);
        check(Some("GPU-b,GPU-aa22"), None, &["GPU-aa22", "GPU-bb33"]);
        check(Some("MIG-1234"), None, &[]);
        for said in ["all", "void", "none", "", "5"] {
            check(None, Some(said), &all);
        }
        check(None, Some("GPU-aa22,GPU-bb33"), &["GPU-aa22", "GPU-bb33"]);
        check(Some("0,1"), Some("GPU-aa22"), &["GPU-aa22"]);
    }
}
