//! Whether this CPU has the instructions that llama.cpp was compiled with, checked before any of
//! its code runs: without the check the process would die of SIGILL and say nothing.

/// What was switched on at compile time (`.cargo/config.toml` or the builder's environment), and
/// what the CPU must then have.
#[cfg(target_arch = "x86_64")]
fn missing() -> Vec<&'static str> {
    let on = |setting: Option<&str>| setting.is_some_and(|value| value.eq_ignore_ascii_case("on"));
    let checks = [
        ("SSE4.2", on(option_env!("GGML_SSE42")), is_x86_feature_detected!("sse4.2")),
        ("AVX", on(option_env!("GGML_AVX")), is_x86_feature_detected!("avx")),
        ("AVX2", on(option_env!("GGML_AVX2")), is_x86_feature_detected!("avx2")),
        ("FMA", on(option_env!("GGML_FMA")), is_x86_feature_detected!("fma")),
        ("F16C", on(option_env!("GGML_F16C")), is_x86_feature_detected!("f16c")),
        ("BMI2", on(option_env!("GGML_BMI2")), is_x86_feature_detected!("bmi2")),
        ("AVX-512F", on(option_env!("GGML_AVX512")), is_x86_feature_detected!("avx512f")),
        ("AVX-512BW", on(option_env!("GGML_AVX512")), is_x86_feature_detected!("avx512bw")),
        (
            "AVX-512 VNNI",
            on(option_env!("GGML_AVX512_VNNI")),
            is_x86_feature_detected!("avx512vnni"),
        ),
    ];
    checks
        .into_iter()
        .filter(|(_, needed, there)| *needed && !there)
        .map(|(name, ..)| name)
        .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn missing() -> Vec<&'static str> {
    Vec::new()
}

/// Says what is missing, and what to do.
///
/// # Errors
/// A sentence for people.
pub fn check() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this CPU lacks {}, which this binary was built for; build it on this machine with those \
         switched off (for example GGML_AVX2=OFF GGML_FMA=OFF GGML_BMI2=OFF cargo build --release)",
        missing.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_that_runs_the_tests_can_run_the_engine() {
        assert_eq!(super::check(), Ok(()));
    }
}
