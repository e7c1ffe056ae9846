//! What is typed is what is played and sent, and what comes out can be acted on.

use std::fs;
use std::process::Command as Process;
use std::time::Duration;

use clap::Parser as _;
use pilotage_lab::engine::fault::{self, When};
use pilotage_lab::engine::{AnswerShape, Engine, EngineConfig};
use pilotage_plan::parse_all;
use pilotage_shell::clock::Clock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::args::{Args, Command, PlanCommand};
use crate::calibrations::tests::{KEPT, keep};

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024,
"intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 8,
"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16",
"tie_word_embeddings": true, "hidden_act": "silu", "attention_bias": false, "mlp_bias": false}"#;

fn typed(flags: &str) -> PlanTune {
    let line = format!("pilotage plan tune {flags}");
    let args = Args::try_parse_from(line.split_whitespace()).unwrap();
    let Command::Plan(plan) = args.command else { unreachable!() };
    let Some(PlanCommand::Tune(args)) = plan.command else { unreachable!() };
    *args
}

/// A folder with a model's facts and nothing else, and an empty data directory in it.
fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    let flags = format!("{0} --data-dir {0}/data", folder.path().display());
    (folder, flags)
}

/// A server that answers at once with so many tokens.
async fn server(model: &str, faults: &[(&str, When)], chunks: u32) -> (Engine, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rule = |(name, when): &(&str, When)| fault::rule(name, *when).unwrap();
    let config = EngineConfig {
        model: model.to_owned(),
        // With no time between tokens there would be none to compare.
        answer: AnswerShape {
            chunks,
            chunk_gap: Duration::from_millis(2),
            ..AnswerShape::default()
        },
        faults: faults.iter().map(rule).collect(),
        record: true,
        ..EngineConfig::default()
    };
    let engine = Engine::start(config, listener, None, Clock::start()).unwrap();
    let url = format!("http://{}", engine.addr());
    (engine, url)
}

/// A server that ends each answer after so many tokens, however many are asked for.
async fn curt(tokens: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    pilotage_shell::tasks::spawn("curt server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 1 << 16];
            let count = stream.read(&mut bytes).await.unwrap_or(0);
            let (kind, body) = match bytes.get(..count) {
                Some(head) if head.starts_with(b"GET") => {
                    ("application/json", r#"{"object":"list","data":[{"id":"m"}]}"#.to_owned())
                }
                _ => {
                    let token =
                        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
                    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
                    (
                        "text/event-stream",
                        format!("{}data: {end}\n\ndata: [DONE]\n\n", token.repeat(tokens)),
                    )
                }
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    url
}

#[test]
fn what_is_typed_is_played_and_repeated() {
    let args = typed("m --hardware l4x2 --rate 5 --prompt 100 --answer 20 --seconds 30 --ttft 500");
    let scenario = scenario(&args).unwrap();
    assert!((100..200).contains(&scenario.arrivals.len()), "{}", scenario.arrivals.len());
    assert!(scenario.arrivals.iter().all(|one| (one.input, one.output) == (100, 20)));
    let check = |flags: &str| {
        let args = typed(flags);
        let again = replay(&args).replace('\'', "");
        let again = typed(again.strip_prefix("pilotage plan tune ").unwrap());
        assert_eq!(format!("{again:?}"), format!("{args:?}"));
    };
    check("m --hardware l4x2 --rate 5 --prompt 100 --answer 20 --seconds 30 --ttft 500");
    check("m --hardware l4 --nodes 2 --accelerators 12 --scenario s.yaml --goal cost --price 2.5");
    check("m --hardware l4 --trace t.csv --trace-format own --speedup 2 --limit 9 --goal latency");
    check(
        "--endpoint a=http://a:1,cost=2 --endpoint b=http://b:1,cost=3 --served-model m --ask completions",
    );
    check(
        "m --hardware l4 --endpoint http://a:1,tp=2 --key-env KEY --warm-up 3 --timeout 20 --tpot 50",
    );
}

#[test]
fn hints_do_not_contradict_what_is_wrong() {
    let check = |flags: &str, expect: &str| {
        let error = scenario(&typed(&format!("m --hardware l4 {flags}"))).unwrap_err();
        let hint = error.downcast_ref::<Wrong>().map(|wrong| format!("{wrong:?}"));
        assert!(hint.as_ref().is_some_and(|hint| hint.contains(expect)), "{flags}: {hint:?}");
    };
    check("--rate 1000000 --seconds 86400", "lower --rate");
    check("--rate 0.0001 --seconds 1", "raise --rate");
}

#[test]
fn mistakes_name_their_flag() {
    let check = |flags: &str, expect: &str| {
        let args = typed(&format!("m --hardware l4 {flags}"));
        let error = scenario(&args).and_then(|_| Ok(limits(&args)?));
        let error = error.unwrap_err();
        assert!(error.downcast_ref::<Wrong>().is_some(), "{flags}");
        assert!(error.to_string().contains(expect), "{flags}: {error}");
    };
    check("--rate 0", "--rate");
    check("--ttft 0", "--ttft");
    check("--price 0", "--price");
    check("--scenario no-such-file", "no-such-file");
    check("--trace no-such-file", "no-such-file");
    check("--trace /dev/zero", "no regular file");
    let refused = |flags: &str| {
        let line = format!("pilotage plan tune {flags}");
        assert!(Args::try_parse_from(line.split_whitespace()).is_err(), "{flags}");
    };
    refused("");
    refused("m");
    refused("--hardware l4");
    refused("m --endpoint http://a");
    refused("m --hardware l4 --trace t --rate 3");
    refused("m --hardware l4 --speedup 2");
    refused("m --hardware l4 --served-model m");
}

#[test]
fn traces_are_played_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, flags: &str, expect: Result<&[(f64, u32, u32)], &str>| {
        let path = folder.path().join("trace");
        fs::write(&path, text).unwrap();
        let args = typed(&format!("m --hardware l4 --trace {} {flags}", path.display()));
        match (scenario(&args), expect) {
            (Ok(found), Ok(expect)) => {
                let of =
                    |one: &Arrival| (pilotage_sim::arrival::seconds(one.at), one.input, one.output);
                assert_eq!(found.arrivals.iter().map(of).collect::<Vec<_>>(), expect);
            }
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (found, expect) => {
                panic!("{text}: {:?}, expected {expect:?}", found.map(|one| one.arrivals))
            }
        }
    };
    let own = "at_s,input,output\n0,10,2\n4,20,3\n6,30,4\n";
    check(own, "", Ok(&[(0.0, 10, 2), (4.0, 20, 3), (6.0, 30, 4)]));
    check(own, "--speedup 2 --limit 2", Ok(&[(0.0, 10, 2), (2.0, 20, 3)]));
    let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,374,44\n2023-11-16 18:15:48.5,396,109\n";
    check(azure, "", Ok(&[(0.0, 374, 44), (2.0, 396, 109)]));
    check("a,b\n1,2\n", "", Err("how"));
    check("a,b\n1,2\n", "--trace-format own", Err("expected"));
}

#[tokio::test]
async fn one_shape_is_recommended_with_a_manifest_that_is_one() {
    let (_folder, model) = folder();
    let check = async |flags: &str, expect: &str| {
        let args = typed(&format!("{model} --rate 2 --seconds 5 --prompt 100 --answer 10 {flags}"));
        let shown = search(&args).await.unwrap();
        assert!(shown.tried.iter().any(|one| one.best), "{flags}");
        let picked = shown.picked.as_ref().unwrap();
        assert!(shown.tried[picked.place].best);
        let all = shown.launch.join("\n");
        assert!(all.contains(expect), "{flags}: {all}");
        let at = shown.launch.iter().position(|line| line == "manifest");
        let manifest = at.map(|at| shown.launch[at + 1..].join("\n")).unwrap();
        let found = parse_all([("printed", manifest.as_str())]);
        assert!(found.is_ok(), "{manifest}\n{found:?}");
        assert!(shown.page().contains("Take TP"));
        assert_eq!(shown.json()["recommended"]["reason"], picked.reason.as_str());
    };
    check("--hardware l4x2 --goal cost", "vllm serve").await;
    check("--hardware l4x2 --goal latency --accelerators 2", "batchTokens").await;
    check("--hardware h100-sxmx2 --runtime sglang", "sglang").await;
}

#[tokio::test]
async fn the_context_has_room_for_a_template() {
    let (_folder, model) = folder();
    let check = async |prompt: u32, expect: u64| {
        let flags = "--hardware l4 --rate 1 --seconds 9 --answer 10 --accelerators 1";
        let args = typed(&format!("{model} {flags} --prompt {prompt}"));
        let shown = search(&args).await.unwrap();
        let line = format!("context: {expect}");
        assert!(shown.launch.iter().any(|one| one.trim() == line), "{:?}", shown.launch);
        assert!(shown.notes.iter().any(|note| note.contains(&format!("context of {expect}"))));
    };
    check(100, 256).await;
    check(118, 256).await;
    check(119, 512).await;
    check(4000, 4096).await;
}

#[tokio::test]
async fn what_cannot_be_is_not_tried() {
    let (_folder, model) = folder();
    let check = async |flags: &str, expect: [&str; 2]| {
        let args = typed(&format!("{model} --rate 1 --seconds 9 {flags}"));
        let error = search(&args).await.err().unwrap();
        let told = error.downcast_ref::<Wrong>().map(|wrong| format!("{wrong:?}")).unwrap();
        assert!(expect.iter().all(|expect| told.contains(expect)), "{flags}: {told}");
    };
    check("--hardware l4 --prompt 9000", ["9256 tokens", "--prompt or --answer"]).await;
    check("--hardware mi300x --runtime trtllm", ["TensorRT-LLM", "pilotage plan"]).await;
}

#[tokio::test]
async fn servers_are_measured_and_compared_with_what_was_predicted() {
    let (_folder, model) = folder();
    let (fast, url) = server("m", &[], 8).await;
    let (other, other_url) = server("another", &[], 8).await;
    // It refuses what warms it up, until it is not told how answers end.
    let (_picky, picky_url) = server("m", &[("client-error", When::First(2))], 8).await;
    let (_broken, broken_url) = server("m", &[("engine-dead", When::Always)], 8).await;
    let flags = format!(
        "{model} --hardware l4 --rate 20 --seconds 1 --prompt 40 --answer 8 --served-model m --warm-up 2 --timeout 5 \
         --endpoint fast={url},tp=1 --endpoint other={other_url},tp=1 --endpoint broken={broken_url},tp=1 \
         --endpoint gone=http://127.0.0.1:1,tp=1 --endpoint picky={picky_url},tp=2 --price 2 --goal cost"
    );
    let args = typed(&flags);
    let shown = search(&args).await.unwrap();
    let sent = scenario(&args).unwrap().arrivals.len();
    let [one, wrong, broken, gone, picky] = &shown.tried[..] else { panic!("{:?}", shown.tried) };
    assert_eq!((one.failed.as_deref(), one.origin, one.best), (None, Origin::Measured, true));
    assert_eq!((one.outcome.requests, one.outcome.lost), (sent as u64, 0));
    assert_eq!(one.cost.map(pilotage_sim::report::Rounded::get), Some(2.0));
    assert_eq!(one.predicted.map(|predicted| predicted.requests), Some(sent as u64));
    assert!(one.errors().iter().all(Option::is_some), "{one:?}");
    let lengths = one.notes.iter().any(|note| note.starts_with("answers"));
    assert!(!lengths, "{:?}", one.notes);
    let why = |one: &Tried, expect: &str| {
        let failed = one.failed.as_deref().unwrap_or_default();
        assert!(failed.contains(expect) && !one.best, "{one:?}");
    };
    why(wrong, "it serves another, and not m");
    why(broken, "status 500");
    why(gone, "cannot ask");
    assert_eq!((picky.failed.as_deref(), picky.outcome.lost), (None, 0));
    // The other model is not asked for anything but its name.
    assert!(other.seen().is_empty());
    // Warm-ups came first, and everything went on to its end.
    assert_eq!(fast.seen().len(), sent + 2);
    assert_eq!(shown.picked.as_ref().map(|pick| pick.place), Some(0));
    let at = shown.launch.iter().position(|line| line == "manifest").unwrap();
    let manifest = shown.launch[at + 1..].join("\n");
    assert!(manifest.contains(&format!("url: '{url}'")) && manifest.contains("servedModel: 'm'"));
    assert!(parse_all([("printed", manifest.as_str())]).is_ok(), "{manifest}");
    let page = shown.page();
    for words in ["measured", "Hollow", "it serves another, and not m", "TTFT predicted"] {
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(shown.json()["shapes"][0]["origin"], "measured");
}

#[tokio::test]
async fn what_answers_nothing_or_little_is_not_taken() {
    let empty = curt(0).await;
    let short = curt(3).await;
    let (_whole, whole) = server("m", &[], 8).await;
    let args = typed(&format!(
        "--rate 20 --seconds 1 --prompt 40 --answer 8 --warm-up 2 --timeout 5 \
         --endpoint empty={empty} --endpoint short={short} --endpoint whole={whole}"
    ));
    let shown = search(&args).await.unwrap();
    let [empty, short, whole] = &shown.tried[..] else { panic!("{:?}", shown.tried) };
    let why = empty.failed.as_deref().unwrap_or_default();
    assert!(why.contains("2 × an answer without tokens"), "{empty:?}");
    assert!(short.notes.iter().any(|note| note.contains("too short")), "{short:?}");
    assert_eq!([empty.best, short.best, whole.best], [false, false, true]);
    assert_eq!(shown.picked.as_ref().map(|pick| pick.place), Some(2));
}

#[test]
fn only_keys_that_are_named_are_sent() {
    const KEY: &str = "PILOTAGE_API_KEY";
    if crate::installation::key_from_env().is_none() {
        // Again, where there is one that could be sent.
        let name = "cmd::plan::tune::tests::only_keys_that_are_named_are_sent";
        let mut again = Process::new(std::env::current_exe().unwrap());
        let again = again.args(["--exact", name]).env(KEY, "gateway").output().unwrap();
        let told = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let args = typed("--endpoint a=http://a --endpoint b=http://b,key-env=CARGO_PKG_NAME");
    let scenario = scenario(&args).unwrap();
    let asking = Asking::new(&args, &scenario, limits(&args).unwrap()).unwrap();
    let endpoints = endpoint::read_all(&args.endpoints, None).unwrap();
    let keys: Vec<Option<String>> = endpoints
        .iter()
        .map(|one| asking.key(one).unwrap().map(|key| key.expose().to_owned()))
        .collect();
    assert_eq!(keys, [None, Some("pilotage-cli".to_owned())]);
}

#[tokio::test]
async fn without_a_server_that_answers_it_is_a_failure() {
    let args = typed("--endpoint gone=http://127.0.0.1:1 --rate 20 --seconds 1");
    assert_eq!(run(&args).await.unwrap_err().to_string(), "no server could be measured");
}

#[tokio::test]
async fn a_calibration_in_the_data_directory_is_what_shapes_are_tried_with() {
    let (folder, model) = folder();
    let facts = crate::cmd::plan::facts_of(&folder.path().display().to_string()).await.unwrap();
    let of_it = KEPT
        .replace("PARAMETERS", &facts.parameters.to_string())
        .replace("BYTES", &facts.weights.total().to_string());
    let flags = |hardware: &str| {
        format!(
            "{model} --hardware {hardware} --accelerators 1 --rate 1 --seconds 4 --prompt 900 --answer 4"
        )
    };
    let data_dir = folder.path().join("data");
    let found = async |hardware: &str| {
        let args = typed(&flags(hardware));
        let shown = search(&args).await.unwrap();
        (shown.tried[0].outcome.ttft_p99.get(), shown.calibrated.clone(), shown.about.clone())
    };
    let (assumed, none, about) = found("l4").await;
    assert_eq!(none, None);
    assert!(about.contains("without measurements"), "{about}");
    // One of another model changes nothing.
    keep(&data_dir, "other", KEPT);
    assert_eq!(found("l4").await.1, None);
    keep(&data_dir, "tuned", &of_it);
    let (measured, when, about) = found("l4").await;
    assert_eq!(when.as_deref(), Some("2031-05-04T03:02:01Z"));
    assert!(about.contains("calibrated by measurements of 2031"), "{about}");
    assert!(measured > assumed * 2.0, "it is much slower: {assumed} {measured}");
    assert_eq!(found("a10g").await.1, None, "other hardware");
    // `plan MODEL` takes the same one.
    let line = format!("pilotage plan {model} --hardware l4 --runtime vllm");
    let args = Args::try_parse_from(line.split_whitespace()).unwrap();
    let Command::Plan(plan) = args.command else { unreachable!() };
    let taken = crate::cmd::plan::taken(plan.model, &facts).unwrap();
    assert_eq!(taken, (0.05, Some("2031-05-04T03:02:01Z".to_owned())));
}
