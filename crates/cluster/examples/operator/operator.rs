//! The operator: the real program in a process of its own, and what the system says of it.

use std::fs::File;
use std::process::{Child, Command};

use std::path::Path;

/// Ticks of processor time in a second, as Linux counts them for programs.
const TICKS: f64 = 100.0;

/// A process that ends with this.
#[derive(Debug)]
pub(crate) struct Operator {
    child: Child,
}

impl Operator {
    /// Starts it for the cluster of that configuration; its log is beside that.
    pub(crate) fn start(program: &str, kubeconfig: &Path, name: &str) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("{program}: {error}");
        let log = File::create(kubeconfig.with_file_name(format!("{name}.log"))).map_err(wrong)?;
        let child = Command::new(program)
            .args(["operator", "--system-namespace", "pilotage", "--admin-listen", "127.0.0.1:0"])
            .env("KUBECONFIG", kubeconfig)
            .stdout(log.try_clone().map_err(wrong)?)
            .stderr(log)
            .spawn()
            .map_err(wrong)?;
        Ok(Self { child })
    }

    /// Memory in use, in MB.
    pub(crate) fn resident_mb(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most memory that ever was in use, in MB.
    pub(crate) fn peak_mb(&self) -> f64 {
        self.memory("VmHWM:")
    }

    /// Processor time, in seconds.
    pub(crate) fn cpu_s(&self) -> f64 {
        let text = self.read("stat");
        // The second field is a name, which may hold anything, in brackets.
        let rest = text.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / TICKS
    }

    fn memory(&self, what: &str) -> f64 {
        let text = self.read("status");
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or_default() * 1024.0 / 1e6
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // One that is gone already is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
