//! Which model answers what, and what is said when none does.

use proptest::prelude::*;

use super::*;
use crate::traffic::fit::{Capabilities, Feature, Features};
use crate::traffic::name::Tag;
use crate::traffic::spec::{Experiment, HeaderMatch, Mirror, Rule, TokenRange, When};

const A: LaneId = LaneId(1);
const B: LaneId = LaneId(2);
const C: LaneId = LaneId(3);

struct Now {
    closed: Vec<LaneId>,
    share: f64,
}

const CALM: Now = Now { closed: Vec::new(), share: 0.0 };

impl Live for Now {
    fn is_open(&self, lane: LaneId) -> bool {
        !self.closed.contains(&lane)
    }

    fn canary_share(&self, _: &Name) -> f64 {
        self.share
    }
}

fn models() -> Vec<Model> {
    let model = |lane: LaneId, name: &str, features: &[Feature], context: u64| Model {
        lane,
        name: Name::from(name),
        capabilities: Capabilities {
            features: Features::of(features),
            context_tokens: Some(context),
            ..Capabilities::default()
        },
    };
    vec![
        model(A, "a", &[Feature::Text, Feature::Tools], 32_768),
        model(B, "b", &[Feature::Text, Feature::Vision], 8192),
        model(C, "c", &[Feature::Text], 131_072),
    ]
}

fn route(targets: Vec<Target>) -> Route {
    let models = vec![Name::from("chat"), Name::from("gpt-4o")];
    Route { name: Name::from("chat"), models, targets, ..Route::default() }
}

fn router(route: Route) -> Router {
    Router::new(models(), vec![route]).unwrap()
}

fn asked(id: u64, features: &[Feature], context_tokens: u64) -> Asked<'static> {
    let needs = Needs { features: Features::of(features), context_tokens, ..Needs::default() };
    Asked {
        request: RequestId(id),
        needs,
        prompt_tokens: context_tokens,
        tenants: &[TenantId(7), TenantId(1)],
        user: None,
        band: Band::Standard,
        headers: &[],
    }
}

#[test]
fn the_first_rule_that_holds_and_fits_decides() {
    let rule = |name: &str, when: When, lane: LaneId| Rule {
        name: Name::from(name),
        when,
        targets: vec![Target::stable(lane, 1)],
    };
    let long = When { prompt_tokens: TokenRange { min: 20_000, max: u64::MAX }, ..When::default() };
    let header = |name: &str, value: Option<&str>, prefix: Option<&str>| HeaderMatch {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        prefix: prefix.map(str::to_owned),
    };
    let beta = When { headers: vec![header("X-Beta", Some("yes"), None)], ..When::default() };
    let team = When {
        tenants: vec![TenantId(1)],
        headers: vec![header("x-app", None, Some("vis"))],
        ..When::default()
    };
    let german = When { languages: vec![Tag::new("de").unwrap()], ..When::default() };
    let router = router(Route {
        rules: vec![
            rule("beta", beta, C),
            rule("long", long, C),
            rule("team", team, B),
            rule("german", german, C),
        ],
        ..route(vec![Target::stable(A, 1)])
    });
    assert_eq!(router.headers(), ["x-app", "x-beta"]);
    let check = |asked: Asked<'_>, expect: &str| {
        let why = router.choose("gpt-4o", &asked, &CALM).unwrap().why;
        assert_eq!(why.to_string(), format!("route `chat`; {expect}, the only one that fits"));
    };
    let plain = || asked(1, &[Feature::Text], 100);
    check(plain(), "model `a`");
    check(asked(1, &[Feature::Text], 20_000), "rule `long`; model `c`");
    check(Asked { headers: &[("x-beta", "yes")], ..plain() }, "rule `beta`; model `c`");
    check(Asked { headers: &[("x-beta", "no")], ..plain() }, "model `a`");
    check(Asked { headers: &[("X-App", "vision-1")], ..plain() }, "rule `team`; model `b`");
    let stranger = [TenantId(2)];
    check(Asked { headers: &[("X-App", "vision-1")], tenants: &stranger, ..plain() }, "model `a`");
    // A rule that holds and whose target lacks something is passed over.
    let tools = asked(1, &[Feature::Text, Feature::Tools], 100);
    check(Asked { headers: &[("x-beta", "yes")], ..tools }, "model `a`");
    let mut german = plain();
    german.needs.language = Tag::new("de").ok();
    check(german, "rule `german`; model `c`");
}

#[test]
fn nothing_fits_says_what_is_missing_where() {
    let router = router(Route {
        fallbacks: vec![C],
        ..route(vec![Target::stable(A, 1), Target::stable(B, 1)])
    });
    let check = |asked: &Asked<'_>, expect: &str| {
        let error = router.choose("chat", asked, &CALM).unwrap_err();
        assert_eq!(error.to_string(), format!("no model of the route fits the request: {expect}"));
    };
    check(
        &asked(1, &[Feature::Text, Feature::Vision], 12_000),
        "`a` has no vision; `b` has 8192 tokens of context, the request needs 12000; \
         `c` has no vision",
    );
    let unknown = router.choose("gpt-5", &asked(1, &[], 1), &CALM);
    assert_eq!(unknown.unwrap_err(), NoRoute::UnknownModel);
    // The fallback fits where the targets are too small.
    let choice = router.choose("chat", &asked(1, &[Feature::Text], 100_000), &CALM).unwrap();
    assert_eq!((choice.lane, choice.why.by), (C, By::Fallback));
    assert_eq!(choice.fallbacks, []);
    let choice = router.choose("chat", &asked(1, &[Feature::Tools], 100), &CALM).unwrap();
    assert_eq!((choice.lane, choice.fallbacks.as_slice()), (A, [].as_slice()));
    let choice = router.choose("chat", &asked(1, &[Feature::Text], 100), &CALM).unwrap();
    assert_eq!(choice.fallbacks, [C]);
}

#[test]
fn closed_lanes_are_chosen_only_when_no_other_fits() {
    let router = router(route(vec![Target::stable(A, 1), Target::stable(C, 1)]));
    let lanes = |closed: Vec<LaneId>, features: &[Feature]| {
        let now = Now { closed, share: 0.0 };
        let mut lanes: Vec<u32> = (0..100)
            .map(|id| router.choose("chat", &asked(id, features, 10), &now).unwrap().lane.0)
            .collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    };
    assert_eq!(lanes(vec![], &[Feature::Text]), [1, 3]);
    assert_eq!(lanes(vec![A], &[Feature::Text]), [3]);
    assert_eq!(lanes(vec![A, C], &[Feature::Text]), [1, 3]);
    assert_eq!(lanes(vec![A], &[Feature::Tools]), [1]);
}

#[test]
fn an_experiment_keeps_tenants_and_users_where_they_are() {
    let arm = |experiment: &str, sticky: Sticky, weights: (u32, u32), tenant: u32, user: u64| {
        let experiment =
            Some(Experiment { name: Name::from(experiment), salt: Name::default(), by: sticky });
        let targets = vec![Target::stable(A, weights.0), Target::stable(C, weights.1)];
        let router = router(Route { experiment, ..route(targets) });
        let tenants = [TenantId(tenant)];
        let user = Some(user).filter(|user| *user > 0);
        let lanes: Vec<LaneId> = (0..5)
            .map(|id| Asked { tenants: &tenants, user, ..asked(id, &[Feature::Text], 10) })
            .map(|asked| router.choose("chat", &asked, &CALM).unwrap().lane)
            .collect();
        assert!(lanes.windows(2).all(|pair| pair[0] == pair[1]), "{lanes:?}");
        lanes[0]
    };
    let tenants = 0..500;
    let in_c = |name: &str, weights: (u32, u32)| -> Vec<u32> {
        let stays = |tenant: &u32| arm(name, Sticky::Tenant, weights, *tenant, 0) == C;
        tenants.clone().filter(stays).collect()
    };
    let few = in_c("size", (90, 10));
    let many = in_c("size", (70, 30));
    assert!((25..80).contains(&few.len()), "{}", few.len());
    assert!(few.iter().all(|tenant| many.contains(tenant)), "who was in the arm stays there");
    let other = in_c("tone", (70, 30));
    let both = other.iter().filter(|tenant| many.contains(tenant)).count();
    assert!((20..75).contains(&both), "30 % of 30 % are in both: {both}");
    // Users of one tenant are spread; one user's name with another tenant is somebody else.
    let users = (1..200).filter(|user| arm("size", Sticky::User, (1, 1), 3, *user) == C).count();
    assert!((70..130).contains(&users), "{users}");
    let same = |user: &u64| {
        arm("size", Sticky::User, (1, 1), 3, *user) == arm("size", Sticky::User, (1, 1), 4, *user)
    };
    let agreeing = (1..200).filter(same).count();
    assert!((70..130).contains(&agreeing), "{agreeing}");
}

#[test]
fn a_canary_takes_its_share_and_keeps_whom_it_has() {
    let router = router(Route {
        mirror: Some(Mirror { lane: B, basis_points: 10_000 }),
        ..route(vec![Target::stable(A, 1), Target::canary(C)])
    });
    let taken = |share: f64| -> Vec<u64> {
        let now = Now { closed: Vec::new(), share };
        let choose =
            |id: u64| router.choose("chat", &asked(id, &[Feature::Text], 10), &now).unwrap();
        (0..10_000).filter(|id| choose(*id).role == Role::Canary).collect()
    };
    let (few, many) = (taken(0.05), taken(0.25));
    assert!(few.len().abs_diff(500) < 70 && many.len().abs_diff(2500) < 150);
    assert!(few.iter().all(|id| many.contains(id)));
    assert_eq!((taken(0.0).len(), taken(1.0).len()), (0, 10_000));
    let now = Now { closed: Vec::new(), share: 1.0 };
    let choice = router.choose("chat", &asked(3, &[Feature::Text], 10), &now).unwrap();
    assert_eq!(choice.why.to_string(), "route `chat`; canary `c`, 100 %");
    assert_eq!(choice.mirror.unwrap().lane, B);
    // A canary without replicas, or that lacks something, gets nobody.
    let closed = Now { closed: vec![C], share: 1.0 };
    assert_eq!(router.choose("chat", &asked(3, &[Feature::Text], 10), &closed).unwrap().lane, A);
    assert_eq!(router.choose("chat", &asked(3, &[Feature::Tools], 10), &now).unwrap().lane, A);
    // Where only it fits, it does not answer for the others.
    let long = router.choose("chat", &asked(3, &[Feature::Text], 100_000), &now).unwrap_err();
    assert!(
        long.to_string().ends_with("`a` has 32768 tokens of context, the request needs 100000")
    );
}

#[test]
fn a_table_that_cannot_be_is_refused() {
    let check = |routes: Vec<Route>, expect: &str| {
        let error = Router::new(models(), routes).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    };
    let good = || route(vec![Target::stable(A, 1)]);
    let other = Route { name: Name::from("other"), ..good() };
    check(vec![good(), other], "both have the public name `chat`");
    check(vec![route(vec![Target::canary(A)])], "needs a target");
    check(vec![route(vec![Target::stable(A, 0)])], "needs a target");
    check(vec![route(vec![Target::stable(LaneId(9), 1)])], "not there");
    check(vec![Route { fallbacks: vec![LaneId(9)], ..good() }], "not there");
}

proptest! {
    #[test]
    fn whoever_is_chosen_fits_and_who_is_refused_fits_nowhere(
        offers in prop::collection::vec((0usize..1024, prop::option::of(0u64..50_000)), 3),
        needed in 0usize..1024,
        context_tokens in 0u64..60_000,
        weights in (1u32..100, 0u32..100),
        closed in prop::collection::vec(1u32..4, 0..3),
        (id, share) in (any::<u64>(), 0.0..1.0),
    ) {
        let set = |bits: usize| -> Features {
            let held = (0..).zip(Feature::ALL).filter(|(at, _)| bits >> at & 1 == 1);
            held.map(|(_, feature)| feature).collect()
        };
        let mut models = models();
        for (model, (bits, context)) in models.iter_mut().zip(&offers) {
            model.capabilities.features = set(*bits);
            model.capabilities.context_tokens = *context;
        }
        let table = Route {
            fallbacks: vec![B, C],
            ..route(vec![Target::stable(A, weights.0), Target::stable(B, weights.1), Target::canary(C)])
        };
        let router = Router::new(models.clone(), vec![table]).unwrap();
        let mut asked = asked(id, &[], context_tokens);
        asked.needs.features = set(needed);
        let now = Now { closed: closed.into_iter().map(LaneId).collect(), share };
        let lacks = |lane: LaneId| {
            let model = models.iter().find(|model| model.lane == lane);
            model.and_then(|model| model.capabilities.lack(&asked.needs))
        };
        let choice = router.choose("chat", &asked, &now);
        prop_assert_eq!(&choice, &router.choose("chat", &asked, &now));
        match choice {
            Ok(choice) => {
                prop_assert_eq!(lacks(choice.lane), None);
                prop_assert!(choice.fallbacks.iter().all(|lane| lacks(*lane).is_none()));
                prop_assert!(!choice.fallbacks.contains(&choice.lane));
            }
            Err(NoRoute::NothingFits(misfits)) => {
                prop_assert_eq!(misfits.len(), 3);
                prop_assert!([A, B, C].iter().all(|lane| lacks(*lane).is_some()));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
