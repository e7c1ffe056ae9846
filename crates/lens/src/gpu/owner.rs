//! Which replica an accelerator belongs to.

use std::collections::BTreeMap;

use super::Reading;

/// A replica, and what its accelerators are found by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Holder {
    /// Its name.
    pub replica: String,
    /// The Model that it serves.
    pub lane: String,
    /// The class of its hardware; empty where that is not known.
    pub hardware: String,
    /// Numbers or UUIDs of accelerators of this machine that it has.
    pub devices: Vec<String>,
    /// The namespace of its pod; empty where it is none, or nobody says one.
    pub namespace: String,
    /// Its pod; empty where it is none.
    pub pod: String,
    /// That pod's node.
    pub node: String,
}

/// An accelerator with whose it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Owned<'a> {
    /// What it tells.
    pub reading: &'a Reading,
    /// Whose it is; none where it is nobody's, or that of others.
    pub holder: Option<&'a Holder>,
}

/// Finds for each accelerator the replica that has it: by its pod, or on this machine by its number or UUID. Of
/// several that take turns on it, the first.
pub fn owned<'a>(readings: &'a [Reading], holders: &'a [Holder]) -> Vec<Owned<'a>> {
    let mut by_pod: BTreeMap<&str, Vec<&Holder>> = BTreeMap::new();
    let mut by_device: BTreeMap<&str, &Holder> = BTreeMap::new();
    for holder in holders {
        if !holder.pod.is_empty() {
            by_pod.entry(&holder.pod).or_default().push(holder);
        }
        for device in &holder.devices {
            by_device.entry(device).or_insert(holder);
        }
    }
    let of_pod = |reading: &Reading| {
        let either = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
        let mut named = by_pod.get(reading.pod.as_str())?.iter().copied();
        named.find(|holder| either(&holder.namespace, &reading.namespace))
    };
    let one = |reading: &'a Reading| {
        let holder = match reading.pod.is_empty() {
            false => of_pod(reading),
            // Numbers are those of this machine.
            true if reading.node.is_empty() => {
                let names = [reading.uuid.as_str(), reading.gpu.as_str()];
                names.iter().find_map(|name| by_device.get(name)).copied()
            }
            true => by_device.get(reading.uuid.as_str()).copied(),
        };
        Owned { reading, holder }
    };
    readings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_are_found_by_pod_or_device() {
        let text = str::to_owned;
        let pod = |replica: &str, namespace: &str, pod: &str| Holder {
            replica: text(replica),
            namespace: text(namespace),
            pod: text(pod),
            ..Holder::default()
        };
        let own = |replica: &str, device: &str| Holder {
            replica: text(replica),
            devices: vec![text(device)],
            ..Holder::default()
        };
        let holders = [
            pod("m@m-0", "llm", "m-0"),
            pod("n@m-0", "other", "m-0"),
            own("a-0", "GPU-u"),
            own("b-0", "1"),
        ];
        let check = |[gpu, uuid, namespace, pod, node]: [&str; 5], expect: Option<&str>| {
            let reading = Reading {
                gpu: text(gpu),
                uuid: text(uuid),
                namespace: text(namespace),
                pod: text(pod),
                node: text(node),
                ..Reading::default()
            };
            let readings = [reading];
            let found = owned(&readings, &holders)[0].holder.map(|holder| holder.replica.as_str());
            assert_eq!(found, expect, "{readings:?}");
        };
        check(["0", "GPU-x", "llm", "m-0", "n1"], Some("m@m-0"));
        check(["0", "GPU-x", "other", "m-0", "n1"], Some("n@m-0"));
        check(["0", "GPU-x", "third", "m-0", "n1"], None);
        check(["0", "GPU-x", "", "m-0", "n1"], Some("m@m-0"));
        check(["0", "GPU-x", "llm", "x-0", "n1"], None);
        check(["0", "GPU-u", "", "", ""], Some("a-0"));
        check(["1", "GPU-v", "", "", ""], Some("b-0"));
        check(["1", "GPU-v", "", "", "n1"], None);
        check(["2", "GPU-w", "", "", ""], None);
    }
}
