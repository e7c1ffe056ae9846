//! What a server says about itself, out of a page of its metrics: text for Prometheus, or TensorRT-LLM's
//! JSON. One pass over the page, and no further than [`PAGE_BYTES_MAX`]: pages may be hostile.
//!
//! Absent is not zero: what the page does not say, or not sensibly, is none.

use std::collections::BTreeSet;

use memchr::memchr;
use serde::Deserialize;

use super::metric::{Meaning, Metric, Take};
use super::{Answer, Dialect, Version};

/// Longest page that is read.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Most samples of the metrics that are read; what comes after them on the page is not.
const SAMPLES_MAX: usize = 4096;

/// Most adapters that are read.
const ADAPTERS_MAX: usize = 1024;

/// Largest count that is believed.
const COUNT_MAX: f64 = 1e18;

/// What a server says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The part of its KV cache that is in use, 0 to 1; of several caches the fullest.
    pub kv_use: Option<f64>,
    /// Tokens that its KV cache holds.
    pub kv_tokens_max: Option<u64>,
    /// Requests that it computes.
    pub running: Option<u32>,
    /// Requests that wait there.
    pub waiting: Option<u32>,
    /// What it has done: a number that moves while it lives.
    pub steps: Option<u64>,
    /// Whether that moves with each step, not only when an answer ends.
    pub each_step: bool,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// Prompt tokens that were looked up in its cache.
    pub prefix_queries: Option<u64>,
    /// Prompt tokens that were found there.
    pub prefix_hits: Option<u64>,
    /// Requests that were put aside for want of memory.
    pub preemptions: Option<u64>,
    /// Times to first tokens.
    pub ttft: Option<Times>,
    /// Times between tokens.
    pub itl: Option<Times>,
    /// Adapters that are loaded, as the page lists them.
    pub adapters: Option<Vec<String>>,
    /// Whether the page goes on beyond what was read of it.
    pub is_cut: bool,
}

/// Times, added up since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Their sum, in seconds.
    pub seconds: f64,
}

/// Reads a page of a server. Names that a version should not have are read all the same: what is there
/// is there.
pub fn observe(dialect: Dialect, page: &[u8]) -> Observation {
    let first = page.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'[' | b'{')) && matches!(dialect, Dialect::Trtllm | Dialect::Auto) {
        return steps_json(page);
    }
    let read = Page::read(dialect, page);
    let mut seen = read.observation();
    seen.is_cut = read.is_cut;
    seen
}

/// The metrics of a server that are on a page of it, and those that should be at its version and are not.
pub fn presence(
    dialect: Dialect,
    version: Option<&Version>,
    page: &[u8],
) -> (Vec<&'static Metric>, Vec<&'static Metric>) {
    let read = Page::read(dialect, page);
    let mut missing = Vec::new();
    let mut found = Vec::new();
    for (metric, sample) in read.metrics.iter().zip(&read.folds) {
        let is_gone = |until: &str| version.is_none_or(|version| version.is_at_least(until));
        let is_due = metric.feature.support.at(version) == Answer::Yes
            && !metric.until.is_some_and(is_gone)
            && version.is_some();
        match sample.count {
            0 if is_due => missing.push(*metric),
            0 => {}
            _ => found.push(*metric),
        }
    }
    // What is told by another name is not missing.
    missing.retain(|one| !found.iter().any(|other| other.meaning == one.meaning));
    (found, missing)
}

/// What was read of a page.
struct Page {
    metrics: Vec<&'static Metric>,
    folds: Vec<Fold>,
    is_cut: bool,
}

/// Samples of a metric, taken together.
#[derive(Clone, Debug, Default)]
struct Fold {
    count: usize,
    value: f64,
    /// Of a histogram: how many.
    times: f64,
    text: Option<String>,
}

impl Page {
    fn read(dialect: Dialect, page: &[u8]) -> Self {
        let rows = if dialect == Dialect::Auto { &Dialect::ALL[..] } else { &[dialect][..] };
        let mut metrics: Vec<&'static Metric> = Vec::new();
        for metric in rows.iter().flat_map(|row| row.differences().metrics) {
            let is_same = |other: &&Metric| {
                other.name == metric.name
                    && other.only == metric.only
                    && other.meaning == metric.meaning
            };
            if !metrics.iter().any(is_same) {
                metrics.push(metric);
            }
        }
        let folds = vec![Fold::default(); metrics.len()];
        let mut read = Self { metrics, folds, is_cut: page.len() > PAGE_BYTES_MAX };
        read.lines(page.get(..PAGE_BYTES_MAX.min(page.len())).unwrap_or_default());
        read
    }

    fn lines(&mut self, mut page: &[u8]) {
        // A series that comes twice is one.
        let mut seen: BTreeSet<(usize, bool, &[u8])> = BTreeSet::new();
        while !page.is_empty() {
            let (line, rest) = match memchr(b'\n', page) {
                Some(end) => (&page[..end], &page[end + 1..]),
                // A line whose end was cut off may say anything.
                None if self.is_cut => return,
                None => (page, &[][..]),
            };
            page = rest;
            if line.first().is_none_or(|first| *first == b'#') {
                continue;
            }
            let name_end = line.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t'));
            let Some((name, rest)) = name_end.and_then(|end| line.split_at_checked(end)) else {
                continue;
            };
            let mut parsed = None;
            for (index, metric) in self.metrics.iter().enumerate() {
                let Some(part) = Part::of(metric, name) else { continue };
                let Some((labels, value)) = *parsed.get_or_insert_with(|| sample(rest)) else {
                    break;
                };
                if seen.len() == SAMPLES_MAX {
                    self.is_cut = true;
                    return;
                }
                if seen.insert((index, part == Part::Count, labels.as_bytes())) {
                    self.folds[index].take(metric, part, labels, value);
                }
            }
        }
    }

    /// The first metric with that meaning of which there is something.
    fn first(&self, meaning: Meaning) -> Option<&Fold> {
        let pairs = self.metrics.iter().zip(&self.folds);
        let mut of = pairs.filter(|(metric, fold)| metric.meaning == meaning && fold.count > 0);
        of.next().map(|(_, fold)| fold)
    }

    fn count(&self, meaning: Meaning) -> Option<u64> {
        let value = self.first(meaning)?.value;
        (0.0..COUNT_MAX).contains(&value).then_some(value as u64)
    }

    fn times(&self, meaning: Meaning) -> Option<Times> {
        let fold = self.first(meaning)?;
        Some(Times { count: fold.times as u64, seconds: fold.value })
    }

    fn observation(&self) -> Observation {
        let requests = |meaning| self.count(meaning).and_then(|count| u32::try_from(count).ok());
        let blocks = self.count(Meaning::KvBlocks).zip(self.count(Meaning::KvBlockTokens));
        let in_blocks = blocks.and_then(|(blocks, tokens)| blocks.checked_mul(tokens));
        let steps = self.count(Meaning::Steps);
        let started = self.first(Meaning::Started).map(|fold| fold.value * 1000.0);
        let adapters = self.first(Meaning::Adapters).and_then(|fold| fold.text.as_deref());
        let listed = |text: &str| {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.take(ADAPTERS_MAX).map(str::to_owned).collect()
        };
        Observation {
            kv_use: self.first(Meaning::KvUse).map(|fold| fold.value),
            kv_tokens_max: self.count(Meaning::KvTokens).or(in_blocks).filter(|most| *most > 0),
            running: requests(Meaning::Running),
            waiting: requests(Meaning::Waiting),
            steps: steps.or_else(|| self.count(Meaning::Answers)),
            each_step: steps.is_some(),
            started_ms: started.filter(|ms| (0.0..COUNT_MAX).contains(ms)).map(|ms| ms as u64),
            prefix_queries: self.count(Meaning::PrefixQueries),
            prefix_hits: self.count(Meaning::PrefixHits),
            preemptions: self.count(Meaning::Preemptions),
            ttft: self.times(Meaning::Ttft),
            itl: self.times(Meaning::Itl),
            adapters: adapters.map(listed),
            is_cut: false,
        }
    }
}

/// Which part of a metric a name is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Whole,
    Sum,
    Count,
}

impl Part {
    fn of(metric: &Metric, name: &[u8]) -> Option<Self> {
        let ours = metric.name.as_bytes();
        if metric.take != Take::Histogram {
            return is_named(name, ours).then_some(Self::Whole);
        }
        let (begin, end) = name.split_at_checked(ours.len())?;
        let part = match end {
            b"_sum" => Self::Sum,
            b"_count" => Self::Count,
            _ => return None,
        };
        is_named(begin, ours).then_some(part)
    }
}

/// Whether it is that name, with a colon or with what it is renamed to on its way.
fn is_named(name: &[u8], ours: &[u8]) -> bool {
    let is_same = |(theirs, ours): (&u8, &u8)| theirs == ours || (*ours == b':' && *theirs == b'_');
    name.len() == ours.len() && name.iter().zip(ours).all(is_same)
}

impl Fold {
    fn take(&mut self, metric: &Metric, part: Part, labels: &str, value: f64) {
        let label = |name: &str| label(labels, name);
        if metric.only.is_some_and(|(name, expected)| label(name) != Some(expected)) {
            return;
        }
        let number = |name: &str| label(name).and_then(|text| text.parse::<f64>().ok());
        let value = match metric.take {
            Take::LabelSum(name) | Take::LabelMax(name) => number(name).unwrap_or(f64::NAN),
            _ => value,
        };
        let is_sensible = match metric.meaning {
            Meaning::KvUse => (0.0..=1.0).contains(&value),
            _ => (0.0..COUNT_MAX).contains(&value),
        };
        if !is_sensible {
            return;
        }
        match metric.take {
            Take::Histogram if part == Part::Count => self.times += value,
            Take::Sum | Take::Histogram | Take::LabelSum(_) => self.value += value,
            Take::Max | Take::LabelMax(_) => self.value = self.value.max(value),
            Take::LabelNewest(name) => {
                let Some(text) = label(name) else { return };
                if self.text.is_none() || value >= self.value {
                    self.text = Some(text.to_owned());
                    self.value = value;
                }
            }
        }
        self.count += 1;
    }
}

/// Labels, without their braces, and the value of a sample.
fn sample(rest: &[u8]) -> Option<(&str, f64)> {
    let text = std::str::from_utf8(rest).ok()?;
    let (labels, after) = match text.strip_prefix('{') {
        Some(_) => {
            let end = labels_end(text)?;
            (text.get(1..end - 1)?, text.get(end..)?)
        }
        None => ("", text),
    };
    // A timestamp or an exemplar may follow.
    let value = after.split_ascii_whitespace().next()?.parse::<f64>().ok()?;
    Some((labels, value))
}

/// Just after the closing brace; a brace within a label's value does not count.
fn labels_end(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The value of a label, as it stands there.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = labels;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = after.bytes().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => byte == b'"',
        })?;
        if key.trim_start_matches([',', ' ']) == name {
            return after.get(..end);
        }
        rest = after.get(end + 1..)?;
    }
}

/// TensorRT-LLM's statistics of steps, of which the last counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    iter: Option<u64>,
    num_active_requests: Option<u32>,
    num_queued_requests: Option<u32>,
    kv_cache_stats: Option<KvStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KvStats {
    max_num_blocks: Option<u64>,
    used_num_blocks: Option<u64>,
    tokens_per_block: Option<u64>,
}

fn steps_json(page: &[u8]) -> Observation {
    let is_cut = page.len() > PAGE_BYTES_MAX;
    let none = Observation { is_cut, ..Observation::default() };
    if is_cut {
        return none;
    }
    let Ok(steps) = serde_json::from_slice::<Vec<Step>>(page) else { return none };
    let Some(last) = steps.last() else { return none };
    let kv = last.kv_cache_stats.as_ref();
    let used = kv.and_then(|kv| {
        let most = kv.max_num_blocks.filter(|most| *most > 0)?;
        Some(kv.used_num_blocks? as f64 / most as f64)
    });
    let tokens = kv.and_then(|kv| kv.max_num_blocks?.checked_mul(kv.tokens_per_block?));
    Observation {
        kv_use: used.filter(|used| *used <= 1.0),
        kv_tokens_max: tokens,
        running: last.num_active_requests,
        waiting: last.num_queued_requests,
        steps: last.iter,
        each_step: last.iter.is_some(),
        ..none
    }
}
