//! Which file a program is: one named by its path, or one that is installed on the search path, in a
//! virtual environment, or in a folder.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What interpreters are called.
pub(super) const PYTHON: &str = "python";

/// The file that runs when somebody says `name`, in `home` where that is given, else on the search path.
///
/// # Errors
/// There is none, with where it was looked for.
pub(super) fn find(name: &str, home: Option<&Path>, search: &OsStr) -> io::Result<PathBuf> {
    if let Some(home) = home.filter(|home| is_named(name, home) && is_program(home)) {
        return Ok(home.to_owned());
    }
    let folders: Vec<PathBuf> = match home {
        Some(home) => vec![home.join("bin"), home.to_owned()],
        None => std::env::split_paths(search).collect(),
    };
    // Some systems have no Python without a number.
    let other = (name == PYTHON).then_some("python3");
    let names = std::iter::once(name).chain(other);
    let mut candidates = names.flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|path| is_program(path)).ok_or_else(|| missing(name, home))
}

/// Whether a file of that path is the program of that name: another one would not understand what it is
/// started with. Interpreters have their release behind their name.
fn is_named(name: &str, path: &Path) -> bool {
    let Some(file) = path.file_name().and_then(OsStr::to_str) else { return false };
    let release = file.strip_prefix(PYTHON).filter(|_| name == PYTHON);
    let is_release = |release: &str| {
        release.starts_with('3') && release.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    file == name || release.is_some_and(is_release)
}

/// The search path with a program's own folder first, as it is in a virtual environment that is in use: it
/// looks for compilers and interpreters there.
pub(super) fn search_path(program: &Path, search: &OsStr) -> Option<OsString> {
    let own = program.parent().filter(|own| !own.as_os_str().is_empty())?.to_owned();
    std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(search))).ok()
}

fn is_program(path: &Path) -> bool {
    let found = std::fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn missing(name: &str, home: Option<&Path>) -> io::Error {
    let place = match home {
        Some(home) => format!("{} has no program `{name}`", home.display()),
        None => format!("`{name}` is not on the search path (PATH)"),
    };
    let hint = "install it, or name its virtual environment or folder in spec.runtimePath";
    io::Error::new(io::ErrorKind::NotFound, format!("{place}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_environments_folders_and_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str, mode: u32| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        place("venv/bin/vllm", 0o755);
        place("plain/llama-server", 0o755);
        place("text/vllm", 0o644);
        place("plain/llama-server-old", 0o755);
        place("three/bin/python3", 0o755);
        place("venv/bin/python", 0o755);
        place("venv/bin/python3", 0o755);
        place("venv/bin/python3.11", 0o755);
        place("venv/bin/python-config", 0o755);
        let search = std::env::join_paths(["text", "venv/bin"].map(|at| folder.path().join(at)));
        let search = search.unwrap();
        let check = |name: &str, home: Option<&str>, expect: Result<&str, &str>| {
            let home = home.map(|home| folder.path().join(home));
            let found = find(name, home.as_deref(), &search);
            match expect {
                Ok(path) => assert_eq!(found.unwrap(), folder.path().join(path)),
                Err(part) => assert!(found.unwrap_err().to_string().contains(part), "{name}"),
            }
        };
        check("vllm", Some("venv"), Ok("venv/bin/vllm"));
        check("llama-server", Some("plain"), Ok("plain/llama-server"));
        check("llama-server", Some("plain/llama-server"), Ok("plain/llama-server"));
        check("llama-server", Some("plain/llama-server-old"), Err("has no program"));
        check("vllm", Some("plain/llama-server"), Err("has no program `vllm`"));
        check("python", Some("three"), Ok("three/bin/python3"));
        check("python", Some("venv"), Ok("venv/bin/python"));
        check("python", None, Ok("venv/bin/python"));
        check("python", Some("venv/bin/python3.11"), Ok("venv/bin/python3.11"));
        check("python", Some("venv/bin/python-config"), Err("has no program `python`"));
        check("vllm", None, Ok("venv/bin/vllm"));
        check("vllm", Some("text"), Err("has no program `vllm`"));
        check("ollama", None, Err("not on the search path"));
        let path = search_path(&folder.path().join("venv/bin/vllm"), OsStr::new("/usr/bin"));
        let expect = [folder.path().join("venv/bin"), "/usr/bin".into()];
        assert_eq!(std::env::split_paths(&path.unwrap()).collect::<Vec<_>>(), expect);
    }
}
