//! From a configuration to a running engine: check, load, make the streams, warm up, be ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pilotage_core::{Band, TenantId};
use pilotage_shell::clock::Clock;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::backend::llama::{self, Llama};
use crate::backend::{SharedVocabulary, Vocabulary as _};
use crate::config::{BadSetting, EngineConfig};
use crate::cpu;
use crate::gguf::{self, GgufError};
use crate::job::{Event, Job, JobError, JobId, Token};
use crate::runner::{Engine, Runner};
use crate::sample::Sampling;

/// Why an engine did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// This CPU cannot run the binary.
    #[error("{0}")]
    Cpu(String),
    /// The weights cannot be used.
    #[error("{path} {source}")]
    Weights {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: GgufError,
    },
    /// llama.cpp says no.
    #[error("{path}: {reason}")]
    Library {
        /// The weights.
        path: String,
        /// What it said.
        reason: String,
    },
}

/// Starts an engine on a thread of its own, and returns when it is ready.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: EngineConfig, clock: Clock) -> Result<Engine, StartError> {
    config.check()?;
    cpu::check().map_err(StartError::Cpu)?;
    let (report, started) = oneshot::channel();
    let path = config.model.display().to_string();
    let spawned = std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || serve(&config, clock, report));
    let failed = |reason: String| StartError::Library { path: path.clone(), reason };
    spawned.map_err(|error| failed(error.to_string()))?;
    let engine = started.await.map_err(|_| failed("the engine's thread died".to_owned()))??;
    warm_up(&engine).await.map_err(|error| failed(error.to_string()))?;
    Ok(engine)
}

type Report = oneshot::Sender<Result<Engine, StartError>>;

/// The engine's thread: the model lives here as long as somebody can ask for it.
fn serve(config: &EngineConfig, clock: Clock, report: Report) {
    let path = config.model.display().to_string();
    let library = |error: crate::backend::BackendError| StartError::Library {
        path: path.clone(),
        reason: error.0,
    };
    let checked = gguf::check(&config.model)
        .map_err(|source| StartError::Weights { path: path.clone(), source });
    let loaded = match checked
        .and_then(|()| llama::load(&config.model, config.gpu_layers).map_err(library))
    {
        Ok(loaded) => Arc::new(loaded),
        Err(error) => return drop(report.send(Err(error))),
    };
    let backend = match Llama::new(&loaded, config) {
        Ok(backend) => backend,
        Err(error) => return drop(report.send(Err(library(error)))),
    };
    let facts = loaded.model();
    let batch = config.batch(facts.cell_bytes, facts.recurrent);
    let vocabulary: SharedVocabulary = Arc::clone(&loaded) as SharedVocabulary;
    let (engine, end) = Engine::channel(&batch, Arc::clone(&vocabulary));
    end.ready();
    let runner = Runner::new(backend, batch, end, clock, vocabulary);
    if report.send(Ok(engine)).is_ok() {
        let _guard = AbortOnPanic;
        runner.run();
    }
}

/// A loop that panicked serves nobody: the process ends, and its supervisor starts another.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Computes a few tokens, so that the first request does not pay for memory that is touched for
/// the first time.
async fn warm_up(engine: &Engine) -> Result<(), JobError> {
    let vocabulary = engine.vocabulary();
    let prompt: Arc<[Token]> = vocabulary.tokenize("Hello", true, false).into();
    let prompt = if prompt.is_empty() { Arc::from([0]) } else { prompt };
    let (events, mut happened) = mpsc::unbounded_channel();
    engine.submit(Job {
        id: next_id(),
        origin: None,
        displaces: None,
        tenant: TenantId::default(),
        band: Band::Realtime,
        deadline: None,
        prompt,
        tokens_max: 2,
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        grammar: None,
        stop: Vec::new(),
        logprobs: None,
        reuse_prefix: false,
        ignore_end: true,
        events,
    })?;
    while let Some(event) = happened.recv().await {
        match event {
            Event::Done(_) => return Ok(()),
            Event::Failed(error) => return Err(error),
            Event::Started { .. } | Event::Piece { .. } => {}
        }
    }
    Err(JobError::Draining)
}

/// A job id that was not used before in this process.
pub fn next_id() -> JobId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
