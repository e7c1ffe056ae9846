//! Good and bad lines of every format, and what a selection does to them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::arrival::seconds;

const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
    2023-11-16 18:15:46.6805900,374,44\n\
    2023-11-16 18:15:50.9951690,396,109\r\n\
    2023-11-16 18:15:51.2224670,879,55";

const MOONCAKE: &str = r#"{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 1536, "output_length": 6, "hash_ids": [0, 1, 9]}
{"timestamp": 3500, "input_length": 900, "output_length": 7, "hash_ids": [0, 4]}
"#;

const OWN: &str = "at_s,tenant,input,output,output_max\n5,b,10,20,\n0.5,a,1,2,50\n";

fn all() -> Selection {
    Selection::default()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(str::to_owned).collect()
}

/// Time, tenant, input, output and most output of each arrival.
fn lines(trace: &Trace) -> Vec<(f64, u32, u32, u32, u32)> {
    let arrivals = trace.arrivals.iter();
    let line = |one: &Arrival| (seconds(one.at), one.tenant, one.input, one.output, one.output_max);
    arrivals.map(line).collect()
}

#[test]
fn azure_is_read_from_its_first_moment() {
    let selection = Selection { tenants: Assignment::RoundRobin(names(&["a", "b"])), ..all() };
    let trace = read(Format::Azure, AZURE, &selection, 0).unwrap();
    let expect =
        [(0.0, 0, 374, 44, 44), (4.314_579, 1, 396, 109, 109), (4.541_877, 0, 879, 55, 55)];
    for (got, expect) in lines(&trace).into_iter().zip(expect) {
        assert!((got.0 - expect.0).abs() < 1e-6, "{got:?}");
        assert_eq!((got.1, got.2, got.3, got.4), (expect.1, expect.2, expect.3, expect.4));
    }
    assert_eq!(trace.arrivals.len(), 3);
}

#[test]
fn mooncake_has_whole_blocks_and_conversations() {
    let selection = Selection { tenants: Assignment::ByConversation(names(&["a"])), ..all() };
    let trace = read(Format::Mooncake, MOONCAKE, &selection, 0).unwrap();
    let blocks: Vec<&[u64]> = trace.arrivals.iter().map(|one| &*one.prefix).collect();
    assert_eq!(blocks, [&[0, 1][..], &[0, 1, 9], &[0]]);
    let conversations: Vec<_> = trace.arrivals.iter().map(|one| one.conversation).collect();
    assert_eq!(conversations, [Some(1), Some(1), Some(4)]);
    assert_eq!(seconds(trace.arrivals[2].at), 3.5);
    assert!(trace.arrivals.iter().all(|one| one.block_tokens == 512));
}

#[test]
fn own_traces_come_as_table_and_as_json() {
    let json = r#"{"at_s": 5, "tenant": "b", "input": 10, "output": 20}
        {"at_s": 0.5, "tenant": "a", "input": 1, "output": 2, "output_max": 50}"#;
    for text in [OWN, json] {
        let trace = read(Format::Own, text, &all(), 0).unwrap();
        assert_eq!(trace.tenants, ["a", "b"]);
        assert_eq!(lines(&trace), [(0.5, 0, 1, 2, 50), (5.0, 1, 10, 20, 20)]);
    }
}

#[test]
fn a_published_run_is_read() {
    let text = include_str!("../../traces/vtc_osdi24/LShare-rpm5__real.csv");
    let trace = read(Format::Vtc, text, &all(), 0).unwrap();
    assert_eq!((trace.tenants.len(), trace.arrivals.len()), (27, 1500));
    assert_eq!(trace.tenants[..3], ["13", "2", "0"]);
    let served = served(text).unwrap();
    assert_eq!(served.iter().filter(|one| one.first_token.is_some()).count(), 581);
}

#[test]
fn a_selection_cuts_and_speeds_up() {
    let text = "at_s,tenant,input,output\n0,a,1,9\n10,a,2,9\n20,a,3,9\n30,a,4,9\n";
    let check = |selection: Selection, expect: &[(f64, u32, u32)]| {
        let trace = read(Format::Own, text, &selection, 0).unwrap();
        let got: Vec<_> = lines(&trace)
            .into_iter()
            .map(|(at, _, input, output, _)| (at, input, output))
            .collect();
        assert_eq!(got, expect, "{selection:?}");
    };
    check(Selection { speedup: 2.0, limit: Some(2), ..all() }, &[(0.0, 1, 9), (5.0, 2, 9)]);
    let middle = Selection { start_seconds: 10.0, end_seconds: Some(30.0), ..all() };
    check(middle, &[(0.0, 2, 9), (10.0, 3, 9)]);
    check(Selection { output_max: Some(5), limit: Some(1), ..all() }, &[(0.0, 1, 5)]);
}

#[test]
fn tenants_are_assigned_by_share_and_seed() {
    let rows = "at_s,input,output\n".to_owned() + &"0,1,1\n".repeat(20_000);
    let shares = BTreeMap::from([("a".to_owned(), 3.0), ("b".to_owned(), 1.0)]);
    let selection = Selection { tenants: Assignment::Shares(shares), ..all() };
    let owners = |seed: u64| -> Vec<u32> {
        let trace = read(Format::Own, &rows, &selection, seed).unwrap();
        trace.arrivals.iter().map(|one| one.tenant).collect()
    };
    let of_b: u32 = owners(1).iter().sum();
    assert!((4_700..5_300).contains(&of_b), "{of_b}");
    assert_eq!(owners(1), owners(1));
    assert_ne!(owners(1), owners(2));
}

#[test]
fn turns_of_a_conversation_stay_together() {
    let tenants = names(&["a", "b", "c", "d"]);
    let selection = Selection { tenants: Assignment::ByConversation(tenants), ..all() };
    let owners = |seed: u64| {
        let trace = read(Format::Mooncake, MOONCAKE, &selection, seed).unwrap();
        trace.arrivals.iter().map(|one| one.tenant).collect::<Vec<_>>()
    };
    assert!((0..50).all(|seed| owners(seed)[0] == owners(seed)[1]));
    assert!((0..50).any(|seed| owners(seed)[0] != owners(seed)[2]));
}

#[test]
fn bad_lines_are_named() {
    let check = |format: Format, text: &str, expect: &str| {
        let error = read(format, text, &all(), 0).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    let head = "line 1, column 1: no column `TIMESTAMP`, expected a head with the columns \
        TIMESTAMP, ContextTokens, GeneratedTokens";
    check(Format::Azure, "", head);
    check(Format::Azure, "a,b,c\n1,2,3", head);
    let azure = |line: &str| format!("TIMESTAMP,ContextTokens,GeneratedTokens\n\n{line}\n");
    check(
        Format::Azure,
        &azure("noon,1,2"),
        "line 3, column 1: `noon`, expected a time such as 2023-11-16 18:15:46.6805900",
    );
    check(
        Format::Azure,
        &azure("2023-11-16 18:15:46.68,1.5,2"),
        "line 3, column 24: `1.5`, expected a whole number of tokens, at most 10000000",
    );
    check(Format::Azure, &azure("1,2"), "line 3, column 1: 2 values, expected 3, as in the head");
    check(
        Format::Vtc,
        "req_time_s,client,prompt_tokens,output_tokens\n-1,0,1,1",
        "line 2, column 1: `-1`, expected seconds since the start, such as 12.5",
    );
    check(
        Format::Vtc,
        "req_time_s,client,prompt_tokens,output_tokens\n1,,1,1",
        "line 2, column 3: nothing, expected a client",
    );
    check(
        Format::Own,
        "at_s,input,output\n0,1,\"2\"",
        "line 2, column 5: `\\\"2\\\"`, expected a value without quotes",
    );
    check(
        Format::Own,
        "{\"at_s\": 0, \"input\": 1, \"output\": 1, \"tenant\": \"a\"}\n{\"at_s\": 0, \"input\": 1}",
        "line 2, column 23: missing field `output`, expected an object with at_s, input and \
        output, and perhaps tenant and output_max",
    );
    check(
        Format::Mooncake,
        "{\"timestamp\": 0, \"input_length\": 99999999, \"output_length\": 1, \"hash_ids\": []}",
        "line 1, column 1: a number out of range, expected lengths up to 10000000, times from zero",
    );
    check(Format::Mooncake, "\n", "no request is left: the trace has no rows");
    check(
        Format::Azure,
        AZURE,
        "the trace has no tenant for every request: assign tenants by `roundRobin`, \
        `byConversation` or `shares`",
    );
}

#[test]
fn senseless_settings_are_named() {
    let check = |selection: Selection, expect: &str| {
        let error = read(Format::Own, OWN, &selection, 0).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    check(Selection { speedup: 0.0, ..all() }, "`speedup` must be above zero");
    check(Selection { limit: Some(0), ..all() }, "`limit` must be at least one");
    let backwards = Selection { start_seconds: 5.0, end_seconds: Some(5.0), ..all() };
    check(backwards, "`endSeconds` must be after `startSeconds`");
    let late = Selection { start_seconds: 99.0, ..all() };
    check(late, "no request is left: no row lies between `startSeconds` and `endSeconds`");
    let nobody = Selection { tenants: Assignment::RoundRobin(Vec::new()), ..all() };
    check(nobody, "`roundRobin` must be at least one tenant");
    let alone = Selection { tenants: Assignment::ByConversation(names(&["a"])), ..all() };
    check(alone, "the trace has no conversations: assign tenants by `roundRobin` or `shares`");
}

#[test]
fn settings_are_written_in_camel_case() {
    let text = r#"{"speedup": 2, "startSeconds": 5, "tenants": {"byConversation": ["a"]}}"#;
    let selection: Selection = serde_json::from_str(text).unwrap();
    assert_eq!(selection.tenants, Assignment::ByConversation(names(&["a"])));
    assert!(serde_json::from_str::<Selection>(r#"{"speedUp": 2}"#).is_err());
}

#[test]
fn too_many_rows_and_too_long_lines_are_refused() {
    let many = "at_s,input,output\n".to_owned() + &"0,1,1\n".repeat(ROWS_MAX + 1);
    assert_eq!(read(Format::Own, &many, &all(), 0), Err(TraceError::TooManyRows));
    let long = format!("at_s,input,output\n0,1,{}", "1".repeat(LINE_BYTES_MAX));
    let error = read(Format::Own, &long, &all(), 0).unwrap_err().to_string();
    assert_eq!(error, "line 2, column 1: 1048580 bytes, expected at most 1048576");
}

proptest! {
    /// Whatever a file holds, reading it ends in a trace or an error.
    #[test]
    fn no_text_brings_a_reader_down(text in "[\\PC\n,]{0,200}", head in 0..5_usize) {
        let heads = ["", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "at_s,input,output,tenant\n",
            "req_time_s,client,prompt_tokens,output_tokens,ttft_s,e2e_s\n", "{\"at_s\": 0, "];
        let text = heads[head].to_owned() + &text;
        for format in [Format::Azure, Format::Mooncake, Format::Vtc, Format::Own] {
            let _ = read(format, &text, &all(), 0);
        }
        let _ = served(&text);
    }
}

#[test]
fn formats_are_told_by_the_first_line() {
    let check =
        |text: &str, expect: Option<Format>| assert_eq!(Format::guess(text), expect, "{text}");
    check("TIMESTAMP,ContextTokens,GeneratedTokens\n", Some(Format::Azure));
    check(
        "\n{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1}",
        Some(Format::Mooncake),
    );
    check("req_time_s,client,prompt_tokens,output_tokens\n", Some(Format::Vtc));
    check("\u{feff}at_s,input,output\n", Some(Format::Own));
    check("{\"at_s\": 0, \"input\": 1, \"output\": 1}", Some(Format::Own));
    check("a,b,c", None);
    check("{\"a\": 1}", None);
    check("", None);
}
