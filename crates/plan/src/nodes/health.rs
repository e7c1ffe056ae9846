//! What is to be thought of a node, by what its object says.
//!
//! Several signals can be there at once: the worst one is the verdict, the earliest deadline is the one that
//! counts, and the others are told as well.

use std::collections::BTreeMap;

use super::signals::{Clock, Meaning, ROWS, Row, Signal};
use crate::Timestamp;

/// Seconds for which accelerators have to be missing before that counts: a device plugin that starts again has none
/// for a while, and the kubelet keeps its devices for five minutes (`endpointStopGracePeriod` in
/// kubernetes/pkg/kubelet/cm/devicemanager/types.go).
pub(super) const DEVICES_SETTLE_SECONDS: u64 = 300;

/// A node as far as it matters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it takes no more pods.
    pub is_unschedulable: bool,
    /// Since when its object is being deleted.
    pub deleted: Option<u64>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its accelerators, by resource.
    pub devices: Vec<Devices>,
}

/// A taint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it does: `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub effect: String,
    /// Since when it is there: as it says itself, which those with `NoExecute` alone do, else as it was first seen.
    pub added: u64,
}

/// A condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// Its type.
    pub kind: String,
    /// Whether it holds.
    pub status: Status,
    /// Why, in a word.
    pub reason: String,
    /// Why, in words.
    pub message: String,
    /// Since when it is as it is.
    pub since: u64,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// Accelerators of one resource, as the node's status counts them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Devices {
    /// The resource: `nvidia.com/gpu`.
    pub resource: String,
    /// How many there are.
    pub capacity: u32,
    /// How many work.
    pub allocatable: u32,
    /// Since when there are fewer that work, as it was first seen.
    pub short_since: Option<u64>,
}

/// What is thought of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// The worst of it.
    pub verdict: Verdict,
    /// What else it says, in words.
    pub also: Vec<String>,
}

/// The worst of what a node says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It takes no more pods.
    Cordoned {
        /// Why, in words.
        why: String,
    },
    /// It goes.
    Leaving {
        /// Since when that is known.
        since: u64,
        /// When pods are stopped, ready or not; none where nobody says.
        deadline: Option<u64>,
        /// Why, in words.
        why: String,
    },
    /// It does not answer, or says that it is not ready.
    Lost {
        /// Since when.
        since: u64,
        /// Whether somebody vouches that its machine is off.
        is_off: bool,
        /// Why, in words.
        why: String,
    },
    /// Something of it does not work.
    Broken {
        /// Since when.
        since: u64,
        /// What.
        what: Fault,
        /// Why, in words.
        why: String,
    },
}

/// What does not work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Something that all of its pods need, or some accelerator of which nobody says which one.
    Node,
    /// So many accelerators of a resource; the others do, and are given to pods that come.
    Devices {
        /// The resource.
        resource: String,
        /// How many do not work.
        broken: u32,
    },
}

/// A signal that is there.
struct Found {
    meaning: Meaning,
    since: u64,
    deadline: Option<u64>,
    what: Fault,
    why: String,
}

/// What is to be thought of a node.
pub fn health(now: u64, node: &Node) -> Health {
    let mut all: Vec<Found> = ROWS.iter().filter_map(|row| found(now, node, row)).collect();
    all.extend(node.devices.iter().filter_map(|devices| short(now, devices)));
    // The sort is stable: what is equally bad stays in the order of the table.
    all.sort_by_key(|one| (one.meaning, one.deadline.unwrap_or(u64::MAX)));
    let mut all = all.into_iter();
    let Some(worst) = all.next() else {
        return Health { verdict: Verdict::Fine, also: Vec::new() };
    };
    let mut also: Vec<String> = Vec::new();
    for one in all {
        if one.why != worst.why && !also.contains(&one.why) {
            also.push(one.why);
        }
    }
    match verdict(&worst) {
        Some(verdict) => Health { verdict, also },
        None => {
            also.insert(0, worst.why);
            Health { verdict: Verdict::Fine, also }
        }
    }
}

fn verdict(worst: &Found) -> Option<Verdict> {
    let Found { meaning, since, deadline, what, why } = worst;
    let (since, deadline, why) = (*since, *deadline, why.clone());
    Some(match meaning {
        Meaning::Lost | Meaning::NotReady => Verdict::Lost { since, is_off: false, why },
        Meaning::Off => Verdict::Lost { since, is_off: true, why },
        Meaning::Leaving => Verdict::Leaving { since, deadline, why },
        Meaning::Cordoned => Verdict::Cordoned { why },
        Meaning::Broken => Verdict::Broken { since, what: what.clone(), why },
        Meaning::Hint => return None,
    })
}

/// The signal of a row, where the node gives it.
fn found(now: u64, node: &Node, row: &Row) -> Option<Found> {
    if let Some((key, value)) = row.only
        && node.labels.get(key).is_none_or(|there| there != value)
    {
        return None;
    }
    let (given, text) = seen(now, node, row.signal)?;
    let since = match row.clock {
        Clock::Value => text.parse().unwrap_or(given),
        Clock::Given | Clock::Message => given,
    };
    let said = if row.clock == Clock::Message { date(&text) } else { None };
    let deadline = said.or_else(|| Some(since.saturating_add(row.notice_seconds?.into())));
    let detail = match row.signal {
        Signal::Condition(kind, ..) if !text.is_empty() => format!("{kind}: {text}"),
        _ => row.name().to_owned(),
    };
    let why = format!("its node {} ({detail})", row.words);
    Some(Found { meaning: row.meaning, since, deadline, what: Fault::Node, why })
}

/// Since when a signal is there, and what it says beside.
fn seen(now: u64, node: &Node, signal: Signal) -> Option<(u64, String)> {
    match signal {
        Signal::Unschedulable => node.is_unschedulable.then(|| (now, String::new())),
        Signal::Deleted => node.deleted.map(|since| (since, String::new())),
        Signal::Taint(key) => {
            let taint = node.taints.iter().find(|taint| taint.key == key)?;
            Some((taint.added, taint.value.clone()))
        }
        Signal::Condition(kind, status, word) => {
            let condition = node.conditions.iter().find(|one| {
                let says =
                    word.is_empty() || one.reason.contains(word) || one.message.contains(word);
                one.kind == kind && one.status.name() == status && says
            })?;
            Some((condition.since, condition.message.clone()))
        }
        Signal::Label(key, value) => {
            let there = node.labels.get(key)?;
            (value.is_empty() || there == value).then(|| (now, there.clone()))
        }
    }
}

impl Status {
    /// As the API writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Accelerators that do not work for longer than a device plugin takes to start again.
fn short(now: u64, devices: &Devices) -> Option<Found> {
    let broken = devices.capacity.checked_sub(devices.allocatable).filter(|broken| *broken > 0)?;
    let since = devices.short_since?;
    if now.saturating_sub(since) < DEVICES_SETTLE_SECONDS {
        return None;
    }
    let Devices { resource, capacity, allocatable, .. } = devices;
    let why = format!("of its node's {capacity} {resource} {allocatable} work");
    let what = Fault::Devices { resource: resource.clone(), broken };
    Some(Found { meaning: Meaning::Broken, since, deadline: None, what, why })
}

/// When `health` may say something else though the node says the same.
pub(super) fn next_look(now: u64, node: &Node) -> Option<u64> {
    let short = node.devices.iter().filter(|devices| devices.allocatable < devices.capacity);
    let settled = short.filter_map(|devices| Some(devices.short_since? + DEVICES_SETTLE_SECONDS));
    settled.filter(|at| *at > now).min()
}

/// The first date of RFC 1123 in a text: `Sat, 01 Aug 2026 05:41:02 GMT`.
fn date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(5).find_map(|five| {
        let &[day, month, year, time, zone] = five else { return None };
        if !["GMT", "UTC"].contains(&zone.trim_end_matches(['.', ',', ';'])) {
            return None;
        }
        let month = MONTHS.iter().position(|name| *name == month)? + 1;
        let moment: Timestamp = format!("{year}-{month:02}-{day:0>2}T{time:0>8}Z").parse().ok()?;
        Some(moment.unix_seconds())
    })
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::signals::ROWS;

    const NOW: u64 = 1_800_000_000;

    /// A node that gives that signal since 10 seconds, in the words of its source.
    fn giving(row: &Row) -> Node {
        let mut node = Node { name: "n".to_owned(), ..Node::default() };
        let label = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        node.labels.extend(row.only.map(label));
        match row.signal {
            Signal::Unschedulable => node.is_unschedulable = true,
            Signal::Deleted => node.deleted = Some(NOW - 10),
            Signal::Taint(key) => node.taints.push(taint(key, "")),
            Signal::Condition(kind, status, word) => node.conditions.push(Condition {
                kind: kind.to_owned(),
                status: [Status::True, Status::False, Status::Unknown]
                    .into_iter()
                    .find(|one| one.name() == status)
                    .unwrap(),
                reason: kind.to_owned(),
                message: format!("it says {word}"),
                since: NOW - 10,
            }),
            Signal::Label(key, value) => node.labels.extend([label((key, value))]),
        }
        node
    }

    fn taint(key: &str, value: &str) -> Taint {
        let (key, value) = (key.to_owned(), value.to_owned());
        Taint { key, value, effect: "NoSchedule".to_owned(), added: NOW - 10 }
    }

    fn told(node: &Node) -> String {
        match health(NOW, node).verdict {
            Verdict::Fine => "fine".to_owned(),
            Verdict::Cordoned { .. } => "cordoned".to_owned(),
            Verdict::Leaving { deadline: None, .. } => "leaving".to_owned(),
            Verdict::Leaving { deadline: Some(at), since, .. } => {
                format!("leaving, {} of {} s left", at - NOW, at - since)
            }
            Verdict::Lost { is_off: true, .. } => "off".to_owned(),
            Verdict::Lost { is_off: false, .. } => "lost".to_owned(),
            Verdict::Broken { what: Fault::Node, .. } => "broken".to_owned(),
            Verdict::Broken { what: Fault::Devices { resource, broken }, .. } => {
                format!("{broken} {resource} broken")
            }
        }
    }

    #[test]
    fn each_row_is_heard() {
        let guide = include_str!("../../../../docs/guide/kubernetes.md");
        for row in ROWS {
            let node = giving(row);
            let expect = match (row.meaning, row.notice_seconds) {
                (Meaning::Hint, _) => "fine".to_owned(),
                (Meaning::Leaving, Some(notice)) => {
                    format!("leaving, {} of {notice} s left", i64::from(notice) - 10)
                }
                (Meaning::Leaving, None) => "leaving".to_owned(),
                (Meaning::Cordoned, _) => "cordoned".to_owned(),
                (Meaning::Off, _) => "off".to_owned(),
                (Meaning::Lost | Meaning::NotReady, _) => "lost".to_owned(),
                (Meaning::Broken, _) => "broken".to_owned(),
            };
            assert_eq!(told(&node), expect, "{row:?}");
            let health = health(NOW, &node);
            let says = format!("{health:?}");
            assert!(says.contains(row.name()) && says.contains("its node "), "{says}");
            // Whoever reads the guide finds all of them there.
            assert!(guide.contains(&format!("`{}`", row.name())), "{} in the guide", row.name());
        }
    }

    #[test]
    fn a_good_node_is_fine() {
        let mut node = Node { name: "n".to_owned(), ..Node::default() };
        let good = |kind: &str, status| Condition {
            kind: kind.to_owned(),
            status,
            reason: "Good".to_owned(),
            message: "it works; no Preempt, no node is shutting down".to_owned(),
            since: 1,
        };
        for row in ROWS {
            if let Signal::Condition(kind, status, _) = row.signal {
                node.conditions
                    .push(good(kind, if status == "True" { Status::False } else { Status::True }));
            }
        }
        node.devices.push(Devices {
            resource: "nvidia.com/gpu".to_owned(),
            capacity: 8,
            allocatable: 8,
            short_since: None,
        });
        node.taints.push(taint("nvidia.com/gpu", "present"));
        node.labels.insert("karpenter.sh/capacity-type".to_owned(), "spot".to_owned());
        assert_eq!(health(NOW, &node), Health { verdict: Verdict::Fine, also: Vec::new() });
    }

    #[test]
    fn the_worst_and_the_earliest_count() {
        let check = |taints: &[(&str, &str)], labels: &[(&str, &str)], expect: &str| {
            let node = Node {
                is_unschedulable: true,
                taints: taints.iter().map(|(key, value)| taint(key, value)).collect(),
                labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                ..Node::default()
            };
            assert_eq!(told(&node), expect, "{node:?}");
        };
        check(&[], &[], "cordoned");
        check(&[("node.kubernetes.io/unschedulable", "")], &[], "cordoned");
        // Spot nodes of Karpenter have two minutes, others as long as it takes.
        let karpenter = [("karpenter.sh/disrupted", "")];
        check(&karpenter, &[("karpenter.sh/capacity-type", "on-demand")], "leaving");
        check(&karpenter, &[("karpenter.sh/capacity-type", "spot")], "leaving, 110 of 120 s left");
        // What leaves stops being ready, and has its time all the same.
        let spot = ("aws-node-termination-handler/spot-itn", "");
        let unready = ("node.kubernetes.io/not-ready", "");
        check(&[unready, spot], &[], "leaving, 110 of 120 s left");
        check(&[unready], &[], "lost");
        let (unreachable, off) =
            (("node.kubernetes.io/unreachable", ""), ("node.kubernetes.io/out-of-service", ""));
        check(&[unreachable, spot], &[], "lost");
        check(&[unreachable, off], &[], "off");
        // The autoscaler's value is when it began, not when it ends.
        check(&[("ToBeDeletedByClusterAutoscaler", "1799999000")], &[], "leaving");
    }

    #[test]
    fn a_message_can_have_the_deadline() {
        let check = |kind: &str, message: &str, expect: &str| {
            let condition = Condition {
                kind: kind.to_owned(),
                status: Status::True,
                reason: String::new(),
                message: message.to_owned(),
                since: NOW - 10,
            };
            let node = Node { conditions: vec![condition], ..Node::default() };
            assert_eq!(told(&node), expect);
        };
        let dated =
            "Preempt Scheduled: Fri, 15 Jan 2027 08:01:05 GMT. For more information, see x.";
        check("PreemptionScheduled", dated, "leaving, 65 of 75 s left");
        check("VMEventScheduled", dated, "leaving, 65 of 75 s left");
        // A text that has no date is no reason to guess one.
        check("VMEventScheduled", "Redeploy Scheduled: soon", "leaving, 590 of 600 s left");
        check("VMEventScheduled", "something new", "fine");
    }

    #[test]
    fn accelerators_may_be_away_for_a_while() {
        let check = |allocatable, since: Option<u64>, expect: &str| {
            let resource = "nvidia.com/gpu".to_owned();
            let devices = Devices { resource, capacity: 8, allocatable, short_since: since };
            let node = Node { devices: vec![devices], ..Node::default() };
            assert_eq!(told(&node), expect);
            assert_eq!(next_look(NOW, &node).is_some(), expect == "fine" && allocatable < 8);
        };
        check(8, None, "fine");
        check(6, Some(NOW - 299), "fine");
        check(6, Some(NOW - 300), "2 nvidia.com/gpu broken");
        check(0, Some(NOW - 3000), "8 nvidia.com/gpu broken");
    }

    #[test]
    fn dates_are_read() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(date(text), expect, "{text}");
        check("Fri, 15 Jan 2027 08:00:00 GMT", Some(NOW));
        check("x: Fri, 15 Jan 2027 8:00:00 GMT.", Some(NOW));
        check("Sat, 1 Aug 2026 05:41:02 UTC", Some(1_785_562_862));
        check("Fri, 15 Jan 2027 08:00:00 PST", None);
        check("Fri, 32 Jan 2027 08:00:00 GMT", None);
        check("", None);
    }
}
