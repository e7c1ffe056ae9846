//! From a specification to a running process: which file its program is, what the words in its arguments
//! stand for, and who looks after it when this process is gone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pilotage_plan::render::process::{EVENTS, PORT, SCRATCH, WEIGHTS};
use pilotage_plan::render::{ProcessSpec, Program, Secret};
use pilotage_shell::{env, port};
use tokio::process::{Child, Command};

use super::{Machine, program};

/// A process that was started.
pub(super) struct Launched {
    pub(super) child: Child,
    /// Where it takes requests.
    pub(super) url: String,
    /// Where it tells what its KV cache holds, if it was told a port for that.
    pub(super) events_url: Option<String>,
}

/// What words in braces stand for.
struct Words {
    port: u16,
    events: Option<u16>,
    weights: String,
    scratch: PathBuf,
}

impl Words {
    fn replace(&self, text: &str) -> String {
        let text = text.replace(PORT, &self.port.to_string()).replace(WEIGHTS, &self.weights);
        let text = text.replace(SCRATCH, &self.scratch.to_string_lossy());
        self.events.map_or_else(|| text.clone(), |port| text.replace(EVENTS, &port.to_string()))
    }
}

/// Starts a process under its own name.
///
/// # Errors
/// It has no program, or the system says no.
pub(super) fn start(
    machine: &Machine,
    name: &str,
    spec: &ProcessSpec,
    weights: &Path,
) -> io::Result<Launched> {
    let wants_events = spec.args.iter().any(|arg| arg.contains(EVENTS));
    let words = Words {
        port: port::free()?,
        events: if wants_events { Some(port::free()?) } else { None },
        weights: weights.to_string_lossy().into_owned(),
        scratch: machine.logs.with_file_name("scratch").join(name),
    };
    write_files(spec, &words)?;
    let mut command = command(machine, spec)?;
    if spec.program != Program::Own {
        hide(&machine.hidden_env.lock(), &mut command);
    }
    command
        .args(spec.args.iter().map(|arg| words.replace(arg)))
        .envs(spec.env.iter().map(|(name, value)| (name, words.replace(value))))
        .envs(secrets(machine, spec))
        .env("PILOTAGE_SUPERVISOR", std::process::id().to_string())
        .env_remove("PILOTAGE_API_KEY")
        .env_remove("PILOTAGE_ADMIN_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C in the terminal is for us: the children are drained, not interrupted. And whoever
        // it starts can be found, and ended, by the group.
        .process_group(0)
        // A warden that is killed can end nobody; left alone, it sees that we are gone.
        .kill_on_drop(machine.warden.is_none() || spec.program == Program::Own);
    let child = command.spawn().map_err(|error| {
        let program = Path::new(command.as_std().get_program()).display();
        io::Error::new(error.kind(), format!("{program}: {error}"))
    })?;
    let events_url = words.events.map(|port| format!("tcp://{}:{port}", spec.host));
    Ok(Launched { child, url: format!("http://{}:{}", spec.host, words.port), events_url })
}

/// Takes from the environment what is not the business of somebody else's program: it gets no secrets but
/// those that it is given.
fn hide(hidden: &BTreeSet<String>, command: &mut Command) {
    let secrets = env::TABLE.iter().filter(|variable| variable.secret);
    for name in secrets.map(|variable| variable.name).chain(hidden.iter().map(String::as_str)) {
        command.env_remove(name);
    }
}

/// The program, behind a warden where it is somebody else's: our own looks after itself.
fn command(machine: &Machine, spec: &ProcessSpec) -> io::Result<Command> {
    let program = match &spec.program {
        Program::Own => return Ok(Command::new(&machine.own)),
        Program::Path(path) => PathBuf::from(path),
        Program::Named { name, home } => {
            program::find(name, home.as_deref().map(Path::new), &machine.search_path)?
        }
    };
    let mut command = match &machine.warden {
        Some(warden) => {
            let mut command = Command::new(warden);
            command.args(["warden", "--"]).arg(&program);
            command
        }
        None => Command::new(&program),
    };
    if let Some(path) = program::search_path(&program, &machine.search_path) {
        command.env("PATH", path);
    }
    Ok(command)
}

fn secrets(machine: &Machine, spec: &ProcessSpec) -> Vec<(String, OsString)> {
    let value = |secret: &Secret| match secret {
        Secret::EngineKey => Some(machine.engine_key.expose().into()),
        Secret::HubToken => machine.hub_token.as_ref().map(|token| token.expose().into()),
    };
    spec.secrets.iter().filter_map(|(name, kind)| Some((name.clone(), value(kind)?))).collect()
}

fn write_files(spec: &ProcessSpec, words: &Words) -> io::Result<()> {
    for (path, content) in &spec.files {
        let relative = path.strip_prefix(SCRATCH).unwrap_or(path).trim_start_matches('/');
        let path = words.scratch.join(relative);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, words.replace(content))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_environment_are_taken_from_it() {
        let mut command = Command::new("x");
        hide(&["PROVIDER_KEY".to_owned()].into(), &mut command);
        let hidden =
            |name: &str| command.as_std().get_envs().any(|one| one == (name.as_ref(), None));
        for name in ["HF_TOKEN", "PILOTAGE_REGISTRY_AUTH", "PILOTAGE_ENGINE_KEY", "PROVIDER_KEY"] {
            assert!(hidden(name), "{name}");
        }
        assert!(!hidden("HF_ENDPOINT") && !hidden("HOME"));
    }
}
