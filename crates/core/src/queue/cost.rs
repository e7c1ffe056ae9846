//! What a request costs its tenant: weighted tokens, or the KV cache's token-seconds.
//!
//! Costs are in thousandths of a weighted token, whole numbers, so that the same trace gives the
//! same order on every machine.

use serde::{Deserialize, Serialize};

use crate::{Span, Tokens};

/// How service is measured.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cost {
    /// A price for each kind of token, in thousandths.
    Tokens {
        /// A prompt token that has to be computed.
        input: u32,
        /// A prompt token found in the prefix cache.
        cached: u32,
        /// A generated token.
        output: u32,
    },
    /// Tokens held in the KV cache, times the seconds they are held: what a request keeps from
    /// others when memory is what is short (the memory-centric cost of Justitia, arXiv 2510.17015).
    KvTokenSeconds,
}

impl Cost {
    /// VTC's prices, 1 for input and 2 for output (Sheng et al., OSDI 2024, section 5), and a tenth
    /// for what the prefix cache saves: it costs no computing, only its place.
    pub const VTC: Self = Self::Tokens { input: 1000, cached: 100, output: 2000 };

    /// The cost of a prompt, known when it is dispatched.
    pub const fn of_input(self, tokens: Tokens) -> u64 {
        match self {
            Self::Tokens { input, cached, .. } => {
                let fresh = tokens.input.saturating_sub(tokens.cached);
                let found = tokens.input - fresh;
                fresh as u64 * input as u64 + found as u64 * cached as u64
            }
            Self::KvTokenSeconds => 0,
        }
    }

    /// The cost of generated tokens.
    pub const fn of_output(self, tokens: u32) -> u64 {
        match self {
            Self::Tokens { output, .. } => tokens as u64 * output as u64,
            Self::KvTokenSeconds => 0,
        }
    }

    /// The cost of holding so many KV tokens for so long.
    pub const fn of_holding(self, kv_tokens: u64, span: Span) -> u64 {
        match self {
            Self::Tokens { .. } => 0,
            // Token-nanoseconds to thousandths of a token-second.
            Self::KvTokenSeconds => {
                let thousandths = kv_tokens as u128 * span.as_nanos() as u128 / 1_000_000;
                if thousandths > u64::MAX as u128 { u64::MAX } else { thousandths as u64 }
            }
        }
    }

    /// The most that the counters of two waiting siblings of weight one can differ, in thousandths:
    /// `max(w_p·L_input, w_q·M)` (lemma 4.3 of the VTC paper), where `input_max` is the longest
    /// prompt and `in_flight_max` the tokens that run at once. For the cost by time there is no such
    /// bound, because a running request's cost has none.
    pub const fn gap_bound(self, input_max: u64, in_flight_max: u64) -> Option<u64> {
        match self {
            Self::Tokens { input, cached, output } => {
                let dearest = if input > cached { input } else { cached };
                let prompt = input_max.saturating_mul(dearest as u64);
                let price = if output > dearest { output } else { dearest };
                let batch = in_flight_max.saturating_mul(price as u64);
                Some(if prompt > batch { prompt } else { batch })
            }
            Self::KvTokenSeconds => None,
        }
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::VTC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_added_up() {
        let tokens = Tokens { input: 100, cached: 40, output: 7 };
        assert_eq!(Cost::VTC.of_input(tokens), 60 * 1000 + 40 * 100);
        assert_eq!(Cost::VTC.of_output(7), 14_000);
        // More cached than there is: the whole prompt was cached.
        assert_eq!(Cost::VTC.of_input(Tokens { input: 5, cached: 9, output: 0 }), 500);
        assert_eq!(Cost::KvTokenSeconds.of_holding(100, Span::from_millis(1500)), 150_000);
        assert_eq!(Cost::KvTokenSeconds.of_input(tokens), 0);
        assert_eq!(Cost::KvTokenSeconds.of_holding(u64::MAX, Span::from_secs(u64::MAX)), u64::MAX);
        assert_eq!(Cost::VTC.gap_bound(1000, 10_000), Some(20_000_000));
        assert_eq!(Cost::VTC.gap_bound(u64::MAX, 1), Some(u64::MAX));
    }
}
