//! Speeds against published ones: within the band as assumed, and close once some of them were measured.

use pilotage_plan::hardware::Accelerator;
use pilotage_plan::size::{Calibration, Dtype, Measurement, Runtime, Setting, Shape};

use crate::{facts, rows};

/// Tokens of a sequence in the middle of its answer.
const CONTEXT: u64 = 1024 + 512;

/// How far off a prediction may be after calibration.
const OFF_MAX: f64 = 0.25;

struct Point {
    running: f64,
    seconds: f64,
    fitted: bool,
}

fn points() -> Vec<Point> {
    let point = |row: Vec<&str>| Point {
        running: row[0].parse().unwrap(),
        seconds: row[1].parse::<f64>().unwrap() / 1e3,
        fitted: row[2] == "yes",
    };
    rows(include_str!("speed.tsv")).map(point).collect()
}

#[test]
#[expect(clippy::print_stdout, reason = "shown when it fails, and with --no-capture")]
fn a_calibration_predicts_what_it_was_not_made_of() {
    let facts = facts("qwen2.5-7b");
    let accelerator = Accelerator::by_id("a100-80").unwrap();
    let shape = Shape::single(16_384, Dtype::Bf16);
    let setting = Setting { facts: &facts, shape: &shape, accelerator, runtime: Runtime::VLLM };
    let assumed = Calibration::assumed(accelerator);
    let measure = |point: &Point| Measurement {
        work: setting.decode(point.running, CONTEXT),
        seconds: point.seconds,
    };
    let points = points();
    let measured: Vec<Measurement> =
        points.iter().filter(|point| point.fitted).map(measure).collect();
    let fitted = Calibration::fit(&assumed, &measured).unwrap();
    println!("{fitted:?}");
    for point in &points {
        let work = setting.decode(point.running, CONTEXT);
        let (before, after) = (assumed.seconds(&work), fitted.seconds(&work));
        let off = |seconds: f64| 100.0 * (seconds / point.seconds - 1.0);
        println!(
            "{:3} running: {:+6.1} % assumed, {:+6.1} % fitted",
            point.running,
            off(before),
            off(after)
        );
        let band = assumed.band(before);
        assert!(
            band.low <= point.seconds && point.seconds <= band.high,
            "{} running",
            point.running
        );
        assert!((after / point.seconds - 1.0).abs() < OFF_MAX, "{} running", point.running);
    }
}
