//! One thing that an engine is told about an adapter. It goes on beside everything else: SGLang unloads an adapter only
//! when the last request for it has ended.

use std::path::{Path, PathBuf};

use pilotage_plan::adapters::Listed;

use super::Step;
use super::engine::{Engine, says_absent};

/// What an engine is told.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) step: Step,
    /// What it has under that name.
    pub(super) before: Option<PathBuf>,
    /// Whom it is for.
    pub(super) of: Option<Listed>,
    /// Which engine is told: the one after so many ends.
    pub(super) life: u64,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) errand: Errand,
    /// What the engine has under that name now.
    pub(super) has: Option<PathBuf>,
    /// Why it did not do as it was told.
    pub(super) why: Option<String>,
}

impl Errand {
    /// The folders that an engine may read meanwhile.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let new = match &self.step {
            Step::Off(_) => None,
            Step::Swap(_, folder) | Step::On(_, folder) => Some(folder),
        };
        self.before.iter().chain(new).cloned().collect()
    }

    pub(super) async fn run(self, engine: &impl Engine) -> Ended {
        let (has, why) = match &self.step {
            Step::Off(name) => match off(engine, name).await {
                Ok(()) => (None, None),
                Err(why) => (self.before.clone(), Some(why)),
            },
            Step::On(name, folder) => on(engine, name, folder, None).await,
            Step::Swap(name, folder) => match off(engine, name).await {
                Ok(()) => on(engine, name, folder, self.before.as_deref()).await,
                Err(why) => {
                    let why = format!("the engine does not unload the former one: {why}");
                    (self.before.clone(), Some(why))
                }
            },
        };
        Ended { errand: self, has, why }
    }
}

/// Has the engine forget an adapter. One that it does not have is forgotten: an answer may have been lost.
async fn off(engine: &impl Engine, name: &str) -> Result<(), String> {
    match engine.unload(name).await {
        Err(why) if says_absent(&why) => Ok(()),
        result => result,
    }
}

/// What the engine has then: where it refuses, what was there before, if that can be told.
async fn on(
    engine: &impl Engine,
    name: &str,
    folder: &Path,
    before: Option<&Path>,
) -> (Option<PathBuf>, Option<String>) {
    let Err(why) = load(engine, name, folder).await else {
        return (Some(folder.to_owned()), None);
    };
    let why = Some(format!("the engine does not load it: {}", advised(&why)));
    match before.filter(|before| before.is_absolute()) {
        Some(before) if engine.load(name, before).await.is_ok() => (Some(before.to_owned()), why),
        _ => (None, why),
    }
}

/// Has the engine load it, also where it has something under that name that it does not list.
async fn load(engine: &impl Engine, name: &str, folder: &Path) -> Result<(), String> {
    match engine.load(name, folder).await {
        Err(why) if why.to_ascii_lowercase().contains("already") => {
            off(engine, name).await?;
            engine.load(name, folder).await
        }
        result => result,
    }
}

/// What an engine says when it refuses, with what helps where that is known.
fn advised(why: &str) -> String {
    let is_about = |word: &str| why.to_ascii_lowercase().contains(word);
    if is_about("rank") {
        let advice = "give the Model a higher one, as in `runtimeArgs: [--max-lora-rank, '64']`";
        return format!("{why}; {advice}");
    }
    why.to_owned()
}
