//! Every world with several seeds, every signature: what is found first where, as a table.

use std::fmt::Write as _;

use pilotage_lens::triage::{Finding, Verdict, triage};

use super::{Trouble, all};

/// Seeds of each world.
pub const SEEDS: u64 = 3;

/// A world that was tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// What is wrong with it.
    pub trouble: &'static Trouble,
    /// The seed.
    pub seed: u64,
    /// The verdict.
    pub first: Option<&'static str>,
    /// Everything that was found.
    pub found: Vec<&'static str>,
    /// Of that, what is another signature than the world's, and follows from nothing else that was found.
    pub beside: Vec<&'static str>,
}

impl Tried {
    /// Tries one.
    pub fn of(trouble: &'static Trouble, seed: u64) -> Self {
        let report = triage(&trouble.evidence(seed));
        let first = match report.verdict {
            Verdict::Found { id, .. } => Some(id),
            Verdict::NothingWrong { .. } | Verdict::NotEnough { .. } => None,
        };
        let found = report.findings.iter().map(|finding| finding.id).collect();
        let beside = |one: &&Finding| one.follows_from.is_none() && Some(one.id) != trouble.id;
        let beside = report.findings.iter().filter(beside).map(|finding| finding.id).collect();
        Self { trouble, seed, first, found, beside }
    }
}

/// All worlds with all seeds.
pub fn try_all() -> Vec<Tried> {
    let each = |trouble: &'static Trouble| (0..SEEDS).map(move |seed| Tried::of(trouble, seed));
    all().iter().flat_map(each).collect()
}

/// The table, in Markdown: of each signature how often it was the verdict in its own world, and in others, and
/// how often it was found beside another verdict though it does not follow from that.
pub fn table(tried: &[Tried]) -> String {
    let mut out = String::from(
        "| Signature | Its world | Runs | First there | Found there | First in others | Beside the verdict in others | Precision | Recall |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let mut sums = (0, 0, 0, 0);
    for trouble in all() {
        let Some(id) = trouble.id else { continue };
        let own: Vec<&Tried> = tried.iter().filter(|one| one.trouble.id == Some(id)).collect();
        let right = own.iter().filter(|one| one.first == Some(id)).count();
        let found = own.iter().filter(|one| one.found.contains(&id)).count();
        let wrong =
            tried.iter().filter(|one| one.trouble.id != Some(id) && one.first == Some(id)).count();
        let beside = tried.iter().filter(|one| one.beside.contains(&id) && one.first != Some(id));
        let beside = beside.count();
        let precision = right as f64 / (right + wrong + beside).max(1) as f64;
        let recall = right as f64 / own.len().max(1) as f64;
        let (about, runs) = (trouble.about, own.len());
        sums = (sums.0 + runs, sums.1 + right, sums.2 + wrong, sums.3 + beside);
        // Writing into a text cannot fail.
        let _ = writeln!(
            out,
            "| {id} | {about} | {runs} | {right} | {found} | {wrong} | {beside} | {precision:.2} | {recall:.2} |"
        );
    }
    for trouble in all().iter().filter(|trouble| trouble.id.is_none()) {
        let own = tried.iter().filter(|one| one.trouble.about == trouble.about);
        let silent = own.clone().filter(|one| one.first.is_none()).count();
        let runs = own.count();
        let _ = writeln!(out, "| none | {} | {runs} | {silent} silent | | | | | |", trouble.about);
    }
    let (runs, right, wrong, beside) = sums;
    let precision = right as f64 / (right + wrong + beside).max(1) as f64;
    let recall = right as f64 / runs.max(1) as f64;
    let _ = writeln!(
        out,
        "| all | | {runs} | {right} | | {wrong} | {beside} | {precision:.2} | {recall:.2} |"
    );
    out
}
