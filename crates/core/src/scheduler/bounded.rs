//! Requests that may go to some replicas only: they wait for those, and nobody waits for them.

use super::*;
use crate::route::{Bar, Bounds, Prompt};
use crate::scheduler::explain::Closed;
use crate::{Capacity, Site, Tokens};

const TENANT: TenantId = TenantId(0);
const HELD: ReplicaId = ReplicaId(1);
const FREE: ReplicaId = ReplicaId(2);

struct World {
    scheduler: Scheduler,
    now: Time,
    ids: u64,
}

impl World {
    /// Two replicas with so many places each.
    fn new(places: [u32; 2]) -> Self {
        let mut scheduler = Scheduler::new(SchedulerConfig::default());
        let tenants = TenantTree::new([crate::TenantShare::top(TENANT)]).unwrap();
        scheduler.set_tenants(Time::ZERO, tenants);
        let mut world = Self { scheduler, now: Time::from_millis(10), ids: 0 };
        for (replica, places) in [HELD, FREE].into_iter().zip(places) {
            let capacity = Capacity::of_requests(places);
            world.scheduler.handle(world.now, Input::ReplicaUp { replica, capacity });
        }
        world
    }

    fn ask(&mut self, band: Band, bounds: Bounds) -> RequestId {
        self.ids += 1;
        let id = RequestId(self.ids);
        let tokens = Tokens { input: 10, cached: 0, output: 10 };
        let deadline = Some(self.now + Span::from_secs(60));
        let stop = Stop::BeforeFirstToken;
        let request = Request { deadline, stop, ..Request::new(id, TENANT, band, tokens) };
        self.scheduler.arrive_with(self.now, request, Prompt { bounds, ..Prompt::default() });
        id
    }

    /// What it says, without ends.
    fn said(&mut self) -> Vec<Output> {
        self.now = self.now + Span::from_millis(500);
        self.scheduler.handle(self.now, Input::Tick);
        let mut said = Vec::new();
        while let Some(output) = self.scheduler.poll(self.now) {
            said.push(output);
        }
        assert_eq!(crate::invariant::check(&self.scheduler), []);
        said
    }

    /// Where each goes that goes anywhere.
    fn sent(&mut self) -> Vec<(RequestId, ReplicaId)> {
        let sent = self.said().into_iter().filter_map(|output| match output {
            Output::Dispatch { id, replica, .. } => Some((id, replica)),
            _ => None,
        });
        sent.collect()
    }
}

fn kept() -> Bounds {
    Bounds { among: Some([HELD].into()), ..Bounds::default() }
}

fn adapter(adapter: u64) -> Bounds {
    Bounds { adapter, ..Bounds::default() }
}

#[test]
fn nobody_waits_behind_one_whose_replicas_are_full() {
    // Full, and none at all while it drains.
    for places in [1, 0] {
        let mut world = World::new([places, 8]);
        let first = world.ask(Band::Standard, kept());
        world.said();
        let waits = world.ask(Band::Realtime, kept());
        let passes = world.ask(Band::Standard, Bounds::default());
        assert_eq!(world.sent(), [(passes, FREE)], "{places}");
        if places == 1 {
            world.scheduler.handle(world.now, Input::Finished { id: first, tokens: None });
            assert_eq!(world.sent(), [(waits, HELD)]);
        }
    }
}

#[test]
fn room_is_made_where_the_urgent_one_may_go() {
    let mut world = World::new([1, 1]);
    let other = world.ask(Band::Bulk, Bounds { among: Some([FREE].into()), ..Bounds::default() });
    let there = world.ask(Band::Bulk, kept());
    assert_eq!(world.sent().len(), 2);
    let urgent = world.ask(Band::Realtime, kept());
    let stopped = world.said().into_iter().find_map(|output| match output {
        Output::Stop { id, replica, .. } => Some((id, replica)),
        _ => None,
    });
    assert_eq!(stopped, Some((there, HELD)));
    world.scheduler.handle(world.now, Input::Stopped { id: there });
    assert_eq!(world.sent(), [(urgent, HELD)]);
    // Nothing that runs elsewhere is stopped for one that cannot go there.
    world.scheduler.handle(world.now, Input::FirstToken { id: urgent });
    world.ask(Band::Realtime, kept());
    assert!(!world.said().iter().any(|output| matches!(output, Output::Stop { .. })));
    assert!(world.scheduler.live[&other].running.is_some());
}

#[test]
fn who_has_an_adapter_is_asked_when_it_is_its_turn() {
    let mut world = World::new([1, 1]);
    world.scheduler.list_adapters(HELD, vec![7]);
    world.scheduler.list_adapters(FREE, vec![]);
    let first = world.ask(Band::Standard, adapter(7));
    assert_eq!(world.sent(), [(first, HELD)]);
    let second = world.ask(Band::Standard, adapter(7));
    assert_eq!(world.sent(), []);
    world.scheduler.list_adapters(FREE, vec![7]);
    assert_eq!(world.sent(), [(second, FREE)]);
}

#[test]
fn one_that_refused_an_adapter_is_asked_again_later_or_when_it_lists_it() {
    let mut world = World::new([8, 8]);
    let pause = Span::from_secs(5);
    world.scheduler.adapter_refused(world.now, HELD, 7, pause);
    for _ in 0..4 {
        let id = world.ask(Band::Standard, adapter(7));
        assert_eq!(world.sent(), [(id, FREE)]);
    }
    world.scheduler.adapter_refused(world.now, FREE, 7, pause);
    let waits = world.ask(Band::Standard, adapter(7));
    assert_eq!(world.sent(), []);
    let other = world.ask(Band::Standard, adapter(8));
    assert_eq!(world.sent().iter().map(|sent| sent.0).collect::<Vec<_>>(), [other]);
    world.scheduler.list_adapters(HELD, vec![7]);
    assert_eq!(world.sent(), [(waits, HELD)]);
    world.now = world.now + pause;
    world.scheduler.handle(world.now, Input::ReplicaDown { replica: HELD });
    let last = world.ask(Band::Standard, adapter(7));
    assert_eq!(world.sent(), [(last, FREE)]);
}

#[test]
fn an_explanation_says_where_a_request_may_not_go() {
    let mut world = World::new([8, 8]);
    let site = Site { passes_on: true, only_by_us: true, ..Site::default() };
    world.scheduler.handle(world.now, Input::Located { replica: FREE, site });
    world.scheduler.list_adapters(FREE, vec![]);
    let check = |world: &World, bounds: Bounds, expect: Option<Bar>| {
        let tokens = Tokens { input: 1, cached: 0, output: 1 };
        let request = Request::new(RequestId(9), TENANT, Band::Standard, tokens);
        let prompt = Prompt { bounds, ..Prompt::default() };
        let told = world.scheduler.explain(world.now, &request, &prompt);
        let closed = |id| told.replicas.iter().find(|one| one.id == id).unwrap().closed;
        assert_eq!(closed(FREE), expect.map(Closed::Barred));
        assert_eq!(closed(HELD), None);
    };
    check(&world, Bounds::default(), None);
    check(&world, kept(), Some(Bar::LeftOut));
    check(&world, adapter(7), Some(Bar::Adapter));
    check(&world, Bounds { stays: true, ..Bounds::default() }, Some(Bar::PassesOn));
    check(&world, Bounds { by_proxy: true, ..Bounds::default() }, Some(Bar::ByProxy));
}

#[test]
fn more_urgent_ones_pass_one_that_has_waited_long() {
    let mut world = World::new([1, 1]);
    world.ask(Band::Standard, kept());
    world.said();
    world.ask(Band::Standard, kept());
    for _ in 0..30 {
        let urgent = world.ask(Band::Realtime, Bounds::default());
        assert_eq!(world.sent(), [(urgent, FREE)]);
        world.scheduler.handle(world.now, Input::Finished { id: urgent, tokens: None });
    }
}

#[test]
fn however_many_wait_for_one_replica_others_go_elsewhere() {
    let mut world = World::new([1, 1]);
    world.ask(Band::Standard, kept());
    world.said();
    for _ in 0..200 {
        world.ask(Band::Standard, kept());
    }
    assert_eq!(world.sent(), []);
    // Without a deadline that the length of the queue would call unreachable.
    let last = RequestId(1000);
    let tokens = Tokens { input: 10, cached: 0, output: 10 };
    let request = Request::new(last, TENANT, Band::Standard, tokens);
    world.scheduler.arrive_with(world.now, request, Prompt::default());
    assert_eq!(world.sent(), [(last, FREE)]);
}

#[test]
fn what_is_too_large_for_its_replica_now_is_passed_elsewhere_and_not_there() {
    let mut world = World::new([8, 8]);
    for replica in [HELD, FREE] {
        let capacity = Capacity { tokens_max: 100, ..Capacity::of_requests(8) };
        world.scheduler.handle(world.now, Input::ReplicaUp { replica, capacity });
    }
    let there = world.ask(Band::Standard, kept());
    let other =
        world.ask(Band::Standard, Bounds { among: Some([FREE].into()), ..Bounds::default() });
    assert_eq!(world.sent().len(), 2);
    world.ids += 1;
    let id = RequestId(world.ids);
    let tokens = Tokens { input: 85, cached: 0, output: 10 };
    let large = Request::new(id, TENANT, Band::Standard, tokens);
    let prompt = Prompt { bounds: kept(), ..Prompt::default() };
    world.scheduler.arrive_with(world.now, large, prompt);
    let small_there = world.ask(Band::Standard, kept());
    let small = world.ask(Band::Standard, Bounds::default());
    assert_eq!(world.sent(), [(small, FREE)]);
    world.scheduler.handle(world.now, Input::Finished { id: other, tokens: None });
    assert_eq!(world.sent(), [], "nobody takes what the large one waits for");
    world.scheduler.handle(world.now, Input::Finished { id: there, tokens: None });
    assert_eq!(world.sent(), [(id, HELD)]);
    world.scheduler.handle(world.now, Input::Finished { id, tokens: None });
    assert_eq!(world.sent(), [(small_there, HELD)]);
}

#[test]
fn one_that_was_not_asked_to_stop_waits_as_long_as_before() {
    let mut world = World::new([1, 0]);
    let id = world.ask(Band::Standard, adapter(7));
    assert_eq!(world.sent(), [(id, HELD)]);
    world.scheduler.adapter_refused(world.now, HELD, 7, Span::from_secs(600));
    world.scheduler.handle(world.now, Input::Stopped { id });
    assert_eq!(world.sent(), []);
    world.now = world.now + Span::from_secs(60);
    let ended = world
        .said()
        .into_iter()
        .any(|output| matches!(output, Output::End { id: which, .. } if which == id));
    assert!(ended);
}
