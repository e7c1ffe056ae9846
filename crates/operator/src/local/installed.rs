//! Which runtimes this machine has, and in which release, seen without running them: starting one to ask
//! takes it half a minute.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use pilotage_plan::world::{Found, Installed, Sought};

use super::program;

/// Programs that are no runtime by themselves.
const INTERPRETERS: [&str; 2] = ["python", "python3"];

/// Where packages are, below the folder of an interpreter's release.
const PACKAGE_FOLDERS: [&str; 2] = ["site-packages", "dist-packages"];

/// Entries of a folder with Python packages that are looked at.
const PACKAGES_MAX: usize = 20_000;

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
    if release.is_none() && INTERPRETERS.contains(&sought.program.as_str()) {
        let place = program.display();
        return Found::Nothing(format!(
            "the Python package `{package}` is not installed beside {place}; name its virtual environment in spec.runtimePath"
        ));
    }
    Found::Release(release)
}

/// The release of a Python package, by the name of its record in the folders that belong to a program.
fn release(package: &str, program: &Path) -> Option<String> {
    let library = program.parent()?.parent()?.join("lib");
    let pythons = fs::read_dir(library).ok()?.flatten().map(|python| python.path());
    let mut releases = pythons
        .flat_map(|python| PACKAGE_FOLDERS.map(|folder| python.join(folder)))
        .filter_map(|folder| in_packages(package, &folder));
    releases.next()
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
}
