//! What all launches have in common, before a program adds its own.

use super::image::{image, resource};
use super::probe::{grace_seconds, probes};
use super::{
    Command, Engine, Launch, LaunchSpec, Port, PortRole, Resources, SCRATCH, Volume, VolumeRole,
    WEIGHTS, Weights,
};

/// Bytes of shared memory for each accelerator of a node. vLLM's example for Kubernetes mounts 2 GiB for one, the
/// one of LeaderWorkerSet 15 GiB for eight.
pub(super) const SHARED_BYTES: u64 = 2 << 30;

/// Where programs keep what they compile and download.
const CACHE: &str = "/cache";

/// A launch of one program, which answers at `health` and is given its shared memory.
pub(super) fn base(engine: Engine, launch: &Launch, leader: Command, health: &str) -> LaunchSpec {
    let (image, note) = image(engine, launch);
    LaunchSpec {
        engine,
        version: launch.version,
        image,
        served: engine.dialect().name_of_all().unwrap_or(&launch.served).to_owned(),
        leader,
        worker: None,
        nodes: launch.nodes(),
        env: Vec::new(),
        files: Vec::new(),
        ports: vec![Port { role: PortRole::Http, default: 8000 }],
        probes: probes(health, launch),
        shared_memory_bytes: None,
        volumes: volumes(launch),
        resources: Resources {
            accelerator: resource(launch.accelerator.vendor, launch.accelerator.generation),
            accelerators: launch.accelerators_on_node(),
        },
        slots: launch.shape.sequences.saturating_mul(launch.shape.data.max(1)),
        grace_seconds: grace_seconds(engine),
        findings: Vec::new(),
        notes: note.into_iter().collect(),
    }
}

fn volumes(launch: &Launch) -> Vec<Volume> {
    let volume =
        |role, path: &str, is_read_only| Volume { role, path: path.to_owned(), is_read_only };
    let mut volumes = Vec::new();
    if launch.weights == Weights::Local {
        volumes.push(volume(VolumeRole::Weights, WEIGHTS, true));
    }
    volumes.push(volume(VolumeRole::Cache, CACHE, false));
    volumes
}

impl LaunchSpec {
    /// Shared memory for so many bytes an accelerator, where there are several of them.
    pub(super) fn share_memory(mut self, bytes_each: u64) -> Self {
        let count = u64::from(self.resources.accelerators);
        if count > 1 {
            self.shared_memory_bytes = Some(bytes_each.saturating_mul(count));
            let path = "/dev/shm".to_owned();
            let role = VolumeRole::SharedMemory;
            self.volumes.push(Volume { role, path, is_read_only: false });
        }
        self
    }

    /// A port besides that for requests.
    pub(super) fn port(&mut self, role: PortRole, default: u16) {
        self.ports.push(Port { role, default });
    }

    /// A folder of its own.
    pub(super) fn scratch(&mut self) {
        let path = SCRATCH.to_owned();
        self.volumes.push(Volume { role: VolumeRole::Scratch, path, is_read_only: false });
    }
}

/// A command.
pub(super) fn command(program: &str, args: Vec<String>) -> Command {
    Command { program: program.to_owned(), args }
}
