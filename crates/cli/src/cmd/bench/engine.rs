//! `pilotage bench engine`: scripted engines on consecutive ports, until a signal.

use std::net::SocketAddr;

use anyhow::Context as _;
use pilotage_lab::engine::fault::table::FAULTS;
use pilotage_lab::engine::fault::{self, When};
use pilotage_lab::engine::model::ModelConfig;
use pilotage_lab::engine::{AnswerShape, Engine, EngineConfig, KvEvents, Layout};
use pilotage_shell::clock::Clock;
use pilotage_shell::{signals, telemetry};
use tokio::net::TcpListener;

use crate::args::{BenchEngine, EngineKind};
use crate::exit::Wrong;
use crate::output;

/// Serves until a signal.
pub(crate) fn run(args: BenchEngine) -> anyhow::Result<()> {
    if args.list_faults {
        list();
        return Ok(());
    }
    telemetry::init();
    let mut runtime = if args.threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let threads = usize::from(args.threads);
    runtime.worker_threads(threads).enable_all().build()?.block_on(serve(args))
}

async fn serve(args: BenchEngine) -> anyhow::Result<()> {
    let clock = Clock::start();
    let mut signals = signals::Shutdown::listen()?;
    let mut engines = Vec::new();
    for index in 0..args.count {
        let listener = listen(&args, args.port, index).await?;
        let events = kv_events(&args, index).await?;
        engines.push(Engine::start(config(&args)?, listener, events, clock)?);
    }
    for engine in &engines {
        output::line(&format!("http://{}", engine.addr()));
    }
    signals.next().await;
    Ok(())
}

async fn listen(args: &BenchEngine, first: u16, index: u16) -> anyhow::Result<TcpListener> {
    let port = first.checked_add(index).context("there are no ports above 65535")?;
    let at = SocketAddr::new(args.host, port);
    let listener = TcpListener::bind(at).await;
    listener.map_err(|error| {
        Wrong::new(format!("cannot listen on {at}: {error}")).hint("choose another port").into()
    })
}

async fn kv_events(args: &BenchEngine, index: u16) -> anyhow::Result<Option<KvEvents>> {
    let Some(first) = args.pace.kv_events_port else { return Ok(None) };
    Ok(Some(KvEvents {
        listener: listen(args, first, index).await?,
        topic: args.pace.kv_events_topic.clone(),
        layout: if args.pace.kv_events_named { Layout::Named } else { Layout::Array },
    }))
}

fn config(args: &BenchEngine) -> anyhow::Result<EngineConfig> {
    let pace = &args.pace;
    let when = When::Chance { probability: args.fault_probability, seed: args.fault_seed };
    let rules = args.faults.iter().map(|name| {
        fault::rule(name, when).map_err(|error| {
            Wrong::new(error.to_string()).hint("`pilotage bench engine --list-faults` names them")
        })
    });
    Ok(EngineConfig {
        model: args.model.clone(),
        adapters: args.adapters.clone(),
        answer: AnswerShape {
            chunks: args.chunks,
            chunk_bytes: args.chunk_bytes,
            first_gap: args.first_gap,
            chunk_gap: args.chunk_gap,
            chunks_per_write: args.chunks_per_write,
        },
        pace: match args.kind {
            EngineKind::Instant => None,
            EngineKind::Vllm => Some(ModelConfig {
                sequences_max: pace.sequences.max(1),
                prefill_token: pace.prefill,
                decode_step: pace.decode,
                step_tokens_max: pace.step_tokens as usize,
                blocks: pace.blocks,
                ..ModelConfig::default()
            }),
        },
        faults: rules.collect::<Result<_, _>>()?,
        record: false,
    })
}

fn list() {
    let rows: Vec<Vec<String>> = FAULTS
        .iter()
        .map(|fault| {
            [fault.id, fault.name, fault.does, fault.expect.words].map(str::to_owned).to_vec()
        })
        .collect();
    output::table(&["ID", "FAULT", "THE ENGINE", "CLIENTS OF A GATEWAY"], &rows);
}
