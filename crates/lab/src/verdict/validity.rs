//! Was it the server that was measured? Findings about the measurement itself.

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Some numbers mean less than they seem to.
    Warning,
    /// The numbers are not about the server.
    Invalid,
}

/// Something about the measurement that a reader of its numbers must know.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Finding {
    /// A stable name.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// What was seen of the measurement. Times in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    /// Requests that count.
    pub counted: u64,
    /// Those of them that were answered.
    pub answered: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were rejected.
    pub rejected: u64,
    /// Those that had not ended when the run was over.
    pub unfinished: u64,
    /// Those that were not sent because too many waited.
    pub overflow: u64,
    /// Whether requests come at their times.
    pub open: bool,
    /// The 99th percentile of how late the pacer was.
    pub delay_p99: f64,
    /// The median time to first token.
    pub ttft_p50: f64,
    /// The 99th percentile of waiting for a connection.
    pub queue_p99: f64,
    /// How much of the threads it had the client computed for.
    pub cpu: f64,
    /// Seconds that count.
    pub seconds: f64,
    /// Mean time from when a request was due to its end.
    pub stay_mean: f64,
    /// Answers whose tokens the server did not count.
    pub uncounted: u64,
    /// Tokens that came, against those asked for.
    pub length: f64,
    /// Whether somebody stopped it.
    pub interrupted: bool,
}

/// Delays that never matter, in seconds.
const DELAY_SECONDS: f64 = 0.01;
/// The part of the time to first token that a delay may be.
const DELAY_PART: f64 = 0.05;
/// The part of its threads that the client may compute for.
const CPU_MAX: f64 = 0.8;
/// Answers without which numbers are accidents.
const ANSWERS_MIN: u64 = 100;
/// The part of requests that may fail before numbers are about the survivors.
const FAILED_MAX: f64 = 0.1;
/// The part of requests whose failure is worth a warning.
const FAILED_WARN: f64 = 0.01;
/// The part of asked tokens below which answers count as shorter than asked for.
const LENGTH_MIN: f64 = 0.9;
/// How many times a request's stay a run should be long.
const STAYS_MIN: f64 = 10.0;

/// Everything that there is to say, worst first.
pub fn findings(checks: &Checks) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        [client(checks), outcomes(checks), amount(checks), tokens(checks)].concat();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn finding(id: &str, severity: Severity, what: String, fix: &str) -> Finding {
    Finding { id: id.to_owned(), severity, what, fix: fix.to_owned() }
}

/// Was the client the bottleneck?
fn client(checks: &Checks) -> Vec<Finding> {
    let mut found = Vec::new();
    let allowed = DELAY_SECONDS.max(DELAY_PART * checks.ttft_p50);
    if checks.open && checks.delay_p99 > allowed {
        let late = checks.delay_p99 * 1e3;
        let what = format!("the client sent late: 1 % of requests by {late:.0} ms or more");
        let fix = "lower the rate, give the client a core of its own, or use --threads";
        found.push(finding("client_late", Severity::Invalid, what, fix));
    }
    if checks.cpu > CPU_MAX {
        let part = checks.cpu * 100.0;
        let what = format!("the client computed for {part:.0} % of the time it had");
        let fix = "use --threads, or load from several machines";
        found.push(finding("client_cpu", Severity::Invalid, what, fix));
    }
    if checks.queue_p99 > allowed && checks.open {
        let wait = checks.queue_p99 * 1e3;
        let what = format!(
            "1 % of requests waited {wait:.0} ms or more for a connection; their latency says so"
        );
        let fix = "raise --connections, unless the limit is what you measure";
        found.push(finding("client_queue", Severity::Warning, what, fix));
    }
    if checks.overflow > 0 {
        let what = format!("{} requests were never sent: too many waited", checks.overflow);
        let fix = "lower the rate or raise --connections";
        found.push(finding("client_overflow", Severity::Invalid, what, fix));
    }
    found
}

/// Are the numbers those of survivors?
fn outcomes(checks: &Checks) -> Vec<Finding> {
    let mut found = Vec::new();
    let part = |count: u64| count as f64 / checks.counted.max(1) as f64;
    let failed = part(checks.failed);
    if failed > FAILED_WARN {
        let worst = failed > FAILED_MAX;
        let severity = if worst { Severity::Invalid } else { Severity::Warning };
        let percent = failed * 100.0;
        let what = format!("{percent:.1} % of requests failed: latencies are those of the others");
        found.push(finding("errors", severity, what, "see the outcomes for what failed"));
    }
    if checks.rejected > 0 {
        let percent = part(checks.rejected) * 100.0;
        let what = format!(
            "{percent:.1} % of requests were rejected (429 or 503): latencies are those of the others"
        );
        found.push(finding("rejected", Severity::Warning, what, "lower the rate, or raise quotas"));
    }
    if part(checks.unfinished) > FAILED_WARN {
        let what = format!(
            "{} requests had not ended when the run was over: the slowest are missing",
            checks.unfinished
        );
        let fix = "give a longer --grace, or lower the rate";
        found.push(finding("unfinished", Severity::Warning, what, fix));
    }
    if checks.interrupted {
        let what = "the run was stopped before its end".to_owned();
        found.push(finding("interrupted", Severity::Warning, what, "let it run"));
    }
    found
}

/// Is there enough of it?
fn amount(checks: &Checks) -> Vec<Finding> {
    let mut found = Vec::new();
    if checks.answered == 0 {
        let what = "no request that counts was answered".to_owned();
        let fix = "check the URL, the key and the model";
        found.push(finding("no_answers", Severity::Invalid, what, fix));
    } else if checks.answered < ANSWERS_MIN {
        let what = format!("only {} answers count: numbers may be accidents", checks.answered);
        let fix = "run longer; percentiles that cannot be told are left out";
        found.push(finding("few_samples", Severity::Warning, what, fix));
    }
    if checks.answered > 0 && checks.seconds < STAYS_MIN * checks.stay_mean {
        let (seconds, stay) = (checks.seconds, checks.stay_mean);
        let what = format!("{seconds:.1} s count, and a request takes {stay:.1} s on average");
        let fix = "run for ten times as long as a request takes, or longer";
        found.push(finding("short", Severity::Warning, what, fix));
    }
    found
}

/// Are tokens what they seem?
fn tokens(checks: &Checks) -> Vec<Finding> {
    let mut found = Vec::new();
    if checks.uncounted > 0 {
        let count = checks.uncounted;
        let what = format!("{count} answers came without a count of tokens: events are counted");
        let fix = "events may hold several tokens, or none: trust rates of tokens less";
        found.push(finding("tokens_not_counted", Severity::Note, what, fix));
    }
    if checks.length > 0.0 && checks.length < LENGTH_MIN {
        let part = checks.length * 100.0;
        let what = format!("answers have {part:.0} % of the tokens asked for: models end early");
        let fix = "use --ignore-eos where the server knows it";
        found.push(finding("short_answers", Severity::Note, what, fix));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Checks {
        Checks {
            counted: 1_000,
            answered: 1_000,
            open: true,
            delay_p99: 0.001,
            ttft_p50: 0.05,
            cpu: 0.3,
            seconds: 60.0,
            stay_mean: 1.0,
            length: 1.0,
            ..Checks::default()
        }
    }

    #[test]
    fn each_finding_has_its_cause() {
        let check = |checks: Checks, expect: &[(&str, Severity)]| {
            let found = findings(&checks);
            let found: Vec<(&str, Severity)> =
                found.iter().map(|found| (found.id.as_str(), found.severity)).collect();
            assert_eq!(found, expect);
        };
        use Severity::{Invalid, Note, Warning};
        check(fine(), &[]);
        check(Checks { delay_p99: 0.011, ..fine() }, &[("client_late", Invalid)]);
        check(Checks { delay_p99: 0.011, ttft_p50: 1.0, ..fine() }, &[]);
        check(Checks { delay_p99: 9.0, open: false, ..fine() }, &[]);
        check(Checks { cpu: 0.85, ..fine() }, &[("client_cpu", Invalid)]);
        check(Checks { queue_p99: 0.2, ..fine() }, &[("client_queue", Warning)]);
        check(Checks { failed: 20, ..fine() }, &[("errors", Warning)]);
        check(Checks { failed: 200, ..fine() }, &[("errors", Invalid)]);
        check(Checks { rejected: 1, ..fine() }, &[("rejected", Warning)]);
        check(Checks { unfinished: 11, ..fine() }, &[("unfinished", Warning)]);
        check(Checks { answered: 99, ..fine() }, &[("few_samples", Warning)]);
        check(Checks { answered: 0, ..fine() }, &[("no_answers", Invalid)]);
        check(Checks { stay_mean: 7.0, ..fine() }, &[("short", Warning)]);
        check(Checks { uncounted: 3, ..fine() }, &[("tokens_not_counted", Note)]);
        check(Checks { length: 0.5, ..fine() }, &[("short_answers", Note)]);
        let both = Checks { length: 0.5, cpu: 0.9, ..fine() };
        check(both, &[("client_cpu", Invalid), ("short_answers", Note)]);
    }
}
