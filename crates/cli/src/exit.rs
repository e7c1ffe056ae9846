//! How a command ends when it fails: one sentence on stderr, hints under it, a stable exit code.
//!
//! | Code | Meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed: the message says why |
//! | 2 | the command line, a manifest or a setting is wrong: trying again unchanged is useless |
//! | 3 | what was asked is right, and there is no way to do it on that hardware |
//!
//! `pilotage diff` and `pilotage install --diff` end with 1 where something would change, and with 2 or more where they fail.
//! `pilotage warden` ends as the program does that it looks after.

use std::fmt;
use std::process::ExitCode;

use crate::output;

/// An error whose cause is what the user wrote, with a hint on how to write it.
#[derive(Debug)]
pub(crate) struct Wrong {
    message: String,
    hints: Vec<String>,
}

impl Wrong {
    /// Wrong input, described by `message`.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new() }
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl Wrong {
    /// What to do about it.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }
}

/// Somebody who was asked does not answer, which is not the doing of whoever asks; with what to do.
#[derive(Debug)]
pub(crate) struct Away(Wrong);

impl Away {
    /// Nothing came, for that reason.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Wrong::new(message).hint(hint))
    }

    /// What to do about it.
    pub(crate) fn hints(&self) -> &[String] {
        self.0.hints()
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Away {}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

/// A program that ended with this code and has said why itself.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) u8);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program ended with code {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// What was asked cannot be done on the hardware that there is.
#[derive(Debug)]
pub(crate) struct NoPlan(String);

impl NoPlan {
    /// Impossible for that reason.
    pub(crate) const fn new(message: String) -> Self {
        Self(message)
    }
}

impl fmt::Display for NoPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoPlan {}

/// Says what happened, and gives the code to exit with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Ended(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    output::failure(&format!("{error:#}"));
    if error.downcast_ref::<NoPlan>().is_some() {
        return ExitCode::from(3);
    }
    hints(error).iter().for_each(|hint| output::hint(hint));
    ExitCode::from(if error.is::<Wrong>() { 2 } else { 1 })
}

/// What to do about an error.
pub(crate) fn hints(error: &anyhow::Error) -> &[String] {
    let away = || error.downcast_ref().map(Away::hints);
    error.downcast_ref().map(Wrong::hints).or_else(away).unwrap_or_default()
}
