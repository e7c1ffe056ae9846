//! The draw: from the few tokens that can come out, found without sorting the vocabulary.

use super::{Sampling, token};
use crate::job::Token;

/// Tokens this many times less likely than the best (e^-30, about 1e-13) are left out: all of a
/// vocabulary together would come out less than once in a million years of one token a second.
const REACH: f32 = 30.0;

/// Draws a token; `unit` is uniform in [0, 1).
pub(super) fn draw(logits: &[f32], sampling: &Sampling, unit: f64) -> Token {
    let most =
        logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    if !most.is_finite() {
        let position = logits.iter().position(|logit| *logit == most);
        return token(position.unwrap_or(0));
    }
    let mut pool = within_reach(logits, most, sampling);
    if sampling.top_k > 0 {
        cut_to(&mut pool, sampling.top_k as usize);
    }
    let weight = |logit: f32| f64::from((logit - most) / sampling.temperature).exp();
    let weighed = |(token, logit): (Token, f32)| Weighed { token, logit, weight: weight(logit) };
    let mut pool: Vec<Weighed> = pool.into_iter().map(weighed).collect();
    if sampling.top_p < 1.0 {
        nucleus(&mut pool, f64::from(sampling.top_p));
    }
    let mut left = unit * pool.iter().map(|each| each.weight).sum::<f64>();
    for each in &pool {
        left -= each.weight;
        if left < 0.0 {
            return each.token;
        }
    }
    // Rounding can leave a hair: the last candidate takes it.
    pool.last().map_or(0, |each| each.token)
}

/// A candidate; its weight is its probability times a constant.
#[derive(Clone, Copy)]
struct Weighed {
    token: Token,
    logit: f32,
    weight: f64,
}

/// The `count` largest logits, largest first, lower tokens first among equals.
pub(super) fn largest(logits: &[f32], count: usize) -> Vec<(Token, f32)> {
    let mut pool: Vec<(Token, f32)> = logits
        .iter()
        .enumerate()
        .filter(|(_, logit)| !logit.is_nan())
        .map(|(at, logit)| (token(at), *logit))
        .collect();
    cut_to(&mut pool, count);
    pool.sort_unstable_by(order);
    pool
}

/// In order of tokens, so that a draw does not depend on how candidates were found.
fn within_reach(logits: &[f32], most: f32, sampling: &Sampling) -> Vec<(Token, f32)> {
    let reach = if sampling.min_p > 0.0 { (-sampling.min_p.ln()).min(REACH) } else { REACH };
    let least = most - reach * sampling.temperature;
    let near = logits.iter().enumerate().filter(|(_, logit)| **logit >= least);
    near.map(|(at, logit)| (token(at), *logit)).collect()
}

fn cut_to(pool: &mut Vec<(Token, f32)>, count: usize) {
    if count < pool.len() {
        if count > 0 {
            pool.select_nth_unstable_by(count - 1, order);
        }
        pool.truncate(count);
        pool.sort_unstable_by_key(|(token, _)| *token);
    }
}

/// Keeps the most likely candidates until their share reaches `top_p`, at least one. Sorts the best
/// few, then some more, and so on: mostly a few are enough.
fn nucleus(pool: &mut Vec<Weighed>, top_p: f64) {
    let enough = top_p * pool.iter().map(|each| each.weight).sum::<f64>();
    let by_logit = |one: &Weighed, other: &Weighed| {
        order(&(one.token, one.logit), &(other.token, other.logit))
    };
    let (mut sum, mut kept, mut more) = (0.0, 0, 64);
    while kept < pool.len() && (kept == 0 || sum < enough) {
        let rest = &mut pool[kept..];
        if more < rest.len() {
            rest.select_nth_unstable_by(more - 1, by_logit);
        }
        let count = more.min(rest.len());
        let best = &mut rest[..count];
        best.sort_unstable_by(by_logit);
        for each in best {
            kept += 1;
            sum += each.weight;
            if sum >= enough {
                break;
            }
        }
        more *= 4;
    }
    pool.truncate(kept);
    pool.sort_unstable_by_key(|each| each.token);
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what sorting asks for")]
fn order(one: &(Token, f32), other: &(Token, f32)) -> std::cmp::Ordering {
    other.1.total_cmp(&one.1).then(one.0.cmp(&other.0))
}
