//! One run in numbers: how many answers were being generated at once, who waited, and what a first
//! token takes when nobody does.

use super::file::{Number, ResultFile};
use crate::triage::evidence::{Run, ratio};

/// What a first token takes alone is what the quickest twentieth took.
const ALONE: f64 = 0.05;

/// Fewer places than the most are still all of them: an answer has just ended, and the next one's
/// prompt is being computed.
const LID_SLACK: f64 = 0.05;

/// Requests without a first token from which on somebody waits: one of them may be having its prompt
/// computed.
const WAITING_MIN: i64 = 2;

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
struct Answer {
    start: Option<f64>,
    ttft: f64,
    decode: Option<f64>,
    input: Option<f64>,
    output: Option<f64>,
}

/// A run in numbers.
pub fn outline(file: &ResultFile) -> Run {
    let answers = answers(file);
    let mut run = sums(file);
    if answers.is_empty() {
        return run;
    }
    single(&mut run, &answers);
    if let Some(starts) = answers.iter().map(|answer| answer.start).collect::<Option<Vec<f64>>>() {
        ordered(&mut run, &answers, &starts);
    }
    run
}

/// From the sums that every file has.
fn sums(file: &ResultFile) -> Run {
    let seconds = file.duration.filter(|seconds| *seconds > 0.0);
    let rps = ratio(file.completed, seconds);
    let output = ratio(file.total_output_tokens, file.completed);
    let ttft_s = file.mean_ttft_ms.map(|ms| ms / 1e3);
    let tpot_s = file.mean_tpot_ms.map(|ms| ms / 1e3);
    let gaps = output.map(|output| (output - 1.0).max(0.0));
    let product = |left: Option<f64>, right: Option<f64>| Some(left? * right?);
    Run {
        label: file.label.clone().or_else(|| file.model_id.clone()),
        completed: file.completed,
        failed: file.failed,
        seconds,
        rate: file.request_rate.as_ref().and_then(Number::finite),
        concurrency: file.max_concurrency.as_ref().and_then(Number::finite),
        rps,
        input: ratio(file.total_input_tokens, file.completed),
        output,
        ttft_s,
        ttft_p50_s: file.median_ttft_ms.map(|ms| ms / 1e3),
        tpot_s,
        // Little's law: how many are inside is how fast they come times how long they stay.
        decoding: product(rps, product(gaps, tpot_s)),
        waiting: product(rps, ttft_s),
        delay_p99_s: delay(file),
        ..Run::default()
    }
}

fn delay(file: &ResultFile) -> Option<f64> {
    let own = file.queue_times.as_ref().and_then(|times| {
        let mut times: Vec<f64> = times.iter().copied().flatten().collect();
        quantile(&mut times, 0.99)
    });
    own.or_else(|| file.p99_client_queue_time_ms.map(|ms| ms / 1e3))
}

/// The requests that were answered; a failed one has no time to the first token.
fn answers(file: &ResultFile) -> Vec<Answer> {
    let Some(ttfts) = &file.ttfts else { return Vec::new() };
    let at = |list: &Option<Vec<Option<f64>>>, at: usize| {
        list.as_ref().and_then(|list| *list.get(at)?)
    };
    let failed = |at: usize| {
        let error = file.errors.as_ref().and_then(|list| list.get(at)?.as_deref());
        error.is_some_and(|error| !error.is_empty())
    };
    let answer = |(index, ttft): (usize, &Option<f64>)| {
        let ttft = ttft.filter(|ttft| *ttft > 0.0 && !failed(index))?;
        let gaps = file.itls.as_ref().and_then(|list| list.get(index)?.as_ref());
        Some(Answer {
            start: at(&file.start_times, index),
            ttft,
            decode: gaps.map(|gaps| gaps.iter().copied().flatten().sum()),
            input: at(&file.input_lens, index),
            output: at(&file.output_lens, index),
        })
    };
    ttfts.iter().enumerate().filter_map(answer).collect()
}

/// What single requests say, in whatever order they came.
fn single(run: &mut Run, answers: &[Answer]) {
    run.completed = Some(answers.len() as f64);
    let mut ttfts: Vec<f64> = answers.iter().map(|answer| answer.ttft).collect();
    run.ttft_s = mean(ttfts.iter().copied());
    run.ttft_p50_s = quantile(&mut ttfts, 0.5);
    run.ttft_alone_s = quantile(&mut ttfts, ALONE);
    run.input = mean(answers.iter().filter_map(|answer| answer.input)).or(run.input);
    run.output = mean(answers.iter().filter_map(|answer| answer.output)).or(run.output);
    let pace = |answer: &Answer| {
        let gaps = answer.output? - 1.0;
        (gaps >= 1.0).then_some(answer.decode? / gaps)
    };
    run.tpot_s = mean(answers.iter().filter_map(pace)).or(run.tpot_s);
    run.rps = ratio(run.completed, run.seconds).or(run.rps);
    let decoded: Option<f64> = answers.iter().map(|answer| answer.decode).sum();
    run.decoding = ratio(decoded, run.seconds).or(run.decoding);
    let waited = run.ttft_s.zip(run.ttft_alone_s).map(|(ttft, alone)| (ttft - alone).max(0.0));
    run.waiting = run.rps.zip(waited).map(|(rps, waited)| rps * waited).or(run.waiting);
}

/// What they say beside each other, where it is known when each was sent.
fn ordered(run: &mut Run, answers: &[Answer], starts: &[f64]) {
    let first = starts.iter().copied().fold(f64::INFINITY, f64::min);
    let last = starts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    run.sent_rate =
        ratio(Some(starts.len() as f64 - 1.0), Some(last - first)).filter(|rate| *rate > 0.0);
    run.ttft_growth_s = growth(answers, starts);
    let Some(curve) = Curve::of(answers, starts) else { return };
    // The run's end, when nothing more comes, says nothing about how full it was.
    let until = answers.iter().zip(starts).map(|(answer, start)| start + answer.ttft);
    let until = until.fold(first, f64::max);
    run.decoding = curve.mean(until).or(run.decoding);
    run.decoding_max = Some(curve.most as f64);
    run.lid = curve.lid();
}

/// By how much the time to the first token grew from the first third to the last.
fn growth(answers: &[Answer], starts: &[f64]) -> Option<f64> {
    let mut order: Vec<(f64, f64)> =
        starts.iter().zip(answers).map(|(at, one)| (*at, one.ttft)).collect();
    order.sort_by(|left, right| left.0.total_cmp(&right.0));
    let third = order.len() / 3;
    let early = mean(order.get(..third)?.iter().map(|one| one.1))?;
    let late = mean(order.get(order.len() - third..)?.iter().map(|one| one.1))?;
    Some(late - early)
}

/// How many requests waited and were being answered, piece by piece.
struct Curve {
    /// When a piece begins, how long it is, who waits in it and how many answers are generated.
    pieces: Vec<(f64, f64, i64, i64)>,
    /// Most answers at once.
    most: i64,
}

impl Curve {
    fn of(answers: &[Answer], starts: &[f64]) -> Option<Self> {
        let mut events: Vec<(f64, i64, i64)> = Vec::with_capacity(answers.len() * 3);
        for (answer, start) in answers.iter().zip(starts) {
            let begun = start + answer.ttft;
            events.push((*start, 1, 0));
            events.push((begun, -1, 1));
            events.push((begun + answer.decode?, 0, -1));
        }
        // Of what happens at one moment ends come first, so that nobody is counted twice.
        events.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.2.cmp(&right.2)));
        let (mut waiting, mut decoding, mut most) = (0, 0, 0);
        let mut pieces = Vec::with_capacity(events.len());
        for pair in events.windows(2) {
            waiting += pair[0].1;
            decoding += pair[0].2;
            most = most.max(decoding);
            pieces.push((pair[0].0, pair[1].0 - pair[0].0, waiting, decoding));
        }
        Some(Self { pieces, most })
    }

    /// Answers at once, at a mean, up to then.
    fn mean(&self, until: f64) -> Option<f64> {
        let pieces = self.pieces.iter().filter(|piece| piece.0 < until);
        let (sum, time) = pieces.fold((0.0, 0.0), |(sum, time), (_, length, _, decoding)| {
            (sum + length * *decoding as f64, time + length)
        });
        ratio(Some(sum), Some(time))
    }

    /// Share of the time with requests waiting in which as many answers as ever were generated.
    fn lid(&self) -> Option<f64> {
        let most = self.most as f64;
        let least = (most - (most * LID_SLACK).max(1.0)).max(1.0);
        let (at_lid, all) = self.pieces.iter().filter(|piece| piece.2 >= WAITING_MIN).fold(
            (0.0, 0.0),
            |(at_lid, all), (_, length, _, decoding)| {
                let own = if *decoding as f64 >= least { *length } else { 0.0 };
                (at_lid + own, all + length)
            },
        );
        ratio(Some(at_lid), Some(all))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    ratio(Some(sum), Some(count))
}

/// The value below which that share of them is.
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get(((last as f64) * share).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Run {
        outline(&super::super::parse(text).unwrap()[0])
    }

    #[test]
    fn two_requests_one_after_the_other() {
        let run = file(
            r#"{"completed": 2, "duration": 4.0, "start_times": [10.0, 10.0], "ttfts": [0.5, 2.5],
                "itls": [[0.5, 1.0], [0.5, 1.0]], "input_lens": [8, 8], "output_lens": [3, 3]}"#,
        );
        assert_eq!((run.rps, run.tpot_s), (Some(0.5), Some(0.75)));
        assert_eq!(run.decoding_max, Some(1.0));
        // From the first moment to the last first token: half a second of none, then 1.5 s of one.
        assert_eq!(run.decoding, Some(1.5 / 2.5));
        assert_eq!(run.ttft_alone_s, Some(0.5));
        assert_eq!(run.waiting, Some(0.5));
    }

    #[test]
    fn failed_requests_have_no_times() {
        let run = file(
            r#"{"completed": 1, "failed": 2, "duration": 2.0, "ttfts": [0.5, 0.0, 0.9],
                "errors": ["", "", "reset"]}"#,
        );
        assert_eq!((run.completed, run.ttft_s), (Some(1.0), Some(0.5)));
        assert_eq!((run.lid, run.tpot_s, run.sent_rate), (None, None, None));
    }

    #[test]
    fn sums_are_enough_for_means() {
        let run = file(
            r#"{"completed": 100, "duration": 50.0, "total_input_tokens": 51200, "total_output_tokens": 12900,
                "mean_ttft_ms": 500, "mean_tpot_ms": 10, "request_rate": 2.0}"#,
        );
        assert_eq!((run.rps, run.input, run.output), (Some(2.0), Some(512.0), Some(129.0)));
        assert_eq!(run.waiting, Some(1.0));
        assert!((run.decoding.unwrap() - 2.56).abs() < 1e-9);
    }

    #[test]
    fn arrays_of_different_lengths_are_no_trouble() {
        let run = file(
            r#"{"ttfts": [0.1, 0.2, 0.3], "itls": [[0.1]], "start_times": [1.0], "output_lens": []}"#,
        );
        assert_eq!(run.completed, Some(3.0));
        assert_eq!((run.decoding_max, run.seconds), (None, None));
    }
}
