//! What measurements of a server were fitted to, how far that is off where it did not see them, and how it is
//! kept: planner, simulator and gateway read the same file.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::calibration::{Calibration, FitError, Measurement, typical_error};
use super::facts::ModelFacts;
use super::pace::{Pace, Phase, Point};
use super::speed::{Load, Setting, Work};

/// What a kept calibration says of its form.
pub const SCHEMA: &str = "pilotage.calibration/v2";

/// Of the measurements of each kind, one in so many is held out.
const HELD_OUT_EVERY: usize = 3;

/// With fewer measurements of a kind, none is held out.
const HELD_OUT_FROM: usize = 5;

/// A calibration as it is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// When it was measured, as RFC 3339.
    pub measured: String,
    /// Where.
    pub url: String,
    /// On what.
    pub subject: Subject,
    /// What was found.
    pub fit: Fit,
    /// Whole loads that were measured and are no part of the fit.
    #[serde(default)]
    pub loads: Vec<Trial>,
    /// What is to be known about the measurements.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What was measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The name that the model has there.
    pub model: String,
    /// Its architecture, where its files were read.
    pub architecture: Option<String>,
    /// Its parameters.
    pub parameters: Option<u64>,
    /// Bytes of its weights.
    pub weight_bytes: Option<u64>,
    /// The hardware class.
    pub hardware: Option<String>,
    /// The runtime.
    pub runtime: String,
    /// Its version.
    pub version: Option<String>,
    /// Ranks that divide each layer.
    pub tensor: u32,
    /// Stages that divide the layers.
    pub pipeline: u32,
}

/// Lines and shares that fit measurements.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// The lines.
    pub pace: Pace,
    /// What of the hardware's rates is reached; none where model or hardware are not known.
    pub calibration: Option<Calibration>,
    /// The measurements, with what is predicted for each.
    pub rows: Vec<Row>,
    /// How far predictions are off where the fit did not see the measurement.
    pub held_out: HeldOut,
}

/// A measurement and its predictions.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The measurement.
    #[serde(flatten)]
    pub point: Point,
    /// Whether the fit did not see it.
    pub held_out: bool,
    /// Seconds by the lines, fitted without what is held out.
    pub pace_seconds: f64,
    /// Seconds by the roofline as assumed before.
    pub assumed_seconds: Option<f64>,
    /// Seconds by the roofline with what was fitted.
    pub fitted_seconds: Option<f64>,
}

/// How far predictions are off.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldOut {
    /// Measurements held out.
    pub points: usize,
    /// Of the lines.
    pub pace: Errors,
    /// Of the roofline as assumed before.
    pub assumed: Option<Errors>,
    /// Of the roofline with what was fitted.
    pub fitted: Option<Errors>,
}

/// Absolute errors as shares of what was measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Errors {
    /// Their mean.
    pub mean: f64,
    /// The largest.
    pub most: f64,
}

/// A whole load, measured and predicted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// Tokens of a prompt.
    pub prompt: u64,
    /// Tokens of an answer.
    pub answer: u64,
    /// Requests at once.
    pub concurrency: u32,
    /// Tokens of answers a second that were measured.
    pub tokens_per_second: f64,
    /// The same by the lines.
    pub pace: f64,
    /// The same by the roofline as assumed before.
    pub assumed: Option<f64>,
    /// The same by the roofline with what was fitted.
    pub fitted: Option<f64>,
}

/// Why a text is no calibration.
#[derive(Debug, Error)]
pub enum StoredError {
    /// It is no JSON of that form.
    #[error("it is no calibration: {0}")]
    Json(#[from] serde_json::Error),
    /// It has another form.
    #[error("its form is `{0}` and not {SCHEMA}; measure again")]
    Schema(String),
    /// A number in it is not one that a fit finds.
    #[error("{0} is no time or share that a server can have; measure again")]
    Number(&'static str),
}

impl Fit {
    /// Fits lines, and where the setting is known the roofline's shares: first to all but every third measurement,
    /// which says how far off that is, and then to all.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn of(
        points: &[Point],
        setting: Option<(&Setting<'_>, &Calibration)>,
    ) -> Result<Self, FitError> {
        let held_out = held_out(points);
        let seen: Vec<Point> = points
            .iter()
            .zip(&held_out)
            .filter(|(_, held_out)| !**held_out)
            .map(|(point, _)| *point)
            .collect();
        let (pace, fitted) = fit(&seen, setting)?;
        let row = |(point, held_out): (&Point, &bool)| {
            let with = |calibration: Option<&Calibration>| {
                let (setting, _) = setting?;
                Some(calibration?.seconds(&work(setting, point.phase)))
            };
            Row {
                point: *point,
                held_out: *held_out,
                pace_seconds: pace.seconds(point.phase),
                assumed_seconds: with(setting.map(|(_, assumed)| assumed)),
                fitted_seconds: with(fitted.as_ref()),
            }
        };
        let rows: Vec<Row> = points.iter().zip(&held_out).map(row).collect();
        let (pace, fitted) = fit(points, setting)?;
        Ok(Self::judged(pace, fitted, rows))
    }

    /// Bands are as wide as what was not seen says, where that is wider.
    fn judged(pace: Pace, calibration: Option<Calibration>, rows: Vec<Row>) -> Self {
        let unseen = |of: fn(&Row) -> Option<f64>| -> Vec<f64> {
            let error = |row: &Row| Some(of(row)? / row.point.seconds - 1.0);
            rows.iter().filter(|row| row.held_out).filter_map(error).collect()
        };
        let lines = unseen(|row| Some(row.pace_seconds));
        let fitted = unseen(|row| row.fitted_seconds);
        let assumed = unseen(|row| row.assumed_seconds);
        let wider = |off: f64, errors: &[f64]| off.max(typical_error(errors.iter().copied()));
        let has = calibration.is_some();
        Self {
            pace: Pace { off: wider(pace.off, &lines), ..pace },
            calibration: calibration
                .map(|found| Calibration { off: wider(found.off, &fitted), ..found }),
            held_out: HeldOut {
                points: lines.len(),
                pace: Errors::of(&lines),
                assumed: has.then(|| Errors::of(&assumed)),
                fitted: has.then(|| Errors::of(&fitted)),
            },
            rows,
        }
    }
}

impl Errors {
    fn of(errors: &[f64]) -> Self {
        let sum: f64 = errors.iter().map(|error| error.abs()).sum();
        let most = errors.iter().fold(0.0, |most: f64, error| most.max(error.abs()));
        Self { mean: sum / (errors.len() as f64).max(1.0), most }
    }
}

impl Trial {
    /// A load that was measured, with what is predicted for it.
    pub fn of(
        load: &Load,
        tokens_per_second: f64,
        fit: &Fit,
        setting: Option<(&Setting<'_>, &Calibration)>,
    ) -> Self {
        let with = |calibration: Option<&Calibration>| {
            let (setting, _) = setting?;
            Some(setting.speed(calibration?, load).ok()?.tokens_per_second.likely)
        };
        Self {
            prompt: load.prompt,
            answer: load.answer,
            concurrency: load.concurrency,
            tokens_per_second,
            pace: fit.pace.speed(load).tokens_per_second.likely,
            assumed: with(setting.map(|(_, assumed)| assumed)),
            fitted: with(fit.calibration.as_ref()),
        }
    }
}

impl Stored {
    /// Reads one.
    ///
    /// # Errors
    /// [`StoredError`].
    pub fn parse(text: &str) -> Result<Self, StoredError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let schema = value["schema"].as_str().unwrap_or("none");
        if schema != SCHEMA {
            return Err(StoredError::Schema(schema.chars().take(64).collect()));
        }
        let read: Self = serde_json::from_value(value)?;
        let pace = &read.fit.pace;
        let times = [
            ("prefill_seconds", pace.prefill_seconds),
            ("token_seconds", pace.token_seconds),
            ("pair_seconds", pace.pair_seconds),
            ("step_seconds", pace.step_seconds),
            ("sequence_seconds", pace.sequence_seconds),
            ("context_seconds", pace.context_seconds),
            ("off", pace.off),
        ];
        let is_time = |seconds: f64| (0.0..1e4).contains(&seconds);
        if let Some((name, _)) = times.iter().find(|(_, seconds)| !is_time(*seconds)) {
            return Err(StoredError::Number(name));
        }
        if pace.prefill(1.0) <= 0.0 || pace.step(1.0, 1.0) <= 0.0 {
            return Err(StoredError::Number("pace"));
        }
        if let Some(found) = &read.fit.calibration {
            let shares = [
                ("compute", found.compute),
                ("attention", found.attention),
                ("bandwidth", found.bandwidth),
            ];
            let is_share = |share: f64| share > 0.0 && share <= 2.0;
            if let Some((name, _)) = shares.iter().find(|(_, share)| !is_share(*share)) {
                return Err(StoredError::Number(name));
            }
            let rest = [found.step_seconds, found.sequence_seconds, found.off];
            if !(is_share(found.link) && rest.into_iter().all(is_time)) {
                return Err(StoredError::Number("calibration"));
            }
        }
        Ok(read)
    }
}

impl Subject {
    /// Whether it is that model on that hardware under that runtime, whatever the model is called and whichever
    /// version the runtime has.
    pub fn is(&self, facts: &ModelFacts, hardware: &str, runtime: &str) -> bool {
        self.architecture.as_deref() == Some(facts.architecture.as_str())
            && self.parameters == Some(facts.parameters)
            && self.weight_bytes == Some(facts.weights.total())
            && self.hardware.as_deref() == Some(hardware)
            && self.runtime == runtime
    }
}

type Known<'a> = (&'a Setting<'a>, &'a Calibration);

fn fit(
    points: &[Point],
    setting: Option<Known<'_>>,
) -> Result<(Pace, Option<Calibration>), FitError> {
    let calibration = |(setting, assumed): Known<'_>| {
        let measured = |point: &Point| Measurement {
            work: work(setting, point.phase),
            seconds: point.seconds,
        };
        let all: Vec<Measurement> = points.iter().map(measured).collect();
        Calibration::fit(assumed, &all)
    };
    Ok((Pace::fit(points)?, setting.map(calibration).transpose()?))
}

fn work(setting: &Setting<'_>, phase: Phase) -> Work {
    match phase {
        Phase::Prefill { tokens } => setting.prefill(tokens),
        Phase::Decode { sequences, context } => setting.decode(f64::from(sequences), context),
    }
}

/// The second of every three of each kind: never only the ends.
fn held_out(points: &[Point]) -> Vec<bool> {
    let is_prompt = |point: &Point| matches!(point.phase, Phase::Prefill { .. });
    let prompts = points.iter().filter(|point| is_prompt(point)).count();
    let mut seen = [0; 2];
    points
        .iter()
        .map(|point| {
            let kind = usize::from(is_prompt(point));
            let count = if is_prompt(point) { prompts } else { points.len() - prompts };
            let at = seen[kind];
            seen[kind] += 1;
            count >= HELD_OUT_FROM && at % HELD_OUT_EVERY == 1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace {
            prefill_seconds: 0.010,
            token_seconds: 1e-3,
            pair_seconds: 0.0,
            step_seconds: 0.020,
            sequence_seconds: 1e-3,
            context_seconds: 2e-6,
            off: 0.0,
        }
    }

    fn points() -> Vec<Point> {
        let prompts = [32, 64, 128, 256, 512, 1024].map(|tokens| Phase::Prefill { tokens });
        let steps = [1, 2, 4, 8]
            .into_iter()
            .flat_map(|sequences| [64, 512].map(|context| Phase::Decode { sequences, context }));
        let point = |phase| Point { phase, seconds: pace().seconds(phase), spread: 0.01, times: 5 };
        prompts.into_iter().chain(steps).map(point).collect()
    }

    fn stored() -> Stored {
        Stored {
            schema: SCHEMA.to_owned(),
            measured: "2026-11-21T00:00:00Z".to_owned(),
            url: "http://host:1".to_owned(),
            subject: Subject { model: "m".to_owned(), ..Subject::default() },
            fit: Fit::of(&points(), None).unwrap(),
            loads: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_is_held_out_is_not_seen() {
        let mut points = points();
        let before = Fit::of(&points, None).unwrap();
        assert_eq!(before.held_out.points, 5);
        assert!(before.held_out.pace.most < 1e-6);
        let at = before.rows.iter().position(|row| row.held_out).unwrap();
        points[at].seconds *= 2.0;
        let after = Fit::of(&points, None).unwrap();
        let predicted = |fit: &Fit| fit.rows[at].pace_seconds;
        assert!((predicted(&after) / predicted(&before) - 1.0).abs() < 1e-9);
        assert!((after.held_out.pace.most - 0.5).abs() < 1e-6, "half of what was measured");
        assert!(after.pace.off > 0.4, "the band says so: {}", after.pace.off);
    }

    #[test]
    fn few_measurements_are_all_seen() {
        let few: Vec<Point> = points().into_iter().skip(2).take(8).collect();
        assert_eq!(held_out(&few), [false; 8]);
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let text = serde_json::to_string(&stored()).unwrap();
        let read = Stored::parse(&text).unwrap();
        assert_eq!((&read.subject, &read.measured), (&stored().subject, &stored().measured));
        assert_eq!(read.fit.rows.len(), stored().fit.rows.len());
        assert_eq!(read.fit.rows[0].point.phase, Phase::Prefill { tokens: 32 });
        // JSON keeps all but the last digit of a number.
        let step = read.fit.pace.step_seconds / stored().fit.pace.step_seconds;
        assert!((step - 1.0).abs() < 1e-12, "{step}");
    }

    #[test]
    fn what_is_no_calibration_is_refused() {
        let check = |change: &dyn Fn(&mut Stored), expect: &str| {
            let mut changed = stored();
            change(&mut changed);
            let text = serde_json::to_string(&changed).unwrap();
            let error = Stored::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(&|it| "pilotage.calibration/v9".clone_into(&mut it.schema), "v9");
        check(&|it| it.fit.pace.token_seconds = -1.0, "token_seconds");
        check(&|it| it.fit.pace.step_seconds = 1e9, "step_seconds");
        assert!(Stored::parse("[]").unwrap_err().to_string().contains("none"));
        assert!(Stored::parse("{").is_err());
    }
}
