//! The driver without its handle: what it keeps, and what it forgets.

use pilotage_core::{Band, Capacity, Failure, Refusal, TenantId, Tokens, Told};
use pilotage_shell::metrics::Metrics;

use super::*;
use crate::metrics::GatewayMetrics;

fn driver() -> Driver {
    let name = "lane".to_owned();
    let gauges = GatewayMetrics::new(&Metrics::new()).lane(&name);
    Driver::new(name, Scheduler::new(SchedulerConfig::default()), Clock::start(), gauges)
}

fn up(driver: &mut Driver, id: u32, name: &str) {
    let url = "http://127.0.0.1:1".to_owned();
    let replica = Replica::at(name, url, Capacity::of_requests(1));
    driver.take(Message::Up(ReplicaId(id), Arc::new(replica)));
}

fn arrive(driver: &mut Driver, id: u64) -> mailbox::Receiver<Turn> {
    let (say, turns) = mailbox::new();
    let request = Request::new(RequestId(id), TenantId(0), Band::Standard, Tokens::default());
    driver.take(Message::Arrive(request, Prompt::default(), say));
    turns
}

fn fail(driver: &mut Driver, id: u64) {
    let failure = Failure::before_answer(FailureKind::Server);
    driver.take(Message::Happened(Input::Failed { id: RequestId(id), failure }));
}

#[tokio::test]
async fn replicas_that_come_back_leave_nothing_behind() {
    let mut driver = driver();
    up(&mut driver, 1, "other");
    for id in 2..100 {
        up(&mut driver, id, "one");
        driver.take(Message::Down(ReplicaId(id)));
    }
    assert_eq!(driver.replicas.len(), 2);
    assert_eq!(driver.status().replicas.len(), 2);
}

#[tokio::test]
async fn of_replicas_that_never_come_back_the_last_are_shown() {
    let mut driver = driver();
    up(&mut driver, 1, "stays");
    for id in 2..100 {
        up(&mut driver, id, &format!("at-{id}"));
        driver.take(Message::Down(ReplicaId(id)));
    }
    up(&mut driver, 100, "new");
    let mut ids: Vec<u32> = driver.status().replicas.iter().map(|replica| replica.id).collect();
    ids.sort_unstable();
    let last = 100 - u32::try_from(GONE_MAX).unwrap();
    assert_eq!(ids, [1].into_iter().chain(last..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_that_ended_leave_nothing_behind() {
    let mut driver = driver();
    up(&mut driver, 1, "one");
    let (mut first, mut second) = (arrive(&mut driver, 1), arrive(&mut driver, 2));
    driver.take(Message::Happened(Input::Finished { id: RequestId(1), tokens: None }));
    driver.take(Message::Happened(Input::Cancel { id: RequestId(2) }));
    assert!(matches!(first.recv().await, Some(Turn::Go(_))));
    assert!(matches!(second.recv().await, Some(Turn::Go(_))));
    assert!(first.recv().await.is_none() && second.recv().await.is_none());
    assert!(driver.waiters.is_empty() && driver.scheduler.live() == 0);
}

#[tokio::test]
async fn only_requests_at_the_replica_learn_that_it_is_gone() {
    let mut driver = driver();
    up(&mut driver, 1, "one");
    up(&mut driver, 2, "two");
    let (mut here, mut elsewhere) = (arrive(&mut driver, 1), arrive(&mut driver, 2));
    let mut queued = arrive(&mut driver, 3);
    driver.take(Message::Down(ReplicaId(1)));
    let said = |turns: &mut mailbox::Receiver<Turn>| {
        std::iter::from_fn(|| turns.try_recv())
            .map(|turn| match turn {
                Turn::Go(go) => go.replica.name.to_string(),
                Turn::Lost => "lost".to_owned(),
                Turn::Stop(reason) => reason.name().to_owned(),
                Turn::Refused(refusal) => refusal.to_string(),
                Turn::Interrupted(kind) => format!("{kind:?}"),
                Turn::Hedge => "hedge".to_owned(),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(said(&mut here), ["one", "lost"]);
    assert_eq!(said(&mut elsewhere), ["two"]);
    assert!(said(&mut queued).is_empty());
    // One that failed on its own and is elsewhere by now has lost nothing.
    up(&mut driver, 3, "three");
    up(&mut driver, 4, "four");
    assert_eq!(said(&mut queued), ["three"]);
    fail(&mut driver, 2);
    driver.take(Message::Down(ReplicaId(2)));
    assert_eq!(said(&mut elsewhere), ["four"]);
}

#[tokio::test]
async fn what_a_replica_told_counts_though_another_attempt_outran_the_one_told() {
    let gauges = GatewayMetrics::new(&Metrics::new()).lane("lane");
    let health = Some(pilotage_core::health::BoardConfig::default());
    let config = (SchedulerConfig { health, ..SchedulerConfig::default() }, TenantTree::default());
    let client = Client::new().unwrap();
    let lane = LaneHandle::start("lane".to_owned(), config, client, Clock::start(), gauges);
    let url = "http://127.0.0.1:1".to_owned();
    lane.replica_up(ReplicaId(1), Replica::at("one", url, Capacity::of_requests(1)));
    let request = Request::new(RequestId(1), TenantId(0), Band::Standard, Tokens::default());
    let mut ticket = lane.arrive(request, Prompt::default());
    ticket.turn().await.unwrap();
    ticket.heard(Told { retry_after: Some(Span::from_secs(20)), is_refused: false });
    ticket.outrun(Some(FailureKind::Overloaded));
    let request = Request::new(RequestId(2), TenantId(0), Band::Standard, Tokens::default());
    let deadline = Some(Time::ZERO);
    let mut late = lane.arrive(Request { deadline, ..request }, Prompt::default());
    match late.turn().await.map(|go| go.attempt) {
        Err(Refusal::DeadlinePassed { retry_after, .. }) => {
            assert!(retry_after >= Span::from_secs(15), "{retry_after:?}");
        }
        other => panic!("{other:?}"),
    }
}
