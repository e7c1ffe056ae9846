//! Public runs of `vllm bench serve` against vLLM with `--max-num-seqs 4 --enforce-eager`, Qwen2.5-7B in
//! fp16 on an RTX 4090: what was measured, and files as that server would have them written.

use serde_json::json;

use crate::triage::evidence::*;

/// One of them.
#[derive(Debug)]
pub(in crate::triage) struct Measured {
    pub(in crate::triage) input: f64,
    pub(in crate::triage) output: f64,
    /// Requests for each second that were meant to be sent.
    pub(in crate::triage) rate: f64,
    /// Requests answered for each second.
    pub(in crate::triage) rps: f64,
    /// Answers being generated, at a mean.
    pub(in crate::triage) decoding: f64,
    /// What four places allow.
    pub(in crate::triage) slots_rps: f64,
    /// Whether it was places that bound it.
    pub(in crate::triage) is_bound: bool,
}

const fn measured(
    lengths: (f64, f64),
    rate: f64,
    rps: f64,
    decoding: f64,
    slots_rps: f64,
) -> Measured {
    let (input, output) = lengths;
    Measured { input, output, rate, rps, decoding, slots_rps, is_bound: decoding >= 3.6 }
}

/// The runs.
pub(in crate::triage) const RUNS: &[Measured] = &[
    measured((512.0, 128.0), 1.0, 0.95, 2.09, 1.78),
    measured((512.0, 128.0), 2.0, 1.69, 3.81, 1.74),
    measured((512.0, 128.0), 4.0, 1.70, 3.84, 1.72),
    measured((512.0, 128.0), 8.0, 1.72, 3.86, 1.72),
    measured((512.0, 256.0), 1.0, 0.87, 3.76, 0.92),
    measured((512.0, 512.0), 1.0, 0.46, 3.88, 0.47),
    measured((512.0, 1024.0), 1.0, 0.24, 3.94, 0.24),
    measured((3072.0, 128.0), 1.0, 0.92, 2.73, 1.27),
];

pub(in crate::triage) const WINDOW_S: f64 = 100.0;

/// Milliseconds for each token, and for a prompt of 512, as measured.
const TPOT_S: f64 = 0.0181;
const PREFILL_S: f64 = 0.035;

/// The server, as its metrics would have shown it.
pub(in crate::triage) fn replica(run: &Measured) -> Replica {
    let mut replica = Replica { name: "lab".to_owned(), ..Replica::default() };
    let requests = run.rps * WINDOW_S;
    // Little's law: how long answers took is how many there were by how fast they came.
    let decode_s = run.decoding / run.rps;
    let prefill_s = PREFILL_S * run.input / 512.0;
    let waiting = if run.is_bound { 10.0 } else { 0.02 };
    replica.runtime = Some(Runtime::Vllm);
    replica.config.max_num_seqs = Some(4.0);
    replica.config.gpu_memory_utilization = Some(0.75);
    replica.dims = Dims {
        parameters: Some(7.62e9),
        weight_bytes: Some(15.23e9),
        layers: Some(28.0),
        kv_heads: Some(4.0),
        head_dim: Some(128.0),
        kv_number_bytes: Some(2.0),
        ..Dims::default()
    };
    replica.accelerator = Accelerator {
        memory_bytes: Some(24_564.0 * 1024.0 * 1024.0),
        bandwidth_bytes_s: Some(1008e9),
        flops: Some(165e12),
        ..Accelerator::default()
    };
    replica.gauges.running = Some(run.decoding);
    replica.gauges.waiting = Some(waiting);
    replica.deltas.requests = Some(requests);
    replica.deltas.prompt_tokens = Some(requests * run.input);
    replica.deltas.generation_tokens = Some(requests * decode_s / TPOT_S);
    replica.times.tpot = Lasted::new(requests * TPOT_S, requests);
    replica.times.prefill = Lasted::new(requests * prefill_s, requests);
    replica.times.decode = Lasted::new(requests * decode_s, requests);
    replica.times.queue = Lasted::new(waiting * WINDOW_S, requests);
    replica
}

/// How a file is written.
#[derive(Clone, Copy)]
pub(in crate::triage) struct Client {
    /// Requests at once that it allows itself.
    pub(in crate::triage) concurrency: Option<usize>,
    /// Whether it tells of single requests.
    pub(in crate::triage) is_detailed: bool,
}

pub(in crate::triage) const DETAILED: Client = Client { concurrency: None, is_detailed: true };

/// As many requests as the lab sent in each run.
const REQUESTS: usize = 50;

/// The result file of a server with four places that takes requests in the order in which they come.
pub(in crate::triage) fn file(run: &Measured, client: &Client) -> String {
    let prefill_s = PREFILL_S * run.input / 512.0;
    let gaps = (run.decoding / run.rps / TPOT_S) as usize;
    let mut free = [0.0_f64; 4];
    let mut ends: Vec<f64> = Vec::new();
    let (mut starts, mut ttfts, mut waited) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..REQUESTS {
        // Two at a time, so that a rate below the capacity has its moments of waiting, too.
        let meant = (number / 2 * 2) as f64 / run.rate;
        let allowed = client.concurrency.and_then(|most| ends.get(number.checked_sub(most)?));
        let start = allowed.map_or(meant, |end| end.max(meant));
        let place = (0..4).min_by(|left, right| free[*left].total_cmp(&free[*right])).unwrap();
        let begun = start.max(free[place]) + prefill_s;
        free[place] = begun + gaps as f64 * TPOT_S;
        ends.push(free[place]);
        ends.sort_by(f64::total_cmp);
        starts.push(start);
        ttfts.push(begun - start);
        waited.push(start - meant);
    }
    let duration = ends.last().copied().unwrap();
    let mean_ttft: f64 = ttfts.iter().sum::<f64>() / REQUESTS as f64;
    let mut file = json!({
        "label": format!("{}/{} at {}", run.input, run.output, run.rate),
        "model_id": "Qwen/Qwen2.5-7B-Instruct",
        "request_rate": if client.concurrency.is_some() { json!("inf") } else { json!(run.rate) },
        "max_concurrency": client.concurrency,
        "duration": duration,
        "completed": REQUESTS,
        "failed": 0,
        "total_input_tokens": run.input * REQUESTS as f64,
        "total_output_tokens": (gaps + 1) * REQUESTS,
        "mean_ttft_ms": mean_ttft * 1e3,
        "mean_tpot_ms": TPOT_S * 1e3,
    });
    if client.is_detailed {
        file["start_times"] = json!(starts);
        file["ttfts"] = json!(ttfts);
        file["itls"] = json!(vec![vec![TPOT_S; gaps]; REQUESTS]);
        file["input_lens"] = json!(vec![run.input; REQUESTS]);
        file["output_lens"] = json!(vec![gaps + 1; REQUESTS]);
        file["queue_times"] = json!(waited);
        file["errors"] = json!(vec![""; REQUESTS]);
    }
    file.to_string()
}
