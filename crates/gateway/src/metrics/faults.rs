//! How replicas fail requests: by what was wrong, of each replica that did.

use pilotage_core::FailureKind;
use pilotage_shell::metrics::{About, Family, Labels, Metrics, OTHER};
use prometheus_client::metrics::counter::Counter;

use super::standing::REPLICAS_MAX;

/// What was wrong with an attempt at a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Nobody listens at its address.
    Refused,
    /// There was no connection for another reason: its name, the way there, or no answer to that.
    Unreachable,
    /// No agreement on how to encrypt, or its certificate is none that is trusted.
    Tls,
    /// The connection broke before an answer began.
    Reset,
    /// No answer began in time.
    Timeout,
    /// It has no room: 429 or 503.
    Overloaded,
    /// It says that it failed: 5xx, or in place of the first token.
    ServerError,
    /// It does not take the gateway's key: 401 or 403.
    Unauthorized,
    /// It has not the path, or not the model, that it is asked for.
    Missing,
    /// What it sent is no answer.
    Garbled,
    /// Prompt and answer are longer than its context.
    TooLong,
    /// The request is wrong in another way: its client's doing.
    Invalid,
    /// Its answer broke off in the middle.
    Truncated,
    /// It said in the middle of its answer that it failed.
    Failed,
    /// It sent nothing for too long in the middle of its answer.
    Stalled,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::Refused,
        Self::Unreachable,
        Self::Tls,
        Self::Reset,
        Self::Timeout,
        Self::Overloaded,
        Self::ServerError,
        Self::Unauthorized,
        Self::Missing,
        Self::Garbled,
        Self::TooLong,
        Self::Invalid,
        Self::Truncated,
        Self::Failed,
        Self::Stalled,
    ];

    /// The word for it in metrics and traces.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Unauthorized => "unauthorized",
            Self::Missing => "missing",
            Self::Garbled => "garbled",
            Self::TooLong => "too_long",
            Self::Invalid => "invalid",
            Self::Truncated => "truncated",
            Self::Failed => "failed",
            Self::Stalled => "stalled",
        }
    }
}

/// Where nothing more is known than how the scheduler takes it.
impl From<FailureKind> for Fault {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Connect => Self::Unreachable,
            FailureKind::Broken => Self::Reset,
            FailureKind::Overloaded => Self::Overloaded,
            FailureKind::Server => Self::ServerError,
            FailureKind::Timeout => Self::Timeout,
        }
    }
}

/// All lanes'.
#[derive(Clone, Debug)]
pub(super) struct Faults(Family<Counter>);

/// One lane's.
#[derive(Clone, Debug)]
pub(crate) struct LaneFaults {
    all: Family<Counter>,
    lane: Box<str>,
}

impl Faults {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let words = Fault::ALL.map(Fault::name).join(", ");
        let help = format!(
            "Attempts that a replica failed, by fault: {words}; too_long and invalid are answers that the client got"
        );
        let labels = Labels::new(&["lane", "replica"], &["fault"]);
        // Made once, as long as the process lives.
        let about = About::new("pilotage_upstream_faults", help.leak(), labels);
        Self(metrics.family(about.at_most(REPLICAS_MAX)))
    }

    /// A lane's, with every fault at zero for replicas that had none.
    pub(super) fn lane(&self, lane: &str) -> LaneFaults {
        for fault in Fault::ALL {
            drop(self.0.get(&[lane, OTHER], &[fault.name()]));
        }
        LaneFaults { all: self.0.clone(), lane: lane.into() }
    }

    /// Only these replicas are there; what others did wrong is told no more.
    pub(super) fn keep(&self, is_there: impl Fn(&str, &str) -> bool) {
        self.0.keep(
            |row| matches!(row, [lane, replica] if &**replica == OTHER || is_there(lane, replica)),
        );
    }

    /// A lane is gone.
    pub(super) fn forget(&self, lane: &str) {
        self.0.remove(&[lane]);
    }
}

impl LaneFaults {
    /// A replica is there: its faults count under its name.
    pub(crate) fn enter(&self, replica: &str) {
        self.all.enter(&[&self.lane, replica]);
    }

    /// Counts a replica's fault; where it is gone, for those that are.
    pub(crate) fn count(&self, replica: Option<&str>, fault: Fault) {
        self.all.of(&[&self.lane, replica.unwrap_or(OTHER)], &[fault.name()]).inc();
    }
}
