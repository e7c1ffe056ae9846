//! Boundaries of histograms. Each list holds OpenTelemetry's for that measure and vLLM's, so that a sum by
//! `le` over the gateway and its engines adds up what is comparable.

/// Seconds to the first token.
pub const TTFT_SECONDS: [f64; 27] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0,
    1.5, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];

/// Seconds per output token, and between two tokens.
pub const TPOT_SECONDS: [f64; 29] = [
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1,
    0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];

/// Seconds of whole requests, and of their phases: OpenTelemetry's 0.01 · 2^k and vLLM's.
pub const DURATION_SECONDS: [f64; 36] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.3, 0.32, 0.5, 0.64, 0.8, 1.0, 1.28, 1.5, 2.0, 2.5, 2.56, 5.0,
    5.12, 10.0, 10.24, 15.0, 20.0, 20.48, 30.0, 40.0, 40.96, 50.0, 60.0, 81.92, 120.0, 240.0,
    480.0, 655.36, 960.0, 1920.0, 7680.0,
];

/// Seconds that the gateway itself costs.
pub const OVERHEAD_SECONDS: [f64; 11] =
    [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1];

/// Tokens of a request: 4^k, as OpenTelemetry's.
pub const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `gen_ai.server.time_to_first_token` of OpenTelemetry's conventions for generative AI.
    const OTEL_TTFT: [f64; 16] = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ];
    /// `gen_ai.server.time_per_output_token`.
    const OTEL_TPOT: [f64; 13] =
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
    /// `gen_ai.server.request.duration`.
    const OTEL_DURATION: [f64; 14] =
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
    /// `gen_ai.client.token.usage`.
    const OTEL_TOKENS: [u64; 14] = [
        1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
        67_108_864,
    ];
    /// `vllm:time_to_first_token_seconds`.
    const VLLM_TTFT: [f64; 22] = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
    ];
    /// `vllm:request_time_per_output_token_seconds` and `vllm:inter_token_latency_seconds`.
    const VLLM_TPOT: [f64; 19] = [
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        20.0, 40.0, 80.0,
    ];
    /// `vllm:e2e_request_latency_seconds` and those of a request's phases.
    const VLLM_DURATION: [f64; 21] = [
        0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
        240.0, 480.0, 960.0, 1920.0, 7680.0,
    ];

    #[test]
    fn those_of_opentelemetry_and_of_vllm_are_among_ours() {
        let check = |ours: &[f64], theirs: &[f64]| {
            for bound in theirs {
                let there = ours.iter().any(|own| own.to_bits() == bound.to_bits());
                assert!(there, "{bound} is missing in {ours:?}");
            }
        };
        check(&TTFT_SECONDS, &OTEL_TTFT);
        check(&TTFT_SECONDS, &VLLM_TTFT);
        check(&TPOT_SECONDS, &OTEL_TPOT);
        check(&TPOT_SECONDS, &VLLM_TPOT);
        check(&DURATION_SECONDS, &OTEL_DURATION);
        check(&DURATION_SECONDS, &VLLM_DURATION);
        check(&TOKENS, &OTEL_TOKENS.map(|tokens| tokens as f64));
    }

    #[test]
    fn boundaries_rise() {
        let check = |bounds: &[f64]| assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        check(&TTFT_SECONDS);
        check(&TPOT_SECONDS);
        check(&DURATION_SECONDS);
        check(&OVERHEAD_SECONDS);
        check(&TOKENS);
    }
}
