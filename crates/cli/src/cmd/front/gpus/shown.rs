//! Accelerators and replicas as series: set to what a look showed, and gone with what it did not show.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use pilotage_lens::gpu::{
    GPUS_MAX, Holder, Measure, Owned, REASONS, TABLE, THROTTLED, XID_ERRORS, XIDS, Xids,
};
use pilotage_plan::hardware;
use pilotage_shell::metrics::{About, Family, Labels, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// What tells accelerators apart, and whose they are.
const GPU: [&str; 5] = ["gpu", "uuid", "hardware", "replica", "lane"];

/// Most codes of errors of all accelerators together.
const CODES_MAX: usize = 4 * GPUS_MAX;

/// Most replicas that are named.
const REPLICAS_MAX: usize = 4096;

type Value = Gauge<f64, AtomicU64>;

/// The series.
#[derive(Clone, Debug)]
pub(in crate::cmd) struct Shown {
    values: Vec<(Measure, Family<Value>)>,
    counts: Vec<(Measure, Family<Counter>)>,
    throttled: Family<Value>,
    errors: Family<Counter>,
    codes: Family<Counter>,
    replicas: Family<Value>,
}

/// The labels of an accelerator.
type Names = [String; GPU.len()];

impl Shown {
    /// Registers everything.
    pub(in crate::cmd) fn register(metrics: &Metrics) -> Self {
        let about = |name, help, labels| About::new(name, help, labels).at_most(GPUS_MAX);
        let names = Labels::names(&GPU);
        let rows = |counts: bool| TABLE.iter().filter(move |row| row.counts == counts);
        let value = rows(false)
            .map(|row| (row.measure, metrics.family::<Value>(about(row.name, row.help, names))));
        let count = rows(true)
            .map(|row| (row.measure, metrics.family::<Counter>(about(row.name, row.help, names))));
        Self {
            values: value.collect(),
            counts: count.collect(),
            throttled: metrics.family(about(
                THROTTLED,
                "Whether an accelerator runs slower than it could, by NVML's reason",
                Labels::new(&GPU, &["reason"]),
            )),
            errors: metrics.family(about(
                XID_ERRORS,
                "Errors that an accelerator's driver reported (XID) while the gateway looked",
                names,
            )),
            codes: metrics.family(
                About::new(
                    XIDS,
                    "The same, by their code",
                    Labels::names(&["gpu", "uuid", "hardware", "replica", "lane", "xid"]),
                )
                .at_most(CODES_MAX),
            ),
            replicas: metrics.family(
                About::new(
                    "pilotage_replica_info",
                    "Replicas that take work: their pods and nodes, to join with what others tell of those",
                    Labels::names(&["replica", "lane", "namespace", "pod", "node", "hardware"]),
                )
                .at_most(REPLICAS_MAX),
            ),
        }
    }

    /// What was seen is shown, and nothing else.
    pub(super) fn show(&self, all: &[Owned<'_>], xids: &Xids) {
        let named: Vec<(Names, &Owned<'_>)> = all.iter().map(|one| (names(one), one)).collect();
        for (measure, family) in &self.values {
            let told = |one: &Owned<'_>| one.reading.value(*measure);
            keep(
                family,
                named.iter().filter(|(_, one)| told(one).is_some()).map(|(names, _)| names),
            );
            for (names, one) in &named {
                if let Some(value) = told(one) {
                    family.get(&names.each_ref().map(String::as_str), &[]).set(value);
                }
            }
        }
        for (measure, family) in &self.counts {
            let told = |one: &Owned<'_>| one.reading.value(*measure);
            keep(
                family,
                named.iter().filter(|(_, one)| told(one).is_some()).map(|(names, _)| names),
            );
            for (names, one) in &named {
                if let Some(value) = told(one) {
                    set(&family.get(&names.each_ref().map(String::as_str), &[]), value as u64);
                }
            }
        }
        self.show_throttled(&named);
        self.show_errors(&named, xids);
    }

    fn show_throttled(&self, named: &[(Names, &Owned<'_>)]) {
        let told = |one: &Owned<'_>| one.reading.throttled;
        let there = named.iter().filter(|(_, one)| told(one).is_some());
        keep(&self.throttled, there.map(|(names, _)| names));
        for (names, one) in named {
            let Some(bits) = told(one) else { continue };
            let names = names.each_ref().map(String::as_str);
            for (reason, bit) in REASONS {
                let holds = f64::from(u8::from(bits & bit != 0));
                self.throttled.get(&names, &[reason]).set(holds);
            }
        }
    }

    fn show_errors(&self, named: &[(Names, &Owned<'_>)], xids: &Xids) {
        let told: Vec<_> =
            named.iter().filter_map(|(names, one)| Some((names, xids.of(one.reading)?))).collect();
        keep(&self.errors, told.iter().map(|(names, _)| *names));
        let mut codes: BTreeSet<Vec<String>> = BTreeSet::new();
        for (names, of) in &told {
            for code in of.keys() {
                codes.insert(names.iter().cloned().chain([code.to_string()]).collect());
            }
        }
        self.codes.keep(|row| codes.contains(&texts(row)));
        for (names, of) in told {
            let names = names.each_ref().map(String::as_str);
            set(&self.errors.get(&names, &[]), of.values().sum());
            for (code, count) in of {
                let code = code.to_string();
                let [gpu, uuid, hardware, replica, lane] = names;
                let names = [gpu, uuid, hardware, replica, lane, &code];
                set(&self.codes.get(&names, &[]), *count);
            }
        }
    }

    /// Those replicas are there, and no others.
    pub(super) fn replicas(&self, holders: &[Holder]) {
        let rows: BTreeSet<Vec<&str>> = holders
            .iter()
            .map(|one| {
                let text =
                    [&one.replica, &one.lane, &one.namespace, &one.pod, &one.node, &one.hardware];
                text.map(|text| word(text)).to_vec()
            })
            .collect();
        self.replicas
            .keep(|row| rows.contains(&row.iter().map(|name| &**name).collect::<Vec<_>>()));
        for row in rows {
            self.replicas.get(&row, &[]).set(1.0);
        }
    }
}

/// Only those of these names stay.
fn keep<'a, M: pilotage_shell::metrics::Series>(
    family: &Family<M>,
    wanted: impl Iterator<Item = &'a Names>,
) {
    let wanted: BTreeSet<Vec<&str>> =
        wanted.map(|names| names.iter().map(String::as_str).collect()).collect();
    family.keep(|row| wanted.contains(&row.iter().map(|name| &**name).collect::<Vec<_>>()));
}

fn texts(row: &[Box<str>]) -> Vec<String> {
    row.iter().map(|name| name.to_string()).collect()
}

/// A counter whose count is known elsewhere.
fn set(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}

/// The labels of an accelerator. One that is nobody's is of the class that its driver's name means.
fn names(one: &Owned<'_>) -> Names {
    let reading = one.reading;
    let memory = reading.value(Measure::MemoryTotal).map(|bytes| bytes as u64);
    let own = one.holder.map(|holder| holder.hardware.clone()).filter(|class| !class.is_empty());
    let class = own.or_else(|| hardware::class_name(&reading.model, memory)).unwrap_or_default();
    let (replica, lane) =
        one.holder.map_or(("", ""), |holder| (holder.replica.as_str(), holder.lane.as_str()));
    [reading.gpu.as_str(), &reading.uuid, &class, replica, lane].map(|text| word(text).to_owned())
}

/// What stands for what there is none of, as in every family.
fn word(text: &str) -> &str {
    if text.is_empty() { pilotage_shell::metrics::OTHER } else { text }
}

#[cfg(test)]
mod tests {
    use pilotage_lens::gpu::{Reading, owned};

    use super::*;

    fn reading(uuid: &str, watts: Option<f64>) -> Reading {
        let mut reading = Reading {
            gpu: "0".to_owned(),
            uuid: uuid.to_owned(),
            model: "NVIDIA L4".to_owned(),
            throttled: Some(0x40),
            ..Reading::default()
        };
        if let Some(watts) = watts {
            reading.set(Measure::Power, watts);
        }
        reading.set(Measure::EccUncorrected, 3.0);
        reading
    }

    fn series(metrics: &Metrics) -> Vec<String> {
        let page = metrics.encode();
        page.lines().filter(|line| line.starts_with("pilotage_")).map(str::to_owned).collect()
    }

    #[test]
    fn what_is_seen_is_shown_and_what_is_gone_goes() {
        let metrics = Metrics::new();
        let shown = Shown::register(&metrics);
        assert!(series(&metrics).is_empty(), "nothing is shown of what nobody saw");
        let holder = Holder {
            replica: "m-0".to_owned(),
            lane: "m".to_owned(),
            hardware: "l4".to_owned(),
            devices: vec!["GPU-a".to_owned()],
            ..Holder::default()
        };
        let mut xids = Xids::default();
        xids.watches("GPU-a", "0");
        xids.happened("GPU-a", "0", 79);
        let both = [reading("GPU-a", Some(70.5)), reading("GPU-b", None)];
        shown.show(&owned(&both, std::slice::from_ref(&holder)), &xids);
        shown.replicas(std::slice::from_ref(&holder));
        let own = r#"gpu="0",uuid="GPU-a",hardware="l4",replica="m-0",lane="m""#;
        let other = r#"gpu="0",uuid="GPU-b",hardware="l4",replica="_other",lane="_other""#;
        let all = series(&metrics);
        let has = |line: String| assert!(all.contains(&line), "{line} in {all:#?}");
        has(format!("pilotage_gpu_power_watts{{{own}}} 70.5"));
        has(format!("pilotage_gpu_ecc_uncorrected_total{{{other}}} 3"));
        has(format!("pilotage_gpu_throttled{{{own},reason=\"hw_thermal_slowdown\"}} 1"));
        has(format!("pilotage_gpu_throttled{{{own},reason=\"sw_power_cap\"}} 0"));
        has(format!("pilotage_gpu_xid_errors_total{{{own}}} 1"));
        has(format!("pilotage_gpu_xids_total{{{own},xid=\"79\"}} 1"));
        assert!(
            !all.iter().any(|line| line.contains("watts") && line.contains("GPU-b")),
            "{all:#?}"
        );
        let info = r#"pilotage_replica_info{replica="m-0",lane="m",namespace="_other",pod="_other",node="_other",hardware="l4"} 1"#;
        has(info.to_owned());
        shown.show(&owned(&both[1..], &[]), &Xids::default());
        shown.replicas(&[]);
        let left = series(&metrics);
        assert!(left.iter().all(|line| line.contains("GPU-b")), "{left:#?}");
        shown.show(&[], &Xids::default());
        assert!(series(&metrics).is_empty());
    }
}
