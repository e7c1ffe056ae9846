//! Servers that run already, as they are typed: `[NAME=]URL[,KEY=VALUE]…`.

use std::collections::BTreeSet;

use pilotage_plan::size::{Dtype, Shape};

use crate::exit::Wrong;

/// Servers that are measured at most: each takes as long as the requests come.
const ENDPOINTS_MAX: usize = 32;

/// What may be said of a server.
const KEYS: &str =
    "cost, accelerators, tp, pp, dp, replicas, sequences, step-tokens, cache, model, key-env";

/// A server that runs already.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Endpoint {
    /// What it is called.
    pub(super) name: String,
    /// Where it is.
    pub(super) url: String,
    /// What it costs in an hour.
    pub(super) cost: Option<f64>,
    /// Accelerators of all replicas.
    pub(super) accelerators: Option<u32>,
    /// The name of its model.
    pub(super) model: Option<String>,
    /// The environment variable that holds its key.
    pub(super) key_env: Option<String>,
    layout: Layout,
}

/// How its model is laid out, as far as it was said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Layout {
    tensor: Option<u32>,
    pipeline: Option<u32>,
    data: Option<u32>,
    replicas: Option<u32>,
    sequences: Option<u32>,
    step_tokens: Option<u32>,
    cache: Option<Dtype>,
}

/// Reads them all: names are told apart, and what they cost can be compared.
pub(super) fn read_all(typed: &[String], price: Option<f64>) -> Result<Vec<Endpoint>, Wrong> {
    if typed.len() > ENDPOINTS_MAX {
        return Err(Wrong::new(format!("--endpoint: at most {ENDPOINTS_MAX} servers")));
    }
    let all: Vec<Endpoint> =
        typed.iter().map(|text| Endpoint::read(text)).collect::<Result<_, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = all.iter().find(|one| !names.insert(one.name.as_str())) {
        return Err(Wrong::new(format!("--endpoint: two servers are called `{}`", twice.name))
            .hint("name each: NAME=URL"));
    }
    let known = |one: &Endpoint| {
        let by_price = price.is_some() && one.accelerators.is_some();
        match (one.cost.is_some() || by_price, one.accelerators.is_some()) {
            (true, _) => "what it costs",
            (false, true) => "its accelerators alone",
            (false, false) => "nothing",
        }
    };
    let other = all.iter().zip(all.iter().skip(1)).find(|(one, other)| known(one) != known(other));
    match other {
        Some((one, other)) => Err(Wrong::new(format!(
            "--endpoint: of `{}` {} is said, and of `{}` {}: they cannot be compared",
            one.name,
            known(one),
            other.name,
            known(other)
        ))
        .hint("say cost= of all, or accelerators= of all, or neither")),
        None => Ok(all),
    }
}

impl Endpoint {
    fn read(text: &str) -> Result<Self, Wrong> {
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        // What it says is in no message: it may be a password.
        if has_user(text) {
            let wrong = Wrong::new(
                "--endpoint: a URL must not hold a user or a password, as URLs are printed and kept",
            );
            return Err(
                wrong.hint("leave them out; key-env=NAME names a variable that holds a key")
            );
        }
        let scheme = first.find("://").ok_or_else(|| {
            Wrong::new(format!("--endpoint: `{first}` is no URL"))
                .hint("write http://HOST:PORT or https://HOST")
        })?;
        let named = first.split_once('=').filter(|(name, _)| name.len() < scheme);
        let (name, url) = match named {
            Some((name, url)) => (name.trim().to_owned(), url),
            None => (
                first.split("://").nth(1).unwrap_or_default().trim_end_matches('/').to_owned(),
                first,
            ),
        };
        if name.is_empty() {
            return Err(Wrong::new(format!("--endpoint: `{first}` has no name before its `=`")));
        }
        let mut read = Self { name, url: url.trim_end_matches('/').to_owned(), ..Self::default() };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                Wrong::new(format!("--endpoint {}: `{part}` is no KEY=VALUE", read.name))
            })?;
            read.set(key.trim(), value.trim())?;
        }
        read.count()?;
        Ok(read)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Wrong> {
        let wrong =
            |what: &str| Wrong::new(format!("--endpoint {}: {key}=`{value}` is {what}", self.name));
        let count = || {
            let count = value.parse::<u32>().ok().filter(|count| (1..=1 << 20).contains(count));
            count.map(Some).ok_or_else(|| wrong("no number from 1"))
        };
        match key {
            "cost" => {
                let cost = value.parse().ok().filter(|cost: &f64| cost.is_finite() && *cost >= 0.0);
                self.cost = Some(cost.ok_or_else(|| wrong("no price"))?);
            }
            "accelerators" => self.accelerators = count()?,
            "tp" => self.layout.tensor = count()?,
            "pp" => self.layout.pipeline = count()?,
            "dp" => self.layout.data = count()?,
            "replicas" => self.layout.replicas = count()?,
            "sequences" => self.layout.sequences = count()?,
            "step-tokens" => self.layout.step_tokens = count()?,
            "cache" => {
                self.layout.cache = Some(match value {
                    "bf16" => Dtype::Bf16,
                    "f16" => Dtype::F16,
                    "fp8" => Dtype::Fp8,
                    _ => return Err(wrong("none of bf16, f16 and fp8")),
                });
            }
            "model" => self.model = Some(value.to_owned()),
            "key-env" => self.key_env = Some(value.to_owned()),
            _ => {
                let text = format!("--endpoint {}: there is no `{key}`", self.name);
                return Err(Wrong::new(text).hint(format!("known: {KEYS}")));
            }
        }
        Ok(())
    }

    /// Makes accelerators and layout agree: what is left open of one follows from the other.
    fn count(&mut self) -> Result<(), Wrong> {
        let Layout { tensor, pipeline, data, replicas, .. } = self.layout;
        let rest = [pipeline, data, replicas].into_iter().flatten();
        let rest = rest.fold(1_u32, u32::saturating_mul);
        match (self.accelerators, tensor) {
            (None, None) if pipeline.or(data).or(replicas).is_none() => return Ok(()),
            (None, tensor) => {
                let tensor = *self.layout.tensor.insert(tensor.unwrap_or(1));
                self.accelerators = Some(tensor.saturating_mul(rest));
            }
            (Some(all), None) if all.is_multiple_of(rest) => self.layout.tensor = Some(all / rest),
            (Some(all), Some(tensor)) if tensor.saturating_mul(rest) == all => {}
            (Some(all), tensor) => {
                let text = format!(
                    "--endpoint {}: accelerators={all} are not what {} × {rest} makes",
                    self.name,
                    tensor.map_or_else(|| "tp".to_owned(), |tensor| format!("tp={tensor}"))
                );
                return Err(Wrong::new(text).hint("tp × pp × dp × replicas are its accelerators"));
            }
        }
        Ok(())
    }

    /// Its shape, where its accelerators are known; what was not said is as runtimes have it by themselves.
    pub(super) fn shape(&self, usual: Shape) -> Option<Shape> {
        let Layout { tensor, pipeline, data, replicas, sequences, step_tokens, cache } =
            self.layout;
        let data = data.unwrap_or(1);
        Some(Shape {
            tensor: tensor?,
            pipeline: pipeline.unwrap_or(1),
            data,
            expert_parallel: data > 1,
            replicas: replicas.unwrap_or(1),
            sequences: sequences.unwrap_or(usual.sequences),
            batch_tokens: step_tokens.unwrap_or(usual.batch_tokens),
            kv_dtype: cache.unwrap_or(usual.kv_dtype),
            ..usual
        })
    }
}

/// Whether there is an `@` before the path, or in what a `,` of a password cuts off.
fn has_user(text: &str) -> bool {
    let host = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    // The names of models may have one.
    host.split(',')
        .enumerate()
        .any(|(at, part)| (at == 0 || !part.contains('=')) && part.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_taken_apart() {
        let check = |text: &str, (name, url): (&str, &str), shape: Option<&str>| {
            let read = Endpoint::read(text).unwrap();
            assert_eq!((read.name.as_str(), read.url.as_str()), (name, url), "{text}");
            let found = read.shape(Shape::single(1024, Dtype::Bf16)).map(|shape| shape.to_string());
            assert_eq!(found.as_deref(), shape, "{text}");
            assert_eq!(read.accelerators.is_some(), shape.is_some(), "{text}");
        };
        check("http://a:1", ("a:1", "http://a:1"), None);
        check("big=https://a/v1/,cost=3.5", ("big", "https://a/v1"), None);
        check("http://a:1/?x=y", ("a:1/?x=y", "http://a:1/?x=y"), None);
        check("b=http://a:1,accelerators=4", ("b", "http://a:1"), Some("TP4"));
        check("b=http://a:1,accelerators=4,replicas=2", ("b", "http://a:1"), Some("TP2 ×2"));
        check("b=http://a:1,replicas=2", ("b", "http://a:1"), Some("TP1 ×2"));
        check(
            "b=http://a:1,tp=2,pp=2,sequences=64,step-tokens=512,cache=fp8",
            ("b", "http://a:1"),
            Some("TP2 PP2"),
        );
        check("b=http://a:1,tp=1,dp=4", ("b", "http://a:1"), Some("TP1 DP4 EP4"));
    }

    #[test]
    fn mistakes_are_named() {
        let check = |typed: &[&str], price: Option<f64>, expect: Option<&str>| {
            let typed: Vec<String> = typed.iter().map(|text| (*text).to_owned()).collect();
            match (read_all(&typed, price), expect) {
                (Ok(_), None) => {}
                (Err(error), Some(expect)) => {
                    assert!(error.to_string().contains(expect), "{error}");
                }
                (found, expect) => panic!("{typed:?}: {found:?}, expected {expect:?}"),
            }
        };
        check(&["localhost:8000"], None, Some("is no URL"));
        check(&["=http://a"], None, Some("no name"));
        check(&["http://u:pw@a"], None, Some("must not hold a user"));
        check(&["x=https://u@a/v1,cost=2"], None, Some("must not hold a user"));
        check(&["u:pw@a"], None, Some("must not hold a user"));
        check(&["http://u:p,w@a"], None, Some("must not hold a user"));
        check(&["http://a/x@y", "http://b,model=x@y"], None, None);
        check(&["http://a,fast"], None, Some("`fast` is no KEY=VALUE"));
        check(&["http://a,speed=1"], None, Some("there is no `speed`"));
        check(&["http://a,cost=-1"], None, Some("cost=`-1`"));
        check(&["http://a,tp=0"], None, Some("tp=`0`"));
        check(&["http://a,cache=int4"], None, Some("none of bf16"));
        check(&["http://a,accelerators=3,replicas=2"], None, Some("accelerators=3"));
        check(&["http://a,accelerators=4,tp=3"], None, Some("tp=3"));
        check(&["http://a", "http://a"], None, Some("two servers are called `a`"));
        check(&["x=http://a", "x=http://b"], None, Some("two servers are called `x`"));
        check(&["http://a,cost=1", "http://b"], None, Some("cannot be compared"));
        check(&["http://a,cost=1", "http://b,tp=2"], None, Some("cannot be compared"));
        check(&["http://a,cost=1", "http://b,tp=2"], Some(2.0), None);
        check(&["http://a", "http://b"], None, None);
    }
}
