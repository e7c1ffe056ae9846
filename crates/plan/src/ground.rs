//! What each replica runs on, and what an hour of it costs: so that whoever reads a bill knows for which hardware
//! it is.
//!
//! A replica costs its part of its node: its accelerators of those of the node, or where there are none its threads
//! of those of the machine. What a node costs is said by its Fleet.

use serde::Serialize;

use crate::api::{Endpoint, Fleet, Model, Money};
use crate::render::ProcessSpec;
use crate::render::kubernetes::accelerator_of;
use crate::{World, machine};

/// The class of replicas that run on the cores of a processor of which no more is known.
pub const PROCESSOR: &str = "cpu";

/// What a replica runs on.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ground {
    /// The class of its hardware, as `pilotage plan hardware` lists them, or `cpu`; none where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Its accelerators, on all of its nodes; one for a processor.
    pub accelerators: u32,
    /// What it costs an hour, in millionths of the currency's unit; none where nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micros_per_hour: Option<u64>,
}

impl Default for Ground {
    fn default() -> Self {
        Self { hardware: None, accelerators: 1, micros_per_hour: None }
    }
}

impl Ground {
    /// Of an engine that runs elsewhere: what its manifest says.
    pub(crate) fn of_endpoint(endpoint: &Endpoint) -> Self {
        Self {
            hardware: endpoint.hardware.as_ref().map(ToString::to_string),
            accelerators: endpoint.accelerators.unwrap_or(1).max(1),
            micros_per_hour: endpoint.price_per_hour.map(Money::millionths),
        }
    }

    /// Of a copy on a cluster, on nodes of its Fleet where the Model names one.
    pub(crate) fn of_copy(model: &Model, fleet: Option<&Fleet>) -> Self {
        let class = accelerator_of(model, fleet);
        let named = fleet.and_then(|fleet| fleet.spec.hardware.clone());
        let price = fleet.and_then(|fleet| fleet.spec.price_per_hour);
        let per_node = class.per_node.max(1);
        if model.spec.is_embedded() && !class.is_processor() {
            // It leaves the accelerators of those nodes to others.
            return Self { hardware: Some(PROCESSOR.to_owned()), ..Self::default() };
        }
        let ranks = model.spec.parallelism.tensor.saturating_mul(model.spec.parallelism.pipeline);
        let ranks = ranks.max(1);
        let hardware = match class.is_processor() {
            true => Some(named.unwrap_or_else(|| PROCESSOR.to_owned())),
            false => named,
        };
        Self {
            hardware,
            accelerators: if class.is_processor() { 1 } else { ranks },
            micros_per_hour: price.map(|price| part(price, ranks, per_node)),
        }
    }
}

/// Says of processes of one machine what they run on. The machine's price is divided among its accelerators, or,
/// where no process has any, by threads of those that it has for all of them.
pub(crate) fn settle(
    processes: &mut [ProcessSpec],
    fleet: Option<&Fleet>,
    threads: u32,
    world: &World,
) {
    let price = fleet.and_then(|fleet| fleet.spec.price_per_hour);
    let by_devices = processes.iter().any(|process| !process.devices.is_empty());
    let taken = processes.iter().map(|process| process.threads).fold(0, u32::saturating_add);
    let threads = threads.max(taken).max(1);
    let devices = u32::try_from(world.gpus.len()).unwrap_or(u32::MAX).max(1);
    for process in processes {
        let own = u32::try_from(process.devices.len()).unwrap_or(u32::MAX);
        let hardware = match own {
            0 => Some(PROCESSOR.to_owned()),
            _ => machine::hardware(world, &process.devices),
        };
        let cost = |price| match by_devices {
            true => part(price, own, devices),
            false => part(price, process.threads, threads),
        };
        process.ground =
            Ground { hardware, accelerators: own.max(1), micros_per_hour: price.map(cost) };
    }
}

/// So many of all parts of a price, in millionths, rounded down.
fn part(price: Money, own: u32, all: u32) -> u64 {
    let micros = u128::from(price.millionths()) * u128::from(own) / u128::from(all.max(1));
    u64::try_from(micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::world::Gpu;
    use crate::{Resource, parse_all, plan};

    fn resources(documents: &[&str]) -> Vec<Resource> {
        let one = |text: &&str| format!("{{apiVersion: pilotage.dev/v1alpha1, {text}}}");
        let texts: Vec<String> = documents.iter().map(one).collect();
        parse_all(texts.iter().map(|text| ("f", text.as_str()))).unwrap()
    }

    fn copy(model: &str, fleet: &str) -> Ground {
        let documents = [
            format!(
                "kind: Model, metadata: {{name: m}}, spec: {{source: 'hf:o/r', fleet: f, {model}}}"
            ),
            format!("kind: Fleet, metadata: {{name: f}}, spec: {{kind: nodes, {fleet}}}"),
        ];
        let all = resources(&documents.each_ref().map(String::as_str));
        let Resource::Model(model) = &all[0] else { unreachable!() };
        let Resource::Fleet(fleet) = &all[1] else { unreachable!() };
        Ground::of_copy(model, Some(fleet))
    }

    #[test]
    fn a_copy_costs_its_part_of_its_nodes() {
        let check = |model: &str, fleet: &str, expect: (Option<&str>, u32, Option<u64>)| {
            let found = copy(model, fleet);
            let told = (found.hardware.as_deref(), found.accelerators, found.micros_per_hour);
            assert_eq!(told, expect, "{model} on {fleet}");
        };
        let h100 = "hardware: h100-sxm, perNode: 8, pricePerHour: '80'";
        check("runtime: vllm", h100, (Some("h100-sxm"), 1, Some(10_000_000)));
        let pair = "runtime: vllm, parallelism: {tensor: 2}";
        check(pair, h100, (Some("h100-sxm"), 2, Some(20_000_000)));
        // Without a number, as many as nodes of the class usually have.
        let usual = "hardware: h100-sxm, pricePerHour: '80'";
        check(pair, usual, (Some("h100-sxm"), 2, Some(20_000_000)));
        let nodes = "runtime: vllm, parallelism: {tensor: 8, pipeline: 2}";
        check(nodes, h100, (Some("h100-sxm"), 16, Some(160_000_000)));
        check("runtime: vllm", "hardware: h100-sxm", (Some("h100-sxm"), 1, None));
        check("runtime: vllm", "perNode: 4, pricePerHour: '4'", (None, 1, Some(1_000_000)));
        check("runtime: embedded", h100, (Some("cpu"), 1, None));
        check("runtime: embedded", "pricePerHour: '0.5'", (Some("cpu"), 1, Some(500_000)));
    }

    fn told(
        resources: &[Resource],
        world: &World,
    ) -> Vec<(String, Option<String>, u32, Option<u64>)> {
        let processes = plan(resources, world).unwrap().processes;
        let told = processes.into_iter().map(|one| {
            let Ground { hardware, accelerators, micros_per_hour } = one.ground;
            (one.name, hardware, accelerators, micros_per_hour)
        });
        told.collect()
    }

    #[test]
    fn a_machine_is_divided_by_threads() {
        let fleet = "kind: Fleet, metadata: {name: f}, spec: {threads: 4, pricePerHour: '0.40'}";
        let small = "kind: Model, metadata: {name: a}, spec: {source: 'file:/w.gguf', threads: 1}";
        let large = "kind: Model, metadata: {name: b}, spec: {source: 'file:/w.gguf', threads: 3}";
        let cpu = |name: &str, price| (name.to_owned(), Some("cpu".to_owned()), 1, price);
        let world = World::with_cores(8);
        assert_eq!(
            told(&resources(&[fleet, small, large]), &world),
            [cpu("a-0", Some(100_000)), cpu("b-0", Some(300_000))]
        );
        assert_eq!(told(&resources(&[small]), &world), [cpu("a-0", None)]);
    }

    #[test]
    fn devices_are_called_by_their_class() {
        let gpu = |name: &str| Gpu { id: None, name: name.to_owned(), memory_bytes: None };
        let world = |names: &[&str]| World {
            gpus: names.iter().map(|name| gpu(name)).collect(),
            devices: BTreeMap::new(),
            ..World::with_cores(8)
        };
        let called = |names: &[&str]| machine::hardware(&world(names), &["0".to_owned()]);
        assert_eq!(called(&["NVIDIA L4"]).as_deref(), Some("l4"));
        assert_eq!(called(&["A Toaster (9000)"]).as_deref(), Some("a-toaster-9000"));
        assert_eq!(called(&["???"]), None);
        assert_eq!(called(&[]), None);
    }

    #[test]
    fn endpoints_say_what_they_are() {
        let said = "kind: Model, metadata: {name: m}, spec: {endpoints: [\
                    {url: 'http://h:1', hardware: h100-sxm, accelerators: 2, pricePerHour: '5'}, {url: 'http://h:2'}]}";
        let plan = plan(&resources(&[said]), &World::with_cores(1)).unwrap();
        let grounds: Vec<&Ground> = plan.endpoints.iter().map(|one| &one.ground).collect();
        let said = Ground {
            hardware: Some("h100-sxm".to_owned()),
            accelerators: 2,
            micros_per_hour: Some(5_000_000),
        };
        assert_eq!(grounds, [&said, &Ground::default()]);
    }
}
