//! Reading models from a server that has them, or has them not.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use parking_lot::Mutex;
use pilotage_plan::hardware::Accelerator;
use pilotage_plan::launch::{Features, Weights};
use pilotage_plan::select::{Aim, Question, propose};
use pilotage_plan::size::{Calibration, Config, Format, Goal, Quantization, Ranks, Task};
use pilotage_shell::client::Client;

use super::fetch::{Place, Remote};
use super::{read, show};

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
"intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
"vocab_size": 256, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16",
"tie_word_embeddings": true, "hidden_act": "silu", "attention_bias": false, "mlp_bias": false}"#;

/// Parameters that it describes.
const ELEMENTS: u64 = 90_432;

/// What a server answers for a path.
#[derive(Clone)]
enum Answer {
    /// The file, by ranges.
    Ranges(Vec<u8>),
    /// The file, whole, whatever was asked for.
    Whole(Vec<u8>),
    /// A status alone.
    Status(&'static str),
    /// Somewhere else.
    Redirect(&'static str),
}

/// Answers one request a connection; gives its address and what it was asked.
fn server(files: Vec<(&'static str, Answer)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    drop(std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap_or("").to_owned();
            let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
            seen.lock().push(format!("{path} {}", range.unwrap_or("-")));
            let found = files.iter().find(|(name, _)| path.ends_with(name));
            let answer =
                found.map_or(Answer::Status("404 Not Found"), |(_, answer)| answer.clone());
            let _ = stream.write_all(&response(&answer, range));
        }
    }));
    (address, asked)
}

fn response(answer: &Answer, range: Option<&str>) -> Vec<u8> {
    let (head, body): (String, &[u8]) = match answer {
        Answer::Status(status) => (status.to_string(), b""),
        Answer::Redirect(to) => (format!("302 Found\r\nlocation: {to}"), b""),
        Answer::Whole(bytes) => ("200 OK".to_owned(), bytes),
        Answer::Ranges(bytes) => {
            let (from, to) = range.unwrap().split_once('-').unwrap();
            let from: usize = from.parse().unwrap();
            let end = (to.parse::<usize>().unwrap() + 1).min(bytes.len());
            let head = format!(
                "206 Partial Content\r\ncontent-range: bytes {from}-{}/{}",
                end - 1,
                bytes.len()
            );
            (head, &bytes[from..end])
        }
    };
    let head =
        format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn place(base: String) -> Place {
    let repository = Some("owner/repo".to_owned());
    Place::Remote(Remote { client: Client::new().unwrap(), base, token: None, repository })
}

/// A safetensors file of one tensor whose data is not there.
fn safetensors(elements: u64) -> Vec<u8> {
    let header = format!(
        r#"{{"model.embed_tokens.weight":{{"dtype":"BF16","shape":[{elements}],"data_offsets":[0,{}]}}}}"#,
        elements * 2
    );
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

#[tokio::test]
async fn only_headers_are_asked_for() {
    let mut weights = safetensors(ELEMENTS);
    weights.resize(weights.len() + 2 * ELEMENTS as usize, 0);
    let (address, asked) = server(vec![
        ("config.json", Answer::Ranges(CONFIG.into())),
        ("model.safetensors", Answer::Ranges(weights)),
    ]);
    let facts = read::folder(&place(address), false).await.unwrap();
    assert_eq!(facts.format, Format::Safetensors);
    assert_eq!(facts.weights.total(), 2 * ELEMENTS);
    let asked = asked.lock();
    let ranges: Vec<&str> = asked
        .iter()
        .filter(|line| line.contains("model.safetensors "))
        .map(String::as_str)
        .collect();
    assert_eq!(ranges.first(), Some(&"/model.safetensors 0-7"));
    assert!(ranges.len() == 2 && ranges[1].starts_with("/model.safetensors 8-"), "{ranges:?}");
}

#[tokio::test]
async fn a_server_without_ranges_is_cut_short() {
    let mut weights = safetensors(ELEMENTS);
    weights.resize(weights.len() + 2 * ELEMENTS as usize, 0);
    let (address, _) = server(vec![
        ("config.json", Answer::Whole(CONFIG.into())),
        ("model.safetensors", Answer::Whole(weights)),
    ]);
    let facts = read::folder(&place(address), false).await.unwrap();
    assert_eq!(facts.weights.total(), 2 * ELEMENTS);
}

#[tokio::test]
async fn an_index_is_enough_for_many_files() {
    let files: Vec<String> =
        (1..=20).map(|n| format!(r#""t{n}":"model-{n:05}-of-00020.safetensors""#)).collect();
    let index =
        format!(r#"{{"metadata":{{"total_size":16000000}},"weight_map":{{{}}}}}"#, files.join(","));
    let (address, asked) = server(vec![
        ("config.json", Answer::Ranges(CONFIG.into())),
        ("index.json", Answer::Ranges(index.into())),
    ]);
    let facts = read::folder(&place(address), false).await.unwrap();
    assert!(facts.weights.total().abs_diff(16_000_000) < 16, "{:?}", facts.weights);
    assert_eq!(facts.quantization, Quantization::None);
    assert_eq!(asked.lock().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let check = async |files: Vec<(&'static str, Answer)>, expect: &str| {
        let (address, _) = server(files);
        let error = read::folder(&place(address), false).await.unwrap_err();
        assert!(format!("{error:#}").contains(expect), "{error:#}");
    };
    check(vec![], "owner/repo has no config.json, or is not there").await;
    let gated = Answer::Status("401 Unauthorized");
    check(vec![("config.json", gated)], "owner/repo is gated, private or not there").await;
    let gated = Answer::Status("403 Forbidden");
    check(vec![("config.json", gated)], "owner/repo is gated, private or not there").await;
    let busy = Answer::Status("503 Service Unavailable");
    check(vec![("config.json", busy)], "try again later").await;
    let circle = Answer::Redirect("/config.json");
    check(vec![("config.json", circle)], "more than 5 redirects").await;
    let page = Answer::Ranges(b"<html>".to_vec());
    check(vec![("config.json", page)], "config.json").await;
    let config = ("config.json", Answer::Ranges(CONFIG.into()));
    let hostile = (1_u64 << 63).to_le_bytes().to_vec();
    check(vec![config.clone(), ("model.safetensors", Answer::Ranges(hostile))], "at most").await;
    let part = ("model.safetensors", Answer::Ranges(safetensors(16_384)));
    check(vec![config.clone(), part], "missing: 2 of 2 layers, first layer 0").await;
    let cut = safetensors(1000)[..20].to_vec();
    check(vec![config, ("model.safetensors", Answer::Ranges(cut))], "cut off").await;
}

#[test]
fn proposals_read_well() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../plan/tests/size/models");
    let cases = [
        ("llama-3.1-8b", "l4", 1, 16),
        ("llama-3.1-405b", "h100-sxm", 1, 16),
        ("llama-3.1-405b", "h100-sxm", 2, 16),
        ("deepseek-v3", "h200", 1, 64),
        ("gpt-oss-120b", "mi300x", 1, 2000),
        ("bert-base-uncased", "xeon-amx", 1, 4),
        ("mixtral-8x7b", "v100-32", 1, 4),
    ];
    let mut text = String::new();
    for (model, hardware, nodes, concurrency) in cases {
        let config = std::fs::read(format!("{folder}/{model}.json")).unwrap();
        let facts = Config::parse(&config).unwrap().facts().unwrap();
        let accelerator = *Accelerator::by_id(hardware).unwrap();
        let context = facts.context_max.unwrap_or(8192).min(8192);
        let question = Question {
            facts: &facts,
            served: model.to_owned(),
            weights: Weights::Local,
            accelerator,
            nodes,
            features: Features { task: facts.task, ..Features::default() },
            aim: Aim::Balance,
            asked: None,
            version: None,
            goal: Goal {
                context,
                prompt: context.min(1024) / 2,
                answer: if facts.task == Task::Generate { 128 } else { 0 },
                concurrency,
                ttft_seconds: None,
                tpot_seconds: None,
                tokens_per_second: None,
                requests_per_second: None,
            },
            calibration: Calibration::assumed(&accelerator),
            ranks: Ranks::default(),
        };
        let lines = match propose(&question) {
            Ok(proposal) => show::lines(&question, &proposal, "/models/it"),
            Err(error) => {
                let headline = show::headline(&question, &error);
                std::iter::once(headline).chain(show::refusal_lines(&question, &error)).collect()
            }
        };
        text.push_str(&format!("# {model} on {nodes} × {hardware}\n{}\n\n", lines.join("\n")));
    }
    insta::assert_snapshot!(text);
}
