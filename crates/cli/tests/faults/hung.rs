//! An engine that hangs with a green health check, at a time when nobody streams from it: nothing but its own
//! counter, which stands still, tells that answers in one piece are not being computed. They are tried
//! elsewhere, in time.

use std::time::Duration;

use pilotage_lab::engine::fault::{Rule, When, find};
use pilotage_shell::tasks;

use crate::answer::{Ask, Verdict};
use crate::rig::{Rig, TIMEOUTS, pass, paused};

#[test]
fn whole_answers_of_an_engine_that_hangs_come_from_another_in_time() {
    for warm in [false, true] {
        paused().block_on(async {
            let rig = Rig::new(2).await;
            if warm {
                // Answers came from it before.
                for number in [1, 3, 5, 7] {
                    let ask = Ask { number };
                    assert_eq!(ask.judge(&ask.send(rig.gateway.clone()).await), Verdict::Complete);
                }
                pass(Duration::from_secs(7)).await;
            }
            let fault = find("hung-green-health").unwrap();
            let rule = Rule { fault, when: When::Always };
            rig.engines[0].as_ref().unwrap().set_faults(&[rule]);
            // Odd ones are no streams.
            let asks = [9, 11, 13, 15, 17, 19].map(|number| Ask { number });
            let sent = asks.map(|ask| (ask, tasks::spawn("client", ask.send(rig.gateway.clone()))));
            let mut late = 0;
            for (ask, answer) in sent {
                let answer = answer.await.unwrap().unwrap();
                assert_eq!(ask.judge(&answer), Verdict::Complete, "{ask:?}");
                assert!(answer.took < TIMEOUTS.total, "{ask:?} took {:?}", answer.took);
                late += usize::from(answer.took > Duration::from_secs(1));
            }
            assert!(late > 0, "nobody was at the one that hangs");
            assert_eq!(rig.left().await, None);
        });
    }
}
