//! What a replica can do, and which of its limits it has reached: places in the batch, KV cache,
//! tokens of a step, memory bandwidth, arithmetic.
//!
//! Sources: Little's law (L = λ·W); the roofline model (Williams, Waterman, Patterson 2009) as it is
//! applied to decoding, which reads all weights and all KV cache once for each step (Pope et al. 2022).

use serde::Serialize;

use super::evidence::{Replica, group, ratio};

/// From this share of a resource on it is what limits. Of the public runs of a server with four
/// places, those that queued had them 0.92 to 0.98 full, those that did not 0.52 to 0.68.
pub const FULL: f64 = 0.9;

/// From this share of the bandwidth on a step cannot get quicker: real kernels reach 0.8 to 0.9 of
/// what data sheets say.
pub const BANDWIDTH_FULL: f64 = 0.8;

/// From this share of the arithmetic on a prompt cannot get quicker: large matrix products reach about
/// half of what data sheets say once attention and communication are counted.
pub const COMPUTE_FULL: f64 = 0.5;

/// Bytes of an accelerator's memory that neither weights nor KV cache get: activations, graphs and the
/// driver's context. What vLLM reports at its start for models of 7 to 8 billion parameters.
const OVERHEAD_BYTES: f64 = 1.8e9;

/// A group of numbers that can be averaged.
macro_rules! group_of_numbers {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $field:ident: f64,)* }) => {
        group! { $(#[$about])* $name { $($(#[$what])* $field: f64,)* } }

        impl $name {
            /// The mean of each number over those that have it.
            pub fn mean<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Self {
                Self { $($field: mean(all.clone().filter_map(|one| one.$field)),)* }
            }
        }
    };
}

/// What limits a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Places in the batch.
    Slots,
    /// KV cache.
    Kv,
    /// Tokens of a step.
    StepTokens,
    /// Memory bandwidth.
    Bandwidth,
    /// Arithmetic.
    Compute,
}

impl Limit {
    /// What it is called in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slots => "places in the batch",
            Self::Kv => "KV cache",
            Self::StepTokens => "tokens of a step",
            Self::Bandwidth => "memory bandwidth",
            Self::Compute => "arithmetic",
        }
    }
}

group_of_numbers! {
    /// What one replica can do and does.
    Bounds {
        /// Places in the batch: S.
        slots: f64,
        /// Requests in the batch.
        running: f64,
        /// Share of the places that is taken.
        slots_used: f64,
        /// Prompt tokens of a request, at a mean.
        input: f64,
        /// Generated tokens of a request, at a mean: n.
        output: f64,
        /// Time for a prompt: p.
        prefill_s: f64,
        /// Time for a step, as requests see it: TPOT.
        step_s: f64,
        /// How long a request has its place: p + n·TPOT.
        residence_s: f64,
        /// Requests for each second.
        rps: f64,
        /// Requests for each second that the places allow: S / (p + n·TPOT).
        slots_rps: f64,
        /// Bytes of KV cache for each token: 2 · layers · heads · dimension · bytes of a number.
        kv_token_bytes: f64,
        /// Tokens that the KV cache holds.
        kv_tokens: f64,
        /// Tokens of a sequence while it is computed, at a mean: the prompt and half of the answer.
        context: f64,
        /// Sequences that the KV cache holds.
        kv_sequences: f64,
        /// Share of the KV cache that is taken.
        kv_use: f64,
        /// Share of the tokens that a step may compute.
        step_tokens_use: f64,
        /// The quickest that a step can be: (weights + running · context · KV bytes) / bandwidth.
        step_floor_s: f64,
        /// Share of the bandwidth that steps use (MBU): that by the time they take.
        mbu: f64,
        /// The quickest that a prompt can be: 2 · parameters · tokens / FLOPS.
        prefill_floor_s: f64,
        /// Share of the arithmetic that prompts use (MFU).
        mfu: f64,
        /// By how much requests inside (L) and rate times time (λ·W) differ. AIPerf takes 0.05 for good
        /// and 0.15 for suspicious.
        little_residual: f64,
        /// Seconds of a step for each further sequence, as bandwidth lets expect.
        sequence_step_s: f64,
    }
}

/// What replicas can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Capacity {
    /// The mean over the replicas.
    pub typical: Bounds,
    /// What limits that.
    pub limit: Option<Limit>,
    /// Each, by its name.
    pub replicas: Vec<(String, Bounds)>,
}

impl Capacity {
    /// Of these replicas, watched for so long.
    pub fn of(replicas: &[Replica], window_s: Option<f64>) -> Self {
        let replicas: Vec<(String, Bounds)> = replicas
            .iter()
            .map(|replica| (replica.name.clone(), Bounds::of(replica, window_s)))
            .collect();
        let typical = Bounds::mean(replicas.iter().map(|(_, bounds)| bounds));
        Self { limit: typical.limit(), typical, replicas }
    }
}

impl Bounds {
    /// Of one replica, watched for so long.
    pub fn of(replica: &Replica, window_s: Option<f64>) -> Self {
        let mut bounds = Self::default();
        bounds.work(replica, window_s);
        bounds.memory(replica);
        bounds.roofline(replica);
        bounds
    }

    /// The first of its limits that is reached.
    pub fn limit(&self) -> Option<Limit> {
        let limits = [
            (Limit::Slots, self.slots_used, FULL),
            (Limit::Kv, self.kv_use, FULL),
            (Limit::StepTokens, self.step_tokens_use, FULL),
            (Limit::Bandwidth, self.mbu, BANDWIDTH_FULL),
            (Limit::Compute, self.mfu, COMPUTE_FULL),
        ];
        let reached =
            |(_, used, full): &(_, Option<f64>, f64)| used.is_some_and(|used| used >= *full);
        limits.into_iter().find(reached).map(|(limit, _, _)| limit)
    }

    fn work(&mut self, replica: &Replica, window_s: Option<f64>) {
        let (gauges, deltas, times) = (&replica.gauges, &replica.deltas, &replica.times);
        self.slots = replica.config.max_num_seqs.or(gauges.slots_seen);
        self.running = gauges.running;
        self.slots_used = ratio(self.running, self.slots);
        self.kv_use = gauges.kv_use;
        self.input = ratio(deltas.prompt_tokens, deltas.requests);
        self.output = ratio(deltas.generation_tokens, deltas.requests);
        self.prefill_s = times.prefill.mean();
        self.step_s = times.tpot.mean().or_else(|| times.itl.mean());
        let decode_s = product(self.output, self.step_s).or_else(|| times.decode.mean());
        self.residence_s = sum(self.prefill_s, decode_s);
        self.rps = ratio(deltas.requests, window_s);
        self.slots_rps = ratio(self.slots, self.residence_s);
        let inside = sum(gauges.running, gauges.waiting);
        let passed = product(self.rps, sum(self.residence_s, times.queue.mean()));
        self.little_residual = difference(inside, passed);
        let computed = deltas.prompt_tokens.map(|all| all - deltas.cached_tokens.unwrap_or(0.0));
        let step_tokens = ratio(sum(computed, deltas.generation_tokens), deltas.iterations);
        self.step_tokens_use = ratio(step_tokens, replica.config.max_num_batched_tokens);
    }

    fn memory(&mut self, replica: &Replica) {
        let (config, dims) = (&replica.config, &replica.dims);
        let numbers = product(product(dims.layers, dims.kv_heads), dims.head_dim);
        self.kv_token_bytes = product(numbers, dims.kv_number_bytes).map(|bytes| 2.0 * bytes);
        let blocks = product(config.num_gpu_blocks, config.block_size);
        self.kv_tokens = blocks.or_else(|| {
            let memory = replica.accelerator.memory_bytes? * config.gpu_memory_utilization?;
            let weights = dims.resident_bytes.or(dims.weight_bytes)?;
            let free = (memory - OVERHEAD_BYTES) * accelerators(replica) - weights;
            ratio(Some(free.max(0.0)), self.kv_token_bytes)
        });
        // An answer grows evenly while it is computed, so that it is half there at a mean.
        self.context = self.input.zip(self.output).map(|(input, output)| input + output / 2.0);
        self.kv_sequences = ratio(self.kv_tokens, self.context);
    }

    fn roofline(&mut self, replica: &Replica) {
        let accelerator = &replica.accelerator;
        // Stages of a pipeline read their weights one after the other; tensor ranks at once.
        let ranks = ranks(replica);
        let bandwidth = accelerator.bandwidth_bytes_s.map(|bandwidth| bandwidth * ranks);
        let sequence = product(self.context, self.kv_token_bytes);
        let cache = product(self.running, sequence);
        let read = sum(replica.dims.weight_bytes, cache);
        self.step_floor_s = ratio(read, bandwidth);
        self.mbu = ratio(self.step_floor_s, self.step_s);
        self.sequence_step_s = ratio(ratio(sequence, bandwidth), self.mbu);
        let cached = ratio(replica.deltas.cached_tokens, replica.deltas.requests).unwrap_or(0.0);
        let tokens = self.input.map(|input| (input - cached).max(0.0));
        let operations = product(replica.dims.parameters, tokens).map(|pairs| 2.0 * pairs);
        let is_eight = replica.dims.product_bytes.is_some_and(|bytes| bytes <= 1.0);
        let flops = accelerator.flops_eight_bits.filter(|_| is_eight).or(accelerator.flops);
        self.prefill_floor_s = ratio(operations, flops.map(|flops| flops * ranks));
        self.mfu = ratio(self.prefill_floor_s, self.prefill_s);
    }
}

/// Accelerators that divide each layer.
pub(super) fn ranks(replica: &Replica) -> f64 {
    replica.config.tensor.or(replica.accelerator.count).unwrap_or(1.0)
}

fn accelerators(replica: &Replica) -> f64 {
    ranks(replica) * replica.config.pipeline.unwrap_or(1.0)
}

fn product(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    Some(left? * right?)
}

fn sum(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    Some(left? + right?)
}

/// By how much two differ, as a share of the larger one.
fn difference(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    let (left, right) = (left?, right?);
    ratio(Some((left - right).abs()), Some(left.max(right)))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    ratio(Some(sum), Some(count))
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::lab;
    use super::*;

    /// Within so many percent.
    fn near(got: Option<f64>, expect: f64, percent: f64) {
        let got = got.unwrap();
        assert!((got - expect).abs() <= expect * percent / 100.0, "{got} is not {expect}");
    }

    /// The published runs of vLLM with four places on an RTX 4090 with Qwen2.5-7B.
    #[test]
    fn places_give_the_rates_that_were_measured() {
        for run in lab::RUNS {
            let bounds = Bounds::of(&lab::replica(run), Some(lab::WINDOW_S));
            near(bounds.slots_rps, run.slots_rps, 3.0);
            near(bounds.slots_used, run.decoding / 4.0, 0.1);
            assert_eq!(bounds.limit() == Some(Limit::Slots), run.is_bound, "{run:?}");
        }
    }

    #[test]
    fn the_roofline_is_that_of_the_data_sheet() {
        let bounds = Bounds::of(&lab::replica(&lab::RUNS[2]), Some(lab::WINDOW_S));
        assert_eq!(bounds.kv_token_bytes, Some(56.0 * 1024.0));
        // The weights alone take 15.1 ms; four sequences of cache add a tenth of one.
        near(bounds.step_floor_s, 0.0152, 1.0);
        near(bounds.mbu, 0.84, 2.0);
    }

    #[test]
    fn kv_cache_is_what_weights_leave() {
        let check = |utilisation: f64, expect: f64| {
            let mut replica = lab::replica(&lab::RUNS[2]);
            replica.config.gpu_memory_utilization = Some(utilisation);
            near(Bounds::of(&replica, Some(lab::WINDOW_S)).kv_sequences, expect, 6.0);
        };
        check(0.75, 70.0);
        check(0.90, 185.0);
    }

    #[test]
    fn experts_that_rest_take_memory_and_eight_bits_are_quicker() {
        let mut replica = lab::replica(&lab::RUNS[2]);
        let of = |replica: &Replica| Bounds::of(replica, Some(lab::WINDOW_S));
        let before = of(&replica);
        replica.dims.resident_bytes = replica.dims.weight_bytes.map(|bytes| bytes + 1e9);
        let fewer = before.kv_tokens.unwrap() - of(&replica).kv_tokens.unwrap();
        near(Some(fewer * before.kv_token_bytes.unwrap()), 1e9, 0.1);
        replica.accelerator.flops_eight_bits = replica.accelerator.flops.map(|flops| flops * 2.0);
        assert_eq!(of(&replica).mfu, before.mfu);
        replica.dims.product_bytes = Some(1.0);
        near(of(&replica).mfu, before.mfu.unwrap() / 2.0, 0.1);
    }

    #[test]
    fn what_is_not_known_bounds_nothing() {
        let bounds = Bounds::of(&Replica::default(), None);
        assert_eq!(bounds, Bounds::default());
        assert_eq!(bounds.limit(), None);
        assert_eq!(Capacity::of(&[], Some(1.0)), Capacity::default());
    }

    #[test]
    fn little_finds_requests_that_nobody_counts() {
        let mut replica = lab::replica(&lab::RUNS[0]);
        let residual = |replica: &Replica| Bounds::of(replica, Some(lab::WINDOW_S)).little_residual;
        assert!(residual(&replica).unwrap() < 0.15, "{:?}", residual(&replica));
        replica.gauges.waiting = Some(20.0);
        assert!(residual(&replica).unwrap() > 0.15);
    }
}
