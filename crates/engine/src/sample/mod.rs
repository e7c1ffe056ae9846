//! Choosing the next token: pure arithmetic on the model's logits, seeded, the same on every run.
//!
//! Order of steps, as vLLM's: logit bias, penalties, temperature, min-p, top-k, top-p, draw. Only
//! candidates that can still be drawn are looked at after the first pass over the vocabulary, and
//! they are sorted only as far as top-p reaches.

mod candidates;
mod token_set;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use crate::job::{Token, TokenLogprob};
pub use token_set::TokenSet;

/// Below this the most likely token is taken, as the API's zero asks.
const TEMPERATURE_MIN: f32 = 1e-5;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Flattens (above one) or sharpens (below one) the distribution; zero takes the best.
    pub temperature: f32,
    /// Keep the most likely tokens that together have this probability.
    pub top_p: f32,
    /// Keep this many of the most likely tokens; zero keeps all.
    pub top_k: u32,
    /// Keep tokens at least this fraction as likely as the best.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer (CTRL,
    /// arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// Subtracted once from the logits of tokens in the answer.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens in the answer, once for each time.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(Token, f32)>,
    /// Makes the draws repeatable.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// One sequence's sampler: its parameters, what it has seen, and its stream of random numbers.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Pcg64Mcg,
    in_prompt: HashMap<Token, ()>,
    in_answer: HashMap<Token, u32>,
    /// Reused between tokens.
    logits: Vec<f32>,
}

impl Sampler {
    /// A sampler for a sequence with that prompt; without a seed of its own it uses `fallback`.
    pub fn new(sampling: &Sampling, fallback: u64, prompt: &[Token]) -> Self {
        let repeats = sampling.repetition_penalty != 1.0;
        let in_prompt = prompt.iter().filter(|_| repeats).map(|token| (*token, ())).collect();
        Self {
            random: Pcg64Mcg::seed_from_u64(sampling.seed.unwrap_or(fallback)),
            sampling: sampling.clone(),
            in_prompt,
            in_answer: HashMap::new(),
            logits: Vec::new(),
        }
    }

    /// Chooses from logits, one for each token of the vocabulary, among the allowed tokens. When
    /// no logit is a number, the first allowed token comes out.
    pub fn sample(&mut self, logits: &[f32], allowed: Option<&TokenSet>) -> Token {
        let untouched = self.is_untouched() && allowed.is_none();
        if untouched && self.sampling.temperature < TEMPERATURE_MIN {
            return best(logits);
        }
        let mut adjusted = std::mem::take(&mut self.logits);
        adjusted.clear();
        adjusted.extend_from_slice(logits);
        self.adjust(&mut adjusted);
        if let Some(allowed) = allowed {
            allowed.mask(&mut adjusted);
        }
        let token = if self.sampling.temperature < TEMPERATURE_MIN {
            best(&adjusted)
        } else {
            let draw = unit(self.random.next_u64());
            candidates::draw(&adjusted, &self.sampling, draw)
        };
        self.logits = adjusted;
        // Where no allowed logit is a number, any other token looks as good.
        let instead = allowed.filter(|allowed| !allowed.contains(token)).and_then(TokenSet::first);
        instead.unwrap_or(token)
    }

    /// Tells the sampler that a token became part of the answer.
    pub fn accept(&mut self, token: Token) {
        *self.in_answer.entry(token).or_default() += 1;
    }

    fn is_untouched(&self) -> bool {
        let sampling = &self.sampling;
        sampling.logit_bias.is_empty()
            && sampling.repetition_penalty == 1.0
            && sampling.presence_penalty == 0.0
            && sampling.frequency_penalty == 0.0
    }

    fn adjust(&self, logits: &mut [f32]) {
        let sampling = &self.sampling;
        for (token, bias) in &sampling.logit_bias {
            if let Some(logit) = logit_mut(logits, *token) {
                *logit += bias;
            }
        }
        if sampling.repetition_penalty != 1.0 {
            let answer_only =
                self.in_answer.keys().filter(|token| !self.in_prompt.contains_key(token));
            for token in self.in_prompt.keys().chain(answer_only) {
                if let Some(logit) = logit_mut(logits, *token) {
                    let penalty = sampling.repetition_penalty;
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
            }
        }
        for (token, times) in &self.in_answer {
            if let Some(logit) = logit_mut(logits, *token) {
                *logit -= sampling.presence_penalty + sampling.frequency_penalty * *times as f32;
            }
        }
    }
}

/// Log probabilities of the generated token and of the `top` most likely ones, under the model's
/// own distribution.
pub fn logprob(logits: &[f32], token: Token, top: u8) -> TokenLogprob {
    let most = logits.iter().copied().filter(|logit| logit.is_finite()).fold(f32::MIN, f32::max);
    let sum: f64 =
        logits.iter().map(|logit| f64::from((logit - most).exp())).filter(|p| p.is_finite()).sum();
    let total = most + sum.ln() as f32;
    let of = |logit: f32| if logit.is_nan() { f32::NEG_INFINITY } else { logit - total };
    let at = |token: Token| logits.get(index(token)).copied().unwrap_or(f32::NEG_INFINITY);
    let top = candidates::largest(logits, usize::from(top));
    TokenLogprob {
        logprob: of(at(token)),
        top: top.into_iter().map(|(token, logit)| (token, of(logit))).collect(),
    }
}

/// The token with the largest logit, the lowest one of equals.
fn best(logits: &[f32]) -> Token {
    // Blocks of lanes let the compiler compare many at once; the search for the position is then
    // over one block.
    const LANES: usize = 64;
    let mut most = f32::NEG_INFINITY;
    let mut block = 0;
    for (number, lanes) in logits.chunks(LANES).enumerate() {
        let here = lanes.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        if here > most {
            (most, block) = (here, number);
        }
    }
    let begin = block * LANES;
    let within = logits[begin..].iter().position(|logit| *logit == most).unwrap_or(0);
    token(begin + within)
}

/// A number from zero up to but not including one, from the upper 53 bits.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

fn index(token: Token) -> usize {
    usize::try_from(token).unwrap_or(usize::MAX)
}

fn token(index: usize) -> Token {
    Token::try_from(index).unwrap_or(Token::MAX)
}

fn logit_mut(logits: &mut [f32], token: Token) -> Option<&mut f32> {
    logits.get_mut(index(token))
}
