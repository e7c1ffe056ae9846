//! Scenarios and traces that come with the program.

/// A scenario that needs no file.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// What it is called.
    pub name: &'static str,
    /// Its YAML.
    pub text: &'static str,
}

macro_rules! builtins {
    ($($name:literal),* $(,)?) => {
        &[$(Builtin {
            name: $name,
            text: include_str!(concat!("../../scenarios/", $name, ".yaml")),
        }),*]
    };
}

macro_rules! traces {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../traces/", $folder, "/", $name)))),*]
    };
}

const BUILTINS: &[Builtin] = builtins![
    "vtc/dist-shift",
    "vtc/dist-shift-lcf",
    "vtc/increase",
    "vtc/on-off-less",
    "vtc/on-off-overload",
    "vtc/on-off-overload-fcfs",
    "vtc/overload",
    "vtc/overload-fcfs",
    "vtc/overload-multi",
    "vtc/overload-multi-fcfs",
    "vtc/overload-oracle",
    "vtc/overload-s4-256",
    "vtc/overload-s4-512",
    "vtc/overload-s4-512-65k",
    "vtc/overload-s4-768",
    "vtc/overload-unweighted",
    "vtc/overload-weighted",
    "vtc/poisson-short-long",
    "vtc/poisson-short-long-2",
    "vtc/poisson-short-long-fcfs",
    "vtc/proportional",
    "vtc/proportional-fcfs",
    "vtc/real-artifact",
    "vtc/real-fcfs",
    "vtc/real-lcf",
    "vtc/real-oracle",
    "vtc/real-predict",
    "vtc/real-rpm10",
    "vtc/real-rpm15",
    "vtc/real-rpm20",
    "vtc/real-rpm30",
    "vtc/real-rpm5",
    "vtc/real-vtc",
    "bands",
    "deadlines",
    "failing-replica",
    "guarantees",
    "lost-metrics",
    "no-preemption",
    "preemption",
    "prefixes-dlpm",
    "prefixes-vtc",
    "routing/live-reference",
    "routing/cold-start",
    "routing/overload",
    "routing/burst",
    "routing/long-contexts",
    "routing/heterogeneous",
    "routing/shared-system-prompt",
    "routing/no-reuse",
    "routing/capacity-73",
    "routing/azure",
    "routing/mooncake",
    "scaling/diurnal",
    "scaling/burst-cold",
    "scaling/burst-warm",
    "scaling/ramp",
    "scaling/flash-crowd",
    "scaling/spot-loss",
    "scaling/noisy-plateau",
    "scaling/long-cold-start",
    "thousand-tenants",
];

const RECORDED: &[(&str, &str)] =
    traces!["recorded": "azure_conversation.csv", "mooncake_conversation.jsonl"];

const MEASURED: &[(&str, &str)] = traces!["vtc_osdi24":
    "FCFS__overload.csv",
    "FCFS__proportional.csv",
    "FCFS__real.csv",
    "LCF__dist_shift.csv",
    "LCF__real.csv",
    "LShare-rpm20__real.csv",
    "LShare-rpm5__real.csv",
    "VTC__dist_shift.csv",
    "VTC__on_off_less.csv",
    "VTC__overload.csv",
    "VTC__poisson_short_long_2.csv",
    "VTC__proportional.csv",
    "VTC__real.csv",
    "VTC_oracle__real.csv",
    "WVTC__overload-weighted.csv",
];

/// All of them.
pub const fn builtins() -> &'static [Builtin] {
    BUILTINS
}

/// The one of that name.
pub fn find(name: &str) -> Option<Builtin> {
    BUILTINS.iter().copied().find(|builtin| builtin.name == name)
}

/// The trace of that file name.
pub(super) fn trace(name: &str) -> Option<&'static str> {
    RECORDED.iter().chain(MEASURED).find(|(known, _)| *known == name).map(|(_, text)| *text)
}
