//! vLLM's metrics, in its names and its form.

use std::fmt::Write as _;

/// Upper bounds of the histogram of tokens in a step.
pub(super) const STEP_BOUNDS: [u32; 13] =
    [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/// What the metrics tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Requests being computed.
    pub running: u64,
    /// Requests that wait inside the engine.
    pub waiting: u64,
    /// The part of the cache's blocks that requests hold.
    pub kv_usage: f64,
    /// Prompt tokens that were looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Of these, the tokens that were there.
    pub prefix_hits: u64,
    /// Prompt tokens computed or found.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generation_tokens: u64,
    /// Requests that lost their blocks to others and began again.
    pub preemptions: u64,
    /// Requests that ended because they were complete.
    pub stopped: u64,
    /// Requests that ended at their greatest length.
    pub cut: u64,
    /// Requests whose client went away.
    pub aborted: u64,
    /// Steps by the tokens in them: for each of the bounds, the steps with at most that many.
    pub steps: [u64; 14],
    /// Tokens of all steps.
    pub step_tokens: u64,
    /// Adapters of the requests being computed.
    pub adapters_running: Vec<String>,
    /// Adapters of the requests that wait.
    pub adapters_waiting: Vec<String>,
}

/// What a scrape gets. `adapters_max`: none where the engine has no adapters.
pub(super) fn render(
    model: &str,
    gauges: &Gauges,
    adapters_max: Option<usize>,
    now_s: f64,
) -> String {
    let mut page = Page { text: String::with_capacity(8 << 10), model };
    page.gauge(
        "num_requests_running",
        "Number of requests in model execution batches.",
        gauges.running as f64,
    );
    page.gauge(
        "num_requests_waiting",
        "Number of requests waiting to be processed.",
        gauges.waiting as f64,
    );
    page.gauge(
        "kv_cache_usage_perc",
        "KV-cache usage. 1 means 100 percent usage.",
        gauges.kv_usage,
    );
    for (name, help, value) in [
        (
            "prefix_cache_queries",
            "Prefix cache queries, in terms of number of queried tokens.",
            gauges.prefix_queries,
        ),
        (
            "prefix_cache_hits",
            "Prefix cache hits, in terms of number of cached tokens.",
            gauges.prefix_hits,
        ),
        ("num_preemptions", "Cumulative number of preemption from the engine.", gauges.preemptions),
        ("prompt_tokens", "Number of prefill tokens processed.", gauges.prompt_tokens),
        ("generation_tokens", "Number of generation tokens processed.", gauges.generation_tokens),
    ] {
        page.counter(name, help, value);
    }
    page.ends(gauges);
    page.steps(gauges);
    if let Some(most) = adapters_max {
        page.adapters(gauges, most, now_s);
    }
    page.text
}

struct Page<'a> {
    text: String,
    model: &'a str,
}

impl Page<'_> {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        let model = self.model;
        let _ = writeln!(self.text, "vllm:{name}{{engine=\"0\",model_name=\"{model}\"}} {value:?}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let model = self.model;
        self.head(&format!("{name}_total"), help, "counter");
        let _ = writeln!(
            self.text,
            "vllm:{name}_total{{engine=\"0\",model_name=\"{model}\"}} {value}.0"
        );
    }

    fn ends(&mut self, gauges: &Gauges) {
        let model = self.model;
        self.head("request_success_total", "Count of successfully processed requests.", "counter");
        let ends = [("stop", gauges.stopped), ("length", gauges.cut), ("abort", gauges.aborted)];
        for (reason, value) in ends {
            let _ = writeln!(
                self.text,
                "vllm:request_success_total{{engine=\"0\",finished_reason=\"{reason}\",model_name=\"{model}\"}} {value}.0"
            );
        }
    }

    fn steps(&mut self, gauges: &Gauges) {
        let model = self.model;
        let name = "vllm:iteration_tokens_total";
        self.head(
            "iteration_tokens_total",
            "Histogram of number of tokens per engine_step.",
            "histogram",
        );
        let labels = format!("engine=\"0\",model_name=\"{model}\"");
        for (bound, count) in STEP_BOUNDS.iter().zip(gauges.steps) {
            let _ = writeln!(
                self.text,
                "{name}_bucket{{engine=\"0\",le=\"{bound}.0\",model_name=\"{model}\"}} {count}.0"
            );
        }
        let all = gauges.steps.last().copied().unwrap_or_default();
        let _ = writeln!(
            self.text,
            "{name}_bucket{{engine=\"0\",le=\"+Inf\",model_name=\"{model}\"}} {all}.0"
        );
        let _ = writeln!(self.text, "{name}_count{{{labels}}} {all}.0");
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {}.0", gauges.step_tokens);
    }

    fn adapters(&mut self, gauges: &Gauges, most: usize, now_s: f64) {
        self.head("lora_requests_info", "Running stats on lora requests.", "gauge");
        let _ = writeln!(
            self.text,
            "vllm:lora_requests_info{{max_lora=\"{most}\",running_lora_adapters=\"{}\",waiting_lora_adapters=\"{}\"}} {now_s:?}",
            gauges.adapters_running.join(","),
            gauges.adapters_waiting.join(",")
        );
    }
}
