//! What follows for the pods of Models from what is thought of their nodes: which are released, which are deleted,
//! for which Models another group is wanted, and what is to be told of it.
//!
//! A copy of one pod is *released*: [`HELD`](crate::render::kubernetes::HELD) is put on its pod with another value
//! than its Deployment selects by. That lets go of it and starts another one at once, while the Service and the
//! budget go on having it. It is deleted when as many copies are ready as there are to be without it, or when its
//! node's time is over. A group of pods cannot be released, so that another group is asked for first.
//!
//! Contract: the same answer comes until something else is seen or [`Moves::next_wakeup`] is there. What was
//! begun is in the cluster: released pods by their label, groups beyond the wanted number by their count.

use std::collections::BTreeMap;

use super::copies::{Copied, Kind, Urge, copies};
use super::health::{DEVICES_SETTLE_SECONDS, Fault, Health, Node, Verdict, health, next_look};

/// Most copies of a Model that move at once, but for those whose time is short.
pub const MOVES_PER_MODEL: u32 = 2;

/// Most copies of all Models that move at once, but for those whose time is short.
pub const MOVES_MAX: u32 = 10;

/// The copies of a Model that are counted together: of one version, where there are several.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct ModelKey {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its version, where there are several beside each other.
    pub revision: Option<String>,
}

/// A pod of a Model that has not ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodSeen {
    /// Its name, in the Model's namespace.
    pub name: String,
    /// Whose it is.
    pub model: ModelKey,
    /// What keeps it.
    pub holder: Holder,
    /// Where it is; none before it is placed.
    pub node: Option<String>,
    /// Since when it is there.
    pub created: u64,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Whether it is being deleted.
    pub is_leaving: bool,
    /// Accelerators that it asks for.
    pub accelerators: u32,
    /// Since when one of those that it was given is `Unhealthy` in its `allocatedResourcesStatus`.
    pub unhealthy_since: Option<u64>,
    /// What was known of its node's time when it was released.
    pub notice: Option<Notice>,
}

/// The time that a node announced: not every signal says when it was given, and who comes later would count anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Notice {
    /// Since when it was known.
    pub since: u64,
    /// When pods are stopped.
    pub deadline: u64,
}

/// What keeps a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A Deployment.
    Deployment {
        /// Whether it has let go of it.
        is_released: bool,
    },
    /// A LeaderWorkerSet, which starts the whole group again when its leader goes.
    Group {
        /// Which group.
        name: String,
        /// Whether it is the leader.
        leads: bool,
    },
    /// A pair of StatefulSets, each of which starts its own pods again.
    Pair {
        /// Which one.
        name: String,
    },
}

/// What is known of a Model.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ModelSeen {
    /// Copies that are wanted by the load.
    pub replicas: u32,
    /// Copies there may be beyond them: `updates.surge`.
    pub surge: u32,
    /// Copies that may be missing: `updates.unavailable`.
    pub unavailable: u32,
    /// Seconds that a copy takes to come up.
    pub start_seconds: u32,
    /// Seconds that a pod has to finish what it has begun: its `terminationGracePeriodSeconds`.
    pub drain_seconds: u32,
    /// Groups beyond the wanted number that were asked for.
    pub surged: u32,
}

/// What is to be done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Moves {
    /// Pods to release.
    pub release: Vec<Release>,
    /// Pods to delete.
    pub delete: Vec<Deletion>,
    /// Groups beyond the wanted number that there are to be; Models that are not here want none.
    pub surge: Vec<Surge>,
    /// What is to be known now. It is said as long as it holds: events are made of what is new.
    pub told: Vec<Told>,
    /// When to ask again, though nothing else is seen.
    pub next_wakeup: Option<u64>,
}

/// A pod to release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// What is to be written down of its node's time.
    pub notice: Option<Notice>,
}

/// A pod to delete, never by force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deletion {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Seconds that it has, where they are fewer than its own.
    pub grace_seconds: Option<u32>,
}

/// Groups beyond the wanted number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Surge {
    /// Of which Model.
    pub model: ModelKey,
    /// How many.
    pub groups: u32,
}

/// Something to be known of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// Its kind: Node or Pod.
    pub kind: &'static str,
    /// Its namespace; empty for nodes.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What, in one word.
    pub reason: &'static str,
    /// What, in words.
    pub message: String,
}

/// What follows from what is seen. Nodes that are not among `nodes` are gone, and their pods with them.
pub fn moves(
    now: u64,
    nodes: &[Node],
    pods: &[PodSeen],
    models: &BTreeMap<ModelKey, ModelSeen>,
) -> Moves {
    let used: std::collections::BTreeSet<&str> =
        pods.iter().filter_map(|pod| pod.node.as_deref()).collect();
    let nodes: BTreeMap<&str, (&Node, Health)> = nodes
        .iter()
        .filter(|node| used.contains(node.name.as_str()))
        .map(|node| (node.name.as_str(), (node, health(now, node))))
        .collect();
    let copies = copies(now, pods, &nodes);
    let under_way: u32 = copies
        .iter()
        .map(|(model, copies)| released(copies) + models.get(model).map_or(0, |seen| seen.surged))
        .sum();
    let mut turn = Turn { now, moves: Moves::default(), room: MOVES_MAX.saturating_sub(under_way) };
    for (node, health) in nodes.values() {
        turn.tell_of_node(node, health);
    }
    for since in pods.iter().filter_map(|pod| pod.unhealthy_since) {
        let settled = since.saturating_add(DEVICES_SETTLE_SECONDS);
        if settled > now {
            turn.wake(settled);
        }
    }
    // The places there are go to whom it is most urgent for.
    let mut order: Vec<(&ModelKey, Vec<Copied<'_>>)> = copies.into_iter().collect();
    order.sort_by_key(|(_, copies)| {
        let urge = copies.first().and_then(|copy| copy.urge.clone());
        (urge.is_none(), urge)
    });
    for (key, copies) in order {
        match models.get(key) {
            Some(seen) => turn.model(key, seen, &copies),
            None => turn.orphans(&copies),
        }
    }
    turn.moves
}

/// Copies that were released and still serve.
fn released(copies: &[Copied<'_>]) -> u32 {
    count(copies, |copy| copy.is_released() && !copy.is_leaving())
}

fn count(copies: &[Copied<'_>], is: impl Fn(&Copied<'_>) -> bool) -> u32 {
    u32::try_from(copies.iter().filter(|copy| is(copy)).count()).unwrap_or(u32::MAX)
}

/// What has been decided so far.
struct Turn {
    now: u64,
    moves: Moves,
    /// Moves that may still begin.
    room: u32,
}

/// Copies of a Model while it is decided.
struct Count {
    /// Copies that take requests.
    ready: u32,
    /// Moves that may still begin.
    room: u32,
}

impl Turn {
    fn model(&mut self, key: &ModelKey, seen: &ModelSeen, copies: &[Copied<'_>]) {
        let is_group = copies
            .iter()
            .flat_map(|copy| &copy.pods)
            .any(|pod| matches!(pod.holder, Holder::Group { .. } | Holder::Pair { .. }));
        let mut count = Count {
            ready: count(copies, |copy| copy.is_ready()),
            room: if is_group { 0 } else { room(seen, copies) },
        };
        for copy in copies.iter().filter(|copy| copy.is_released() && !copy.is_leaving()) {
            self.released(seen, copy, &mut count);
        }
        let urged = copies.iter().filter(|copy| copy.urge.is_some() && !copy.is_released());
        let urged: Vec<&Copied<'_>> = urged.filter(|copy| !copy.is_leaving()).collect();
        if is_group {
            self.groups(key, seen, &urged, &mut count);
        } else {
            urged.iter().for_each(|copy| self.held(seen, copy, &mut count));
        }
    }

    /// A copy that is on its way: it ends when it is not needed, or when it has to.
    fn released(&mut self, seen: &ModelSeen, copy: &Copied<'_>, count: &mut Count) {
        if !copy.is_ready() {
            return self.delete(seen, copy, "it serves nobody and has been replaced");
        }
        if count.ready > seen.replicas {
            count.ready -= 1;
            return self.delete(seen, copy, "as many copies are ready as there are to be");
        }
        if self.is_over(seen, copy) {
            count.ready -= 1;
            return self.delete(seen, copy, "its node's time is over");
        }
        self.tell(copy, "Moving", "it serves until another copy is ready", seen);
    }

    /// A copy of one pod that is where it should not be.
    fn held(&mut self, seen: &ModelSeen, copy: &Copied<'_>, count: &mut Count) {
        if !copy.is_ready() {
            return self.delete(seen, copy, "it is not ready, and starts elsewhere");
        }
        if self.is_over(seen, copy) {
            count.ready -= 1;
            return self.delete(seen, copy, "its node's time is over");
        }
        let is_short = self.is_short(seen, copy);
        if is_short || (count.room > 0 && self.room > 0) {
            count.room = count.room.saturating_sub(1);
            self.room = self.room.saturating_sub(1);
            self.tell(
                copy,
                "Moving",
                "another copy is started, and it serves until that is ready",
                seen,
            );
            let notice = copy.urge.as_ref().and_then(Urge::notice);
            self.moves.release.extend(copy.pods.iter().map(|pod| Release {
                namespace: pod.model.namespace.clone(),
                pod: pod.name.clone(),
                notice,
            }));
        } else if may_miss(seen, count) {
            count.ready -= 1;
            self.delete(seen, copy, "there is room for no other copy beside it");
        } else {
            self.tell(copy, "MoveWaits", "others move first", seen);
        }
    }

    /// Copies of several pods that are where they should not be.
    fn groups(
        &mut self,
        key: &ModelKey,
        seen: &ModelSeen,
        urged: &[&Copied<'_>],
        count: &mut Count,
    ) {
        let mut wanted = 0;
        for copy in urged {
            let is_lost = copy.urge.as_ref().is_some_and(|urge| urge.kind == Kind::Lost);
            if is_lost {
                wanted += 1;
                self.tell(
                    copy,
                    "MoveWaits",
                    "it cannot start elsewhere before its node is known to be off",
                    seen,
                );
            } else if !copy.is_ready() {
                self.delete(seen, copy, "it is not ready, and starts elsewhere");
            } else if count.ready > seen.replicas {
                count.ready -= 1;
                self.delete(seen, copy, "another group is ready in its place");
            } else if self.is_over(seen, copy)
                || (seen.surge == 0 && (self.is_short(seen, copy) || may_miss(seen, count)))
            {
                count.ready -= 1;
                self.delete(
                    seen,
                    copy,
                    "its place is needed or its time over, and it starts elsewhere",
                );
            } else {
                wanted += 1;
                self.tell(copy, "Moving", "it serves until another group is ready", seen);
            }
        }
        let most = seen.surge.min(MOVES_PER_MODEL).min(self.room.saturating_add(seen.surged));
        let wanted = wanted.min(most);
        // One that ends takes the highest number, which may well be a copy that serves.
        let spare = count.ready.saturating_sub(seen.replicas);
        let groups = wanted.max(seen.surged.saturating_sub(spare));
        self.room = self.room.saturating_sub(groups.saturating_sub(seen.surged));
        if groups > 0 {
            self.moves.surge.push(Surge { model: key.clone(), groups });
        }
    }

    /// Pods that were released and whose Model is gone: nothing keeps them, and nothing would end them.
    fn orphans(&mut self, copies: &[Copied<'_>]) {
        for pod in copies.iter().filter(|copy| copy.is_released()).flat_map(Copied::to_delete) {
            self.tell_of_pod(pod, "Moved", "its Model is gone".to_owned());
            self.moves.delete.push(Deletion {
                namespace: pod.model.namespace.clone(),
                pod: pod.name.clone(),
                grace_seconds: None,
            });
        }
    }

    /// Whether it has to stop now; else that moment is waited for.
    fn is_over(&mut self, seen: &ModelSeen, copy: &Copied<'_>) -> bool {
        self.has_come(copy.urge.as_ref().and_then(|urge| urge.stop_at(seen.drain_seconds)))
    }

    /// Whether another copy has to be started now; else that moment is waited for.
    fn is_short(&mut self, seen: &ModelSeen, copy: &Copied<'_>) -> bool {
        self.has_come(copy.urge.as_ref().and_then(|urge| urge.begin_at(seen)))
    }

    fn has_come(&mut self, at: Option<u64>) -> bool {
        let Some(at) = at else { return false };
        if at > self.now {
            self.wake(at);
        }
        at <= self.now
    }

    fn wake(&mut self, at: u64) {
        let next = &mut self.moves.next_wakeup;
        *next = Some(next.map_or(at, |already| already.min(at)));
    }

    fn delete(&mut self, seen: &ModelSeen, copy: &Copied<'_>, because: &str) {
        let left =
            copy.urge.as_ref().and_then(Urge::deadline).map(|at| at.saturating_sub(self.now));
        let left = left.map(|left| u32::try_from(left.max(1)).unwrap_or(u32::MAX));
        let grace_seconds = left.filter(|left| *left < seen.drain_seconds);
        self.tell(copy, "Moved", because, seen);
        self.moves.delete.extend(copy.to_delete().map(|pod| Deletion {
            namespace: pod.model.namespace.clone(),
            pod: pod.name.clone(),
            grace_seconds,
        }));
    }

    fn tell(&mut self, copy: &Copied<'_>, reason: &'static str, what: &str, seen: &ModelSeen) {
        let Some(pod) = copy.pods.first() else { return };
        let Some(urge) = &copy.urge else {
            return self.tell_of_pod(pod, reason, what.to_owned());
        };
        let mut message = format!("{}; {what}", urge.why);
        if let (Some(stop), Some(deadline)) = (urge.stop_at(seen.drain_seconds), urge.deadline()) {
            let left = deadline.saturating_sub(self.now);
            let serves = stop.saturating_sub(self.now);
            message
                .push_str(&format!("; {left} s are left, for {serves} of them it takes requests"));
        }
        self.tell_of_pod(pod, reason, message);
    }

    fn tell_of_pod(&mut self, pod: &PodSeen, reason: &'static str, message: String) {
        let (namespace, name) = (pod.model.namespace.clone(), pod.name.clone());
        self.moves.told.push(Told { kind: "Pod", namespace, name, reason, message });
    }

    /// What its owner can do about a node, since that is not ours to do.
    fn tell_of_node(&mut self, node: &Node, health: &Health) {
        if let Some(at) = next_look(self.now, node) {
            self.wake(at);
        }
        let name = &node.name;
        let (reason, mut message) = match &health.verdict {
            Verdict::Fine | Verdict::Cordoned { .. } | Verdict::Leaving { .. } => return,
            Verdict::Lost { is_off: true, why, .. } => {
                ("NodeLost", format!("{why}; copies of Models start elsewhere"))
            }
            Verdict::Lost { is_off: false, why, .. } => (
                "NodeLost",
                format!(
                    "{why}; copies of one node start elsewhere by themselves, those of several wait; when the \
                     machine is off, say so: kubectl taint nodes {name} \
                     node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
                ),
            ),
            Verdict::Broken { what, why, .. } => {
                let keeps = match what {
                    Fault::Node => "nothing keeps new pods off",
                    Fault::Devices { .. } => "new pods are given those that work",
                };
                let advice = format!("kubectl cordon {name} lets nothing more start there");
                (
                    "NodeBroken",
                    format!(
                        "{why}; copies of Models that it hits move away, and {keeps}; {advice}"
                    ),
                )
            }
        };
        if !health.also.is_empty() {
            message.push_str("; also: ");
            message.push_str(&health.also.join(", "));
        }
        let name = name.clone();
        self.moves.told.push(Told {
            kind: "Node",
            namespace: String::new(),
            name,
            reason,
            message,
        });
    }
}

/// Moves of a Model that may still begin: as far as there is room beside those under way and beside what an
/// update starts.
fn room(seen: &ModelSeen, copies: &[Copied<'_>]) -> u32 {
    let moving = released(copies);
    let others = count(copies, |copy| !copy.is_leaving()).saturating_sub(moving);
    let surplus = others.saturating_sub(seen.replicas);
    let room = seen.surge.min(MOVES_PER_MODEL);
    room.saturating_sub(moving).saturating_sub(surplus)
}

/// Whether a copy may be missing while it starts elsewhere: only where its owner leaves no room for another one.
fn may_miss(seen: &ModelSeen, count: &Count) -> bool {
    seen.surge == 0 && count.ready > seen.replicas.saturating_sub(seen.unavailable)
}
