//! The loop on the fake backend: jobs go in, events come out, places are given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pilotage_core::{Band, TenantId};
use pilotage_shell::clock::Clock;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{Engine, Runner};
use crate::backend::SharedVocabulary;
use crate::backend::fake::{Ascii, END, Fake, next};
use crate::config::EngineConfig;
use crate::job::{Done, Event, Finish, Job, JobError, Token};
use crate::sample::Sampling;
use crate::start::next_id;

/// A running engine on the fake backend, and the switch that makes a computation fail.
pub(crate) fn engine(slots: u32, queue_max: u32) -> (Engine, Arc<AtomicBool>) {
    let config =
        EngineConfig { slots, queue_max, context: 256, ..EngineConfig::new("fake".into(), 1) };
    let batch = config.batch(1, false);
    let vocabulary: SharedVocabulary = Arc::new(Ascii::default());
    let (engine, end) = Engine::channel(&batch, Arc::clone(&vocabulary));
    end.ready();
    let backend = Fake::new(slots);
    let fails = Arc::clone(&backend.fails);
    let clock = Clock::start();
    std::thread::spawn(move || Runner::new(backend, batch, end, clock, vocabulary).run());
    (engine, fails)
}

fn job(prompt: &str, tokens_max: u32) -> (Job, UnboundedReceiver<Event>) {
    let (events, happened) = mpsc::unbounded_channel();
    let job = Job {
        id: next_id(),
        origin: None,
        displaces: None,
        tenant: TenantId(0),
        band: Band::Standard,
        deadline: None,
        prompt: prompt.bytes().map(Token::from).collect(),
        tokens_max,
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        grammar: None,
        stop: Vec::new(),
        logprobs: None,
        reuse_prefix: true,
        ignore_end: false,
        events,
    };
    (job, happened)
}

/// The whole text and how it ended.
async fn outcome(mut happened: UnboundedReceiver<Event>) -> (String, Result<Done, JobError>) {
    let mut text = String::new();
    while let Some(event) = happened.recv().await {
        match event {
            Event::Started { .. } => assert_eq!(text, "", "started after it began"),
            Event::Piece { text: more, .. } => text.push_str(&more),
            Event::Done(done) => return (text + &done.text.clone(), Ok(done)),
            Event::Failed(error) => return (text, Err(error)),
        }
    }
    panic!("the events ended without an end");
}

/// What the fake model answers by itself.
fn answer(prompt: &str, tokens_max: usize) -> (String, usize) {
    let mut tokens: Vec<Token> = prompt.bytes().map(Token::from).collect();
    let mut text = String::new();
    for count in 1..=tokens_max {
        let token = next(&tokens);
        if token == END {
            return (text, count);
        }
        text.push(char::from(token as u8));
        tokens.push(token);
    }
    (text, tokens_max)
}

#[tokio::test]
async fn every_job_gets_the_models_own_answer_whatever_runs_beside_it() {
    let (engine, _) = engine(3, 64);
    let mut outcomes = Vec::new();
    for number in 0..40 {
        let prompt =
            format!("a common beginning that is long enough to be shared, number {}", number % 7);
        let (job, happened) = job(&prompt, 5 + number);
        engine.submit(job).unwrap();
        outcomes.push((prompt, 5 + number as usize, outcome(happened)));
    }
    for (prompt, most, outcome) in outcomes {
        let (text, done) = outcome.await;
        let (expect, tokens) = answer(&prompt, most);
        assert_eq!(text, expect);
        assert_eq!(done.unwrap().tokens as usize, tokens);
    }
    engine.drain().await;
    assert_eq!((engine.stats().running.get(), engine.stats().cells_held.get()), (0, 0));
    assert!(engine.stats().prefix_hits.get() > 0);
}

#[tokio::test]
async fn answers_end_by_length_stop_text_and_grammar() {
    let (engine, _) = engine(2, 8);
    let (full, _) = answer("hello", 12);
    let (long, happened) = job("hello", 3);
    engine.submit(long).unwrap();
    let (text, done) = outcome(happened).await;
    assert_eq!((text.as_str(), done.unwrap().finish), (&full[..3], Finish::Length));

    let (mut stopping, happened) = job("hello", 12);
    stopping.stop = vec![full[2..4].to_owned()];
    engine.submit(stopping).unwrap();
    let (text, done) = outcome(happened).await;
    let done = done.unwrap();
    assert_eq!(
        (text.as_str(), done.finish, done.stop.as_deref()),
        (&full[..2], Finish::Stop, Some(&full[2..4]))
    );

    let (mut digits, happened) = job("hello", 12);
    digits.grammar = Some("4".to_owned());
    engine.submit(digits).unwrap();
    let (text, done) = outcome(happened).await;
    assert!(text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    assert_eq!(done.unwrap().finish, Finish::Stop);

    let (mut bad, happened) = job("hello", 12);
    bad.grammar = Some("x".to_owned());
    engine.submit(bad).unwrap();
    assert!(matches!(outcome(happened).await.1, Err(JobError::BadGrammar(_))));
}

#[tokio::test]
async fn a_failed_step_ends_its_jobs_and_nothing_else() {
    let (engine, fails) = engine(2, 8);
    fails.store(true, Ordering::SeqCst);
    let (unlucky, happened) = job("hello", 5);
    engine.submit(unlucky).unwrap();
    assert!(matches!(outcome(happened).await.1, Err(JobError::Compute(_))));
    let (lucky, happened) = job("hello", 5);
    engine.submit(lucky).unwrap();
    assert_eq!(outcome(happened).await.0, answer("hello", 5).0);
}

#[tokio::test]
async fn places_are_limited_and_given_back() {
    let (engine, _) = engine(1, 2);
    let mut kept = Vec::new();
    let full = loop {
        let (mut job, happened) = job("x", 200);
        job.ignore_end = true;
        match engine.submit(job) {
            Ok(()) => kept.push(happened),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "no limit");
    };
    assert!(matches!(full, JobError::QueueFull { .. }));
    drop(kept);
    // The abandoned jobs leave within a step each; then everybody fits again.
    let (last, happened) = loop {
        let (job, happened) = job("y", 3);
        match engine.submit(job) {
            Ok(()) => break ((), happened),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let () = last;
    assert_eq!(outcome(happened).await.0, answer("y", 3).0);
    engine.drain().await;
    assert_eq!(engine.stats().waiting.get() + engine.stats().running.get(), 0);
}

#[tokio::test]
async fn draining_finishes_what_is_there_and_takes_nothing_more() {
    let (engine, _) = engine(2, 8);
    let (running, happened) = job("hello", 100);
    engine.submit(running).unwrap();
    let (late, _) = job("late", 1);
    let (outcome, ()) = tokio::join!(outcome(happened), engine.drain());
    assert_eq!(outcome.0, answer("hello", 100).0);
    assert_eq!(engine.submit(late), Err(JobError::Draining));
    assert!(!engine.is_ready());
}

#[tokio::test]
async fn embeddings_come_in_order() {
    let (engine, _) = engine(1, 8);
    let vectors = engine.embed(vec![vec![1, 2, 3], vec![1]]).await.unwrap();
    assert_eq!(vectors, [vec![3.0, 0.0], vec![1.0, 0.0]]);
}
