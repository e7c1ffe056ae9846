//! Days of a Model on a cluster, in steps of five seconds, with gateways that say what they are told to.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::scale::{Report, Running, Seen, Signals, Speed, Stage, Waiting, Work};
use pilotage_core::{Band, Span, Time};

use super::{PodSeen, Regulator, Said, Sight, Verdict};
use crate::api::{ModelSpec, Resource, ScaleBy};

const STEP: Span = Span::from_secs(5);
const START: Span = Span::from_secs(20);

/// A Model whose pods are ready some time after they are wanted, and do as they are told.
struct Stand {
    now: Time,
    regulator: Regulator,
    spec: ModelSpec,
    replicas: u32,
    pods: Vec<PodSeen>,
    made: u32,
    gateways: Vec<Gateway>,
    last: Option<Verdict>,
    /// Every number that the scale was told.
    told: Vec<u32>,
    /// What was written down.
    said: Option<Said>,
    /// No more pods than these ever come.
    room: usize,
}

#[derive(Clone, Copy, Default)]
struct Gateway {
    silent: bool,
    rate: f64,
    waiting: f64,
}

pub(super) fn model(spec: &str) -> ModelSpec {
    let text = format!(
        "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: m}}\nspec: {{source: 'hf:o/r', runtime: vllm, {spec}}}\n"
    );
    match crate::parse("m.yaml", &text).unwrap().remove(0) {
        Resource::Model(model) => model.spec,
        other => panic!("{other:?}"),
    }
}

fn sight(spec: &ModelSpec, pods: Vec<PodSeen>) -> Sight<'_> {
    let by = spec.scaling.map_or(ScaleBy::Pilotage, |scaling| scaling.by);
    Sight { spec, fleet: None, by, said: None, replicas: None, pods }
}

impl Stand {
    fn new(scaling: &str, replicas: u32, gateways: usize) -> Self {
        let mut stand = Self {
            now: Time::from_millis(1000),
            regulator: Regulator::default(),
            spec: model(&format!("scaling: {scaling}")),
            replicas,
            pods: Vec::new(),
            made: 0,
            gateways: vec![Gateway::default(); gateways],
            last: None,
            told: Vec::new(),
            said: None,
            room: usize::MAX,
        };
        stand.kubelet();
        stand.pods.iter_mut().for_each(|pod| pod.stage = Stage::Ready);
        stand
    }

    fn kubelet(&mut self) {
        self.pods.truncate(self.replicas as usize);
        while self.pods.len() < (self.replicas as usize).min(self.room) {
            let name = format!("m-{}", self.made);
            self.made += 1;
            self.pods.push(PodSeen {
                name,
                stage: Stage::Starting,
                since: self.now,
                took: None,
                is_unplaced: false,
            });
        }
        for pod in &mut self.pods {
            let is_due = self.now.since(pod.since) >= START;
            if pod.stage == Stage::Starting && is_due {
                (pod.stage, pod.since, pod.took) = (Stage::Ready, self.now, Some(START));
            }
        }
    }

    fn report(&self, gateway: Gateway) -> Report {
        let work = Work { requests: 1.0, prompt: 1000.0, answer: 100.0 };
        let bands = |count: f64| {
            let mut bands = [Work::default(); Band::ALL.len()];
            bands[1] = work * count;
            bands
        };
        let oldest = Span::from_secs(if gateway.waiting > 0.0 { 4 } else { 0 });
        let speed = Speed {
            token_seconds: 1e-4,
            step_seconds: 0.02,
            sequence_seconds: 1e-3,
            sequences_max: 8,
            kv_tokens: None,
        };
        let running = Running { requests: gateway.rate, tokens: 0.0 };
        let signals = Signals {
            arrivals: Some(Seen::new(self.now, bands(gateway.rate))),
            waiting: Some(Seen::new(
                self.now,
                bands(gateway.waiting).map(|work| Waiting { work, oldest }),
            )),
            running: Some(Seen::new(self.now, running)),
            speed: Some(Seen::new(self.now, speed)),
            ..Signals::default()
        };
        Report::of(self.now, "g", [("m", signals, |_| None)])
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        self.kubelet();
        let ids: BTreeSet<u64> = (0..self.gateways.len() as u64).collect();
        self.regulator.know(&ids);
        for (id, gateway) in self.gateways.iter().enumerate() {
            if !gateway.silent {
                let report = self.report(*gateway);
                self.regulator.hear(self.now, id as u64, report);
            }
        }
        let pods = self.pods.clone();
        let sight =
            Sight { said: self.said, replicas: Some(self.replicas), ..sight(&self.spec, pods) };
        let verdict = self.regulator.decide(self.now, "m", &sight).unwrap().unwrap();
        if let Some(scale) = verdict.scale {
            self.replicas = scale;
            self.told.push(scale);
        }
        for pod in &mut self.pods {
            if verdict.sleep.contains(&pod.name) {
                (pod.stage, pod.since) = (Stage::Asleep, self.now);
            }
            if verdict.wake.contains(&pod.name) {
                (pod.stage, pod.since) = (Stage::Ready, self.now);
            }
        }
        self.last = Some(verdict);
    }

    fn run(&mut self, seconds: u64) -> &Verdict {
        (0..seconds / 5).for_each(|_| self.step());
        self.last.as_ref().unwrap()
    }

    fn all(&mut self, rate: f64) {
        self.gateways.iter_mut().for_each(|gateway| gateway.rate = rate);
    }
}

#[test]
fn load_brings_copies_and_rest_takes_them_after_a_while() {
    let mut stand = Stand::new("{max: 6}", 1, 1);
    stand.run(30);
    assert_eq!(stand.replicas, 1);
    stand.all(8.0);
    stand.run(120);
    let most = stand.replicas;
    assert!(most > 1, "{:?}", stand.last);
    stand.all(0.0);
    stand.run(120);
    assert_eq!(stand.replicas, most, "two minutes are no rest: {:?}", stand.last);
    stand.run(2400);
    assert_eq!(stand.replicas, 1, "{:?}", stand.last);
    let told = stand.told.clone();
    stand.run(600);
    assert_eq!(stand.told, told, "at rest nothing is written");
}

#[test]
fn two_gateways_add_up() {
    let wants = |gateways: usize, rate: f64| {
        let mut stand = Stand::new("{max: 20}", 1, gateways);
        stand.all(rate);
        stand.run(180).wanted
    };
    assert_eq!(wants(2, 5.0), wants(1, 10.0));
    assert!(wants(2, 5.0) > wants(1, 5.0));
}

#[test]
fn silence_takes_nothing_away() {
    for gateways in [1, 2] {
        let mut stand = Stand::new("{max: 6}", 4, gateways);
        stand.gateways[0].silent = true;
        let verdict = stand.run(3600).clone();
        assert_eq!((stand.replicas, verdict.reason), (4, "SignalsMissing"), "{gateways}");
        stand.gateways[0].silent = false;
        stand.run(3600);
        assert_eq!(stand.replicas, 1, "{:?}", stand.last);
    }
    let mut stand = Stand::new("{max: 6}", 4, 0);
    stand.run(3600);
    assert_eq!(stand.replicas, 4, "no gateway at all is nobody who could say");
    // One that is known to be gone is not waited for.
    let mut stand = Stand::new("{max: 6}", 4, 2);
    stand.gateways[1].silent = true;
    stand.run(60);
    stand.gateways.pop();
    stand.run(3600);
    assert_eq!(stand.replicas, 1, "{:?}", stand.last);
}

#[test]
fn a_new_leader_looks_on_first() {
    let mut stand = Stand::new("{max: 6}", 4, 1);
    stand.run(200);
    assert_eq!(stand.replicas, 4);
    stand.regulator = Regulator::default();
    stand.run(200);
    assert_eq!(stand.replicas, 4, "what the last one saw does not count: {:?}", stand.last);
    stand.run(1800);
    assert_eq!(stand.replicas, 1, "{:?}", stand.last);
}

#[test]
fn cold_goes_and_comes_back() {
    let mut stand = Stand::new("{min: 0, max: 3, zero: cold, idleSeconds: 60}", 1, 1);
    let verdict = stand.run(600);
    assert_eq!((verdict.wanted, verdict.reason), (0, "Idle"));
    assert_eq!(stand.replicas, 0);
    stand.gateways[0].waiting = 1.0;
    stand.run(5);
    assert_eq!(stand.replicas, 1, "somebody waits: {:?}", stand.last);
}

#[test]
fn warm_sleeps_and_wakes() {
    let mut stand = Stand::new("{max: 3, zero: warm, idleSeconds: 60}", 2, 1);
    stand.run(900);
    let stages: Vec<Stage> = stand.pods.iter().map(|pod| pod.stage).collect();
    assert_eq!(stages, [Stage::Asleep], "{:?}", stand.last);
    assert_eq!((stand.replicas, stand.last.as_ref().unwrap().awake), (1, 0));
    stand.gateways[0].waiting = 1.0;
    stand.run(5);
    assert_eq!(stand.pods[0].stage, Stage::Ready, "{:?}", stand.last);
    assert_eq!(stand.replicas, 1, "{:?}", stand.last);
}

#[test]
fn who_changes_the_number_is_left_to_it() {
    let scale = |by: &str, replicas: u32, waiting: f64| {
        let scaling = format!("{{min: 0, max: 3, zero: cold, idleSeconds: 60, by: {by}}}");
        let mut stand = Stand::new(&scaling, replicas, 1);
        stand.gateways[0].waiting = waiting;
        stand.run(900);
        (stand.told, stand.last.unwrap().wanted)
    };
    assert_eq!(scale("pilotage", 2, 0.0), (vec![0], 0));
    assert_eq!(scale("hpa", 2, 0.0), (vec![0], 0), "a horizontal autoscaler stops at one");
    assert_eq!(scale("keda", 2, 0.0), (vec![], 0));
    assert_eq!(scale("hpa", 0, 1.0).0.first(), Some(&1));
    assert!(scale("hpa", 1, 300.0).0.is_empty());
}

#[test]
fn copies_that_stand_in_for_an_update_are_no_reason_for_more() {
    let mut stand = Stand::new("{min: 2, max: 6}", 2, 1);
    for at in 0..60 {
        let mut pods = stand.pods.clone();
        pods.push(PodSeen {
            name: format!("n-{at}"),
            stage: if at % 2 == 0 { Stage::Starting } else { Stage::Ready },
            since: stand.now,
            took: None,
            is_unplaced: false,
        });
        stand.now = stand.now + STEP;
        stand.regulator.know(&BTreeSet::from([0]));
        let report = stand.report(stand.gateways[0]);
        stand.regulator.hear(stand.now, 0, report);
        let sight = Sight { replicas: Some(2), ..sight(&stand.spec, pods) };
        let verdict = stand.regulator.decide(stand.now, "m", &sight).unwrap().unwrap();
        assert_eq!(verdict.scale, None, "{verdict:?}");
    }
}

#[test]
fn by_hand_is_put_right() {
    let mut stand = Stand::new("{min: 2, max: 6}", 2, 1);
    stand.run(60);
    stand.replicas = 0;
    stand.run(10);
    assert!(stand.replicas >= 2, "{:?}", stand.last);
    stand.replicas = 9;
    stand.run(10);
    assert!(stand.replicas <= 6, "{:?}", stand.last);
}

#[test]
fn copies_that_never_come_are_given_up_on_the_way_down() {
    // There is room for two, and ten are wanted for a while.
    let mut stand = Stand::new("{max: 10}", 2, 1);
    stand.room = 2;
    stand.all(30.0);
    stand.run(1200);
    assert_eq!(stand.replicas, 10, "{:?}", stand.last);
    stand.all(0.0);
    // Five minutes without a need, and then step by step: those that do not come hold nothing up.
    stand.run(600);
    assert_eq!(stand.replicas, 1, "{:?}", stand.last);
}

#[test]
fn a_new_leader_goes_on_from_what_was_written_down() {
    let first = |said: Option<Said>| {
        let mut stand = Stand::new("{max: 10}", 3, 1);
        stand.said = said;
        stand.all(11.0);
        stand.run(5);
        stand.replicas
    };
    let said = Said { wanted: 8, asleep: 0, since: Time::from_millis(1000) };
    assert_eq!((first(Some(said)), first(None)), (8, 7), "it was said before it was done");
}

#[test]
fn a_copy_that_was_away_for_a_moment_is_no_slow_start() {
    let starts = |took: Span| {
        let mut stand = Stand::new("{max: 10}", 3, 1);
        for pod in &mut stand.pods {
            pod.took = Some(START);
        }
        stand.run(30);
        stand.pods[0].took = Some(took);
        stand.gateways[0].waiting = 300.0;
        stand.all(4.0);
        stand.run(5);
        stand.replicas
    };
    assert_eq!(starts(Span::from_secs(3 * 86_400)), starts(START));
}

#[test]
fn who_is_there_writes_the_number_whoever_is_to() {
    let told = |by: ScaleBy, replicas: u32, waiting: f64| {
        let mut stand = Stand::new("{max: 6, by: keda}", replicas, 1);
        stand.gateways[0].waiting = waiting;
        let pods = stand.pods.clone();
        stand.regulator.know(&BTreeSet::from([0]));
        let report = stand.report(stand.gateways[0]);
        stand.regulator.hear(stand.now, 0, report);
        let sight = Sight { by, replicas: Some(replicas), ..sight(&stand.spec, pods) };
        stand.regulator.decide(stand.now, "m", &sight).unwrap().unwrap().scale.is_some()
    };
    assert!(told(ScaleBy::Pilotage, 1, 3000.0), "KEDA is not there yet");
    assert!(!told(ScaleBy::Keda, 1, 3000.0) && !told(ScaleBy::Hpa, 1, 3000.0));
}

#[test]
fn a_cold_model_gives_its_place_to_one_that_waits() {
    let mut stand = Stand::new("{min: 0, max: 3, zero: cold}", 1, 1);
    stand.all(0.5);
    stand.run(600);
    assert_eq!(stand.replicas, 1);
    // Another one on the same nodes has a pod for which there is no room, and somebody waits for it.
    let other = model("scaling: {min: 0, max: 3, zero: cold}");
    let beside = |stand: &mut Stand, is_unplaced: bool| {
        let mut asked = stand.report(Gateway { waiting: 1.0, ..Gateway::default() });
        let mut all = stand.report(stand.gateways[0]);
        all.models.extend(asked.models.remove("m").map(|lane| ("other".to_owned(), lane)));
        stand.regulator.hear(stand.now, 0, all);
        let stage = if is_unplaced { Stage::Starting } else { Stage::Ready };
        let pod =
            PodSeen { name: "o".to_owned(), stage, since: stand.now, took: None, is_unplaced };
        let sight = Sight { replicas: Some(1), ..sight(&other, vec![pod]) };
        stand.regulator.decide(stand.now, "other", &sight).unwrap().unwrap()
    };
    for _ in 0..14 {
        beside(&mut stand, true);
        stand.step();
    }
    let last = stand.last.clone().unwrap();
    assert_eq!((stand.replicas, last.reason), (0, "GaveWay"), "{}", last.message);
    assert!(last.message.starts_with("it gave its place to `other`"), "{}", last.message);
    beside(&mut stand, false);
    stand.gateways[0].waiting = 1.0;
    stand.run(5);
    assert_eq!(stand.replicas, 1, "{:?}", stand.last);
}

/// A pod that has a place and never becomes ready gives it back to one that waits.
#[test]
fn what_never_becomes_ready_gives_its_place_back() {
    let spec = model("scaling: {min: 0, max: 1, zero: cold}, startSeconds: 60");
    let mut stand = Stand::new("{min: 0, max: 1, zero: cold}", 1, 1);
    let asked = |stand: &Stand| {
        let mut all = stand.report(Gateway { waiting: 1.0, ..Gateway::default() });
        let lane = all.models["m"].clone();
        all.models.insert("other".to_owned(), lane);
        all
    };
    let mut told = BTreeMap::new();
    let begun = stand.now;
    while told.get("m") != Some(&"GaveWay") && stand.now < begun + Span::from_secs(7200) {
        stand.now = stand.now + Span::from_secs(5);
        let report = asked(&stand);
        stand.regulator.know(&BTreeSet::from([0]));
        stand.regulator.hear(stand.now, 0, report);
        for (name, is_unplaced) in [("m", false), ("other", true)] {
            let (stage, since) = (Stage::Starting, begun);
            let pod = PodSeen { name: name.to_owned(), stage, since, took: None, is_unplaced };
            let sight = Sight { replicas: Some(1), ..sight(&spec, vec![pod]) };
            let verdict = stand.regulator.decide(stand.now, name, &sight).unwrap().unwrap();
            told.insert(name, verdict.reason);
        }
    }
    let minutes = stand.now.since(begun).as_millis() / 60_000;
    assert_eq!((minutes, told["m"]), (31, "GaveWay"), "its start and the pull of its image");
    assert_ne!(told["other"], "GaveWay");
}
