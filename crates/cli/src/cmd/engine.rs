//! `pilotage engine`: one engine in this process, or its speed.

use std::time::Duration;

use anyhow::Context as _;
use pilotage_engine::server::Api;
use pilotage_engine::{EngineConfig, bench};
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::ServeLimits;
use pilotage_shell::{signals, tasks, telemetry};
use tokio_util::sync::CancellationToken;

use crate::args::{Engine, EngineBench, EngineCommand, EngineServe};
use crate::exit::Wrong;
use crate::output::{self, Format};
use crate::progress::Shown;
use crate::store;

/// Serves until a signal, or measures.
pub(crate) fn run(args: Engine) -> anyhow::Result<()> {
    telemetry::init();
    // llama.cpp's threads do the work; HTTP for one gateway needs little.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        Some(EngineCommand::Bench(args)) => runtime.block_on(measure(args)),
        None => runtime.block_on(serve(args.serve)),
    }
}

async fn serve(args: EngineServe) -> anyhow::Result<()> {
    let key = env::get(Var::EngineKey).filter(|key| !key.is_empty()).map(Secret::new);
    let Some(key) = key else {
        return Err(Wrong::new(
            "PILOTAGE_ENGINE_KEY is not set, and an engine serves nobody without a key",
        )
        .hint("choose a long random one, and send it as `Authorization: Bearer KEY`")
        .into());
    };
    let mut signals = signals::Shutdown::listen()?;
    let stop = CancellationToken::new();
    let listen = args.listen;
    let config = config(args)?;
    let (name, context) = (config.served_name.clone(), config.context);
    let clock = Clock::start();
    drop(tasks::spawn("parent", outlive_nobody(stop.clone())));
    let engine = tokio::select! {
        engine = pilotage_engine::start(config, clock) => engine.map_err(|error| Wrong::new(error.to_string()))?,
        signal = signals.next() => {
            tracing::info!(signal, "stopping before it was ready");
            return Ok(());
        }
    };
    let api = Api::new(engine, name, context, Some(key.hash()), clock)
        .context("the model's chat template is not valid")?;
    let stopping = stop.clone();
    drop(tasks::spawn("signals", async move {
        let signal = signals.next().await;
        tracing::info!(signal, "draining");
        stopping.cancel();
    }));
    api.serve(listen, ServeLimits::default(), stop)
        .await
        .with_context(|| format!("cannot listen on {listen}"))
}

/// How often an engine looks whether its parent is still there.
const PARENT_LOOK: Duration = Duration::from_millis(500);

/// How long an engine without a parent may go on.
const ORPHAN_LIFE: Duration = Duration::from_secs(5);

/// Ends the process when the one that started it is gone: killed, it cannot say so, and nobody else
/// would ever stop an engine.
async fn outlive_nobody(stop: CancellationToken) {
    let supervisor = env::get(Var::Supervisor).and_then(|pid| pid.parse::<i32>().ok());
    let Some(supervisor) = supervisor else { return };
    let parent = || rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    while parent() == Some(supervisor) {
        tokio::time::sleep(PARENT_LOOK).await;
    }
    // Not a word in the log: its reader is gone, too, and a failed write would end this task.
    stop.cancel();
    tokio::time::sleep(ORPHAN_LIFE).await;
    // Requests of a gateway that is gone have nobody to be answered to.
    std::process::abort();
}

fn config(args: EngineServe) -> anyhow::Result<EngineConfig> {
    let model = args.model.context("--model is missing")?;
    let mut config = EngineConfig::new(model, args.threads.unwrap_or_else(cores));
    let set = |field: &mut u32, value: Option<u32>| *field = value.unwrap_or(*field);
    set(&mut config.slots, args.parallel);
    set(&mut config.context, args.context);
    set(&mut config.step_tokens, args.batch_tokens);
    set(&mut config.queue_max, args.queue_max);
    config.served_name = args.served_name.unwrap_or(config.served_name);
    config.gpu_layers = args.gpu_layers;
    config.check().map_err(|error| Wrong::new(error.to_string()))?;
    Ok(config)
}

async fn measure(args: EngineBench) -> anyhow::Result<()> {
    let (model, _held) = match args.model {
        Some(model) => (model, None),
        None => {
            let weights = super::model::built_in()?;
            let store = store::open()?;
            let held = store.hold(&weights, "pilotage engine bench", &Shown::default()).await?;
            (held.path.clone(), Some(held))
        }
    };
    let threads = args.threads.unwrap_or_else(cores);
    let mut rows = Vec::new();
    for parallel in args.parallel {
        let plan = bench::Plan {
            parallel,
            prompt_tokens: args.prompt_tokens,
            output_tokens: args.output_tokens,
        };
        let mut config = EngineConfig::new(model.clone(), threads);
        config.step_tokens = args.batch_tokens.unwrap_or(config.step_tokens);
        rows.push(
            bench::run(config, plan, Clock::start())
                .await
                .map_err(|error| Wrong::new(error.to_string()))?,
        );
    }
    match args.output {
        Format::Json => output::json(&rows)?,
        Format::Table => {
            let row = |row: &bench::Row| {
                vec![
                    row.parallel.to_string(),
                    format!("{:.1}", row.prefill_tokens_per_s),
                    format!("{:.1}", row.decode_tokens_per_s),
                ]
            };
            let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
            output::table(&["PARALLEL", "PREFILL TOK/S", "DECODE TOK/S"], &rows);
        }
    }
    Ok(())
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}
