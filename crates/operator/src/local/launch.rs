//! From a specification to a running process: which file its program is, what the words in its arguments
//! stand for, and who looks after it when this process is gone.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pilotage_plan::render::process::{EVENTS, METRICS, PORT, RENDEZVOUS, SCRATCH, WEIGHTS};
use pilotage_plan::render::{ProcessSpec, Program, Secret};
use pilotage_shell::{port, secret};
use tokio::process::{Child, Command};

use super::{Machine, inherited, program};

/// Words that stand for a port each, none of them the same as another's.
const PORTS: [&str; 4] = [PORT, EVENTS, RENDEZVOUS, METRICS];

/// A process that was started.
pub(super) struct Launched {
    pub(super) child: Child,
    /// Where it takes requests.
    pub(super) url: String,
    /// Where it tells what its KV cache holds, if it was told a port for that.
    pub(super) events_url: Option<String>,
    /// The key that it asks its clients for, made for this start: nobody who finds it out can use another
    /// process.
    pub(super) key: secret::Secret,
}

/// What words in braces stand for.
struct Words {
    ports: Vec<(&'static str, u16)>,
    weights: String,
    scratch: PathBuf,
}

impl Words {
    /// For one start of a process, with ports for those words that it is told.
    fn of(spec: &ProcessSpec, weights: &Path, scratch: PathBuf) -> io::Result<Self> {
        let values = spec.env.iter().chain(&spec.files).map(|(_, value)| value);
        let told: Vec<&String> = spec.args.iter().chain(values).collect();
        let is_told = |word: &str| word == PORT || told.iter().any(|text| text.contains(word));
        let wanted = PORTS.into_iter().filter(|word| is_told(word));
        let ports = wanted.map(|word| Ok((word, port::free()?))).collect::<io::Result<_>>()?;
        Ok(Self { ports, weights: weights.to_string_lossy().into_owned(), scratch })
    }

    fn port(&self, word: &str) -> Option<u16> {
        self.ports.iter().find(|(known, _)| *known == word).map(|(_, port)| *port)
    }

    fn replace(&self, text: &str) -> String {
        let text = text.replace(WEIGHTS, &self.weights);
        let text = text.replace(SCRATCH, &self.scratch.to_string_lossy());
        let ports = self.ports.iter();
        ports.fold(text, |text, (word, port)| text.replace(word, &port.to_string()))
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
    let scratch = machine.logs.with_file_name("scratch").join(name);
    let words = Words::of(spec, weights, scratch)?;
    let key = secret::Secret::generate()?;
    write_files(spec, &words)?;
    let mut command = command(machine, spec)?;
    command
        .args(spec.args.iter().map(|arg| words.replace(arg)))
        .envs(spec.env.iter().map(|(name, value)| (name, words.replace(value))))
        .envs(secrets(machine, spec, &key))
        .env("PILOTAGE_SUPERVISOR", std::process::id().to_string())
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
    let at = |word: &str, scheme: &str| {
        words.port(word).map(|port| format!("{scheme}://{}:{port}", spec.host))
    };
    let url = at(PORT, "http").unwrap_or_default();
    Ok(Launched { child, url, events_url: at(EVENTS, "tcp"), key })
}

/// The program with what of our environment is its business.
fn command(machine: &Machine, spec: &ProcessSpec) -> io::Result<Command> {
    let mut command = bare(machine, spec)?;
    let path = command.as_std().get_envs().find(|(name, _)| *name == "PATH");
    let path = path.and_then(|(_, path)| path).map(ToOwned::to_owned);
    let hidden = machine.hidden_env.lock();
    let inherited = inherited::of(&machine.environment, spec.program == Program::Own, &hidden);
    command.env_clear().envs(inherited.into_iter().map(|(name, value)| (name, value)));
    if let Some(path) = path {
        command.env("PATH", path);
    }
    Ok(command)
}

/// The program, behind a warden where it is somebody else's: our own looks after itself.
fn bare(machine: &Machine, spec: &ProcessSpec) -> io::Result<Command> {
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

fn secrets(machine: &Machine, spec: &ProcessSpec, key: &secret::Secret) -> Vec<(String, OsString)> {
    let value = |secret: &Secret| match secret {
        Secret::EngineKey => Some(key.expose().into()),
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
