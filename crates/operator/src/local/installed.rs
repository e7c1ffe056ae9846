//! Which runtimes this machine has, and in which release, seen without running them: starting one to ask
//! takes it half a minute.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use pilotage_plan::world::{Found, Installed, Sought};

use super::program::{self, PYTHON};

/// Where packages are, below the folder of an interpreter's release.
const PACKAGE_FOLDERS: [&str; 2] = ["site-packages", "dist-packages"];

/// Entries of a folder with Python packages that are looked at.
const PACKAGES_MAX: usize = 20_000;

/// Links followed from a program to where it is installed.
const LINKS_MAX: usize = 16;

/// Looks for each on this machine.
pub fn look_for(runtimes: impl IntoIterator<Item = Sought>, search: &OsStr) -> Vec<Installed> {
    let look = |sought: Sought| Installed { found: found(&sought, search), sought };
    runtimes.into_iter().map(look).collect()
}

fn found(sought: &Sought, search: &OsStr) -> Found {
    let home = sought.home.as_deref().map(Path::new);
    let program = match program::find(&sought.program, home, search) {
        Ok(program) => program,
        Err(error) => return Found::Nothing(error.to_string()),
    };
    let Some(package) = &sought.package else { return Found::Release(None) };
    let release = release(package, &program);
    // An interpreter is on every machine.
    if release.is_none() && sought.program == PYTHON {
        let place = program.display();
        return Found::Nothing(format!(
            "the Python package `{package}` is not installed beside {place}; name its virtual environment in spec.runtimePath"
        ));
    }
    Found::Release(release)
}

/// The release of a Python package, by the name of its record in the folders that belong to a program.
fn release(package: &str, program: &Path) -> Option<String> {
    let prefixes = prefixes(program);
    // Debian's own Python also has what is installed beside its packages.
    let libraries =
        prefixes.iter().flat_map(|prefix| [prefix.join("lib"), prefix.join("local/lib")]);
    let pythons =
        libraries.flat_map(|library| fs::read_dir(library).into_iter().flatten().flatten());
    let mut releases = pythons
        .flat_map(|python| PACKAGE_FOLDERS.map(|folder| python.path().join(folder)))
        .filter_map(|folder| in_packages(package, &folder));
    releases.next()
}

/// The folders that a program is installed in: that of its name, and those that its links lead to, as from
/// `~/.local/bin` to where pipx and uv put a program. The interpreter of a virtual environment is a link to
/// one whose packages it does not have.
fn prefixes(program: &Path) -> Vec<PathBuf> {
    let mut prefixes = Vec::new();
    let mut path = program.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(folder) = path.parent() else { break };
        let Some(prefix) = folder.parent() else { break };
        prefixes.push(prefix.to_owned());
        if prefix.join("pyvenv.cfg").is_file() {
            break;
        }
        let Ok(target) = fs::read_link(&path) else { break };
        let next = folder.join(target);
        // The parent of a path with `..` in it is only known without them.
        let real = next.parent().and_then(|folder| folder.canonicalize().ok());
        let Some((folder, name)) = real.zip(next.file_name()) else { break };
        path = folder.join(name);
    }
    prefixes
}

fn in_packages(package: &str, folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?.flatten().take(PACKAGES_MAX);
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.find_map(|name| {
        let version = name.strip_prefix(package)?.strip_prefix('-')?.strip_suffix(".dist-info")?;
        Some(version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn releases_are_read_from_the_records_of_packages() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        let packages = folder.path().join("lib/python3.11/site-packages");
        for made in [&bin, &packages.join("vllm-0.11.2+cpu.dist-info"), &packages.join("vllm_x-1")]
        {
            fs::create_dir_all(made).unwrap();
        }
        for program in ["vllm", "llama-server", "python"] {
            fs::write(bin.join(program), "").unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let home = folder.path().to_string_lossy().into_owned();
        let asked = [
            ("vllm", Some("vllm")),
            ("llama-server", None),
            ("ollama", None),
            ("python", Some("sglang")),
            ("python", Some("vllm")),
        ];
        let asked = asked.map(|(program, package)| Sought {
            program: program.to_owned(),
            package: package.map(str::to_owned),
            home: Some(home.clone()),
        });
        let found: Vec<Found> =
            look_for(asked, OsStr::new("")).into_iter().map(|one| one.found).collect();
        assert_eq!(found[0], Found::Release(Some("0.11.2+cpu".to_owned())));
        assert_eq!(found[1], Found::Release(None));
        assert!(matches!(&found[2], Found::Nothing(why) if why.contains("`ollama`")));
        assert!(matches!(&found[3], Found::Nothing(why) if why.contains("`sglang`")));
        assert_eq!(found[4], found[0]);
    }

    #[test]
    fn links_are_followed_to_where_a_program_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let make = |path: &str| fs::create_dir_all(at(path)).unwrap();
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(at(to), at(from)).unwrap();
        for made in ["local/bin", "venv/bin", "usr/bin", "usr/lib/python3.11/dist-packages"] {
            make(made);
        }
        make("venv/lib/python3.11/site-packages/vllm-0.11.2.dist-info");
        make("usr/local/lib/python3.11/dist-packages/sglang-0.5.6.dist-info");
        for program in ["venv/bin/vllm", "usr/bin/python3.11"] {
            fs::write(at(program), "").unwrap();
            fs::set_permissions(at(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(at("venv/pyvenv.cfg"), "").unwrap();
        link("venv/bin/vllm", "local/bin/vllm");
        link("usr/bin/python3.11", "venv/bin/python");
        std::os::unix::fs::symlink("python3.11", at("usr/bin/python3")).unwrap();
        let check = |package: &str, program: &str, expect: Option<&str>| {
            assert_eq!(release(package, &at(program)).as_deref(), expect, "{program}");
        };
        check("vllm", "local/bin/vllm", Some("0.11.2"));
        check("sglang", "usr/bin/python3", Some("0.5.6"));
        check("sglang", "venv/bin/python", None);
        check("vllm", "venv/bin/python", Some("0.11.2"));
        check("vllm", "usr/bin/python3", None);
    }
}
