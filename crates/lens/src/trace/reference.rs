//! The page of the reference that says what traces hold.

use core::fmt::Write as _;

use super::{Convention, Kept, TABLE};

/// How spans lie in each other.
const TREE: &str = "\
SERVER   POST /v1/chat/completions       the request, below its client's span (`traceparent`)
 ├ INTERNAL admission.queue              its wait, where that took a millisecond
 ├ INTERNAL route.pick                   the choice of a replica, at the moment of it
 ├ CLIENT   chat MODEL                   each attempt at a replica (\"attempt\" below)
 │  ├ INTERNAL connect                   until the replica began to answer, where that took a millisecond
 │  ├ INTERNAL prefill                   from then to the first token
 │  ├ INTERNAL decode                    the other tokens
 │  └ (the engine's own spans)           engines get the attempt as their parent (`traceparent`)
 └ INTERNAL stream.flush                 the time in which the client took nothing, where that was a millisecond
";

/// The page, as Markdown.
pub fn reference() -> String {
    let mut out = format!(
        "# Traces\n\nWhat is sent for a request whose trace is kept. How to have it sent: [guide](../guide/traces.md).\n\n\
         ## Spans\n\n```text\n{TREE}```\n\n\
         Times come from the request's record: a span's begin is its end less its phases. `stream.flush` stands behind `decode`, though its \
         moments are spread over it. Attempts have the events `response.headers`, `first_token` and `last_token`, and a `stall` where tokens paused for long, \
         of which the first eight are shown. Spans of \
         failures have the status `Error`; a refusal that is the client's own doing has not.\n\n\
         ## Attributes\n\nNothing of a prompt or an answer, and no key, is among them. With \
         `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` the names of the right column are sent where \
         they differ, else those of the left one, which have held since version 1.37 of OpenTelemetry's conventions.\n\n\
         | Attribute | With the latest conventions | On | Meaning |\n|---|---|---|---|\n"
    );
    for row in TABLE {
        let settled = row.name(Convention::Settled);
        let latest = match settled {
            Some(name) if name == row.latest => "the same".to_owned(),
            _ => format!("`{}`", row.latest),
        };
        let settled = settled.map_or_else(|| "–".to_owned(), |name| format!("`{name}`"));
        let _ = writeln!(out, "| {settled} | {latest} | {} | {} |", row.spans, row.doc);
    }
    let reasons: Vec<String> = Kept::ALL.iter().map(|kept| format!("`{}`", kept.name())).collect();
    let _ = writeln!(
        out,
        "\nReasons to keep a trace: {}. All but `sampled` hold at the end of a request, whatever was drawn at its begin. Traces that are kept, and no others, \
         are examples (exemplars) in the metrics.",
        reasons.join(", ")
    );
    out
}
