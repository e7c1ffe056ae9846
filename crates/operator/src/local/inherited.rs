//! What of our own environment a process gets. Whoever starts `pilotage up` has credentials of clouds, of
//! hubs and of other services in it, and a program that runs a model needs none of them: only what is listed
//! here passes, and what is missing is a Model's to give (`runtimeEnv`).

use std::collections::BTreeSet;
use std::ffi::OsString;

use pilotage_shell::env;

/// Variables that every program may need: where things are, in which language and at which time, and what is
/// trusted.
const NAMES: [&str; 40] = [
    "CC",
    "CONDA_PREFIX",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "CURL_CA_BUNDLE",
    "CXX",
    "C_INCLUDE_PATH",
    "DYLD_LIBRARY_PATH",
    "GPU_DEVICE_ORDINAL",
    "HF_DATASETS_OFFLINE",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBRARY_PATH",
    "LOGNAME",
    "NO_COLOR",
    "NO_PROXY",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "RUST_BACKTRACE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TEMP",
    "TERM",
    "TIKTOKEN_RS_CACHE_DIR",
    "TMP",
    "TMPDIR",
    "TRANSFORMERS_CACHE",
    "TRANSFORMERS_OFFLINE",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "no_proxy",
];

/// How variables begin that are about accelerators, what computes on them, and runtimes.
const PREFIXES: [&str; 50] = [
    "AMD_",
    "ASCEND_",
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "FI_",
    "FLASHINFER_",
    "GGML_",
    "GLOO_",
    "GOMP_",
    "HABANA_",
    "HIP_",
    "HSA_",
    "KMP_",
    "LC_",
    "LLAMA_",
    "MIOPEN_",
    "MKL_",
    "NCCL_",
    "NEURON_",
    "NUMBA_",
    "NVIDIA_",
    "NVSHMEM_",
    "OLLAMA_",
    "OMPI_",
    "OMP_",
    "ONEAPI_",
    "OPENBLAS_",
    "PJRT_",
    "PT_HPU_",
    "PYTHON",
    "PYTORCH_",
    "RCCL_",
    "ROCBLAS_",
    "ROCM_",
    "ROCR_",
    "SGLANG_",
    "SGL_",
    "SYCL_",
    "TLLM_",
    "TOKENIZERS_",
    "TORCH",
    "TPU_",
    "TRITON_",
    "TRTLLM_",
    "UCX_",
    "VLLM_",
    "XDG_",
    "XLA_",
    "ZE_",
];

/// What names of secrets contain, in any case of letters. No variable that a runtime needs does.
const SECRET_WORDS: [&str; 7] = ["ACCESS", "AUTH", "CREDENTIAL", "KEY", "PASS", "PWD", "SECRET"];

/// What names of secrets have between underscores. Inside of other words they are harmless: a path, a pattern.
const SECRET_PARTS: [&str; 1] = ["PAT"];

/// What such a part ends with. Tokenizers and numbers of tokens are none.
const SECRET_ENDS: [&str; 1] = ["TOKEN"];

/// Where proxies are named. A program may have to fetch what it compiles with; a name and a password in the
/// address do not pass.
const PROXIES: [&str; 6] =
    ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy", "https_proxy"];

/// What of an environment passes, to our own program or to somebody else's, `hidden` never.
pub(super) fn of<'a>(
    environment: &'a [(OsString, OsString)],
    is_ours: bool,
    hidden: &BTreeSet<String>,
) -> Vec<&'a (OsString, OsString)> {
    let passes = |(name, value): &&(OsString, OsString)| {
        let Some(name) = name.to_str() else { return false };
        let may = is_listed(name) || is_proxy(name, value) || (is_ours && is_own(name));
        may && !names_user(value) && !hidden.contains(name)
    };
    environment.iter().filter(passes).collect()
}

fn is_listed(name: &str) -> bool {
    let begins = || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    NAMES.contains(&name) || (begins() && !is_secret(name))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
        || name.split('_').any(|part| {
            SECRET_PARTS.contains(&part) || SECRET_ENDS.iter().any(|end| part.ends_with(end))
        })
}

fn is_proxy(name: &str, value: &OsString) -> bool {
    PROXIES.contains(&name) && !value.to_string_lossy().contains('@')
}

/// Whether a value has an address with a user in it, and so perhaps a password. A password may have a slash
/// in it, so what is behind one is not taken for a path.
fn names_user(value: &OsString) -> bool {
    value.to_string_lossy().split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether our own program reads it, and it is no secret.
fn is_own(name: &str) -> bool {
    env::TABLE.iter().any(|variable| variable.name == name && !variable.secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(is_ours: bool, variables: &[(&str, &str)], expect: &[&str]) {
        let all: Vec<(OsString, OsString)> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let passed = of(&all, is_ours, &["VLLM_PROVIDER".to_owned()].into());
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, expect);
    }

    #[test]
    fn what_programs_need_passes() {
        let named = [
            "PATH",
            "HOME",
            "LANG",
            "LC_ALL",
            "TMPDIR",
            "LD_LIBRARY_PATH",
            "CUDA_HOME",
            "NVIDIA_DRIVER_CAPABILITIES",
            "ROCR_VISIBLE_DEVICES",
            "HIP_VISIBLE_DEVICES",
            "VLLM_LOGGING_LEVEL",
            "VLLM_MAX_TOKENS_PER_EXPERT_FUSED_MOE",
            "OMP_NUM_THREADS",
            "TOKENIZERS_PARALLELISM",
            "TORCHINDUCTOR_CACHE_DIR",
            "PYTHONPATH",
            "TRITON_LIBCUDA_PATH",
            "NCCL_COMPAT_PATTERN",
        ];
        let variables = named.map(|name| (name, "x"));
        check(false, &variables, &named);
        check(true, &variables, &named);
    }

    #[test]
    fn credentials_do_not() {
        let named = [
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "AZURE_CLIENT_SECRET",
            "GITHUB_TOKEN",
            "OPENAI_API_KEY",
            "VLLM_API_KEY",
            "LLAMA_API_KEY",
            "OLLAMA_AUTH",
            "NVIDIA_API_KEY",
            "SSH_AUTH_SOCK",
            "KUBECONFIG",
            "DATABASE_URL",
            "PILOTAGE_API_KEY",
            "PILOTAGE_ADMIN_KEY",
            "PILOTAGE_ENGINE_KEY",
            "PILOTAGE_REGISTRY_AUTH",
            "VLLM_PROVIDER",
            "NVIDIA_APIKEY",
            "OLLAMA_PASS",
            "OLLAMA_PWD",
            "VLLM_PASSPHRASE",
            "SGLANG_ACCESS",
            "VLLM_HFTOKEN",
            "VLLM_GITHUB_PAT",
            "OLLAMA_api_key",
            "NVIDIA_Secret",
            "LLAMA_ARG_API_KEY_FILE",
        ];
        check(false, &named.map(|name| (name, "x")), &[]);
        check(true, &named.map(|name| (name, "x")), &[]);
    }

    #[test]
    fn our_own_program_gets_what_it_reads() {
        let variables = [("PILOTAGE_LOG", "debug"), ("PILOTAGE_DATA_DIR", "/d"), ("X", "")];
        check(true, &variables, &["PILOTAGE_LOG", "PILOTAGE_DATA_DIR"]);
        check(false, &variables, &[]);
    }

    #[test]
    fn proxies_pass_without_their_passwords() {
        let variables = [
            ("HTTP_PROXY", "http://proxy:3128"),
            ("https_proxy", "http://me:secret@proxy:3128"),
            ("NO_PROXY", "localhost"),
        ];
        check(false, &variables, &["HTTP_PROXY", "NO_PROXY"]);
    }

    #[test]
    fn addresses_pass_without_users() {
        let address = |value: &str, passes: bool| {
            let names: &[&str] = if passes { &["HF_ENDPOINT"] } else { &[] };
            check(false, &[("HF_ENDPOINT", value)], names);
            check(true, &[("HF_ENDPOINT", value)], names);
        };
        address("https://hub.example/models", true);
        address("https://me:secret@hub.example", false);
        address("https://secret@hub.example", false);
        address("https://me:sec/ret@hub.example", false);
        let others = [("OLLAMA_HOST", "http://me:pw@host"), ("LD_LIBRARY_PATH", "/opt/lib@2")];
        check(false, &others, &["LD_LIBRARY_PATH"]);
    }

    #[test]
    fn a_working_directory_is_no_secret_and_not_handed_on() {
        // Processes get a directory of their own: ours would name another.
        check(false, &[("PWD", "/srv"), ("OLDPWD", "/"), ("PATH", "/bin")], &["PATH"]);
    }
}
