//! The whole command against a scripted engine, whose constants are known.

use clap::Parser as _;
use pilotage_lab::engine::model::ModelConfig;
use pilotage_lab::engine::{Engine as Scripted, EngineConfig};
use tokio::net::TcpListener;

use super::*;
use crate::args::{Args, BenchCommand, Command};

/// Seconds for a prompt token and for a step.
const PACE: (f64, f64) = (400e-6, 0.020);

async fn engine() -> Scripted {
    let pace = ModelConfig {
        prefill_token: Duration::from_secs_f64(PACE.0),
        decode_step: Duration::from_secs_f64(PACE.1),
        sequences_max: 4,
        ..ModelConfig::default()
    };
    let config = EngineConfig { pace: Some(pace), ..EngineConfig::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Scripted::start(config, listener, None, Clock::start()).unwrap()
}

fn typed(url: &str, flags: &str) -> BenchCalibrate {
    let line = format!("pilotage bench calibrate {url} {flags}");
    let args = Args::try_parse_from(line.split_whitespace()).unwrap();
    let Command::Bench(bench) = args.command else { unreachable!() };
    let BenchCommand::Calibrate(args) = bench.command else { unreachable!() };
    *args
}

#[tokio::test(start_paused = true)]
async fn the_fit_finds_the_constants_of_a_scripted_engine() {
    let engine = engine().await;
    let args = typed(
        &format!("http://{}", engine.addr()),
        "--seed 1 --repeats 2 --prompts 64,128,256,512,1024,2048",
    );
    let (stored, doubts) = calibrate(&args).await.unwrap();
    assert!(doubts.is_empty(), "{doubts:?}");
    let pace = &stored.fit.pace;
    assert!((pace.token_seconds / PACE.0 - 1.0).abs() < 0.03, "{pace:?}");
    assert!((pace.step(4.0, 300.0) / PACE.1 - 1.0).abs() < 0.05, "{pace:?}");
    assert!(stored.fit.held_out.points >= 3, "{:?}", stored.fit.held_out);
    assert!(stored.fit.held_out.pace.most < 0.05, "{:?}", stored.fit.held_out);
    // Eight at once are more than it computes.
    let apart = |note: &String| note.contains("8 answers at once");
    assert!(stored.notes.iter().any(apart), "{:?}", stored.notes);
    for load in &stored.loads {
        let error = load.pace / load.tokens_per_second - 1.0;
        assert!(error.abs() < 0.25, "{load:?}");
    }
    assert_eq!(stored.subject.runtime, "vllm");
    assert_eq!(stored.subject.model, "scripted");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_others_use_is_in_doubt() {
    let engine = engine().await;
    let url = format!("http://{}", engine.addr());
    let other = async {
        let args = typed(&url, "");
        let target = target(&args, "scripted", None, true).unwrap();
        let body = target.body(&[(pilotage_lab::load::Role::User, "x".repeat(64))], 100_000);
        let mut client = pilotage_shell::client::Client::new().unwrap();
        let request = http::Request::post(format!("{url}/v1/chat/completions"))
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let response = client_ask(&mut client, request).await;
        // The answer is not read: it goes on.
        std::future::pending::<()>().await;
        drop(response);
    };
    let args = typed(&url, "--seed 1 --repeats 1 --concurrencies 1,2,3");
    let measured = tokio::select! {
        measured = calibrate(&args) => measured.unwrap(),
        () = other => unreachable!(),
    };
    assert!(measured.1.iter().any(|doubt| matches!(doubt, Doubt::Busy(..))), "{:?}", measured.1);
}

async fn client_ask(
    client: &mut pilotage_shell::client::Client,
    request: http::Request<bytes::Bytes>,
) -> http::Response<pilotage_shell::client::Incoming> {
    client.request(request).await.unwrap()
}

#[tokio::test]
async fn nobody_there_is_said() {
    let args = typed("http://127.0.0.1:9", "");
    let error = calibrate(&args).await.unwrap_err().to_string();
    assert!(error.contains("cannot ask"), "{error}");
}

#[tokio::test]
async fn a_password_in_an_address_is_refused() {
    let args = typed("http://me:secret@127.0.0.1:9/v1", "");
    let error = calibrate(&args).await.unwrap_err().to_string();
    assert!(error.contains("no password") && !error.contains("secret"), "{error}");
}

#[test]
fn hardware_and_weights_come_together() {
    for flags in ["--hardware l4", "--weights m.gguf", "--name x", "--answer 2", "--repeats 0"] {
        let line = format!("pilotage bench calibrate http://host {flags}");
        assert!(Args::try_parse_from(line.split_whitespace()).is_err(), "{flags}");
    }
}
