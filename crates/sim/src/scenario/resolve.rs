//! From what a file says to what happens: names become places, seconds become moments, parts become
//! thousandths, and what makes no sense is refused.

use std::collections::BTreeMap;

use pilotage_chance::derive;
use pilotage_core::queue::tree::WHOLE;
use pilotage_core::{
    Band, BandPolicy, Cost, FairConfig, Gate, Lift, Predict, PreemptConfig, QueueLimits,
    SchedulerConfig, Span, TenantId, TenantShare, TenantTree,
};
use pilotage_plan::size::Stored;
use serde_saphyr::Spanned;

use super::scaling;
use super::schema::{self, Policy, Replicas};
use super::{
    Fault, FaultKind, REPLICAS_MAX, Replica, Scenario, ScenarioError, TENANTS_MAX, Tenant,
};
use crate::arrival::{self, Arrival, seconds, time};
use crate::engine::{EngineModel, prefill_max};
use crate::metrics::Ticks;
use crate::rival::Route;
use crate::trace;

type Result<T> = std::result::Result<T, ScenarioError>;

/// Most KV tokens of an engine whose blocks are kept one by one.
const STEPPED_KV_MAX: f64 = 1e8;

/// What a calibrated engine does otherwise like, where the scenario does not say.
const CALIBRATED_PRESET: &str = "vllm-like";

/// The seed of a trace's assignment, apart from those of workloads, which are counted from zero.
const TRACE_PART: u64 = u64::MAX;

pub(super) fn resolve(
    file: schema::File,
    read: &dyn Fn(&str) -> std::result::Result<String, String>,
) -> Result<Scenario> {
    let scheduler = file.scheduler.as_ref().map(|it| it.value.clone()).unwrap_or_default();
    let config = config(&scheduler).map_err(located(file.scheduler.as_ref()))?;
    let engine = file.engine.as_ref().map(|it| it.value.clone()).unwrap_or_default();
    let engine = self::engine(&engine, read).map_err(located(file.engine.as_ref()))?;
    let scaling = file.scaling.as_ref().map(|it| scaling::resolve(&it.value)).transpose();
    let scaling = scaling.map_err(located(file.scaling.as_ref()))?;
    let replicas = match &scaling {
        Some(scaling) => replicas(Some(&Replicas::Number(scaling.slots())), &engine),
        None => replicas(file.replicas.as_ref().map(|it| &it.value), &engine),
    };
    let replicas = replicas.map_err(located(file.replicas.as_ref()))?;
    let route = route(&scheduler).map_err(located(file.scheduler.as_ref()))?;
    let mut roster = Roster::default();
    for tenant in &file.tenants {
        roster.add(tenant)?;
    }
    let mut arrivals = roster.recorded(&file, read)?;
    arrivals.extend(roster.made_up(&file)?);
    if let Some(most) = file.seconds {
        arrivals.retain(|arrival| seconds(arrival.at) < most);
    }
    if arrivals.is_empty() {
        let problem = "nobody sends a request: write `workloads` or a `trace`";
        return Err(ScenarioError::new(0, "", problem));
    }
    arrival::sort(&mut arrivals);
    let last = arrivals.last().map_or(0.0, |arrival| seconds(arrival.at));
    let end = file.measure.end_seconds.unwrap_or_else(|| last.floor().max(1.0));
    let prices = scheduler.cost;
    Ok(Scenario {
        tree: roster.tree()?,
        tenants: roster.tenants,
        faults: file
            .faults
            .iter()
            .map(|fault| faulty(fault, replicas.len()))
            .collect::<Result<_>>()?,
        warm: time(file.measure.warmup_seconds),
        ticks: Ticks::of_paper(file.measure.warmup_seconds, end),
        cost: crate::metrics::Cost { input: prices.input, output: prices.output },
        policy: policy(&scheduler),
        one_line: scheduler.policy == Policy::Fcfs,
        requests_per_minute: scheduler.requests_per_minute,
        name: file.name,
        description: file.description,
        seed: file.seed,
        engine,
        replicas,
        scaling,
        route,
        config,
        arrivals,
        again: BTreeMap::new(),
    })
}

type Read<'a> = &'a dyn Fn(&str) -> std::result::Result<String, String>;

fn engine(given: &schema::Engine, read: Read<'_>) -> Result<EngineModel> {
    let otherwise = match given.calibration {
        Some(_) => CALIBRATED_PRESET,
        None => EngineModel::PRESETS[0],
    };
    let name = given.preset.as_ref().map_or(otherwise, |name| name.value.as_str());
    let mut model = EngineModel::preset(name).ok_or_else(|| {
        let line = given.preset.as_ref().map_or(0, line);
        let known = EngineModel::PRESETS.join(", ");
        ScenarioError::new(line, "engine.preset", format!("no engine `{name}` (known: {known})"))
    })?;
    if let Some(name) = &given.calibration {
        let wrong = |problem: String| ScenarioError::new(line(name), "engine.calibration", problem);
        let text = read(&name.value).map_err(|error| wrong(format!("{}: {error}", name.value)))?;
        let stored = Stored::parse(&text).map_err(|error| wrong(error.to_string()))?;
        model.take_pace(&stored.subject.model, &stored.fit.pace);
    }
    let times = [
        ("prefillMs", given.prefill_ms, &mut model.prefill_ms),
        ("prefillMsPerToken", given.prefill_ms_per_token, &mut model.prefill_ms_per_token),
        ("prefillMsPerPair", given.prefill_ms_per_pair, &mut model.prefill_ms_per_pair),
        ("stepMs", given.step_ms, &mut model.step_ms),
        ("stepMsPerSequence", given.step_ms_per_sequence, &mut model.step_ms_per_sequence),
        ("stepMsPerKvToken", given.step_ms_per_kv_token, &mut model.step_ms_per_kv_token),
    ];
    for (field, given, time) in times {
        let Some(ms) = given else { continue };
        *time = within(&format!("engine.{field}"), ms, 0.0, 1e9)?;
    }
    if let Some(tokens) = given.kv_tokens {
        set_kv(&mut model, "engine.kvTokens", tokens)?;
    }
    model.sequences_max = given.sequences_max.unwrap_or(model.sequences_max).max(1);
    model.prefill_tokens_max = given.prefill_tokens_max.unwrap_or(model.prefill_tokens_max);
    model.step_tokens_max = given.step_tokens_max.or(model.step_tokens_max);
    model.formation_steps = given.formation_steps.unwrap_or(model.formation_steps).max(1);
    model.pauses_max = given.pauses_max.unwrap_or(model.pauses_max);
    model.cache_blocks = given.cache_blocks.or(model.cache_blocks);
    model.stop = given.stop.unwrap_or(model.stop);
    Ok(model)
}

fn set_kv(model: &mut EngineModel, field: &str, tokens: u64) -> Result<()> {
    let most = if model.step_tokens_max.is_some() { STEPPED_KV_MAX } else { 1e12 };
    within(field, tokens as f64, 1.0, most)?;
    model.kv_tokens = tokens;
    if model.step_tokens_max.is_none() {
        model.prefill_tokens_max = prefill_max(tokens);
    }
    Ok(())
}

fn replicas(given: Option<&Replicas>, engine: &EngineModel) -> Result<Vec<Replica>> {
    let most = f64::from(REPLICAS_MAX);
    let like = |engine: &EngineModel| Replica {
        engine: engine.clone(),
        slowness: 1.0,
        network: Span::ZERO,
        region: 0,
    };
    let count = given.map_or(1.0, |given| match given {
        Replicas::Number(count) => f64::from(*count),
        Replicas::Kinds(kinds) => kinds.iter().map(|kind| f64::from(kind.count)).sum(),
    });
    within("replicas", count, 1.0, most)?;
    let Some(Replicas::Kinds(kinds)) = given else {
        return Ok(vec![like(engine); count as usize]);
    };
    let mut regions: Vec<&str> = Vec::new();
    let mut all = Vec::new();
    for kind in kinds {
        let mut one = like(engine);
        one.slowness = within("replicas.slowness", kind.slowness, 0.01, 1e6)?;
        one.network = span(within("replicas.networkMs", kind.network_ms, 0.0, 1e6)? / 1000.0);
        if let Some(tokens) = kind.kv_tokens {
            set_kv(&mut one.engine, "replicas.kvTokens", tokens)?;
        }
        one.engine.sequences_max = kind.sequences_max.unwrap_or(engine.sequences_max).max(1);
        let known = regions.iter().position(|region| *region == kind.region);
        one.region = u16::try_from(known.unwrap_or(regions.len())).unwrap_or(u16::MAX);
        if known.is_none() {
            regions.push(&kind.region);
        }
        all.extend(vec![one; kind.count as usize]);
    }
    Ok(all)
}

fn route(given: &schema::Scheduler) -> Result<Option<Route>> {
    let unknown = |name: &str| {
        let known = Route::names().collect::<Vec<_>>().join(", ");
        let problem = format!("no policy `{name}` (known: {known})");
        ScenarioError::new(0, "scheduler.route", problem)
    };
    let find = |name: &String| Route::find(name).ok_or_else(|| unknown(name));
    given.route.as_ref().map(find).transpose()
}

fn config(given: &schema::Scheduler) -> Result<SchedulerConfig> {
    let prices = given.cost;
    let price = |field: &str, price: f64| {
        let price = within(&format!("scheduler.cost.{field}"), price, 0.0, 1e6)?;
        Ok::<u32, ScenarioError>((price * 1000.0).round() as u32)
    };
    let cost = Cost::Tokens {
        input: price("input", prices.input)?,
        cached: price("cached", prices.cached)?,
        output: price("output", prices.output)?,
    };
    let mut bands = BandPolicy::DEFAULT;
    for (band, rights) in &given.bands {
        bands[*band as usize] = band_policy(*band, *rights)?;
    }
    let preempt = match given.preempt {
        None => PreemptConfig { enabled: false, ..PreemptConfig::default() },
        Some(preempt) => PreemptConfig {
            enabled: true,
            over_share: preempt.over_share.map(|tokens| (tokens * 1000.0).round() as u64),
            stops_max: preempt.stops_max,
            run_min: span(preempt.run_min_seconds),
        },
    };
    let quantum = within("scheduler.quantum", given.quantum, 0.0, 1e12)?;
    Ok(SchedulerConfig {
        queue: QueueLimits {
            requests_max: given.queued_requests_max,
            tokens_max: given.queued_tokens_max,
        },
        fair: FairConfig {
            cost,
            bands,
            quantum: (quantum * 1000.0).round() as u64,
            predict: given.predict,
            lift: given.lift,
            gate: given.gate,
        },
        preempt,
        ..SchedulerConfig::default()
    })
}

fn band_policy(band: Band, rights: schema::BandRights) -> Result<BandPolicy> {
    let part = |field: &str, part: f64| {
        thousandths(&format!("scheduler.bands.{}.{field}", band.name()), part)
    };
    Ok(BandPolicy {
        floor: part("floor", rights.floor)?,
        cap: rights.cap.map_or(Ok(WHOLE), |cap| part("cap", cap))?,
        age_after: rights.age_after_seconds.map(span),
    })
}

/// The scheduler in a few words, for reports.
fn policy(given: &schema::Scheduler) -> String {
    let order = match (given.policy, given.lift) {
        (Policy::Fcfs, _) => "first come, first served",
        (Policy::Vtc, Lift::Full) => "fair (VTC)",
        (Policy::Vtc, Lift::WaitingOnly) => "fair (VTC as in the paper's artifact)",
        (Policy::Vtc, Lift::Off) => "least counter first (LCF)",
    };
    let mut words = vec![order.to_owned()];
    match given.predict {
        Predict::Off => {}
        Predict::Average => words.push("answers predicted".to_owned()),
        Predict::Most => words.push("answers foreseen".to_owned()),
    }
    if given.quantum > 0.0 {
        words.push(format!("quantum {}", given.quantum));
    }
    words.extend(given.requests_per_minute.map(|most| format!("{most} requests per minute each")));
    if given.preempt.is_some() {
        words.push("preemption".to_owned());
    }
    if given.gate == Gate::Sum {
        words.push("room by prediction".to_owned());
    }
    words.extend(given.route.as_ref().map(|route| format!("placed by {route}")));
    words.join(", ")
}

/// Tenants as they come to be known.
#[derive(Default)]
struct Roster {
    tenants: Vec<Tenant>,
    shares: Vec<(TenantShare, Option<(String, u64)>)>,
    places: BTreeMap<String, u32>,
    /// Names that stand for many, with the share of each.
    groups: BTreeMap<String, Vec<(String, f64)>>,
}

impl Roster {
    fn add(&mut self, given: &Spanned<schema::Tenant>) -> Result<()> {
        let (line, tenant) = (line(given), &given.value);
        let field = |name: &str| format!("tenants.{}.{name}", tenant.name);
        let at = |error: ScenarioError| ScenarioError { line, ..error };
        let most = f64::from(TENANTS_MAX);
        within(&field("count"), f64::from(tenant.count), 1.0, most).map_err(at)?;
        let weight = within(&field("weight"), tenant.weight, 0.001, 1e6).map_err(at)?;
        let part = |name: &str, part: f64| thousandths(&field(name), part).map_err(at);
        let limit = |name: &str, given: Option<f64>| given.map(|it| part(name, it)).transpose();
        let share = TenantShare {
            weight: (weight * 1000.0).round() as u32,
            guaranteed: part("guaranteed", tenant.guaranteed)?,
            borrowing_limit: limit("borrowingLimit", tenant.borrowing_limit)?,
            lending_limit: limit("lendingLimit", tenant.lending_limit)?,
            ..TenantShare::top(TenantId(0))
        };
        let names: Vec<String> = match tenant.count {
            1 => vec![tenant.name.clone()],
            count => (1..=count).map(|number| format!("{}-{number}", tenant.name)).collect(),
        };
        if tenant.count > 1 {
            let part = |number: u32| f64::from(number).powf(-tenant.skew);
            let parts = names.iter().cloned().zip((1..).map(part));
            self.groups.insert(tenant.name.clone(), parts.collect());
        }
        for name in names {
            if self.places.contains_key(&name) {
                let problem = "the name is taken, give each tenant its own";
                return Err(ScenarioError::new(line, format!("tenants.{name}"), problem));
            }
            let parent = tenant.parent.clone().map(|parent| (parent, line));
            self.enter(name, share, parent, Some(tenant));
        }
        Ok(())
    }

    fn enter(
        &mut self,
        name: String,
        share: TenantShare,
        parent: Option<(String, u64)>,
        given: Option<&schema::Tenant>,
    ) -> u32 {
        let at = u32::try_from(self.tenants.len()).unwrap_or(u32::MAX);
        self.places.insert(name.clone(), at);
        self.shares.push((TenantShare { id: TenantId(at), ..share }, parent));
        self.tenants.push(Tenant {
            name,
            weight: f64::from(share.weight) / 1000.0,
            band: given.map(|given| given.band).unwrap_or_default(),
            quota: given.map(|given| given.quota.clone()).unwrap_or_default(),
            deadline: given.and_then(|given| given.deadline_seconds).map(span),
            answer_by: given.and_then(|given| given.answer_by_seconds).map(span),
            patience: given.and_then(|given| given.patience_seconds).map(span),
        });
        at
    }

    fn tree(&self) -> Result<TenantTree> {
        let shares = self.shares.iter().map(|(share, parent)| {
            let Some((parent, line)) = parent else { return Ok(*share) };
            let at = self.places.get(parent).ok_or_else(|| {
                let problem = format!("there is no tenant `{parent}` to be the parent");
                ScenarioError::new(*line, "tenants", problem)
            })?;
            Ok(TenantShare { parent: Some(TenantId(*at)), ..*share })
        });
        let shares: Vec<TenantShare> = shares.collect::<Result<_>>()?;
        TenantTree::new(shares).map_err(|error| {
            let numbered = self.tenants.iter().enumerate().take(20);
            let names: Vec<_> =
                numbered.map(|(at, tenant)| format!("{at} is {}", tenant.name)).collect();
            ScenarioError::new(0, "tenants", format!("{error} ({})", names.join(", ")))
        })
    }

    /// What a trace holds. Tenants that only the trace knows are put at the top of the tree.
    fn recorded(
        &mut self,
        file: &schema::File,
        read: &dyn Fn(&str) -> std::result::Result<String, String>,
    ) -> Result<Vec<Arrival>> {
        let Some(given) = &file.trace else { return Ok(Vec::new()) };
        let (line, wanted) = (line(given), &given.value);
        let wrong = |problem: String| {
            ScenarioError::new(line, "trace", format!("{}: {problem}", wanted.file))
        };
        let text = match super::builtin::trace(&wanted.file) {
            Some(text) => text.to_owned(),
            None => read(&wanted.file).map_err(wrong)?,
        };
        let seed = derive(file.seed, TRACE_PART);
        let trace = trace::read(wanted.format, &text, &wanted.take, seed)
            .map_err(|error| wrong(error.to_string()))?;
        let mut places = Vec::new();
        for name in trace.tenants {
            let known = self.places.get(&name).copied();
            let top = TenantShare::top(TenantId(0));
            places.push(known.unwrap_or_else(|| self.enter(name, top, None, None)));
        }
        let place = |arrival: Arrival| Arrival {
            tenant: places.get(arrival.tenant as usize).copied().unwrap_or(0),
            ..arrival
        };
        Ok(trace.arrivals.into_iter().map(place).collect())
    }

    fn made_up(&self, file: &schema::File) -> Result<Vec<Arrival>> {
        let names: Vec<String> = self.tenants.iter().map(|tenant| tenant.name.clone()).collect();
        let mut arrivals = Vec::new();
        for (part, given) in (0_u64..).zip(&file.workloads) {
            let mut workload = given.value.clone();
            let requests = std::mem::take(&mut workload.requests);
            workload.requests = requests.into_iter().flat_map(|one| self.spread(one)).collect();
            let made = workload.arrivals(derive(file.seed, part), &names).map_err(|error| {
                ScenarioError::new(line(given), format!("workloads[{part}]"), error)
            })?;
            arrivals.extend(made);
        }
        Ok(arrivals)
    }

    /// Requests of a group are requests of each of its tenants.
    fn spread(&self, one: crate::workload::Requests) -> Vec<crate::workload::Requests> {
        let Some(group) = self.groups.get(&one.tenant) else { return vec![one] };
        let whole: f64 = group.iter().map(|(_, part)| part).sum();
        let of = |(tenant, part): &(String, f64)| crate::workload::Requests {
            tenant: tenant.clone(),
            share: one.share * part / whole,
            ..one.clone()
        };
        group.iter().map(of).collect()
    }
}

fn faulty(given: &Spanned<schema::Fault>, replicas: usize) -> Result<Fault> {
    let (line, fault) = (line(given), &given.value);
    let at = |error: ScenarioError| ScenarioError { line, ..error };
    let from = within("faults.at", fault.at, 0.0, 1e9).map_err(at)?;
    let length = within("faults.seconds", fault.seconds, 0.001, 1e9).map_err(at)?;
    let last = replicas as f64 - 1.0;
    within("faults.replica", f64::from(fault.replica), 0.0, last).map_err(at)?;
    let kind = match fault.kind {
        schema::FaultKind::Down => FaultKind::Down,
        schema::FaultKind::Slow(times) => {
            FaultKind::Slow(within("faults.kind.slow", times, 0.01, 1e6).map_err(at)?)
        }
        schema::FaultKind::Blind => FaultKind::Blind,
        schema::FaultKind::Foreign(tokens) => FaultKind::Foreign(tokens),
        schema::FaultKind::Hung => FaultKind::Hung,
        schema::FaultKind::Leaky => FaultKind::Leaky,
    };
    Ok(Fault { from: time(from), until: time(from + length), replica: fault.replica, kind })
}

/// Says of a mistake where the mapping begins that it is in, unless it has its own place.
fn located<T>(given: Option<&Spanned<T>>) -> impl Fn(ScenarioError) -> ScenarioError {
    let begin = given.map_or(0, line);
    move |error| ScenarioError { line: if error.line == 0 { begin } else { error.line }, ..error }
}

pub(super) fn line<T>(spanned: &Spanned<T>) -> u64 {
    spanned.referenced.line()
}

pub(super) fn span(seconds: f64) -> Span {
    Span::from_nanos(time(seconds).as_nanos())
}

fn thousandths(field: &str, part: f64) -> Result<u32> {
    Ok((within(field, part, 0.0, 1.0)? * f64::from(WHOLE)).round() as u32)
}

pub(super) fn within(field: &str, value: f64, least: f64, most: f64) -> Result<f64> {
    if value >= least && value <= most {
        return Ok(value);
    }
    let problem = format!("{value} is out of range; write a number from {least} to {most}");
    Err(ScenarioError::new(0, field, problem))
}
