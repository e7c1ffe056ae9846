//! Quotas and budgets of all tenants, and the place that each request holds in them from its arrival
//! to the last byte of its answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use pilotage_core::admit::{Admit, Demand, Denial, Headroom, Left, Limit, Now, Quota, Use, Window};
use pilotage_core::traffic::merge;
use pilotage_core::{RequestId, Span, TenantId, TenantTree, Time, Tokens};
use pilotage_shell::clock::Clock;
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;

use crate::config::Price;

/// A header of an answer.
pub(crate) type Header = (HeaderName, HeaderValue);

/// Every tenant's accounts.
#[derive(Debug)]
pub(crate) struct Quotas {
    admit: Mutex<Admit>,
    clock: Clock,
}

/// What one request holds. Dropped without a word, all of it is given back.
#[derive(Debug)]
pub(crate) struct Lease {
    quotas: Arc<Quotas>,
    id: RequestId,
    price: Price,
    /// Whether tokens are somebody else's to pay for.
    free: bool,
    over: bool,
}

impl Quotas {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { admit: Mutex::new(Admit::default()), clock }
    }

    pub(crate) fn set(&self, tree: TenantTree, quotas: BTreeMap<TenantId, Quota>) {
        let now = self.now();
        self.admit.lock().set_quotas(now, tree, quotas);
    }

    /// Reserves what a request needs at its tenant and at all above it, or nothing.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        id: RequestId,
        tenant: TenantId,
        tokens: Tokens,
        bytes: usize,
        price: Price,
    ) -> Result<(Lease, Left), Denial> {
        let demand = Demand { most: used(price, tokens), bytes: bytes as u64 };
        let left = self.admit.lock().reserve(self.now(), id, tenant, demand)?;
        Ok((Lease { quotas: Arc::clone(self), id, price, free: false, over: false }, left))
    }

    /// Whether a tenant has an account: it is there, something of it runs, or it spent something.
    pub(crate) fn holds(&self, tenant: TenantId) -> bool {
        self.admit.lock().totals(tenant).is_some()
    }

    /// What was spent of every budget, to be kept over a restart.
    pub(crate) fn spent(&self) -> Vec<(TenantId, Window, u64, u64)> {
        self.admit.lock().spent()
    }

    pub(crate) fn restore(&self, tenant: TenantId, window: Window, number: u64, spent: u64) {
        self.admit.lock().restore(tenant, window, number, spent);
    }

    fn now(&self) -> Now {
        let time = Time::from_nanos(self.clock.now_nanos());
        Now { time, unix_ms: self.clock.unix_ms() }
    }
}

impl Lease {
    /// The request has its turn.
    pub(crate) fn started(&self) {
        self.quotas.admit.lock().started(self.id);
    }

    /// Only the request itself counts: its tokens are somebody else's to pay for.
    pub(crate) const fn free(mut self) -> Self {
        self.free = true;
        self
    }

    /// The request ended, and used this much; what that was charged, in millionths.
    pub(crate) fn settle(self, tokens: Tokens) -> u64 {
        let price = self.price;
        self.settle_at(price, tokens)
    }

    /// The request ended, and used this much, at the price of who answered; what that was charged, in
    /// millionths.
    pub(crate) fn settle_at(self, price: Price, tokens: Tokens) -> u64 {
        let used = if self.free { Use::default() } else { used(price, tokens) };
        self.settle_part(used);
        used.money
    }

    fn settle_part(mut self, part: Use) {
        self.over = true;
        let now = self.quotas.now();
        self.quotas.admit.lock().settle(now, self.id, part);
    }

    /// Several requests had one answer, and pay for it together, by who came first; what each of them was charged, in
    /// millionths.
    pub(crate) fn settle_shared(
        leases: BTreeMap<u64, Self>,
        price: Price,
        tokens: Tokens,
    ) -> BTreeMap<u64, u64> {
        let parts = merge::split(used(price, tokens), leases.len() as u64);
        let settled = leases.into_iter().zip(parts).map(|((number, lease), part)| {
            lease.settle_part(part);
            (number, part.money)
        });
        settled.collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.over {
            let now = self.quotas.now();
            self.quotas.admit.lock().refund(now, self.id);
        }
    }
}

/// Tokens and their price, rounded up to a millionth once for each request.
fn used(price: Price, tokens: Tokens) -> Use {
    let cached = tokens.cached.min(tokens.input);
    let parts = [
        (tokens.input - cached, price.input),
        (cached, price.cached),
        (tokens.output, price.output),
    ];
    let sum: u128 =
        parts.iter().map(|(count, price)| u128::from(*count) * u128::from(*price)).sum();
    Use {
        input: tokens.input.into(),
        output: tokens.output.into(),
        money: u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX),
    }
}

/// The answer to a request whose quota is used up: which limit of whose, how much it is, how much
/// is used and asked for, and when to try again.
pub(crate) fn denied(denial: &Denial, tenant: &str) -> ApiError {
    let Denial { limit, most, used, asked, retry_after, .. } = denial;
    let amount = |number: u64| match limit {
        Limit::Budget(_) => money(number),
        _ => number.to_string(),
    };
    let mut message = format!(
        "the limit {} of tenant `{tenant}` is {}: {} used or reserved, and this request needs {}",
        limit.name(),
        amount(*most),
        amount(*used),
        amount(*asked),
    );
    let _ = match retry_after {
        Some(after) => write!(message, "; try again in {}", spoken(*after)),
        None => write!(message, ", more than the limit itself; make it smaller"),
    };
    match limit {
        Limit::Budget(_) => ApiError::over_budget(message),
        _ => ApiError::rate_limited(message),
    }
}

/// The denial for programs.
pub(crate) fn denial_header(denial: &Denial, tenant: &str) -> Option<HeaderValue> {
    let Denial { limit, most, used, asked, .. } = denial;
    let name = limit.name();
    let text = format!("{name}; tenant={tenant}; limit={most}; used={used}; asked={asked}");
    HeaderValue::from_str(&text).ok()
}

/// Names of OpenAI's headers: a limit, what remains of it, and when that is all of it again.
static RATE_LIMITS: [[HeaderName; 3]; 4] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-input-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-input-tokens"),
        HeaderName::from_static("x-ratelimit-reset-input-tokens"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-output-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-output-tokens"),
        HeaderName::from_static("x-ratelimit-reset-output-tokens"),
    ],
];

/// What is left, in OpenAI's headers. `tokens` are those of the tighter of the two directions.
pub(crate) fn headers(left: &Left) -> Vec<Header> {
    let mut headers = Vec::new();
    let tokens = match (left.input_tokens, left.output_tokens) {
        (Some(input), Some(output)) => {
            Some(if output.remaining < input.remaining { output } else { input })
        }
        (input, output) => input.or(output),
    };
    let rows = [left.requests, tokens, left.input_tokens, left.output_tokens];
    for (names, headroom) in RATE_LIMITS.iter().zip(rows) {
        let Some(Headroom { limit, remaining, reset }) = headroom else { continue };
        let [of_limit, of_remaining, of_reset] = names;
        headers.push((of_limit.clone(), limit.into()));
        headers.push((of_remaining.clone(), remaining.into()));
        if let Ok(reset) = HeaderValue::try_from(spoken(reset)) {
            headers.push((of_reset.clone(), reset));
        }
    }
    if let Some((window, spent, hard)) = left.warning {
        let text = format!("{}; spent={}; hard={}", window.name(), money(spent), money(hard));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.push((HeaderName::from_static(envelope::BUDGET), value));
        }
    }
    headers
}

/// A span as OpenAI writes it in these headers: `6m0s`, `1.5s`, `20ms`.
fn spoken(span: Span) -> String {
    let ms = span.as_nanos().div_ceil(1_000_000);
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = match ms % 1000 {
        0 => write!(text, "{}s", ms / 1000),
        rest => write!(text, "{}.{}s", ms / 1000, format!("{rest:03}").trim_end_matches('0')),
    };
    text
}

/// Millionths as a decimal number.
fn money(millionths: u64) -> String {
    let text = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
    let short = text.trim_end_matches('0');
    short.strip_suffix('.').unwrap_or(short).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_money_read_as_people_write_them() {
        let check = |ms: u64, expect: &str| assert_eq!(spoken(Span::from_millis(ms)), expect);
        check(20, "20ms");
        check(1000, "1s");
        check(1500, "1.5s");
        check(360_000, "6m0s");
        check(3_600_000, "1h0m0s");
        check(3_661_005, "1h1m1.005s");
        assert_eq!(
            [money(0), money(1_500_000), money(20_000_000), money(7)],
            ["0", "1.5", "20", "0.000007"]
        );
    }

    #[test]
    fn prices_are_for_a_million_tokens() {
        let price = Price { input: 150_000, cached: 75_000, output: 600_000 };
        let tokens = Tokens { input: 1000, cached: 400, output: 100 };
        // 600 × 0.15 + 400 × 0.075 + 100 × 0.60, each millionth of a unit.
        assert_eq!(used(price, tokens).money, 180);
        assert_eq!(used(price, Tokens { input: 1, cached: 0, output: 0 }).money, 1);
        assert_eq!(used(Price::default(), tokens), Use { input: 1000, output: 100, money: 0 });
    }

    #[test]
    fn headers_say_what_is_left() {
        let of = |limit, remaining, secs| {
            Some(Headroom { limit, remaining, reset: Span::from_secs(secs) })
        };
        let left = Left {
            requests: of(60, 59, 1),
            input_tokens: of(1000, 900, 6),
            output_tokens: of(500, 10, 60),
            warning: Some((Window::Day, 9_000_000, 10_000_000)),
        };
        let headers = headers(&left);
        let find = |name: &str| headers.iter().find(|(other, _)| other == name).unwrap();
        let get = |name: &str| find(name).1.to_str().unwrap().to_owned();
        assert_eq!(get("x-ratelimit-limit-requests"), "60");
        assert_eq!(get("x-ratelimit-remaining-tokens"), "10");
        assert_eq!(get("x-ratelimit-reset-output-tokens"), "1m0s");
        assert_eq!(get("x-ratelimit-reset-input-tokens"), "6s");
        assert_eq!(get(envelope::BUDGET), "day; spent=9; hard=10");
        assert_eq!(super::headers(&Left::default()).len(), 0);
    }
}
