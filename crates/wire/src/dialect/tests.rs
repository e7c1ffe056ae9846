//! The table on what servers really say, and that each row is complete.

use super::observe::{PAGE_BYTES_MAX, Times, observe, presence};
use super::*;

const VLLM: &str = include_str!("../../tests/runtimes/vllm-0.32.0-metrics.txt");
const VLLM_OLD: &str = include_str!("../../tests/runtimes/vllm-0.6-metrics.txt");
const LLAMACPP: &str = include_str!("../../tests/runtimes/llamacpp-metrics.txt");
const SGLANG: &str = include_str!("../../tests/runtimes/sglang-0.4-metrics.txt");
const TRITON_TRTLLM: &str = include_str!("../../tests/runtimes/triton-trtllm-metrics.txt");
const TRITON_VLLM: &str = include_str!("../../tests/runtimes/triton-vllm-metrics.txt");
const TRTLLM: &str = include_str!("../../tests/runtimes/trtllm-metrics.json");

#[test]
fn every_row_is_complete() {
    let mut names = Vec::new();
    for dialect in Dialect::ALL {
        let row = dialect.differences();
        assert_eq!(row.dialect, dialect);
        assert!(!names.contains(&row.name), "{} is there twice", row.name);
        names.push(row.name);
        assert!(!row.title.is_empty() && !row.about.is_empty() && !row.source.is_empty());
        let versions = row.checked.into_iter();
        let supports = Capability::ALL.iter().map(|one| row.capabilities.get(*one).support);
        let metrics = row.metrics.iter().map(|metric| metric.feature.support);
        let routes = row.api.openai.iter().map(|route| route.feature.support);
        let since = supports.chain(metrics).chain(routes).filter_map(|support| match support {
            Support::Since(version) | Support::Seen(version) => Some(version),
            Support::No | Support::Always | Support::Unknown => None,
        });
        let until = row.metrics.iter().filter_map(|metric| metric.until);
        for version in versions.chain(since).chain(until) {
            assert!(Version::parse(version).is_some(), "{}: {version}", row.name);
        }
        let paths = [Some(row.paths.health), row.paths.ready, row.paths.metrics, row.paths.models];
        let more = [row.paths.version, row.paths.info];
        for path in paths.into_iter().chain(more).flatten() {
            assert!(path.starts_with('/'), "{}: {path}", row.name);
        }
        let at_run_time = row.capabilities.adapters_at_run_time.support == Support::No;
        assert!(!at_run_time || row.adapters.is_none(), "{} loads adapters", row.name);
        if dialect != Dialect::Auto {
            assert!(!row.faults.is_empty(), "{} says nothing of faults", row.name);
            assert!(!row.quirks.is_empty(), "{} surprises nobody", row.name);
        }
        for metric in row.metrics {
            assert_eq!(
                metric.only.is_some(),
                metric.name.starts_with("nv_trt_llm_"),
                "{}",
                metric.name
            );
        }
    }
}

#[test]
fn examples_of_faults_are_told_apart() {
    for dialect in Dialect::ALL {
        for marked in dialect.differences().faults {
            let told = fault::read(dialect, marked.status, marked.body.as_bytes());
            assert_eq!(told.fault, marked.fault, "{}: {}", dialect.name(), marked.body);
            assert!(!told.message.is_empty() && !marked.source.is_empty(), "{}", marked.body);
        }
    }
    // Of a server that is not known they say the same.
    let told = |status: u16, body: &str| fault::read(Dialect::Auto, status, body.as_bytes()).fault;
    for dialect in [Dialect::Vllm, Dialect::LlamaCpp, Dialect::Pilotage, Dialect::Sglang] {
        for marked in dialect.differences().faults.iter().take(3) {
            assert_eq!(told(marked.status, marked.body), marked.fault, "{}", marked.body);
        }
    }
}

#[test]
fn vllm_tells_how_full_it_is_under_each_of_its_names() {
    for dialect in [Dialect::Vllm, Dialect::Auto] {
        let seen = observe(dialect, VLLM.as_bytes());
        assert_eq!((seen.running, seen.waiting), (Some(0), Some(0)));
        assert_eq!(seen.kv_use, Some(0.0));
        assert_eq!((seen.steps, seen.each_step), (Some(94), true));
        assert_eq!(seen.started_ms, Some(1_795_231_399_700));
        assert_eq!((seen.prefix_queries, seen.prefix_hits), (Some(438), Some(0)));
        assert_eq!(seen.preemptions, Some(0));
        let ttft = Times { count: 14, seconds: 30.917_668_342_590_332 };
        assert_eq!(seen.ttft, Some(ttft));
        assert_eq!(seen.itl.map(|itl| itl.count), Some(87));
        assert_eq!((seen.kv_tokens_max, seen.adapters.is_none()), (Some(46_592), true));
        let old = observe(dialect, VLLM_OLD.as_bytes());
        assert_eq!((old.running, old.waiting), (Some(3), Some(5)));
        assert_eq!(old.kv_use, Some(0.002_623_524_267_599_486_3));
        assert_eq!(old.kv_tokens_max, Some(4574 * 16));
        assert_eq!((old.steps, old.prefix_hits), (Some(2546), None));
        assert_eq!(old.itl.map(|itl| itl.count), Some(2537));
    }
}

#[test]
fn others_tell_it_under_theirs() {
    for auto in [false, true] {
        let read = |dialect: Dialect, page: &str| {
            observe(if auto { Dialect::Auto } else { dialect }, page.as_bytes())
        };
        let seen = read(Dialect::Sglang, SGLANG);
        assert_eq!((seen.running, seen.waiting), (Some(162), Some(2826)));
        assert_eq!((seen.kv_use, seen.each_step), (Some(0.28), false));
        assert_eq!(seen.steps, Some(7_557_572));
        let renamed = SGLANG.replace("sglang:", "sglang_");
        assert_eq!(read(Dialect::Sglang, &renamed), seen);
        let seen = read(Dialect::LlamaCpp, LLAMACPP);
        assert_eq!((seen.running, seen.waiting, seen.kv_use), (Some(0), Some(0), None));
        assert_eq!((seen.steps, seen.prefix_hits), (Some(110), Some(429)));
        let seen = read(Dialect::Triton, TRITON_TRTLLM);
        assert_eq!((seen.running, seen.waiting), (Some(1), Some(1)));
        assert_eq!((seen.kv_use, seen.kv_tokens_max), (Some(0.4875), Some(6239 * 64)));
        assert_eq!((seen.steps, seen.each_step), (Some(0), true));
        let seen = read(Dialect::Triton, TRITON_VLLM);
        assert_eq!((seen.running, seen.steps), (None, Some(16)));
        let seen = read(Dialect::Trtllm, TRTLLM);
        assert_eq!((seen.running, seen.waiting), (Some(1), None));
        assert_eq!((seen.kv_tokens_max, seen.steps), (Some(101_256 * 32), Some(154)));
        assert_eq!(seen.kv_use, Some(3.0 / 101_256.0));
    }
}

#[test]
fn of_several_engines_the_fullest_cache_counts_and_their_requests_together() {
    let page = "vllm:num_requests_running{engine=\"0\",model_name=\"Q\"} 3.0\n\
                vllm:num_requests_running{engine=\"1\",model_name=\"Q\"} 2.0\n\
                vllm:num_requests_waiting{engine=\"0\",model_name=\"Q\"} 1.0\n\
                vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 9.0\n\
                vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"Q\"} 0.42\n\
                vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"Q\"} 0.61\n\
                vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"old\"} 1.6e9\n\
                vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"sql, law\"} 1.7e9\n\
                vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"older\"} 1.5e9\n";
    let seen = observe(Dialect::Vllm, page.as_bytes());
    assert_eq!((seen.running, seen.waiting, seen.kv_use), (Some(5), Some(1), Some(0.61)));
    assert_eq!(seen.adapters, Some(vec!["sql".to_owned(), "law".to_owned()]));
}

#[test]
fn hostile_pages_do_no_harm() {
    let check = |page: &str, expect: Option<u32>| {
        assert_eq!(observe(Dialect::Vllm, page.as_bytes()).running, expect, "{page:.60}");
    };
    const RUNNING: &str = "vllm:num_requests_running";
    check(&format!("{RUNNING}{{model_name=\"m\"}} NaN\n"), None);
    check(&format!("{RUNNING}{{model_name=\"m\"\n"), None);
    check(&format!("{RUNNING}{{model_name=\"a\\\"b}}\"}} 2 1700000000\n"), Some(2));
    check(&format!("{RUNNING} -1\n"), None);
    check(&format!("{RUNNING} +Inf\n"), None);
    check(&format!("{RUNNING} 1e300\n"), None);
    check(&format!("{RUNNING} 9999999999\n"), None);
    check(&format!("{RUNNING} 7"), Some(7));
    check(&format!("{RUNNING}{{a=\"1\"}} 3\n{RUNNING}{{a=\"1\"}} 3\n"), Some(3));
    check(&format!("{RUNNING}\n{RUNNING} \n{RUNNING} x\n"), None);
    check("", None);
    check(&"x".repeat(5000), None);
    let bad =
        [b"vllm:num_requests_running{a=\"\xff\"} 3\n".as_slice(), b"vllm:num_requests_running 2\n"];
    assert_eq!(observe(Dialect::Vllm, &bad.concat()).running, Some(2));
    assert_eq!(observe(Dialect::Vllm, b"vllm:kv_cache_usage_perc 42\n").kv_use, None);
}

#[test]
fn long_pages_are_read_up_to_their_limit() {
    let mut page = b"vllm:num_requests_running 3\n".to_vec();
    page.resize(PAGE_BYTES_MAX - 10, b'#');
    page.extend_from_slice(b"\nvllm:num_requests_waiting 5\n");
    let seen = observe(Dialect::Auto, &page);
    assert_eq!((seen.running, seen.waiting, seen.is_cut), (Some(3), None, true));
    // Millions of samples of one name.
    let bomb: String =
        (0..40_000).map(|n| format!("vllm:num_requests_running{{a=\"{n}\"}} 1\n")).collect();
    let seen = observe(Dialect::Vllm, bomb.as_bytes());
    assert!(seen.is_cut && seen.running.is_some_and(|running| running <= 4096), "{seen:?}");
    let labels: String = (0..20_000).map(|n| format!("l{n}=\"x\",")).collect();
    let line = format!("vllm:num_requests_running{{{labels}}} 4\n");
    assert_eq!(observe(Dialect::Vllm, line.as_bytes()).running, Some(4));
    let json = format!("[{}]", "{\"iter\":1},".repeat(200_000));
    assert!(observe(Dialect::Trtllm, json.as_bytes()).is_cut);
    assert_eq!(observe(Dialect::Trtllm, b"[]").running, None);
    assert_eq!(observe(Dialect::Trtllm, b"[{\"iter\":-1}]").steps, None);
}

#[test]
fn what_should_be_there_and_is_not_is_told() {
    let names = |version: &str, page: &str| {
        let version = Version::parse(version);
        let (found, missing) = presence(Dialect::Vllm, version.as_ref(), page.as_bytes());
        let named = |metrics: Vec<&'static Metric>| -> Vec<_> {
            metrics.into_iter().map(|metric| metric.name).collect()
        };
        (named(found), named(missing))
    };
    let (found, missing) = names("0.32.0", VLLM);
    assert!(found.contains(&"vllm:kv_cache_usage_perc"), "{found:?}");
    assert_eq!(missing, Vec::<&str>::new());
    let without = VLLM.replace("vllm:kv_cache_usage_perc", "vllm:kv_cache_used");
    assert_eq!(names("0.32.0", &without).1, ["vllm:kv_cache_usage_perc"]);
    let (found, missing) = names("0.6.3", VLLM_OLD);
    assert!(found.contains(&"vllm:gpu_cache_usage_perc"), "{found:?}");
    assert_eq!(missing, Vec::<&str>::new());
    let (found, missing) = names("0.32.0", "");
    assert!(found.is_empty() && missing.contains(&"vllm:num_requests_running"), "{missing:?}");
    // Of a version that is not known nothing is missed.
    assert_eq!(names("latest", "").1, Vec::<&str>::new());
}

#[test]
fn a_version_that_is_not_known_is_warned_of() {
    let told = |version: &str| Dialect::Vllm.warnings(Version::parse(version).as_ref()).join("; ");
    assert_eq!(told("0.32.0"), "");
    assert!(
        told("0.99.0").contains("newer than what is known of it (0.32.0)"),
        "{}",
        told("0.99.0")
    );
    assert!(told("0.9.0").contains("not known whether vLLM 0.9.0 has: "), "{}", told("0.9.0"));
    assert!(told("main").contains("does not say which version"), "{}", told("main"));
    assert_eq!(
        Dialect::Vllm.can(Capability::TokenIdsOut, Version::parse("0.9.0").as_ref()),
        Answer::No
    );
    assert!(Dialect::Vllm.shares_prefixes() && Dialect::Sglang.shares_prefixes());
    assert!(!Dialect::Auto.shares_prefixes() && !Dialect::Pilotage.shares_prefixes());
}
