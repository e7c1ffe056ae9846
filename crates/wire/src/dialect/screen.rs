//! What of an engine's sentence may leave the house. It is written for whoever runs the engine, and names
//! what its clients have no business with: addresses inside, files, and the stack of calls that failed. What
//! is left is still the engine's own sentence.

/// Where stacks of calls begin; nothing behind it is for clients.
const STACKS: [&str; 9] = [
    "Traceback (most recent call last)",
    "Exception raised from ",
    "Stack trace",
    "stack backtrace",
    "stack trace",
    "\n  File \"",
    "\n\tat ",
    "\n    at ",
    "\n#0 ",
];

/// What stands for what is left out.
const LEFT_OUT: &str = "[…]";

/// Where files are on machines that run engines. Other paths may be an API's, or lead into a request's JSON.
const ROOTS: [&str; 38] = [
    "Users",
    "Volumes",
    "app",
    "build",
    "cache",
    "checkpoints",
    "code",
    "content",
    "data",
    "dev",
    "efs",
    "etc",
    "home",
    "lib",
    "lib64",
    "media",
    "mnt",
    "model",
    "models",
    "nfs",
    "nix",
    "opt",
    "private",
    "proc",
    "root",
    "run",
    "scratch",
    "sgl-workspace",
    "shared",
    "srv",
    "storage",
    "sys",
    "tmp",
    "usr",
    "var",
    "vllm-workspace",
    "weights",
    "workspace",
];

/// How files of programs end.
const SOURCES: [&str; 11] =
    [".py", ".pyc", ".cpp", ".cc", ".c", ".h", ".hpp", ".cu", ".cuh", ".rs", ".so"];

/// How hosts end that no client can reach.
const INSIDE: [&str; 7] =
    [".local", ".internal", ".svc", ".lan", ".localdomain", ".intranet", ".corp"];

/// Hexadecimal digits from which on a number is a place in memory.
const POINTER_DIGITS_MIN: usize = 6;

/// The same sentence for a client; none where nothing of it is for one.
pub fn screened(text: &str) -> Option<String> {
    let end = STACKS.iter().filter_map(|stack| text.find(stack)).min().unwrap_or(text.len());
    let text = text.get(..end)?.trim();
    // A page of a web server, or JSON that nobody understood.
    if text.starts_with(['<', '{', '[']) && !text.starts_with(LEFT_OUT) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(is_part) {
        let (before, from) = rest.split_at(begin);
        let (word, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        out.push_str(before);
        // What ends a sentence is no part of its last word.
        let core = word.trim_end_matches(['.', ':', '/']);
        let is_inside = is_inside(core);
        out.push_str(if is_inside { LEFT_OUT } else { core });
        out.push_str(&word[core.len()..]);
        rest = after;
    }
    out.push_str(rest);
    let says = out.replace(LEFT_OUT, "");
    says.chars().any(char::is_alphanumeric).then_some(out)
}

/// Whether addresses and paths have it in them.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || "._:/-~@%+&?=#\\".contains(c)
}

fn is_inside(word: &str) -> bool {
    // `host=10.0.0.5`, `--model=/models/x`
    let value = word.rsplit('=').next().unwrap_or(word);
    let is_kept = |word: &str| !(is_address(word) || is_path(word) || is_pointer(word));
    !(is_kept(word) && is_kept(value))
}

fn is_address(word: &str) -> bool {
    let Some((scheme, rest)) = word.split_once("://") else {
        return is_v6(word) || is_host(host(word), word.contains(':'));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_web = matches!(scheme.rsplit('=').next(), Some("http" | "https"));
    let host = host(authority);
    !is_web || authority.contains('@') || !host.contains('.') || is_host(host, true)
}

/// Without user and port.
fn host(authority: &str) -> &str {
    let bare = authority.rsplit('@').next().unwrap_or_default();
    match bare.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => bare,
    }
}

fn is_host(host: &str, is_address: bool) -> bool {
    let ends_inside = || {
        host.contains('.')
            && (INSIDE.iter().any(|end| host.ends_with(end)) || host.contains(".svc."))
    };
    is_v4(host) || ends_inside() || (is_address && host == "localhost")
}

/// Among other words: in brackets or not.
fn is_v6(word: &str) -> bool {
    let is_part = |c: char| c == ':' || c.is_ascii_hexdigit();
    word.contains("::") && word.len() > 2 && word.chars().all(is_part)
}

fn is_v4(host: &str) -> bool {
    let parts: Vec<&str> = host.split('.').collect();
    parts.len() == 4
        && parts.iter().all(|part| part.len() <= 3 && part.parse::<u16>().is_ok_and(|n| n < 256))
}

fn is_path(word: &str) -> bool {
    let file = word.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(':');
    if SOURCES.iter().any(|end| file.len() > end.len() && file.ends_with(end)) {
        return true;
    }
    let is_windows = || {
        let bytes = word.as_bytes();
        bytes.len() > 3 && bytes[0].is_ascii_alphabetic() && &bytes[1..3] == b":\\"
    };
    let path = word.strip_prefix('~').unwrap_or(word);
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let is_rooted = path.starts_with('/') && parts.next().is_some_and(|one| ROOTS.contains(&one));
    (is_rooted && parts.next().is_some())
        || (word.starts_with("~/") && word.len() > 2)
        || is_windows()
}

fn is_pointer(word: &str) -> bool {
    let Some(digits) = word.strip_prefix("0x") else { return false };
    digits.len() >= POINTER_DIGITS_MIN && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_for_clients_stays_as_it_is() {
        for text in [
            "temperature must be non-negative, got -3.0. (parameter=temperature, value=-3.0)",
            "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049.",
            "The model `nope` does not exist. Valid aliases: smollm2.",
            "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens",
            "tool_choice=\"required\" requires --tool-call-parser to be set",
            "messages.0.content: Field required",
            "The model does not support the /v1/rerank API, see https://docs.vllm.ai/en/latest/",
            "model 'qwen2.5:7b' needs vLLM 0.10.1 or Qwen/Qwen2.5-7B at 12:30",
            "JSON schema at /properties/name is wrong: expected and/or",
            "0x10 is no number; set stop=localhost",
        ] {
            assert_eq!(screened(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_inside_stays_inside() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(screened(text).as_deref(), expect, "{text}");
        };
        check("cannot reach 10.0.3.7:50051.", Some("cannot reach […]."));
        check(
            "Max retries with host='10.0.3.7', port=80",
            Some("Max retries with host='[…]', port=80"),
        );
        check("cannot reach [fd00::1]:8000", Some("cannot reach [[…]]:8000"));
        check("no answer of http://engine-0:8000/v1, try", Some("no answer of […], try"));
        check("no answer of https://a.b.svc.cluster.local/x", Some("no answer of […]"));
        check("see https://me:pw@example.com/", Some("see […]/"));
        check("at tcp://engine.example.com:5557", Some("at […]"));
        check("refused by localhost:8000", Some("refused by […]"));
        check("pod-1.ns.svc is gone", Some("[…] is gone"));
        check("the model `/models/llama-3` is no", Some("the model `[…]` is no"));
        check("--model=/data/hub/x is odd", Some("[…] is odd"));
        check("cannot open ~/.cache/x", Some("cannot open […]"));
        check("cannot open C:\\models\\x", Some("cannot open […]"));
        check("vllm/engine/async_llm.py:123: no", Some("[…]: no"));
        check("ggml-cuda.cu:88 failed", Some("[…] failed"));
        check("<Model object at 0x7f3a2c00>", None);
        check("object at 0x7f3a2c00 is no", Some("object at […] is no"));
        check("it failed\nTraceback (most recent call last):\n  File \"x\"", Some("it failed"));
        check("Traceback (most recent call last):\n  File \"x.py\"", None);
        check("CUDA error\nException raised from c10 at /x:1", Some("CUDA error"));
        check("<html><h1>nginx</h1></html>", None);
        check("{\"x\":1}", None);
        check("/usr/lib/x", None);
        check(" ", None);
    }

    proptest! {
        /// Whatever it is: it does not fail, and what was screened stays.
        #[test]
        fn screening_twice_is_screening_once(text in "[a-z0-9 ./:@=~\\[\\]'\u{e4}]{0,60}") {
            if let Some(once) = screened(&text) {
                prop_assert_eq!(screened(&once).unwrap_or_default(), once);
            }
        }
    }
}
