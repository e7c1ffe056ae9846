//! The board of accelerators, and what should wake somebody about them. By the names of the gateway's own table, so
//! that they read the same whether a driver or DCGM was asked.

use super::alerts::{Alert, Severity};
use super::panels::{Board, Panel, Query, Unit, panel, query};
use crate::gpu::{Measure, TABLE, THROTTLED, XID_ERRORS, XIDS};

/// What a line of an accelerator is called.
const LEGEND: &str = "{{replica}} {{gpu}}";

/// Of the models that are looked at; those of nobody are shown as well.
const OF: &str = r#"{lane=~"$model|_other"}"#;

fn name(measure: Measure) -> &'static str {
    TABLE[measure as usize].name
}

fn of(measure: Measure) -> String {
    format!("{}{OF}", name(measure))
}

fn grows(counter: &str, by: &str) -> String {
    format!("sum by ({by}) (increase({counter}_total{OF}[1h]))")
}

/// One line for each accelerator.
fn each(expr: &str) -> Vec<Query> {
    vec![query(LEGEND, expr)]
}

pub(super) fn board() -> Board {
    let used = format!("{} / {}", of(Measure::MemoryUsed), of(Measure::MemoryTotal));
    let clock = format!("{} / {}", of(Measure::Clock), of(Measure::ClockMax));
    let mut panels = vec![
        panel(
            "Busy",
            "The part of the time in which anything ran on an accelerator. It says nothing of how much of it worked.",
            Unit::Part,
            each(&of(Measure::Utilisation)),
        ),
        panel(
            "Memory taken",
            "The part of an accelerator's memory that is taken. Engines take what they are told to at their start, and it stays so.",
            Unit::Part,
            each(&used),
        ),
        panel(
            "Temperature",
            "How warm accelerators are. They begin to slow down between 83 and 95 degrees.",
            Unit::Celsius,
            each(&of(Measure::Temperature)),
        ),
        panel(
            "Power",
            "What accelerators draw, and what they may.",
            Unit::Watts,
            vec![
                query(LEGEND, &of(Measure::Power)),
                query("{{replica}} {{gpu}} limit", &of(Measure::PowerLimit)),
            ],
        ),
        panel(
            "Clock",
            "How fast an accelerator's processors run, of what they can. Idle ones rest.",
            Unit::Part,
            each(&clock),
        ),
    ];
    panels.extend(troubles());
    Board {
        uid: "pilotage-gpus",
        title: "Pilotage: GPUs",
        what: "Do accelerators work, are they held back, and are they well?",
        panels,
    }
}

fn troubles() -> Vec<Panel> {
    vec![
        panel(
            "Held back",
            "Why clocks are lower than they could be, by NVML's reason: heat and power brakes want somebody to look.",
            Unit::Count,
            vec![query("{{replica}} {{gpu}} {{reason}}", &format!("{THROTTLED}{OF} > 0"))],
        ),
        panel(
            "Errors",
            "Errors that drivers reported (XID) in the last hour, by code. 13, 31 and 43 are most often the program's.",
            Unit::Count,
            vec![query("{{replica}} {{gpu}} {{xid}}", &grows(XIDS, "replica, gpu, xid"))],
        ),
        panel(
            "Errors of memory",
            "Errors of memory that could not be corrected in the last hour. What was computed since may be wrong.",
            Unit::Count,
            each(&grows(name(Measure::EccUncorrected), "replica, gpu")),
        ),
        panel(
            "Transfers repeated",
            "Transfers between accelerator and host that had to be repeated in the last hour. Many are a bad slot or cable.",
            Unit::Count,
            each(&grows(name(Measure::PcieReplays), "replica, gpu")),
        ),
    ]
}

pub(super) fn alerts() -> Vec<Alert> {
    let which = "accelerator {{ $labels.gpu }} ({{ $labels.uuid }})";
    let of = "of {{ $labels.replica }}";
    vec![
        Alert {
            name: "PilotageGpuErrors",
            expr: format!("increase({XID_ERRORS}_total[10m]) > 0"),
            after: "0m",
            severity: Severity::Warning,
            summary: format!("{which} {of}: its driver reports errors"),
            description: format!(
                "The driver reported about {{{{ $value | humanize }}}} errors (XID) of {which} {of} in 10 minutes."
            ),
            means: "The driver of an accelerator reported an error (XID). 48, 63, 64, 74, 79, 94 and 95 are of the hardware; 13, 31 and 43 are most often the program's.",
            steps: &[
                "*Errors* of the board of GPUs has the code; `dmesg | grep -i xid` on its node has more.",
                "`pilotage triage` says whether a replica suffers from it.",
                "Of the hardware: `kubectl cordon` its node, and `dcgmi diag -r 3` on it. 79 wants the machine to be started anew.",
            ],
        },
        Alert {
            name: "PilotageGpuThrottled",
            expr: format!(
                r#"avg_over_time({THROTTLED}{{reason=~"hw_slowdown|hw_thermal_slowdown|sw_thermal_slowdown|hw_power_brake_slowdown"}}[15m]) > 0.25"#
            ),
            after: "5m",
            severity: Severity::Warning,
            summary: format!("{which} {of} is held back"),
            description: format!(
                "{which} {of} ran slower than it can for {{{{ $value | humanizePercentage }}}} of 15 minutes: {{{{ $labels.reason }}}}."
            ),
            means: "Heat, or a power brake of the machine, holds an accelerator back. Its replica is slower than its like, and requests there with it.",
            steps: &[
                "Look at *Temperature* and *Power* of the board of GPUs, and at those beside it: one is its own cooling, all are the machine's or the room's.",
                "`nvidia-smi -q -d TEMPERATURE,POWER,PERFORMANCE` on its node.",
            ],
        },
        Alert {
            name: "PilotageGpuMemoryFull",
            expr: format!("{} / {} > 0.98", name(Measure::MemoryUsed), name(Measure::MemoryTotal)),
            after: "15m",
            severity: Severity::Info,
            summary: format!("{which} {of}: its memory is nearly full"),
            description: format!(
                "{{{{ $value | humanizePercentage }}}} of the memory of {which} {of} are taken."
            ),
            means: "Of an accelerator's memory less than a fiftieth is free. What a program takes besides (graphs, libraries, a peak of activations) may find none, and ends it.",
            steps: &[
                "Where engines ended with out of memory, give them less: `--gpu-memory-utilization` of vLLM, `--mem-fraction-static` of SGLang, by `runtimeArgs` of the Model.",
                "`nvidia-smi` on its node says whether somebody else has a part of it.",
            ],
        },
        Alert {
            name: "PilotageGpuMemoryFaulty",
            expr: format!("increase({}_total[1h]) > 0", name(Measure::EccUncorrected)),
            after: "0m",
            severity: Severity::Critical,
            summary: format!("{which} {of}: errors of memory that could not be corrected"),
            description: format!(
                "About {{{{ $value | humanize }}}} errors of memory of {which} {of} could not be corrected in an hour."
            ),
            means: "An accelerator's memory had errors that could not be corrected. What was computed with it may be wrong.",
            steps: &[
                "`kubectl cordon` its node, so that nothing new starts there, and delete the pod: its requests go on elsewhere.",
                "`nvidia-smi -q -d ECC,ROW_REMAPPER` says whether rows can still be remapped; starting the machine anew does that.",
                "Where it comes again, have it replaced.",
            ],
        },
    ]
}
