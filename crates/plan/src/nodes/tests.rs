//! Moves played in a small cluster: Deployments and LeaderWorkerSets keep their copies, copies take their time to
//! start and to end, nodes are cordoned, announced to go and switched off.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const START: u64 = 40;
const DRAIN: u64 = 20;

fn key(name: &str) -> ModelKey {
    ModelKey { namespace: "ml".to_owned(), name: name.to_owned(), revision: None }
}

/// What is kept of a pod beside what is seen.
#[derive(Clone)]
struct Pod {
    seen: PodSeen,
    ready_at: u64,
    ends_at: u64,
}

/// A cluster with a Model `one` of copies of one pod and a Model `two` of groups of two.
struct Play {
    now: u64,
    nodes: Vec<Node>,
    /// When nodes are switched off.
    off: BTreeMap<String, u64>,
    pods: Vec<Pod>,
    models: BTreeMap<ModelKey, ModelSeen>,
    made: u32,
    /// Seconds that copies take to come up.
    start: u64,
    /// Copies that were ready when their node went.
    killed: u32,
    /// Copies that stopped because their node's time was over.
    forced: u32,
    last: Moves,
}

impl Play {
    fn of(replicas: [u32; 2], nodes: usize) -> Self {
        let seen = |replicas| ModelSeen {
            replicas,
            surge: 1,
            unavailable: 0,
            start_seconds: START as u32,
            drain_seconds: DRAIN as u32,
            surged: 0,
        };
        let node = |index| Node { name: format!("n{index}"), ..Node::default() };
        let mut play = Self {
            now: 1_000_000,
            nodes: (0..nodes).map(node).collect(),
            off: BTreeMap::new(),
            pods: Vec::new(),
            models: [(key("one"), seen(replicas[0])), (key("two"), seen(replicas[1]))].into(),
            made: 0,
            start: START,
            killed: 0,
            forced: 0,
            last: Moves::default(),
        };
        play.run(START + 2);
        play
    }

    /// From now on copies take so long to come up.
    fn take(&mut self, seconds: u64) {
        self.start = seconds;
        self.models.values_mut().for_each(|seen| seen.start_seconds = seconds as u32);
    }

    fn run(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
    }

    /// A second passes.
    fn second(&mut self) {
        self.now += 1;
        self.switch_off();
        for pod in &mut self.pods {
            pod.seen.is_ready |= pod.seen.node.is_some() && self.now >= pod.ready_at;
        }
        self.pods.retain(|pod| !pod.seen.is_leaving || self.now < pod.ends_at);
        self.keep_one();
        self.keep_two();
        self.act();
    }

    fn switch_off(&mut self) {
        let gone: Vec<String> = self
            .off
            .iter()
            .filter(|(_, at)| **at <= self.now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.off.remove(&name);
            self.nodes.retain(|node| node.name != name);
            let on_it = |pod: &Pod| pod.seen.node.as_ref() == Some(&name);
            self.killed +=
                self.pods.iter().filter(|pod| on_it(pod) && !pod.seen.is_leaving).count() as u32;
            let groups: Vec<Holder> = self
                .pods
                .iter()
                .filter(|pod| on_it(pod))
                .map(|pod| pod.seen.holder.clone())
                .collect();
            self.pods.retain(|pod| !on_it(pod));
            groups.iter().for_each(|holder| self.end_group(holder));
        }
    }

    fn alive<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a PodSeen> {
        self.pods
            .iter()
            .map(|pod| &pod.seen)
            .filter(move |pod| pod.model.name == model && !pod.is_leaving)
    }

    fn held(&self) -> u32 {
        self.alive("one")
            .filter(|pod| pod.holder == Holder::Deployment { is_released: false })
            .count() as u32
    }

    fn released(&self) -> u32 {
        self.alive("one")
            .filter(|pod| pod.holder == Holder::Deployment { is_released: true })
            .count() as u32
    }

    /// A Deployment starts what is missing.
    fn keep_one(&mut self) {
        let wanted = self.models[&key("one")].replicas;
        while self.held() < wanted {
            let name = format!("one-{}", self.made);
            self.start(name, "one", Holder::Deployment { is_released: false });
        }
    }

    /// A LeaderWorkerSet starts groups that are missing, and ends those of the highest numbers.
    fn keep_two(&mut self) {
        let seen = self.models[&key("two")];
        let wanted = seen.replicas + seen.surged;
        for index in 0..wanted + 4 {
            let name = format!("two-{index}");
            let is_of = |pod: &Pod| matches!(&pod.seen.holder, Holder::Group { name: own, .. } if *own == name);
            let there = self.pods.iter().any(is_of);
            if index < wanted && !there {
                for leads in [true, false] {
                    let holder = Holder::Group { name: name.clone(), leads };
                    self.start(format!("{name}-{}", u32::from(!leads)), "two", holder);
                }
            } else if index >= wanted && there {
                self.end_group(&Holder::Group { name, leads: true });
            }
        }
    }

    fn start(&mut self, name: String, model: &str, holder: Holder) {
        self.made += 1;
        let good: Vec<&Node> = self
            .nodes
            .iter()
            .filter(|node| health(self.now, node).verdict == Verdict::Fine)
            .collect();
        let node = good.get(self.made as usize % good.len().max(1)).map(|node| node.name.clone());
        let seen = PodSeen {
            name,
            model: key(model),
            holder,
            node,
            created: self.now,
            is_ready: false,
            is_leaving: false,
            accelerators: 1,
            unhealthy_since: None,
            notice: None,
        };
        self.pods.push(Pod { seen, ready_at: self.now + self.start, ends_at: u64::MAX });
    }

    fn end_group(&mut self, holder: &Holder) {
        let Holder::Group { name, .. } = holder else { return };
        for pod in &mut self.pods {
            let is_of = matches!(&pod.seen.holder, Holder::Group { name: own, .. } if own == name);
            if is_of && !pod.seen.is_leaving {
                pod.seen.is_leaving = true;
                pod.ends_at = self.now + DRAIN;
            }
        }
    }

    /// What the operator does.
    fn act(&mut self) {
        let seen: Vec<PodSeen> = self.pods.iter().map(|pod| pod.seen.clone()).collect();
        let told = moves(self.now, &self.nodes, &seen, &self.models);
        assert_eq!(told, moves(self.now, &self.nodes, &seen, &self.models));
        for Release { pod: name, notice, .. } in &told.release {
            let pod = self.pods.iter_mut().find(|pod| pod.seen.name == *name).unwrap();
            assert_eq!(pod.seen.holder, Holder::Deployment { is_released: false }, "once");
            pod.seen.holder = Holder::Deployment { is_released: true };
            pod.seen.notice = *notice;
        }
        for Deletion { pod: name, grace_seconds, .. } in &told.delete {
            let pod = self.pods.iter_mut().find(|pod| pod.seen.name == *name).unwrap();
            assert!(!pod.seen.is_leaving, "once");
            pod.seen.is_leaving = true;
            pod.ends_at = self.now + grace_seconds.map_or(DRAIN, u64::from);
            let holder = pod.seen.holder.clone();
            self.end_group(&holder);
            let why = told.told.iter().find(|one| one.name == *name && one.reason == "Moved");
            self.forced += u32::from(why.unwrap().message.contains("time"));
        }
        let surged = told.surge.iter().find(|surge| surge.model == key("two"));
        self.models.get_mut(&key("two")).unwrap().surged = surged.map_or(0, |surge| surge.groups);
        self.last = told;
    }

    /// Copies that take requests.
    fn ready(&self) -> [u32; 2] {
        let one = self.alive("one").filter(|pod| pod.is_ready).count() as u32;
        let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
        for pod in self.alive("two").filter(|pod| pod.is_ready) {
            if let Holder::Group { name, .. } = &pod.holder {
                *groups.entry(name).or_default() += 1;
            }
        }
        [one, groups.values().filter(|pods| **pods == 2).count() as u32]
    }

    fn node(&mut self, index: usize) -> Option<&mut Node> {
        let name = format!("n{index}");
        self.nodes.iter_mut().find(|node| node.name == name)
    }

    fn cordon(&mut self, index: usize, is_unschedulable: bool) {
        if let Some(node) = self.node(index) {
            node.is_unschedulable = is_unschedulable;
        }
    }

    /// A spot instance's two minutes.
    fn interrupt(&mut self, index: usize) {
        let now = self.now;
        let Some(node) = self.node(index).filter(|node| node.taints.is_empty()) else { return };
        let key = "aws-node-termination-handler/spot-itn".to_owned();
        node.taints.push(Taint { key, added: now, ..Taint::default() });
        let name = node.name.clone();
        self.off.insert(name, now + 120);
    }

    fn fail(&mut self, index: usize) {
        let since = self.now;
        let kind = "AcceleratedHardwareReady".to_owned();
        let (reason, message) = ("NvidiaXID79Error".to_owned(), "XID 79".to_owned());
        if let Some(node) = self.node(index).filter(|node| node.conditions.is_empty()) {
            node.conditions.push(Condition { kind, status: Status::False, reason, message, since });
        }
    }

    fn is_quiet(&self) -> bool {
        let Moves { release, delete, surge, next_wakeup, told } = &self.last;
        let about_pods = told.iter().any(|one| one.kind == "Pod");
        release.is_empty()
            && delete.is_empty()
            && surge.is_empty()
            && next_wakeup.is_none()
            && !about_pods
    }

    /// What is told of pods now, in order.
    fn story(&self) -> Vec<String> {
        let of = |told: &Told| format!("{} {}: {}", told.name, told.reason, told.message);
        self.last.told.iter().map(of).collect()
    }
}

fn story_of(play: &mut Play, seconds: u64) -> Vec<String> {
    let mut story: Vec<String> = Vec::new();
    for _ in 0..seconds {
        play.second();
        for line in play.story() {
            if !story.contains(&line) {
                story.push(line);
            }
        }
    }
    story
}

#[test]
fn a_drain_waits_until_copies_have_moved() {
    let mut play = Play::of([2, 0], 3);
    assert_eq!((play.ready(), play.is_quiet()), ([2, 0], true));
    let index = play.alive("one").next().and_then(|pod| pod.node.clone()).unwrap();
    let (pod, index) = (play.pods[0].seen.name.clone(), index[1..].parse().unwrap());
    play.cordon(index, true);
    let story = story_of(&mut play, 200);
    let because = "its node is cordoned (spec.unschedulable)";
    let expect = [
        format!(
            "{pod} Moving: {because}; another copy is started, and it serves until that is ready"
        ),
        format!("{pod} Moving: {because}; it serves until another copy is ready"),
        format!("{pod} Moved: {because}; as many copies are ready as there are to be"),
    ];
    assert_eq!(story, expect);
    assert!(
        play.is_quiet()
            && play.alive("one").all(|pod| pod.node.as_deref() != Some(&format!("n{index}")))
    );
}

#[test]
fn a_group_has_another_one_first() {
    let mut play = Play::of([0, 2], 4);
    let before = play.made;
    let node = play.alive("two").next().and_then(|pod| pod.node.clone()).unwrap();
    play.cordon(node[1..].parse().unwrap(), true);
    play.second();
    assert_eq!(play.last.surge, [Surge { model: key("two"), groups: 1 }]);
    for _ in 0..600 {
        play.second();
        assert!(play.ready()[1] >= 2, "{:?}", play.story());
    }
    assert!(play.is_quiet() && play.made > before, "{:?}", play.last);
    assert!(play.alive("two").all(|pod| pod.node.as_ref() != Some(&node)));
    assert_eq!(play.alive("two").count(), 4);
}

#[test]
fn two_minutes_are_divided_between_serving_and_finishing() {
    // A copy takes longer to start than there is time.
    let mut play = Play::of([1, 0], 2);
    play.take(600);
    let node = play.alive("one").next().and_then(|pod| pod.node.clone()).unwrap();
    play.interrupt(node[1..].parse().unwrap());
    play.second();
    assert_eq!(play.last.release.len(), 1, "at once");
    assert!(
        play.story()[0].ends_with("119 s are left, for 99 of them it takes requests"),
        "{:?}",
        play.story()
    );
    play.run(97);
    assert_eq!((play.ready()[0], play.last.delete.len()), (1, 0));
    play.run(2);
    assert_eq!((play.ready()[0], play.last.next_wakeup), (0, None));
    play.run(30);
    assert_eq!((play.killed, play.forced), (0, 1));
}

#[test]
fn a_cordon_that_is_taken_back_ends_what_has_not_begun() {
    let mut play = Play::of([6, 0], 2);
    let first = play.pods[0].seen.node.clone().unwrap();
    play.cordon(first[1..].parse().unwrap(), true);
    play.run(3);
    assert_eq!((play.released(), play.held()), (1, 6), "one at a time: there is room for one");
    play.cordon(first[1..].parse().unwrap(), false);
    play.run(200);
    assert!(play.is_quiet());
    assert_eq!((play.ready()[0], play.made), (6, 7), "what had begun is finished");
}

#[test]
fn without_room_a_copy_is_missing_where_that_is_allowed() {
    let mut play = Play::of([3, 0], 3);
    let node = play.pods[0].seen.node.clone().unwrap();
    let seen = play.models.get_mut(&key("one")).unwrap();
    (seen.surge, seen.unavailable) = (0, 1);
    play.cordon(node[1..].parse().unwrap(), true);
    let mut fewest = 3;
    for _ in 0..300 {
        play.second();
        fewest = fewest.min(play.ready()[0]);
        assert!(play.alive("one").count() <= 3);
    }
    assert_eq!((fewest, play.is_quiet()), (2, true));
}

#[test]
fn what_is_not_ours_to_do_is_told() {
    let mut play = Play::of([2, 1], 2);
    play.nodes[0].taints.push(Taint {
        key: "node.kubernetes.io/unreachable".to_owned(),
        added: play.now,
        ..Taint::default()
    });
    play.second();
    let told = play.last.told.iter().find(|told| told.kind == "Node").unwrap();
    assert!(
        told.message.contains("kubectl taint nodes n0 node.kubernetes.io/out-of-service"),
        "{told:?}"
    );
    assert!(play.last.delete.is_empty() && play.last.release.is_empty(), "nothing by force");
    // The group that lost a rank is missing, and another one is wanted in its place.
    assert_eq!(play.last.surge, [Surge { model: key("two"), groups: 1 }]);
}

#[test]
fn broken_accelerators() {
    let mut play = Play::of([2, 0], 1);
    let gpu = |allocatable, since| Devices {
        resource: "nvidia.com/gpu".to_owned(),
        capacity: 8,
        allocatable,
        short_since: Some(since),
    };
    // Some accelerator does not work, and none says that it was given it.
    play.nodes[0].devices = vec![gpu(7, play.now - 400)];
    play.second();
    assert!(play.last.release.is_empty());
    assert!(
        play.story()[0].contains("of its node's 8 nvidia.com/gpu 7 work"),
        "{:?}",
        play.story()
    );
    // One says so, for long enough.
    play.pods[0].seen.unhealthy_since = Some(play.now - 400);
    play.second();
    assert_eq!(play.last.release.len(), 1);
    assert_eq!(play.last.release[0].pod, play.pods[0].seen.name);
    // A node that fails as a whole: who is placed there after that stays.
    let mut play = Play::of([1, 0], 1);
    play.fail(0);
    play.nodes.push(Node { name: "n1".to_owned(), ..Node::default() });
    play.run(200);
    assert!(play.alive("one").all(|pod| pod.node.as_deref() == Some("n1")));
    let placed = PodSeen { node: Some("n0".to_owned()), ..play.pods[0].seen.clone() };
    let again = moves(play.now, &play.nodes, &[placed], &play.models);
    assert!(again.release.is_empty() && again.delete.is_empty());
    assert_eq!(again.told[0].reason, "NodeBroken");
}

#[test]
fn released_pods_go_with_their_model() {
    let mut play = Play::of([2, 0], 2);
    play.cordon(0, true);
    play.second();
    let seen: Vec<PodSeen> = play.pods.iter().map(|pod| pod.seen.clone()).collect();
    let left = moves(play.now, &play.nodes, &seen, &BTreeMap::new());
    assert_eq!(left.delete.len() as u32, play.released());
    assert!(left.told.iter().any(|told| told.message == "its Model is gone"), "{left:?}");
}

#[test]
fn there_are_limits() {
    let mut models = BTreeMap::new();
    let mut pods = Vec::new();
    for index in 0..30 {
        let model = key(&format!("m{index:02}"));
        let seen = ModelSeen {
            replicas: 4,
            surge: 9,
            unavailable: 0,
            start_seconds: 60,
            drain_seconds: 30,
            surged: 0,
        };
        models.insert(model.clone(), seen);
        pods.extend((0..4).map(|copy| PodSeen {
            name: format!("m{index:02}-{copy}"),
            model: model.clone(),
            holder: Holder::Deployment { is_released: false },
            node: Some("n".to_owned()),
            created: 0,
            is_ready: true,
            is_leaving: false,
            accelerators: 1,
            unhealthy_since: None,
            notice: None,
        }));
    }
    let cordoned = Node { name: "n".to_owned(), is_unschedulable: true, ..Node::default() };
    let some = moves(1_000, std::slice::from_ref(&cordoned), &pods, &models);
    assert_eq!(some.release.len() as u32, MOVES_MAX);
    let of_first = some.release.iter().filter(|one| one.pod.starts_with("m00")).count() as u32;
    assert_eq!(of_first, MOVES_PER_MODEL);
    // Whose time is short does not wait for the others.
    let key = "aws-node-termination-handler/spot-itn".to_owned();
    let taints = vec![Taint { key, added: 1_000, ..Taint::default() }];
    let all = moves(1_000, &[Node { taints, ..cordoned }], &pods, &models);
    assert_eq!(all.release.len(), pods.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn nobody_is_left_without_and_nothing_is_killed(
        replicas in [0_u32..6, 0_u32..4],
        start in 10_u64..400,
        events in prop::collection::vec((1_u64..150, 0_usize..5, 0_u8..4), 1..14),
    ) {
        let mut play = Play::of(replicas, 8);
        prop_assert_eq!(play.ready(), replicas);
        play.take(start);
        let mut has_deadlines = false;
        for (seconds, node, kind) in events {
            match kind {
                0 => play.cordon(node, true),
                1 => play.cordon(node, false),
                2 => play.fail(node),
                _ => {
                    has_deadlines = true;
                    play.interrupt(node);
                }
            }
            for _ in 0..seconds {
                play.second();
                let ready = play.ready();
                if !has_deadlines {
                    prop_assert!(ready[0] >= replicas[0] && ready[1] >= replicas[1], "{ready:?} {:?}", play.story());
                    prop_assert!(play.released() <= 1, "no more than there is room for");
                }
                prop_assert!(play.held() <= replicas[0]);
                prop_assert_eq!(play.killed, 0, "gone before the node is");
                let missing: u32 = (0..2).map(|of| replicas[of].saturating_sub(ready[of])).sum();
                prop_assert!(missing <= play.forced, "{missing} {ready:?} {:?}", play.story());
            }
        }
        let mut quiet_seconds = 0;
        for _ in 0..6000 {
            play.second();
            prop_assert_eq!(play.killed, 0);
            quiet_seconds = if play.is_quiet() && play.pods.iter().all(|pod| pod.seen.is_ready) { quiet_seconds + 1 } else { 0 };
            if quiet_seconds > 20 {
                break;
            }
        }
        prop_assert!(quiet_seconds > 20, "it ends: {:?}", play.last);
        prop_assert_eq!(play.ready(), replicas);
        prop_assert!(play.is_quiet(), "{:?}", play.last);
        prop_assert_eq!((play.held(), play.released()), (replicas[0], 0));
        let bad: Vec<&str> = play.nodes.iter().filter(|node| node.is_unschedulable || !node.taints.is_empty()).map(|node| node.name.as_str()).collect();
        prop_assert!(play.pods.iter().all(|pod| !bad.contains(&pod.seen.node.as_deref().unwrap_or("n0"))));
    }
}
