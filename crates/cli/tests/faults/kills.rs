//! Engines that are killed one right after the other under load, and started again: no client notices,
//! whether the news of a death comes before its broken connections or long after them, or never, because
//! they run elsewhere and are back at their addresses.

use std::time::Duration;

use pilotage_gateway::{Gateway, Resume};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::tasks;

use crate::answer::{Ask, Verdict};
use crate::rig::{AT_ONCE, Rig, config, engine, engine_at, pass, paused};

const ENGINES: usize = 3;

/// How long an engine takes to start again.
const START: Duration = Duration::from_secs(1);

/// Engines are killed so long after each other, and each death is told so long after it.
async fn killed(rig: &mut Rig, apart: Duration, news_after: Duration) {
    for index in 0..ENGINES {
        rig.engines[index] = None;
        pass(news_after).await;
        rig.down(index);
        pass(apart).await;
    }
    pass(START).await;
    for index in 0..ENGINES {
        let engine = engine().await;
        rig.up(index + ENGINES, &format!("http://{}", engine.addr()));
        rig.engines[index] = Some(engine);
    }
}

/// The same, and nobody tells of it: they are back where they were.
async fn killed_elsewhere(rig: &mut Rig, apart: Duration) {
    let mut places = Vec::new();
    for engine in &mut rig.engines {
        places.extend(engine.take().map(|engine| engine.addr()));
        pass(apart).await;
    }
    pass(START).await;
    for (engine, place) in rig.engines.iter_mut().zip(places) {
        *engine = Some(engine_at(place).await);
    }
}

/// Engines die so long after clients asked, so long after each other; their deaths are told so long
/// after each, if they are.
fn check(begun: Duration, apart: Duration, news_after: Option<Duration>) {
    paused().block_on(async {
        let mut config = config();
        config.lanes[0].resume = Resume::Text;
        config.lanes[0].resume_from = 1;
        config.lanes[0].scheduler.deaths_told = news_after.is_some();
        let gateway = Gateway::new(config, Clock::start(), Metrics::new()).unwrap();
        let mut rig = Rig { gateway, engines: Vec::new() };
        for index in 0..ENGINES {
            let engine = engine().await;
            rig.up(index, &format!("http://{}", engine.addr()));
            rig.engines.push(Some(engine));
        }
        let asks = (0..AT_ONCE).map(|number| Ask { number });
        let sent: Vec<_> =
            asks.map(|ask| (ask, tasks::spawn("client", ask.send(rig.gateway.clone())))).collect();
        pass(begun).await;
        match news_after {
            Some(news_after) => killed(&mut rig, apart, news_after).await,
            None => killed_elsewhere(&mut rig, apart).await,
        }
        for (ask, answer) in sent {
            let answer = answer.await.unwrap().unwrap();
            let verdict = ask.judge(&answer);
            // What a scripted engine says to the text so far differs from what it would have gone on to
            // say; streams of several answers cannot go on, and say so.
            let resumed = ask.stream() && verdict == Verdict::Other;
            let cannot = ask.number % 8 == 4 && verdict == Verdict::Terminal;
            let said = String::from_utf8_lossy(&answer.body);
            assert!(
                verdict == Verdict::Complete || resumed || cannot,
                "{begun:?} {apart:?} {news_after:?}, {ask:?}: {verdict:?} {}",
                &said[said.len().saturating_sub(600)..]
            );
        }
        assert_eq!(rig.left().await, None);
    });
}

#[test]
fn all_engines_killed_back_to_back_lose_no_request() {
    for begun in [1, 4, 9, 15, 25] {
        for apart in [0, 3, 20, 500] {
            for news_after in [0, 2, 100] {
                let [begun, apart, news_after] =
                    [begun, apart, news_after].map(Duration::from_millis);
                check(begun, apart, Some(news_after));
            }
        }
    }
}

#[test]
fn nor_do_engines_elsewhere_of_whose_deaths_nobody_tells() {
    for begun in [1, 4, 9, 15, 25] {
        for apart in [0, 3, 20, 500] {
            check(Duration::from_millis(begun), Duration::from_millis(apart), None);
        }
    }
}
