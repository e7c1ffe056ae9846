//! What is known of one run of a benchmark.

group! {
    /// One run of a benchmark, as summed up from its file.
    Run {
        /// What it was called.
        label: String,
        /// Requests that were answered.
        completed: f64,
        /// Requests that failed.
        failed: f64,
        /// How long it took.
        seconds: f64,
        /// Requests for each second that were meant to be sent; none where all were at once.
        rate: f64,
        /// Requests for each second that were sent.
        sent_rate: f64,
        /// Requests at once that the client allowed itself.
        concurrency: f64,
        /// Requests answered for each second.
        rps: f64,
        /// Tokens of a prompt, at a mean.
        input: f64,
        /// Tokens of an answer, at a mean.
        output: f64,
        /// Mean time to the first token, as sent.
        ttft_s: f64,
        /// Its median.
        ttft_p50_s: f64,
        /// What the first token takes when nobody waits before it: the quickest twentieth.
        ttft_alone_s: f64,
        /// By how much it grew from the first third of the requests to the last.
        ttft_growth_s: f64,
        /// Mean time for each further token.
        tpot_s: f64,
        /// Answers being generated, at a mean.
        decoding: f64,
        /// Answers being generated, at most.
        decoding_max: f64,
        /// Share of the time with requests waiting in which all but one of the most, or all, were being
        /// generated: near one where their number has a lid.
        lid: f64,
        /// Requests sent and without a first token, at a mean.
        waiting: f64,
        /// Time that requests waited in the client, 99th percentile.
        delay_p99_s: f64,
        /// Share of its processors that the client used.
        client_cpu: f64,
    }
}
