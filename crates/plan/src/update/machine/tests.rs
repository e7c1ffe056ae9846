//! Updates played on a machine whose processes come up a turn after they are wanted.

use super::super::Progress;
use super::*;
use crate::parse_all;
use crate::world::Gpu;

const HEAD: &str = "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\nspec:\n  ";
const CANARY: &str = "canary: {steps: [{weight: 20}, {weight: 50}]}";

struct Play {
    world: World,
    kept: AllKept,
    plan: Plan,
    second: u64,
    /// The step that the gateway is at, and what it thinks.
    step: usize,
    progress: Progress,
    comes_up: bool,
    has_room: bool,
    /// Other Models.
    others: String,
    /// Whether nobody asks for it.
    is_idle: bool,
}

impl Play {
    fn on(world: World) -> Self {
        Self {
            world,
            kept: AllKept::new(),
            plan: Plan::default(),
            second: 0,
            step: 0,
            progress: Progress::Going,
            comes_up: true,
            has_room: true,
            others: String::new(),
            is_idle: false,
        }
    }

    fn turn(&mut self, spec: &str) {
        self.try_turn(spec).unwrap();
    }

    fn try_turn(&mut self, spec: &str) -> Result<(), PlanError> {
        self.second += 10;
        let text = format!("{HEAD}{spec}\n{}", self.others);
        let resources = parse_all([("m.yaml", text.as_str())]).unwrap();
        let at = format!("2027-01-01T00:{:02}:{:02}Z", self.second / 60, self.second % 60);
        let now: Timestamp = at.parse().unwrap();
        let wanted = match &resources[0] {
            Resource::Model(model) => revision(&model.spec),
            other => panic!("{other:?}"),
        };
        let of_next = self.names().iter().filter(|name| name.contains(&wanted)).count() as u32;
        let trial = Trial {
            revision: wanted,
            progress: self.progress,
            step: self.step as u32,
            percent: [20.0, 50.0, 100.0][self.step.min(2)],
            why: "as it is played".to_owned(),
        };
        let trials = [trial];
        let is_on_trial = self.phase().is_some_and(|phase| phase != UpdatePhase::Starting);
        let seen = |model: &Model| SeenHere {
            replicas: if self.is_idle { 0 } else { model.spec.replicas },
            next_ready: if self.comes_up { of_next } else { 0 },
            trouble: Some("out of memory"),
            patience_seconds: 60,
            trials: if is_on_trial { &trials } else { &[] },
            has_room: self.has_room,
        };
        let devices = self.plan.processes.iter().map(|one| (one.name.clone(), one.devices.clone()));
        let devices = devices.filter(|(_, devices)| !devices.is_empty()).collect();
        let world = World { devices, ..self.world.clone() };
        let machine = OnMachine { resources: &resources, world: &world };
        let (kept, plan) = machine.turn(&now, &self.kept, seen)?;
        // What is kept survives a restart.
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<AllKept>(&text).unwrap(), kept);
        (self.kept, self.plan) = (kept, plan);
        Ok(())
    }

    /// Names of processes, each with its lane where that is not the Model's own.
    fn names(&self) -> Vec<String> {
        let one = |process: &ProcessSpec| match process.lane.as_str() {
            "m" => process.name.clone(),
            lane => format!("{} in {lane}", process.name),
        };
        self.plan.processes.iter().map(one).collect()
    }

    fn phase(&self) -> Option<UpdatePhase> {
        self.kept.get("m")?.update.next.as_ref().map(|next| next.phase)
    }

    fn message(&self) -> &str {
        self.kept["m"].update.next.as_ref().map_or("", |next| &next.message)
    }

    fn devices(&self) -> Vec<&str> {
        self.plan.processes.iter().flat_map(|one| &one.devices).map(String::as_str).collect()
    }
}

fn cores() -> World {
    World::with_cores(4)
}

fn gpus(count: usize) -> World {
    let gpu = |at: usize| Gpu {
        name: "NVIDIA L4".to_owned(),
        id: Some(format!("gpu-{at}")),
        memory_bytes: Some(24 << 30),
    };
    World { gpus: (0..count).map(gpu).collect(), ..cores() }
}

fn spec(file: &str, more: &str) -> String {
    format!("source: 'file:{file}'\n  {more}")
}

fn of(spec: &str) -> String {
    let resources = parse_all([("m.yaml", format!("{HEAD}{spec}\n").as_str())]).unwrap();
    match &resources[0] {
        Resource::Model(model) => revision(&model.spec),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_that_does_well_takes_over_with_the_processes_it_has() {
    let (old, new) = ("a.gguf", "b.gguf");
    let updates = format!("replicas: 2\n  updates: {{{CANARY}}}");
    let (old, new) = (spec(old, &updates), spec(new, &updates));
    let mut play = Play::on(cores());
    play.turn(&old);
    assert_eq!((play.names(), play.phase()), (vec!["m-0".into(), "m-1".to_owned()], None));
    play.turn(&new);
    let tag = of(&new);
    let next = |index: u32| format!("m+{tag}-{index} in m+next");
    assert_eq!(play.phase(), Some(UpdatePhase::Starting));
    assert_eq!(play.names(), ["m-0", "m-1", &next(0)]);
    assert!(play.plan.route("m").unwrap().canary.is_none(), "nothing goes to it yet");
    assert!(play.plan.lane("m+next").is_some());
    play.turn(&new);
    assert_eq!(play.phase(), Some(UpdatePhase::Trying));
    let route = play.plan.route("m").unwrap();
    assert_eq!(route.canary.as_ref().unwrap().model.as_str(), "m+next");
    assert_eq!(route.canary_percent_max, 50, "one of two bears half");
    let lane = play.plan.lane("m+next").unwrap();
    assert_eq!(
        (lane.replicas.clone(), lane.identity.clone()),
        (vec![format!("m+{tag}-0")], format!("#{tag}"))
    );
    play.step = 1;
    play.turn(&new);
    assert_eq!(play.names(), ["m-0", &next(0), &next(1)], "one more than wanted at most");
    let before = play.plan.clone();
    (play.step, play.progress) = (2, Progress::Done);
    play.turn(&new);
    assert_eq!(
        (play.phase(), play.names()),
        (None, vec![format!("m+{tag}-0"), format!("m+{tag}-1")])
    );
    for process in &play.plan.processes {
        let same = before.processes.iter().find(|one| one.name == process.name).unwrap();
        let moved = ProcessSpec { lane: "m".to_owned(), ..same.clone() };
        assert_eq!(moved, *process, "nothing about it changes but whose requests it gets");
    }
    assert!(play.plan.lane("m+next").is_none());
    assert_eq!(play.plan.lane("m").unwrap().replicas, play.names());
    // And back again, by its own name.
    play.step = 0;
    play.turn(&old);
    assert_eq!(play.names()[2], format!("m+{}-0 in m+next", of(&old)));
}

#[test]
fn one_that_does_worse_or_never_comes_up_goes() {
    for is_worse in [true, false] {
        let updates = format!("updates: {{{CANARY}}}");
        let (old, new) = (spec("a.gguf", &updates), spec("b.gguf", &updates));
        let mut play = Play::on(cores());
        play.turn(&old);
        play.comes_up = is_worse;
        for _ in 0..3 {
            play.turn(&new);
        }
        play.progress = if is_worse { Progress::Worse } else { Progress::Going };
        for _ in 0..6 {
            assert!(play.names().contains(&"m-0".to_owned()), "who serves goes on");
            play.turn(&new);
        }
        assert_eq!(
            (play.phase(), play.names()),
            (Some(UpdatePhase::RolledBack), vec!["m-0".to_owned()])
        );
        assert!(play.plan.lane("m+next").is_none());
        let why =
            if is_worse { "as it is played" } else { "it did not come up in 60 s: out of memory" };
        assert_eq!(play.message(), why);
        play.turn(&old);
        assert_eq!(play.phase(), None, "it is wanted no more");
    }
}

#[test]
fn without_room_for_both_one_goes_before_the_other_comes() {
    let updates = format!("updates: {{{CANARY}}}");
    let cpu = (cores(), "a.gguf", "b.gguf", NO_MEMORY);
    let gpu = (gpus(1), "a/", "b/", "m+");
    for (world, old, new, why) in [cpu, gpu] {
        let more = if world.gpus.is_empty() {
            updates.clone()
        } else {
            format!("runtime: vllm\n  {updates}")
        };
        let (old, new) = (spec(old, &more), spec(new, &more));
        let mut play = Play::on(world);
        play.turn(&old);
        let devices: Vec<String> = play.devices().into_iter().map(str::to_owned).collect();
        play.has_room = !play.world.gpus.is_empty();
        play.turn(&new);
        let begun = "it takes over without a trial, one copy after the other: ";
        assert!(
            play.message().starts_with(begun) && play.message().contains(why),
            "{}",
            play.message()
        );
        assert_eq!(play.names(), [format!("m+{}-0", of(&new))]);
        assert_eq!(play.devices(), devices);
        // It does not come up, and there is nobody else.
        let kept = (play.kept.clone(), play.plan.clone());
        play.comes_up = false;
        for _ in 0..7 {
            play.turn(&new);
        }
        assert_eq!(
            (play.phase(), play.names()),
            (Some(UpdatePhase::RolledBack), vec!["m-0".to_owned()])
        );
        assert_eq!(play.devices(), devices);
        (play.kept, play.plan) = kept;
        play.comes_up = true;
        play.turn(&new);
        assert_eq!((play.phase(), play.names()), (None, vec![format!("m+{}-0", of(&new))]));
    }
}

#[test]
fn a_free_accelerator_is_where_the_next_version_is_tried() {
    let updates = format!("runtime: vllm\n  updates: {{{CANARY}}}");
    let (old, new) = (spec("a/", &updates), spec("b/", &updates));
    let mut play = Play::on(gpus(2));
    play.turn(&old);
    let first = play.devices()[0].to_owned();
    play.turn(&new);
    assert_eq!(play.devices().len(), 2);
    assert_eq!(play.devices()[0], first, "who serves keeps what it has");
    let other = play.devices()[1].to_owned();
    assert_ne!(other, first);
    (play.step, play.progress) = (2, Progress::Done);
    for _ in 0..3 {
        play.turn(&new);
    }
    assert_eq!((play.phase(), play.devices()), (None, vec![other.as_str()]));
    let error =
        play.try_turn(&spec("c/", "runtime: vllm\n  parallelism: {tensor: 4}")).unwrap_err();
    assert!(error.to_string().contains("wants 4 accelerators"), "{error}");
    assert_eq!(play.devices(), [other.as_str()], "what cannot be changes nothing");
}

#[test]
fn without_a_canary_processes_are_replaced_where_they_are() {
    let mut play = Play::on(cores());
    play.turn(&spec("a.gguf", "replicas: 2"));
    play.turn(&spec("b.gguf", "replicas: 2"));
    assert_eq!((play.phase(), play.names()), (None, vec!["m-0".to_owned(), "m-1".to_owned()]));
    // What served before is known when a canary is there for the first time.
    let updates = format!("updates: {{{CANARY}}}");
    play.turn(&spec("c.gguf", &updates));
    assert_eq!(play.phase(), Some(UpdatePhase::Starting));
}

#[test]
fn copies_stay_as_they_are_until_an_update_is_over() {
    let updates = format!("scaling: {{min: 1, max: 4}}\n  updates: {{{CANARY}}}");
    let (old, new) = (spec("a.gguf", &updates), spec("b.gguf", &updates));
    let mut play = Play::on(cores());
    play.turn(&old);
    assert!(play.plan.lane("m").unwrap().scaling.is_some());
    play.turn(&new);
    assert_eq!(play.kept["m"].replicas, Some(1));
    let follow = |name: &str| play.plan.lane(name).unwrap().scaling.is_some();
    assert!(!follow("m") && !follow("m+next"));
    play.progress = Progress::Worse;
    for _ in 0..3 {
        play.turn(&new);
    }
    assert_eq!(play.phase(), Some(UpdatePhase::RolledBack));
    assert!(play.plan.lane("m").unwrap().scaling.is_some());
}

#[test]
fn where_nobody_asks_the_wanted_version_is_taken_as_it_is() {
    let updates = format!("scaling: {{min: 0, max: 4, zero: cold}}\n  updates: {{{CANARY}}}");
    let (old, new) = (spec("a.gguf", &updates), spec("b.gguf", &updates));
    let mut play = Play::on(cores());
    play.turn(&old);
    (0..2).for_each(|_| play.turn(&new));
    assert_eq!(play.phase(), Some(UpdatePhase::Trying));
    play.is_idle = true;
    play.turn(&new);
    assert_eq!((play.phase(), play.kept["m"].copies), (None, None));
    assert_eq!(play.kept["m"].update.serving, Some(of(&new)));
    assert!(play.plan.lane("m").unwrap().scaling.is_some(), "it follows the load again");
    assert!(play.plan.lane("m+next").is_none());
}

/// Two that take turns at one accelerator: the one that runs now is replaced there as if it were alone, also after
/// a restart.
#[test]
fn one_that_takes_turns_is_replaced_on_the_accelerator_that_it_shares() {
    let cold = "scaling: {min: 0, max: 1, zero: cold}";
    let updates = format!("runtime: vllm\n  {cold}\n  updates: {{{CANARY}}}");
    let (old, new) = (spec("a/", &updates), spec("b/", &updates));
    let mut play = Play::on(gpus(1));
    let other = "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: other}\nspec: ";
    play.others = format!("---\n{other}{{source: 'file:o/', runtime: vllm, {cold}}}\n");
    let all = |play: &Play| {
        let one = |one: &ProcessSpec| format!("{} {}", one.name, one.devices.join(","));
        play.plan.processes.iter().map(one).collect::<Vec<_>>()
    };
    play.turn(&old);
    assert_eq!(all(&play), ["m-0 gpu-0", "other-0 gpu-0"]);
    play.turn(&new);
    assert_eq!(play.phase(), Some(UpdatePhase::TakingOver), "{}", play.message());
    let next = ["other-0 gpu-0".to_owned(), format!("m+{}-0 gpu-0", of(&new))];
    assert_eq!(all(&play), next);
    let (kept, begun) = (play.kept.clone(), play.plan.clone());
    play.plan = Plan::default();
    play.comes_up = false;
    play.turn(&new);
    assert_eq!(all(&play), next, "nothing runs");
    (play.kept, play.plan, play.comes_up) = (kept, begun, true);
    play.turn(&new);
    assert_eq!(play.phase(), None);
    assert_eq!(all(&play), [format!("m+{}-0 gpu-0", of(&new)), "other-0 gpu-0".to_owned()]);
}

#[test]
fn whoever_was_away_waits_for_copies_as_long_as_at_first() {
    let updates = format!("updates: {{{CANARY}}}");
    let (old, new) = (spec("a.gguf", &updates), spec("b.gguf", &updates));
    let mut play = Play::on(cores());
    play.turn(&old);
    (0..3).for_each(|_| play.turn(&new));
    assert_eq!(play.phase(), Some(UpdatePhase::Trying));
    play.comes_up = false;
    (0..6).for_each(|_| play.turn(&new));
    let now = "2027-01-01T01:00:00Z".parse().unwrap();
    play.kept.get_mut("m").unwrap().resumed(&now);
    for _ in 0..6 {
        play.turn(&new);
        assert_eq!(play.phase(), Some(UpdatePhase::Trying));
    }
    (0..2).for_each(|_| play.turn(&new));
    assert_eq!(play.phase(), Some(UpdatePhase::RolledBack));
    assert_eq!(play.message(), "none of its copies took requests for 60 s: out of memory");
}

#[test]
fn copies_are_known_by_their_names() {
    let check = |name: &str, expect: bool| assert_eq!(is_copy(name, "m"), expect, "{name}");
    check("m-0", true);
    check("m-12", true);
    check("m+f1a0ddd798-3", true);
    check("m-small-0", false);
    check("mm-0", false);
    check("m+f1a0ddd798", false);
    check("m-", false);
}
