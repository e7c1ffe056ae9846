//! What the gateway leans on while it serves: the ledger, the collector of traces, its certificate. Requests go on
//! without the first two, so that nobody would notice.

use super::alerts::{Alert, Severity};
use super::panels::{Panel, Unit, panel, query};

const UNTIL: &str = "pilotage_certificate_not_after_timestamp_seconds";
const FROM: &str = "pilotage_certificate_not_before_timestamp_seconds";

/// Of the board of the gateway.
pub(super) fn panels() -> Vec<Panel> {
    vec![
        panel(
            "Usage not stored yet",
            "Rows of usage that wait in memory for the journal, and in the journal for the store. They come down again when what is away is back.",
            Unit::Count,
            vec![
                query("{{instance}} memory", "pilotage_ledger_waiting_rows"),
                query("{{instance}} journal", "pilotage_ledger_behind_rows"),
            ],
        ),
        panel(
            "Usage stored",
            "Rows of usage that the store takes each second: as many as requests end.",
            Unit::PerSecond,
            vec![query(
                "{{instance}}",
                "rate(pilotage_ledger_stored_rows_total[$__rate_interval])",
            )],
        ),
        panel(
            "Traces",
            "Traces each second that were kept, by what became of them.",
            Unit::PerSecond,
            vec![query(
                "{{instance}} {{outcome}}",
                "rate(pilotage_otlp_traces_total[$__rate_interval])",
            )],
        ),
        panel(
            "Certificate",
            "How long the certificate that clients are shown is still valid. Nothing where connections are not encrypted by the gateway.",
            Unit::Seconds,
            vec![query("{{instance}}", &format!("{UNTIL} - time()"))],
        ),
    ]
}

pub(super) fn alerts() -> Vec<Alert> {
    let mut all = of_ledgers().to_vec();
    all.push(Alert {
        name: "PilotageTracesLost",
        expr: r#"pilotage_otlp_up == 0 or sum by (instance, job) (rate(pilotage_otlp_traces_total{outcome=~"dropped|failed"}[10m])) > 0"#.to_owned(),
        after: "10m",
        severity: Severity::Info,
        summary: "{{ $labels.instance }}: traces do not reach the collector".to_owned(),
        description: "The collector of the gateway at {{ $labels.instance }} takes no traces, or not all. Requests are not held up.".to_owned(),
        means: "The collector of traces is away, refuses them or is too slow. Requests go on; what is dropped is gone.",
        steps: &[
            "`pilotage status -o json` has the last error of `traces`.",
            "Compare the address, the protocol (gRPC or HTTP) and the headers in `OTEL_EXPORTER_OTLP_*` with what the collector listens on.",
            "*Traces* of the board of the gateway: `dropped` is a queue that was full, `failed` a collector that refused.",
        ],
    });
    all.push(Alert {
        name: "PilotageCertificateExpires",
        // Two weeks, and less for certificates that live for days.
        expr: format!("{UNTIL} - time() < 1209600 and {UNTIL} - time() < 0.2 * ({UNTIL} - {FROM})"),
        after: "0m",
        severity: Severity::Critical,
        summary: "{{ $labels.instance }}: the certificate expires in {{ $value | humanizeDuration }}".to_owned(),
        description: "The certificate that the gateway at {{ $labels.instance }} shows to its clients is valid for {{ $value | humanizeDuration }} more. After that they refuse to connect.".to_owned(),
        means: "The certificate that clients are shown is about to expire: less than two weeks and less than a fifth of its time are left. It was not renewed.",
        steps: &[
            "Renew it, or look why whoever should (cert-manager, certbot) did not. The gateway takes over a changed file by itself, within seconds.",
            "One that was renewed and is not taken over does not fit its key or cannot be read: the gateway's log says which.",
        ],
    });
    all
}

fn of_ledgers() -> [Alert; 3] {
    [
        Alert {
            name: "PilotageUsageNotStored",
            expr: "pilotage_ledger_store_up == 0".to_owned(),
            after: "10m",
            severity: Severity::Warning,
            summary: "{{ $labels.instance }}: usage is not stored".to_owned(),
            description: "The ledger of the gateway at {{ $labels.instance }} cannot store usage. It is kept in the journal on the gateway's disk.".to_owned(),
            means: "The ledger's database is away, or refuses; or the journal cannot be read. Nothing is lost: rows wait in the journal on the gateway's disk, and are stored once it is back. Until then `pilotage usage` lacks them.",
            steps: &[
                "`pilotage check` says what the database or the disk answers.",
                "*Usage not stored yet* of the board of the gateway shows how much waits, of which the journal holds a gigabyte.",
                "Where the gateway's disk does not outlive its pod, do not restart it before the rows are stored.",
            ],
        },
        Alert {
            name: "PilotageUsageNotWritten",
            expr: "pilotage_ledger_journal_up == 0".to_owned(),
            after: "1m",
            severity: Severity::Critical,
            summary: "{{ $labels.instance }}: usage is kept in memory alone".to_owned(),
            description: "The gateway at {{ $labels.instance }} cannot write down what requests use: its disk is full or fails. The end of its process would lose it.".to_owned(),
            means: "The journal cannot be written: its disk is full or fails, or the journal is as long as it may be as the store is away. Rows wait in memory, and what is too much for that is added up by hour, tenant and model.",
            steps: &[
                "Make room on the disk of the data directory; `pilotage check` names the error.",
                "Do not restart the gateway before rows are written again: what is in memory would be lost.",
                "Where the store is away as well, bring that back first: the journal empties into it.",
            ],
        },
        Alert {
            name: "PilotageUsageLost",
            expr: "pilotage_ledger_lost_rows_total + pilotage_ledger_refused_rows_total > 0".to_owned(),
            after: "0m",
            severity: Severity::Warning,
            summary: "{{ $labels.instance }}: rows of usage are missing".to_owned(),
            description: "Rows of usage of the gateway at {{ $labels.instance }} are not in the ledger: its journal was damaged on the disk, or the store refused them.".to_owned(),
            means: "Usage is missing from the ledger since the gateway started: a part of its journal was damaged on the disk, or the store refused rows for what they are. It holds until the gateway is started again.",
            steps: &[
                "What the store refused is in `usage/refused.jsonl` of the data directory, whole; parts that are damaged lie beside it as `*.damaged`.",
                "`pilotage check` says what was wrong with the last one. Look after the disk.",
            ],
        },
    ]
}
