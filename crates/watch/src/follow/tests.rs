//! An API server that answers by a script, and connections whose other end is gone.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind};
use parking_lot::Mutex;
use pilotage_shell::tasks;
use serde_json::json;
use tower::service_fn;

use super::*;

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Answer {
    /// Nothing ever comes.
    Nothing,
    /// This status.
    Status(u16),
    /// The answer begins, and nothing follows.
    Silence,
    /// The answer is over at once.
    Over,
    /// One pod.
    Pods,
}

/// Follows pods for so long, of an API server that answers so: to the calls in their order, and to all
/// further ones by the last. Lists and watches that were called, and what was told.
async fn follow(
    seconds: u64,
    lists: &[Answer],
    watches: &[Answer],
) -> ((usize, usize), Vec<String>) {
    let (calls, told) = calls_of(seconds, lists, watches).await;
    let count = |is_watch| calls.iter().filter(|(of, _)| *of == is_watch).count();
    ((count(false), count(true)), told)
}

/// The same with each call, whether it was a watch, and when it came.
async fn calls_of(
    seconds: u64,
    lists: &[Answer],
    watches: &[Answer],
) -> (Vec<(bool, Duration)>, Vec<String>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (counted, lists, watches) = (Arc::clone(&calls), lists.to_vec(), watches.to_vec());
    let clock = Clock::start();
    let begun = clock.now_nanos();
    let server = service_fn(move |request: Request<Body>| {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let mut calls = counted.lock();
        let count = calls.iter().filter(|(of, _)| *of == is_watch).count();
        let script = if is_watch { &watches } else { &lists };
        calls.push((is_watch, Duration::from_nanos(clock.now_nanos() - begun)));
        answered(script[usize::min(count, script.len() - 1)])
    });
    let client = Client::new(server, "n");
    let of = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let followed = Followed::all("Pod", Api::namespaced_with(client, "n", &of));
    let following = followed.follow(Clock::start(), move |news| {
        tell.lock().push(match news {
            News::All(all) => format!("all {}", all.len()),
            News::Heard => "heard".to_owned(),
            News::Lost(why) => format!("lost: {why}"),
            other => format!("{other:?}"),
        });
    });
    let task = tasks::spawn("follow", following);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    task.abort();
    let (calls, told) = (calls.lock().clone(), told.lock().clone());
    (calls, told)
}

type Answered = Response<UnsyncBoxBody<Bytes, std::io::Error>>;
type Answering = Pin<Box<dyn Future<Output = Result<Answered, std::io::Error>> + Send>>;

fn answered(answer: Answer) -> Answering {
    Box::pin(async move {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}});
        let (status, body) = match answer {
            Answer::Nothing => return std::future::pending().await,
            Answer::Silence => {
                let never = stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
                return Ok(Response::new(StreamBody::new(never).boxed_unsync()));
            }
            Answer::Over => (200, Vec::new()),
            Answer::Status(code) => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "as it is played", "reason": "Played", "code": code});
                (code, status.to_string().into_bytes())
            }
            Answer::Pods => {
                let list = json!({"kind": "PodList", "apiVersion": "v1",
                    "metadata": {"resourceVersion": "7"}, "items": [pod]});
                (200, list.to_string().into_bytes())
            }
        };
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::builder().status(status).body(body).unwrap())
    })
}

#[test]
fn pauses_grow_to_a_limit() {
    for (failures, about) in [(1, 500), (2, 1000), (5, 8000), (50, 30_000)] {
        let found = pause(failures, &Failure::Brief).as_millis();
        assert!((about / 2..=about * 3 / 2).contains(&found), "{failures}: {found}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_answered_is_asked_for_anew() {
    let (calls, told) = follow(60, &[Answer::Nothing, Answer::Pods], &[Answer::Silence]).await;
    assert_eq!(calls, (2, 1));
    let lost = "lost: the API server said nothing for 30 s; it is asked anew";
    assert_eq!(told, [lost, "all 1", "heard"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_does_not_begin_or_falls_silent_is_begun_anew() {
    let watches = [Answer::Nothing, Answer::Silence, Answer::Silence];
    let (calls, told) = follow(400, &[Answer::Pods], &watches).await;
    assert_eq!(calls, (1, 3), "what is known by now is not listed again");
    let lost = |seconds: u32| {
        format!("lost: the API server said nothing for {seconds} s; it is asked anew")
    };
    let expect = ["all 1".to_owned(), lost(30), "heard".to_owned(), lost(300), "heard".to_owned()];
    assert_eq!(told, expect);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_without_a_pause() {
    // Half a second at first, half a minute at last, and each as much as that again or half of it.
    for watch in [Answer::Over, Answer::Status(410), Answer::Status(500)] {
        let ((lists, watches), told) = follow(600, &[Answer::Pods], &[watch]).await;
        assert!((15..70).contains(&watches), "{watches} watches and {lists} lists");
        assert!(lists <= watches + 1, "{told:?}");
    }
}

/// After an outage all is as old as that: only a list makes it new.
#[tokio::test(start_paused = true)]
async fn what_was_forgotten_in_an_outage_is_listed_at_once() {
    let mut watches = vec![Answer::Status(500); 10];
    watches.extend([Answer::Status(410), Answer::Status(500), Answer::Silence]);
    let (calls, told) = calls_of(600, &[Answer::Pods], &watches).await;
    let at = calls.iter().skip(1).position(|(is_watch, _)| !is_watch).unwrap() + 1;
    let since = calls[at].1 - calls[at - 1].1;
    assert_eq!(at, 12, "{calls:?}");
    assert!(since < Duration::from_secs(1), "{since:?} {told:?}");
    // A list that went well ends the outage: what fails then is tried again soon.
    let since = calls[at + 2].1 - calls[at + 1].1;
    assert!(since < Duration::from_secs(1), "{since:?} {told:?}");
}
