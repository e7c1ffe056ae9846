//! Which runtimes this machine has, and in which release, seen without running them: starting one to ask
//! takes it half a minute.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use pilotage_plan::world::{Found, Installed};

use super::program;

/// Entries of a folder with Python packages that are looked at.
const PACKAGES_MAX: usize = 20_000;

/// Looks for each program, by its name and where it should be.
pub fn look_for(
    programs: impl IntoIterator<Item = (String, Option<String>)>,
    search: &OsStr,
) -> Vec<Installed> {
    let look = |(program, home): (String, Option<String>)| {
        let found = match program::find(&program, home.as_deref().map(Path::new), search) {
            Ok(path) => Found::Release(release(&program, &path)),
            Err(error) => Found::Nothing(error.to_string()),
        };
        Installed { program, home, found }
    };
    programs.into_iter().map(look).collect()
}

/// The release of a program that a Python package brought: the name of the package's record beside it.
fn release(name: &str, program: &Path) -> Option<String> {
    let library = program.parent()?.parent()?.join("lib");
    let pythons = fs::read_dir(library).ok()?.flatten();
    let packages = pythons.map(|python| python.path().join("site-packages"));
    let package = package_of(name);
    packages.filter_map(|folder| in_packages(package, &folder)).next()
}

/// The package that has a program.
fn package_of(program: &str) -> &str {
    match program {
        "trtllm-serve" => "tensorrt_llm",
        "python" | "python3" => "sglang",
        other => other,
    }
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
        for program in ["vllm", "llama-server"] {
            fs::write(bin.join(program), "").unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let home = folder.path().to_string_lossy().into_owned();
        let asked =
            ["vllm", "llama-server", "ollama"].map(|name| (name.to_owned(), Some(home.clone())));
        let found: Vec<Found> =
            look_for(asked, OsStr::new("")).into_iter().map(|one| one.found).collect();
        assert_eq!(found[0], Found::Release(Some("0.11.2+cpu".to_owned())));
        assert_eq!(found[1], Found::Release(None));
        assert!(matches!(&found[2], Found::Nothing(why) if why.contains("`ollama`")));
    }
}
