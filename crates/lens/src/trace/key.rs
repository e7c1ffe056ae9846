//! What attributes are called: one table for all conventions, from which the reference page is made, too.

use core::fmt;

/// The value of `OTEL_SEMCONV_STABILITY_OPT_IN` for the latest names.
const LATEST: &str = "gen_ai_latest_experimental";

/// Other categories' values that ask for what is done here anyway.
const DONE_ANYWAY: [&str; 1] = ["http"];

/// Which of OpenTelemetry's semantic conventions for generative AI attributes follow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Convention {
    /// Names that have held since version 1.37 of the conventions.
    #[default]
    Settled,
    /// What the conventions' own repository has by now, which may change.
    Latest,
}

/// A wish that nothing here fulfils.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OptInError(String);

impl fmt::Display for OptInError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not known; write `{LATEST}`, or leave it out", self.0)
    }
}

impl core::error::Error for OptInError {}

impl Convention {
    /// Both, in the order of their age.
    pub const ALL: [Self; 2] = [Self::Settled, Self::Latest];

    /// The convention that `OTEL_SEMCONV_STABILITY_OPT_IN` asks for, a list divided by commas.
    ///
    /// # Errors
    /// Something in it is not known: what was meant would silently not happen.
    pub fn parse(opt_in: Option<&str>) -> Result<Self, OptInError> {
        let mut convention = Self::Settled;
        let wishes = opt_in.unwrap_or_default().split(',').map(str::trim);
        for wish in wishes.filter(|wish| !wish.is_empty()) {
            if wish == LATEST {
                convention = Self::Latest;
            } else if !DONE_ANYWAY.contains(&wish) {
                return Err(OptInError(wish.to_owned()));
            }
        }
        Ok(convention)
    }

    /// Where the names are described for programs; empty where that is not published.
    pub const fn schema_url(self) -> &'static str {
        match self {
            Self::Settled => "https://opentelemetry.io/schemas/1.37.0",
            Self::Latest => "",
        }
    }
}

/// One row: what an attribute is called, on which spans it is, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which one.
    pub key: Key,
    /// Its name by [`Convention::Settled`]; none where that has none.
    pub settled: Option<&'static str>,
    /// Its name by [`Convention::Latest`].
    pub latest: &'static str,
    /// The spans that have it.
    pub spans: &'static str,
    /// What it says, as a sentence for the reference.
    pub doc: &'static str,
}

impl Row {
    /// The name by a convention.
    pub const fn name(&self, convention: Convention) -> Option<&'static str> {
        match convention {
            Convention::Settled => self.settled,
            Convention::Latest => Some(self.latest),
        }
    }
}

/// The table, and an enum of its rows in their order.
macro_rules! table {
    ($($key:ident $spans:literal $settled:expr, $latest:literal $doc:literal)*) => {
        /// An attribute of the table; what each says is in its row.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Key { $(#[doc = $doc] $key),* }

        /// All attributes, in the order of [`Key`].
        pub const TABLE: &[Row] = &[$(Row {
            key: Key::$key,
            settled: $settled,
            latest: $latest,
            spans: $spans,
            doc: $doc,
        }),*];
    };
}

/// A name of both conventions.
macro_rules! both {
    ($($key:ident $spans:literal $name:literal $doc:literal)*; $($differs:tt)*) => {
        table! { $($key $spans Some($name), $name $doc)* $($differs)* }
    };
}

both! {
    Method "server" "http.request.method" "The method of the request."
    UrlPath "server" "url.path" "The path that was asked."
    HttpRoute "server" "http.route" "The same: paths of the API have no variable parts."
    Status "server, attempt" "http.response.status_code" "The HTTP status; of an attempt the replica's own, where it told one."
    ErrorType "server, attempt" "error.type" "How it failed. Of a request: a termination of the access log, or the HTTP status of an answer that is an error. Of an attempt: the HTTP status of a failure, or a fault of `pilotage_upstream_faults_total`."
    RequestId "server" "pilotage.request.id" "The request's id, as in its access log and its `x-request-id`."
    Tenant "server" "pilotage.tenant" "The tenant's name."
    TenantPath "server" "pilotage.tenant.path" "The tenant below those above it, divided by `/`."
    Route "server" "pilotage.route" "The public model name."
    RouteWhy "server" "pilotage.route.why" "Why that Model answers."
    Model "server" "pilotage.model" "The Model that answered."
    Version "server" "pilotage.model.version" "What its weights are: a digest, with the version on trial behind a `#`."
    Adapter "server" "pilotage.adapter" "The LoRA adapter."
    Band "server, admission.queue" "pilotage.band" "How urgent it is."
    Stream "server" "pilotage.stream" "Whether the answer is a stream."
    Termination "server" "pilotage.termination" "How it ended, as in the access log."
    Attempts "server" "pilotage.attempts" "Attempts made."
    Preempted "server" "pilotage.preempted" "Times it was stopped for somebody else, where it was."
    Resumed "server" "pilotage.resumed" "Times its answer broke off and went on elsewhere, where it did."
    Merged "server" "pilotage.merged" "That its answer is one that another request had asked for already."
    Mirror "server" "pilotage.mirror" "That it is a copy, whose answer nobody sees."
    Corrupted "server" "pilotage.corrupted" "That what the engine said had to be put right."
    Cache "server" "pilotage.cache" "`hit` or `miss`, where answers are kept."
    Kept "server" "pilotage.kept" "Why the trace was kept, in words: `sampled`, `error`, `slow`, `retried`, `preempted`, `resumed`, `stalled`, `corrupted`."
    Auth "server" "pilotage.phase.auth_ms" "Finding out who asks."
    Read "server" "pilotage.phase.read_ms" "Reading the body, and understanding it."
    RouteMs "server" "pilotage.phase.route_ms" "Choosing its Model, looking for a kept answer, its place in quotas."
    Queue "server" "pilotage.phase.queue_ms" "Waiting for its turn."
    Retry "server" "pilotage.phase.retry_ms" "Attempts that failed."
    Connect "server" "pilotage.phase.connect_ms" "From the last dispatch until the replica began to answer."
    Prefill "server" "pilotage.phase.prefill_ms" "From then to the first token."
    Decode "server" "pilotage.phase.decode_ms" "From the first to the last token, without the time in which the client took nothing."
    ClientBlocked "server" "pilotage.phase.client_blocked_ms" "The answer waited for its client to take more of it."
    Other "server" "pilotage.phase.other_ms" "The rest. All ten phases add up to the span's duration."
    QueueOutcome "admission.queue" "pilotage.queue.outcome" "`dispatched`, or how the request ended in the queue."
    Policy "route.pick" "pilotage.pick.policy" "The routing policy, or `displaces` where somebody stood aside."
    PickWhy "route.pick" "pilotage.pick.why" "The whole reason, as in the access log."
    Candidates "route.pick" "pilotage.pick.candidates" "Replicas that had room."
    PickCost "route.pick" "pilotage.pick.cost_ms" "What the chosen one was expected to cost."
    PickNext "route.pick" "pilotage.pick.next_ms" "What the next best would have cost, where there was one."
    PickCached "route.pick" "pilotage.pick.cached_tokens" "Prompt tokens that were believed to be in its cache."
    QueueDepth "admission.queue" "pilotage.queue.depth" "Requests that waited in its line when it came."
    ServerAddress "attempt" "server.address" "The replica's host."
    ServerPort "attempt" "server.port" "The replica's port."
    Reused "attempt" "pilotage.connection.reused" "Whether the connection to the replica was open already."
    Fault "attempt" "pilotage.fault" "What was wrong, in a word of `pilotage_upstream_faults_total`; `stopped` where it made room for somebody else."
    Attempt "attempt" "pilotage.attempt" "Its number, from 1."
    AttemptBounds "attempt" "pilotage.attempt.bounds" "`shared` where several attempts failed: each is shown as long as all of them took together."
    Replica "attempt, route.pick" "pilotage.replica" "The replica."
    Region "attempt" "pilotage.region" "Its region, where there are several."
    Runtime "attempt" "pilotage.runtime" "The server that it is."
    RuntimeVersion "attempt" "pilotage.runtime.version" "The version of that."
    Hardware "attempt" "pilotage.hardware" "The class of its hardware."
    Resend "attempt" "http.request.resend_count" "Attempts before it, where there were any."
    Operation "attempt" "gen_ai.operation.name" "`chat`, `text_completion`, `embeddings`, or the path's own word for others."
    Provider "attempt" "gen_ai.provider.name" "The runtime of the replica; `pilotage` where that is not known."
    RequestModel "attempt" "gen_ai.request.model" "The public model name."
    ResponseModel "attempt" "gen_ai.response.model" "The Model that answered."
    InputTokens "attempt" "gen_ai.usage.input_tokens" "Tokens of the prompt."
    OutputTokens "attempt" "gen_ai.usage.output_tokens" "Tokens of the answer, thoughts included. Tokens are on the attempt that was answered and nowhere else, for whoever adds up spans."
    Counted "attempt" "pilotage.usage.counted" "Whether the engine itself told them; they are estimated otherwise."
    Ttft "prefill" "pilotage.ttft_ms" "From the request's begin to its first token."
    Gaps "decode" "pilotage.decode.gaps" "Tokens after the first."
    Tpot "decode" "pilotage.tpot_ms" "The mean time between tokens."
    ItlP50 "decode" "pilotage.itl.p50_ms" "The median gap between tokens."
    ItlP99 "decode" "pilotage.itl.p99_ms" "All but one in a hundred gaps are at most that."
    ItlMax "decode" "pilotage.itl.max_ms" "The longest gap."
    Stalls "decode" "pilotage.itl.stalls" "Gaps that were much longer than those before."
    Stalled "decode" "pilotage.itl.stalled_ms" "Their time, together."
    StallGap "stall (event)" "pilotage.stall.gap_ms" "How long the stall was that began at that moment."
    ;
    CachedTokens "attempt" Some("pilotage.usage.cached_tokens"), "gen_ai.usage.cache_read.input_tokens" "Tokens of the prompt that were in the engine's cache."
    ReasoningTokens "attempt" Some("pilotage.usage.reasoning_tokens"), "gen_ai.usage.reasoning.output_tokens" "Tokens of the answer that are thoughts, where there are any."
    Streaming "attempt" None, "gen_ai.request.stream" "Whether the answer is a stream."
    FirstChunk "attempt" None, "gen_ai.response.time_to_first_chunk" "Seconds from dispatch to the first token, of a stream."
}

impl Key {
    /// Its name by a convention; none where that has none.
    pub const fn name(self, convention: Convention) -> Option<&'static str> {
        TABLE[self as usize].name(convention)
    }
}
