//! Containers: the program's, and the one that fetches weights before it, both with the rights of
//! restricted Pod Security and no more.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::labels::Role;
use super::settle::{Nodes, SCRATCH_AT, Settled, WEIGHTS_AT, entry, hub_token, named};
use crate::api::StorageKind;
use crate::launch::{Engine, PortRole, Probe, VolumeRole};
use crate::{Signer, WeightsSource};

/// The user that containers run as where the platform does not say: none that any image has.
pub(super) const USER: u32 = 10_001;

/// Where programs keep what they compile and download.
pub(super) const CACHE_AT: &str = "/cache";

/// Seconds between the word to stop and its reaching the program: until then the gateway has been told
/// and sends nothing more.
pub(super) const LEAVE_SECONDS: u32 = 5;

/// The release whose pods sleep without a command.
const SLEEP_MINOR: u32 = 30;

/// What every container is held to.
pub(super) fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// What gives a program time before it is told to stop: a command in its container, or Kubernetes' own sleep.
pub(crate) fn stopping(by_command: bool) -> Value {
    if by_command {
        let sleep = ["sleep".to_owned(), LEAVE_SECONDS.to_string()];
        json!({ "preStop": { "exec": { "command": sleep } } })
    } else {
        json!({ "preStop": { "sleep": { "seconds": LEAVE_SECONDS } } })
    }
}

impl Settled<'_> {
    /// The program's container on a node.
    pub(super) fn container(&self, role: Role, nodes: Nodes) -> Value {
        let command = match role {
            Role::Serves => &self.spec.leader,
            Role::Works => self.spec.worker.as_ref().unwrap_or(&self.spec.leader),
        };
        let args: Vec<String> = command.args.iter().map(|arg| self.fill(arg, nodes)).collect();
        let mut container = json!({
            "name": "engine",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": [command.program],
            "args": args,
            "env": self.variables(nodes),
            "resources": self.resources(),
            "securityContext": restricted(),
            "volumeMounts": self.mounts(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        });
        if role == Role::Serves {
            self.serving(&mut container);
        }
        container
    }

    /// What only a container has that takes requests.
    fn serving(&self, container: &mut Value) {
        let ports = self.spec.ports.iter().filter(|port| port.role != PortRole::Rendezvous);
        let ports: Vec<Value> = ports
            .map(|port| json!({ "name": port_name(port.role), "containerPort": port.default, "protocol": "TCP" }))
            .collect();
        container["ports"] = Value::Array(ports);
        let probes = &self.spec.probes;
        let startup = match self.model.spec.start_seconds {
            Some(seconds) => Probe {
                failures: seconds.div_ceil(probes.startup.period_seconds.max(1)).max(1),
                ..probes.startup.clone()
            },
            None => probes.startup.clone(),
        };
        container["startupProbe"] = probe(&startup);
        container["readinessProbe"] = probe(&probes.readiness);
        container["livenessProbe"] = probe(&probes.liveness);
        let by_command = self.cluster.minor < SLEEP_MINOR;
        // Pilotage's own image has no such command.
        if !by_command || self.spec.engine != Engine::Embedded {
            container["lifecycle"] = stopping(by_command);
        }
    }

    /// Names that arguments refer to come first, then what programs want of a root that is read only.
    fn variables(&self, nodes: Nodes) -> Vec<Value> {
        let field = |name: &str, path: &str| {
            named(name, json!({ "valueFrom": { "fieldRef": { "fieldPath": path } } }))
        };
        let mut all = Vec::new();
        if nodes != Nodes::One {
            all.push(field("POD_NAMESPACE", "metadata.namespace"));
        }
        match nodes {
            Nodes::One => {}
            Nodes::Group => {
                let label =
                    |name: &str| format!("metadata.labels['leaderworkerset.sigs.k8s.io/{name}']");
                all.push(field("NODE_RANK", &label("worker-index")));
                all.push(field("GROUP_INDEX", &label("group-index")));
            }
            Nodes::Sets(_) => {
                let path = "metadata.labels['apps.kubernetes.io/pod-index']";
                all.push(field("NODE_RANK", path));
            }
        }
        let theirs = self.environment(nodes);
        let is_said = |name: &str| theirs.iter().any(|env| env["name"] == name);
        let homes = homes(self.spec.engine).into_iter().filter(|(name, _)| !is_said(name));
        all.extend(homes.map(|(name, value)| named(name, json!({ "value": value }))));
        all.extend(theirs);
        all
    }

    /// What the container asks for and may have. Processor time is not limited: it is divided by what
    /// was asked for, and a limit would only slow down what is there.
    fn resources(&self) -> Value {
        let mut asked = Map::new();
        let said = self.model.spec.pod_template.as_ref();
        let accelerators = self.accelerators();
        let own = match accelerators {
            0 => self.threads * 1000,
            // The smallest machines with an accelerator have four processors, and pods get less than that.
            1 => 3000,
            many => many * 4000,
        };
        let millis = said.and_then(|pods| pods.cpu_millis).unwrap_or(own);
        asked.insert("cpu".to_owned(), cores(millis).into());
        let mut most = Map::new();
        if let Some(bytes) = self.disk_bytes() {
            asked.insert("ephemeral-storage".to_owned(), quantity(bytes).into());
        }
        if let Some(bytes) = self.memory_bytes() {
            asked.insert("memory".to_owned(), quantity(bytes).into());
            most.insert("memory".to_owned(), quantity(bytes).into());
        }
        if let Some(name) = self.resource_name().filter(|_| accelerators > 0) {
            asked.insert(name.to_owned(), accelerators.to_string().into());
            most.insert(name.to_owned(), accelerators.to_string().into());
        }
        if most.is_empty() {
            return json!({ "requests": asked });
        }
        json!({ "requests": asked, "limits": most })
    }

    /// What a pod fetches to the disk of its node, where that is known: a node without that room would put it out
    /// halfway.
    fn disk_bytes(&self) -> Option<u64> {
        let kind = self.model.spec.storage.as_ref().map(|storage| storage.kind).unwrap_or_default();
        self.room_bytes().filter(|_| kind == StorageKind::Ephemeral && !self.fetchers().is_empty())
    }

    /// Accelerators of each node.
    pub(crate) fn accelerators(&self) -> u32 {
        if self.accelerator.is_processor() { 0 } else { self.spec.resources.accelerators }
    }

    /// What Kubernetes calls an accelerator.
    pub(super) fn resource_name(&self) -> Option<&str> {
        let said = self.fleet.and_then(|fleet| fleet.spec.resource_name.as_deref());
        said.or(self.spec.resources.accelerator)
    }

    /// Memory of each pod, where somebody says it or it follows from the weights: with accelerators a
    /// node's part of them is read through memory, without they stay there beside the cache.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        /// What programs take beside weights, for each accelerator or process.
        const PROGRAM_BYTES: u64 = 4 << 30;
        /// What the embedded engine takes beside weights and cache.
        const OWN_BYTES: u64 = 1 << 30;
        if let Some(bytes) =
            self.model.spec.pod_template.as_ref().and_then(|pods| pods.memory_bytes)
        {
            return Some(bytes);
        }
        let weights = self.weight_bytes()?;
        let accelerators = u64::from(self.accelerators());
        let rest = if accelerators > 0 {
            let part = weights / u64::from(self.spec.nodes.max(1));
            // A copy that sleeps holds its weights here, in blocks whose sizes are powers of two.
            let held = if self.is_warm() { part * 2 } else { part };
            held + accelerators * PROGRAM_BYTES
        } else {
            weights + self.cache_bytes() + OWN_BYTES
        };
        let shared = self.spec.shared_memory_bytes.unwrap_or(0);
        Some((rest + shared).next_multiple_of(1 << 20))
    }

    /// Ports that weights and adapters are fetched from; none where nothing is fetched. Others than 443 are beside it,
    /// to which hubs and registries send on.
    pub(super) fn fetch_ports(&self) -> Vec<u16> {
        self.ports_of(self.model.spec.adapter_sources.values())
    }

    /// The same of what the pod template knows: adapters that are loaded into running copies are not in it.
    pub(super) fn template_fetch_ports(&self) -> Vec<u16> {
        let adapters = self.model.spec.adapter_sources.values();
        self.ports_of(adapters.filter(|_| !self.loads_adapters()))
    }

    fn ports_of<'a>(&'a self, adapters: impl Iterator<Item = &'a WeightsSource>) -> Vec<u16> {
        if !self.fetches() {
            return Vec::new();
        }
        let sources = self.model.spec.source.iter().chain(adapters);
        let ports: BTreeSet<u16> = sources.filter_map(WeightsSource::port).chain([443]).collect();
        ports.into_iter().collect()
    }

    /// Bytes of the weights, where somebody knows.
    pub(crate) fn weight_bytes(&self) -> Option<u64> {
        let source = self.model.spec.source.as_ref()?.to_string();
        let read = self.cluster.facts.get(&source).map(|facts| facts.weights.total());
        self.model.spec.size_bytes.or(read)
    }

    /// Bytes of a cache with every sequence at its longest, where that is known.
    fn cache_bytes(&self) -> u64 {
        let source = self.model.spec.source.as_ref().map(ToString::to_string).unwrap_or_default();
        let tokens = u64::from(self.model.spec.parallel) * u64::from(self.model.spec.context);
        let each =
            self.cluster.facts.get(&source).map_or(0.0, |facts| facts.kv_bytes_per_token(2.0));
        (tokens as f64 * each) as u64
    }

    fn mounts(&self) -> Vec<Value> {
        let mut mounts = vec![
            json!({ "name": "cache", "mountPath": CACHE_AT }),
            json!({ "name": "tmp", "mountPath": "/tmp" }),
            json!({ "name": "weights", "mountPath": WEIGHTS_AT, "readOnly": true }),
        ];
        mounts.extend(self.adapter_mount());
        if self.spec.volumes.iter().any(|volume| volume.role == VolumeRole::SharedMemory) {
            mounts.push(json!({ "name": "shared-memory", "mountPath": "/dev/shm" }));
        }
        for file in &self.spec.files {
            mounts.push(json!({
                "name": "files",
                "mountPath": format!("{SCRATCH_AT}/{}", file.path),
                "subPath": entry(&file.path),
                "readOnly": true,
            }));
        }
        mounts
    }

    /// The containers that fetch weights, and adapters that are there from the start, one after the other.
    pub(super) fn fetchers(&self) -> Vec<Value> {
        let said = &self.model.spec;
        let kind = said.storage.as_ref().map(|storage| storage.kind).unwrap_or_default();
        let own =
            said.source.iter().filter(|source| kind != StorageKind::Image && !source.is_local());
        let own = own.map(|source| {
            let digest = said.digest.map(|digest| digest.to_string());
            self.fetcher("fetch", source, digest, &self.weights)
        });
        let adapters = self.launch.features.adapters.iter().zip(0_u32..);
        let adapters = adapters.filter_map(|(adapter, at)| {
            let source = said.adapter_sources.get(&adapter.name)?;
            Some(self.fetcher(&format!("fetch-adapter-{at}"), source, None, &adapter.path))
        });
        own.chain(adapters).collect()
    }

    fn fetcher(
        &self,
        name: &str,
        source: &WeightsSource,
        digest: Option<String>,
        at: &str,
    ) -> Value {
        let mut args = vec!["model".to_owned(), "pull".to_owned(), source.to_string()];
        let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        if let Some(digest) = digest {
            flag("digest", digest);
        }
        if let Some(signer) = self.model.spec.signed_by.as_ref().map(Signer::to_string) {
            flag("signed-by", signer);
        }
        flag("link", at.to_owned());
        json!({
            "name": name,
            "image": self.cluster.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["pilotage"],
            "args": args,
            "env": hub_environment(&format!("{WEIGHTS_AT}/.cache")),
            "resources": {
                "requests": { "cpu": "500m", "memory": "256Mi" },
                "limits": { "memory": "1Gi" },
            },
            "securityContext": restricted(),
            "volumeMounts": [
                { "name": "weights", "mountPath": WEIGHTS_AT },
                { "name": "tmp", "mountPath": "/tmp" },
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        })
    }
}

/// What whoever fetches to a folder has in its environment.
pub(super) fn hub_environment(folder: &str) -> Vec<Value> {
    vec![
        named("HF_TOKEN", hub_token()),
        named("HOME", json!({ "value": "/tmp" })),
        named("XDG_CACHE_HOME", json!({ "value": folder })),
    ]
}

/// Where programs write, since their root is read only, and the name of a user that no image has.
fn homes(engine: Engine) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("HOME", CACHE_AT), ("USER", "pilotage"), ("XDG_CACHE_HOME", CACHE_AT)];
    if engine != Engine::Embedded && engine != Engine::LlamaCpp {
        all.extend([
            ("HF_HOME", "/cache/huggingface"),
            ("TORCHINDUCTOR_CACHE_DIR", "/cache/inductor"),
            ("TRITON_CACHE_DIR", "/cache/triton"),
        ]);
    }
    if matches!(engine, Engine::Vllm | Engine::Triton) {
        all.extend([
            ("VLLM_CACHE_ROOT", "/cache/vllm"),
            ("VLLM_CONFIG_ROOT", "/cache/vllm-config"),
        ]);
    }
    all
}

/// What a port is called in objects.
pub(super) const fn port_name(role: PortRole) -> &'static str {
    match role {
        PortRole::Http => "http",
        PortRole::Metrics => "metrics",
        PortRole::KvEvents => "kv-events",
        PortRole::Rendezvous => "rendezvous",
    }
}

fn probe(probe: &Probe) -> Value {
    json!({
        "httpGet": { "path": probe.path, "port": "http" },
        "periodSeconds": probe.period_seconds,
        "timeoutSeconds": probe.timeout_seconds,
        "failureThreshold": probe.failures,
    })
}

/// Processor time in the form in which an API server gives it back: another one would look like a change by hand.
fn cores(millis: u32) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Bytes in the form in which an API server gives them back.
pub(super) fn quantity(bytes: u64) -> String {
    let binary = [(50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let whole = binary.into_iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    if let Some((shift, unit)) = whole {
        return format!("{}{unit}", bytes >> shift);
    }
    // What is written without a unit is counted in thousands.
    let decimal = [(15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")];
    let whole = decimal
        .into_iter()
        .map(|(digits, unit)| (10_u64.pow(digits), unit))
        .find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size));
    whole.map_or_else(|| bytes.to_string(), |(size, unit)| format!("{}{unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_as_they_are_given_back() {
        let check = |bytes: u64, expect: &str| assert_eq!(quantity(bytes), expect, "{bytes}");
        check(0, "0");
        check(98_362_431, "98362431");
        check(1 << 30, "1Gi");
        check(2048 << 30, "2Ti");
        check(200_000_000_000, "195312500Ki");
        check(435_000_000_125_000, "435000000125k");
        check(7_000_000_000_000_001, "7000000000000001");
        check(15_000_000, "15M");
        assert_eq!(
            (cores(4000).as_str(), cores(500).as_str(), cores(0).as_str()),
            ("4", "500m", "0")
        );
    }
}
