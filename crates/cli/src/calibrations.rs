//! Calibrations of servers in the data directory: `calibrations/NAME.json`, one a model.

use std::path::PathBuf;

use anyhow::Context as _;
use pilotage_core::InitialSpeed;
use pilotage_plan::size::{ModelFacts, Pace, Stored};
use pilotage_shell::files;

use crate::installation::Installation;
use crate::output;

/// Largest file that is read: measurements of a server are a few kilobytes.
const BYTES_MAX: u64 = 4 << 20;

/// Tokens that a sequence usually holds, where nobody asked anything yet.
const CONTEXT_USUAL: f64 = 512.0;

/// Most files that are looked at.
const FILES_MAX: usize = 1000;

impl Installation {
    /// Keeps one under that name; gives where.
    pub(crate) fn keep_calibration(&self, name: &str, stored: &Stored) -> anyhow::Result<PathBuf> {
        let path = self.calibration_path(name);
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            files::write_secret(&path, &serde_json::to_vec_pretty(stored)?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The one of that name, if there is one that can be read; what is damaged is said and left.
    pub(crate) fn calibration(&self, name: &str) -> Option<Stored> {
        read(self.calibration_path(name))
    }

    /// The newest of that model on that hardware under that runtime.
    pub(crate) fn calibration_of(
        &self,
        facts: &ModelFacts,
        hardware: &str,
        runtime: &str,
    ) -> Option<Stored> {
        let entries = std::fs::read_dir(self.calibration_folder()).ok()?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).take(FILES_MAX);
        let is_json = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
        paths
            .filter(is_json)
            .filter_map(read)
            .filter(|stored| stored.subject.is(facts, hardware, runtime))
            .filter(|stored| stored.fit.calibration.is_some())
            .max_by(|one, other| one.measured.cmp(&other.measured))
    }

    /// Where the one of that name is.
    pub(crate) fn calibration_path(&self, name: &str) -> PathBuf {
        self.calibration_folder().join(format!("{}.json", plain(name)))
    }

    fn calibration_folder(&self) -> PathBuf {
        self.folder().join("calibrations")
    }
}

/// What the gateway takes a server for until it has measured it itself.
pub(crate) fn initial_speed(pace: &Pace) -> InitialSpeed {
    InitialSpeed {
        token_seconds: (pace.prefill(CONTEXT_USUAL) - pace.prefill(0.0)) / CONTEXT_USUAL,
        step_seconds: pace.step_seconds,
        sequence_seconds: pace.step(1.0, CONTEXT_USUAL) - pace.step_seconds,
    }
}

fn read(path: PathBuf) -> Option<Stored> {
    let bytes = files::read_bounded(&path, BYTES_MAX).ok()?;
    match Stored::parse(&String::from_utf8_lossy(&bytes)) {
        Ok(stored) => Some(stored),
        Err(error) => {
            output::note(&format!("{} is left out: {error}", path.display()));
            None
        }
    }
}

/// A name without what would lead elsewhere.
fn plain(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    let name: String =
        name.chars().map(|char| if is_plain(char) { char } else { '-' }).take(128).collect();
    match name.trim_start_matches('.') {
        "" => "model".to_owned(),
        rest => rest.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::{initial_speed, plain};
    use crate::installation::Installation;

    /// A calibration written by hand, of the model of `plan tune`'s tests on an L4 under vLLM. Its numbers are
    /// unlike all that is assumed.
    pub(crate) const KEPT: &str = r#"{
        "schema": "pilotage.calibration/v2",
        "measured": "2031-05-04T03:02:01Z",
        "url": "http://gpu-1:8000",
        "subject": {"model": "tuned", "architecture": "LlamaForCausalLM", "parameters": PARAMETERS,
            "weightBytes": BYTES, "hardware": "l4", "runtime": "vllm", "version": "0.11.2", "tensor": 1,
            "pipeline": 1},
        "fit": {
            "pace": {"prefill_seconds": 0.002, "token_seconds": 0.0004, "pair_seconds": 0.0, "step_seconds": 0.03,
                "sequence_seconds": 0.0015, "context_seconds": 0.000001, "off": 0.1},
            "calibration": {"compute": 0.05, "attention": 0.05, "bandwidth": 0.07, "link": 0.5, "step_seconds": 0.02,
                "sequence_seconds": 0.0001, "off": 0.1, "measurements": 12},
            "rows": [],
            "heldOut": {"points": 0, "pace": {"mean": 0.1, "most": 0.1}, "assumed": null, "fitted": null}
        }
    }"#;

    /// Puts it where `bench calibrate --save` would.
    pub(crate) fn keep(data_dir: &Path, name: &str, text: &str) {
        let folder = data_dir.join("calibrations");
        std::fs::create_dir_all(&folder).unwrap();
        let text = text.replace("PARAMETERS", "1").replace("BYTES", "2");
        std::fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let installation = Installation::at(Some(folder.path().to_owned())).unwrap();
        assert!(installation.calibration("kept").is_none());
        keep(folder.path(), "kept", KEPT);
        let pace = installation.calibration("kept").unwrap().fit.pace;
        let speed = initial_speed(&pace);
        assert_eq!((speed.token_seconds, speed.step_seconds), (0.0004, 0.03));
        assert!((speed.sequence_seconds - 0.002_012).abs() < 1e-9, "with what a sequence holds");
        keep(folder.path(), "kept", &KEPT.replace("calibration/v2", "calibration/v0"));
        assert!(installation.calibration("kept").is_none());
        keep(folder.path(), "kept", &KEPT.replace("0.0004", "-1"));
        assert!(installation.calibration("kept").is_none());
    }

    #[test]
    fn names_stay_in_their_folder() {
        let check = |name: &str, expect: &str| assert_eq!(plain(name), expect);
        check("qwen2.5-7b", "qwen2.5-7b");
        check("Qwen/Qwen3-8B", "Qwen-Qwen3-8B");
        check("../../etc/passwd", "-..-etc-passwd");
        check("...", "model");
        check("", "model");
    }
}
