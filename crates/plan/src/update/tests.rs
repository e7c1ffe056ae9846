//! Updates played in a small world, in which copies come up a turn later and gateways go through the
//! steps as far as they may.

use proptest::prelude::*;

use super::*;
use crate::{WeightsSource, World, parse_all, plan};

/// A Model of that version and so many copies.
fn spec(image: &str, updates: &str) -> ModelSpec {
    let text = format!(
        "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: m}}\nspec:\n  source: \
         'file:w.gguf'\n  image: {image}\n  updates: {{{updates}}}\n"
    );
    let all = parse_all([("m.yaml", text.as_str())]).unwrap();
    match all.into_iter().next() {
        Some(crate::Resource::Model(model)) => model.spec,
        other => panic!("{other:?}"),
    }
}

const STEPS: &str = "canary: {steps: [{weight: 10}, {weight: 50}]}";

/// What there is of a Model, and what gateways do with it.
struct Play {
    second: u64,
    status: UpdateStatus,
    copies: Copies,
    ready: Copies,
    /// The step that gateways are at, with the next version.
    step: usize,
    gateways: u32,
    progress: Progress,
    comes_up: bool,
    /// What was up is up no more.
    is_gone: bool,
}

impl Play {
    /// The version of that spec serves.
    fn of(spec: &ModelSpec, replicas: u32) -> Self {
        let mut play = Self {
            second: 0,
            status: UpdateStatus::default(),
            copies: Copies { serving: 0, next: 0 },
            ready: Copies { serving: replicas, next: 0 },
            step: 0,
            gateways: 2,
            progress: Progress::Going,
            comes_up: true,
            is_gone: false,
        };
        play.turn(spec, replicas);
        play
    }

    fn phase(&self) -> Option<UpdatePhase> {
        self.status.next.as_ref().map(|next| next.phase)
    }

    /// What gateways give the next version: their step's, or what it can bear.
    fn share(&self, spec: &ModelSpec) -> f64 {
        let steps = spec.updates.as_ref().unwrap().canary.as_ref().unwrap().steps();
        let max = self.status.next.as_ref().map_or(0, |next| next.percent_max);
        f64::from(percent_of(&steps, self.step).min(max))
    }

    fn turn(&mut self, spec: &ModelSpec, replicas: u32) {
        self.second += 10;
        let now: Timestamp = format!(
            "2027-01-01T{:02}:{:02}:{:02}Z",
            self.second / 3600,
            self.second / 60 % 60,
            self.second % 60
        )
        .parse()
        .unwrap();
        let phases = [Some(UpdatePhase::Trying), Some(UpdatePhase::TakingOver)];
        let canary = spec.updates.as_ref().is_some_and(|updates| updates.canary.is_some());
        let on_trial = canary && phases.contains(&self.phase());
        let trial = Trial {
            revision: self
                .status
                .next
                .as_ref()
                .map(|next| next.revision.clone())
                .unwrap_or_default(),
            progress: self.progress,
            step: self.step as u32,
            percent: if on_trial { self.share(spec) } else { 0.0 },
            why: "as it is played".to_owned(),
        };
        let trials = vec![trial; if on_trial { self.gateways as usize } else { 0 }];
        let seen = Seen {
            spec,
            replicas,
            next_ready: if self.is_gone { 0 } else { self.ready.next },
            trouble: Some("its image cannot be pulled"),
            patience_seconds: 100,
            is_routed: true,
            crowded: None,
            trials: &trials,
        };
        let served = self.status.serving.clone();
        let advanced = advance(&now, &self.status, &seen);
        let again = advance(&now, &advanced.status, &seen);
        assert_eq!(again.copies, advanced.copies, "it does not flap: {:?}", advanced.status);
        (self.status, self.copies) = (advanced.status, advanced.copies);
        if served.is_some() && self.status.serving != served {
            // What was next serves.
            self.ready = Copies { serving: self.ready.next, next: 0 };
            self.step = 0;
        }
        self.ready.serving = self.copies.serving;
        let next = self.ready.next.min(self.copies.next);
        self.ready.next = if self.comes_up { self.copies.next } else { next };
    }

    /// Gateways go on to the next step.
    fn go_on(&mut self, spec: &ModelSpec) {
        if self.phase() != Some(UpdatePhase::Trying) {
            return;
        }
        let steps = spec.updates.as_ref().unwrap().canary.as_ref().unwrap().steps();
        self.step += 1;
        if self.step >= steps.len() {
            self.progress = Progress::Done;
        }
    }
}

#[test]
fn a_good_version_takes_over_step_by_step() {
    let (old, new) = (spec("a:1", STEPS), spec("a:2", STEPS));
    let mut play = Play::of(&old, 4);
    assert_eq!((play.copies, play.phase()), (Copies { serving: 4, next: 0 }, None));
    let mut story = Vec::new();
    for _ in 0..16 {
        play.turn(&new, 4);
        play.go_on(&new);
        let Copies { serving, next } = play.copies;
        let line = format!("{:?} {serving}+{next}", play.phase());
        if story.last() != Some(&line) {
            story.push(line);
        }
    }
    let expect = [
        "Some(Starting) 4+1",
        "Some(Trying) 4+1",
        "Some(Trying) 3+2",
        "Some(TakingOver) 3+2",
        "Some(TakingOver) 2+3",
        "Some(TakingOver) 1+4",
        "None 4+0",
    ];
    assert_eq!(story, expect);
    assert_eq!(play.status.serving, Some(revision(&new)));
    assert_eq!(running(&old, play.status.serving_spec.as_ref().unwrap()).unwrap().image, new.image);
}

#[test]
fn a_bad_one_is_taken_back_and_stays_so() {
    let (old, new) = (spec("a:1", STEPS), spec("a:2", STEPS));
    let mut play = Play::of(&old, 3);
    (0..4).for_each(|_| play.turn(&new, 3));
    assert_eq!(play.phase(), Some(UpdatePhase::Trying));
    play.progress = Progress::Worse;
    (0..3).for_each(|_| play.turn(&new, 3));
    assert_eq!(play.phase(), Some(UpdatePhase::RolledBack));
    assert_eq!(play.copies, Copies { serving: 3, next: 0 });
    assert_eq!(play.status.serving, Some(revision(&old)));
    // What serves is the old version with what else is new.
    let serves = running(&new, play.status.serving_spec.as_ref().unwrap()).unwrap();
    assert_eq!((&serves.image, &serves.updates), (&old.image, &new.updates));
    // Another version is another try, and the old one ends it.
    play.progress = Progress::Going;
    play.turn(&spec("a:3", STEPS), 3);
    assert_eq!(play.phase(), Some(UpdatePhase::Starting));
    play.turn(&old, 3);
    assert_eq!((play.phase(), play.copies), (None, Copies { serving: 3, next: 0 }));
}

#[test]
fn nothing_is_taken_back_for_a_moments_silence() {
    let (old, new) = (spec("a:1", STEPS), spec("a:2", STEPS));
    let mut play = Play::of(&old, 8);
    let mut phases = Vec::new();
    for turn in 0..40 {
        play.turn(&new, 8);
        if turn % 3 == 2 {
            play.go_on(&new);
        }
        let Some(phase) = play.phase() else { break };
        // Nobody says anything for a while, or somebody else operates who has not heard anything yet.
        let (heard, ready) = (play.copies, play.ready);
        play.gateways = 0;
        (0..2).for_each(|_| play.turn(&new, 8));
        let silent = play.copies;
        if !phases.contains(&phase) {
            phases.push(phase);
        }
        if play.phase().is_none() {
            break;
        }
        assert!(silent.next >= heard.next.min(ready.next), "{phase:?} {heard:?} {silent:?}");
        assert!(silent.serving >= heard.serving.min(8 - ready.next), "{phase:?} {silent:?}");
        play.gateways = 2;
    }
    assert_eq!(phases, [UpdatePhase::Starting, UpdatePhase::Trying, UpdatePhase::TakingOver]);
    assert_eq!(play.status.serving, Some(revision(&new)));
}

#[test]
fn a_bad_one_does_not_come_back_after_a_rest() {
    let (old, new) = (spec("a:1", STEPS), spec("a:2", STEPS));
    let mut play = Play::of(&old, 3);
    (0..4).for_each(|_| play.turn(&new, 3));
    play.progress = Progress::Worse;
    (0..2).for_each(|_| play.turn(&new, 3));
    for replicas in [0, 2] {
        (0..2).for_each(|_| play.turn(&new, replicas));
        assert_eq!(play.phase(), Some(UpdatePhase::RolledBack));
        assert_eq!(play.copies, Copies { serving: replicas, next: 0 });
        assert_eq!(play.status.serving, Some(revision(&old)));
    }
}

#[test]
fn one_that_waits_for_a_decision_outlasts_a_rest() {
    let pause = "canary: {steps: [{weight: 10}, {weight: 50}], onFail: pause}";
    let (old, new) = (spec("a:1", pause), spec("a:2", pause));
    let mut play = Play::of(&old, 3);
    (0..4).for_each(|_| play.turn(&new, 3));
    play.progress = Progress::Worse;
    (0..2).for_each(|_| play.turn(&new, 3));
    assert_eq!(play.phase(), Some(UpdatePhase::Paused));
    (0..40).for_each(|_| play.turn(&new, 0));
    let next = play.status.next.clone().unwrap();
    assert_eq!((next.phase, next.unready_since.as_deref()), (UpdatePhase::Paused, None));
    assert_eq!(play.copies, Copies { serving: 0, next: 0 });
    // Back again, its copies have as long as they had before.
    play.turn(&new, 3);
    assert_eq!(play.phase(), Some(UpdatePhase::Paused));
    play.is_gone = true;
    (0..20).for_each(|_| play.turn(&new, 3));
    assert_eq!(play.phase(), Some(UpdatePhase::RolledBack));
}

#[test]
fn one_that_never_comes_up_is_given_up() {
    let (old, new) = (spec("a:1", STEPS), spec("a:2", STEPS));
    let mut play = Play { comes_up: false, ..Play::of(&old, 2) };
    (0..20).for_each(|_| play.turn(&new, 2));
    let next = play.status.next.unwrap();
    assert_eq!(next.phase, UpdatePhase::RolledBack);
    assert_eq!(next.message, "it did not come up in 100 s: its image cannot be pulled");
}

#[test]
fn one_whose_copies_are_gone_is_given_up_in_every_phase() {
    let pause = "canary: {steps: [{weight: 10}, {weight: 50}], onFail: pause}";
    for phase in [UpdatePhase::Trying, UpdatePhase::Paused, UpdatePhase::TakingOver] {
        let (old, new) = (spec("a:1", pause), spec("a:2", pause));
        let mut play = Play::of(&old, 4);
        (0..3).for_each(|_| play.turn(&new, 4));
        match phase {
            UpdatePhase::Paused => play.progress = Progress::Worse,
            UpdatePhase::TakingOver => play.progress = Progress::Done,
            _ => {}
        }
        play.turn(&new, 4);
        assert_eq!(play.phase(), Some(phase));
        if phase == UpdatePhase::Paused {
            play.progress = Progress::Going;
        }
        // Gone for a while is nothing yet, and the time counts anew.
        for _ in 0..2 {
            play.is_gone = true;
            (0..9).for_each(|_| play.turn(&new, 4));
            let next = play.status.next.clone().unwrap();
            assert_eq!((next.phase, next.percent_max), (phase, 0));
            assert!(next.unready_since.is_some() && given_up_at(&next, 100).is_some());
            play.is_gone = false;
            if phase == UpdatePhase::TakingOver {
                // Up again, it would have taken over.
                break;
            }
            play.turn(&new, 4);
            let next = play.status.next.clone().unwrap();
            assert_eq!((next.unready_since.clone(), given_up_at(&next, 100)), (None, None));
        }
        play.is_gone = true;
        (0..12).for_each(|_| play.turn(&new, 4));
        let next = play.status.next.unwrap();
        assert_eq!((next.phase, next.unready_since), (UpdatePhase::RolledBack, None));
        let why = "none of its copies took requests for 100 s: its image cannot be pulled";
        assert_eq!(next.message, why, "{phase:?}");
        assert_eq!(play.copies, Copies { serving: 4, next: 0 });
        assert_eq!(play.status.serving, Some(revision(&old)));
    }
}

#[test]
fn a_pause_keeps_what_it_has() {
    let pause = "canary: {steps: [{weight: 50}], onFail: pause}";
    let (old, new) = (spec("a:1", pause), spec("a:2", pause));
    let mut play = Play::of(&old, 2);
    (0..4).for_each(|_| play.turn(&new, 2));
    play.progress = Progress::Worse;
    (0..3).for_each(|_| play.turn(&new, 2));
    assert_eq!(play.phase(), Some(UpdatePhase::Paused));
    assert!(play.copies.next > 0 && play.copies.serving > 0, "{:?}", play.copies);
}

#[test]
fn without_a_trial_it_takes_over() {
    // No canary, no Route that leads there, no room for a second copy.
    let check = |updates: &str, replicas: u32, expect: &str| {
        let (old, new) = (spec("a:1", updates), spec("a:2", updates));
        let mut play = Play::of(&old, replicas);
        play.turn(&new, replicas);
        let next = play.status.next.clone().unwrap();
        assert_eq!(next.phase, UpdatePhase::TakingOver);
        assert!(next.message.contains(expect), "{}", next.message);
        (0..4 + replicas).for_each(|_| play.turn(&new, replicas));
        assert_eq!(play.status.serving, Some(revision(&new)));
    };
    check("surge: 1", 3, "`updates.canary` is not there");
    check("surge: 0, unavailable: 1, canary: {}", 1, "room for one copy");
}

#[test]
fn what_makes_a_version() {
    let one = spec("a:1", STEPS);
    let same = |change: &dyn Fn(&mut ModelSpec)| {
        let mut other = one.clone();
        change(&mut other);
        revision(&other) == revision(&one)
    };
    assert!(same(&|spec| spec.replicas = 9));
    assert!(same(&|spec| spec.updates = None));
    assert!(!same(&|spec| spec.runtime_args = vec!["--x".to_owned()]));
    assert!(!same(&|spec| spec.parallelism.tensor = 2));
    assert!(!same(&|spec| spec.source = Some("file:b.gguf".parse::<WeightsSource>().unwrap())));
    // What is at its default is not written, so that later fields change no names.
    assert_eq!(what_runs(&one), r#"{"image":"a:1","source":"file:w.gguf"}"#);
    assert!(running(&one, "{").is_err());
}

#[test]
fn a_trial_is_a_lane_and_a_canary() {
    let resources = |image: &str| {
        let head = "apiVersion: pilotage.dev/v1alpha1\nkind: ";
        let text = format!(
            "{head}Model\nmetadata: {{name: m}}\nspec: {{source: 'file:w.gguf', image: {image}}}\n---\n\
             {head}Model\nmetadata: {{name: n}}\nspec: {{source: 'file:v.gguf'}}\n---\n\
             {head}Route\nmetadata: {{name: chat}}\nspec: {{targets: [{{model: m}}]}}\n---\n\
             {head}Route\nmetadata: {{name: both}}\nspec: {{targets: [{{model: m}}, {{model: n}}]}}\n"
        );
        parse_all([("m.yaml", text.as_str())]).unwrap()
    };
    let of = |image: &str| plan(&resources(image), &World::with_cores(4)).unwrap();
    let (mut now, next) = (of("a:1"), of("a:2"));
    let canary = spec("a:2", STEPS).updates.unwrap().canary.unwrap();
    let tried = TriedOut { model: "m", revision: "0123456789", canary: &canary, percent_max: 25 };
    assert_eq!(try_out(&mut now, &next, &tried), ["chat"]);
    let lane = now.lane("m+next").unwrap();
    assert_eq!(
        (lane.identity.as_str(), &lane.replicas[..]),
        ("#0123456789", &["m+next-0".to_owned()][..])
    );
    assert!(now.processes.iter().any(|one| one.name == "m+next-0" && one.lane == "m+next"));
    let chat = now.route("chat").unwrap();
    assert_eq!(chat.canary.as_ref().unwrap().model.as_str(), "m+next");
    assert_eq!(chat.canary_percent_max, 25);
    assert!(now.route("both").unwrap().canary.is_none(), "it would be compared with another Model");
    let tried = TriedOut { model: "n", ..tried };
    assert_eq!(try_out(&mut of("a:1"), &next, &tried), [""; 0], "nobody leads to it alone");
}

proptest! {
    #[test]
    fn there_is_room_and_nobody_is_left_without(
        replicas in 1_u32..20,
        surge in 0_u32..5,
        unavailable in 0_u32..3,
        weights in prop::collection::btree_set(1_u32..100, 1..5),
        moods in prop::collection::vec(0_u8..10, 1..60),
    ) {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let steps: Vec<String> = weights.iter().map(|w| format!("{{weight: {w}}}")).collect();
        let updates = format!(
            "surge: {surge}, unavailable: {unavailable}, canary: {{steps: [{}]}}", steps.join(", ")
        );
        let (old, new) = (spec("a:1", &updates), spec("a:2", &updates));
        let mut play = Play::of(&old, replicas);
        for mood in moods {
            play.comes_up = mood > 2;
            play.turn(&new, replicas);
            let Copies { serving, next } = play.copies;
            prop_assert!(serving + next <= replicas + surge, "{:?}", play.copies);
            // What gateways give each version, its copies can bear.
            if surge > 0 && unavailable == 0 && play.phase() == Some(UpdatePhase::Trying) {
                let share = play.share(&new) / 100.0;
                let borne = f64::from(play.copies.serving) / f64::from(replicas);
                prop_assert!(borne + 0.011 >= 1.0 - share, "{:?} with {share}", play.copies);
            }
            if mood > 4 {
                play.go_on(&new);
            }
        }
        play.comes_up = true;
        for _ in 0..200 {
            play.turn(&new, replicas);
            play.go_on(&new);
        }
        let ended = play.status.next.is_none() || play.phase() == Some(UpdatePhase::RolledBack);
        prop_assert!(ended, "{:?}", play.status);
    }
}

#[test]
fn what_runs_elsewhere_is_no_replica_of_a_version_on_trial() {
    let resources = |image: &str| {
        let text = format!(
            "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: m}}\nspec:\n  source: \
             'file:w.gguf'\n  image: {image}\n  updates: {{{STEPS}}}\n  endpoints: [{{url: \
             'https://oslo.example.com', region: oslo, gateway: true}}]\n"
        );
        parse_all([("m.yaml", text.as_str())]).unwrap()
    };
    let of = |image: &str| plan(&resources(image), &World::with_cores(4)).unwrap();
    let (mut now, next) = (of("a:1"), of("a:2"));
    assert!(
        next.lane("m").unwrap().replicas.contains(&"m@oslo.example.com".to_owned()),
        "{next:?}"
    );
    let canary = spec("a:2", STEPS).updates.unwrap().canary.unwrap();
    let tried = TriedOut { model: "m", revision: "0123456789", canary: &canary, percent_max: 50 };
    assert_eq!(try_out(&mut now, &next, &tried), ["m"]);
    assert_eq!(now.lane("m+next").unwrap().replicas, ["m+next-0"]);
    let elsewhere: Vec<&str> = now.endpoints.iter().map(|one| one.lane.as_str()).collect();
    assert_eq!(elsewhere, ["m"], "what serves still spills over");
}

#[test]
fn gateways_serve_both_versions_while_one_is_on_trial() {
    let resources = |image: &str| {
        let head = "apiVersion: pilotage.dev/v1alpha1\nkind: ";
        let text = format!(
            "{head}Model\nmetadata: {{name: m}}\nspec: {{source: 'file:w.gguf', image: {image}, updates: \
             {{{STEPS}}}}}\n"
        );
        parse_all([("m.yaml", text.as_str())]).unwrap()
    };
    let pod = |name: &str| crate::pods::Pod {
        name: name.to_owned(),
        uid: name.to_owned(),
        address: "10.0.0.1".parse().unwrap(),
        ports: [("http".to_owned(), 8000)].into(),
        zone: None,
        node: None,
        near: Vec::new(),
        stage: crate::pods::Stage::Ready,
    };
    let (old, new) = (spec("a:1", STEPS), spec("a:2", STEPS));
    let next = |phase| NextStatus {
        revision: revision(&new),
        phase,
        percent_max: 50,
        percent: 0,
        since: "2027-01-01T00:00:00Z".to_owned(),
        unready_since: None,
        message: String::new(),
    };
    let pods = [("m".to_owned(), vec![pod("old-1"), pod("old-2")])].into();
    let told = |phase: UpdatePhase| {
        let update = UpdateStatus {
            serving: Some(revision(&old)),
            serving_spec: Some(what_runs(&old)),
            next: Some(next(phase)),
        };
        let staged = [("m".to_owned(), Staged { update, pods: vec![pod("new-1")] })].into();
        let plan = serve(&resources("a:2"), &pods, &staged).unwrap();
        let route = plan.route("m").unwrap();
        let canary = route.canary.as_ref().map(|canary| canary.model.to_string());
        let at = plan.endpoints.iter().map(|one| format!("{} {}", one.lane, one.name)).collect();
        (canary, route.canary_percent_max, at)
    };
    let both: Vec<String> =
        ["m m@old-1", "m m@old-2", "m+next m+next@new-1"].map(str::to_owned).into();
    assert_eq!(told(UpdatePhase::Trying), (Some("m+next".to_owned()), 50, both.clone()));
    assert_eq!(told(UpdatePhase::TakingOver), (Some("m+next".to_owned()), 50, both.clone()));
    for phase in [UpdatePhase::Starting, UpdatePhase::RolledBack] {
        assert_eq!(told(phase), (None, 100, both[..2].to_vec()), "{phase:?}");
    }
    assert_eq!((model_of("m+next"), model_of("m")), ("m", "m"));
}
