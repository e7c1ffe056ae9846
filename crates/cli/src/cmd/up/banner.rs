//! What is said once, when everything is ready: what runs, where, with which key, and a line to try
//! it with.

use std::net::SocketAddr;
use std::path::PathBuf;

use pilotage_plan::ProcessSpec;
use pilotage_shell::secret::Secret;

use super::serving::shown;
use crate::output;

/// The text, ready to be shown.
pub(super) struct Greeting {
    text: String,
}

impl Greeting {
    pub(super) fn new(
        processes: &[(ProcessSpec, PathBuf)],
        model: String,
        key: Option<Secret>,
        at: SocketAddr,
        admin_at: SocketAddr,
    ) -> Self {
        let url = shown(at);
        let runs: Vec<String> = processes
            .iter()
            .map(|(spec, _)| {
                format!("{} ({} sequences, {} threads)", spec.name, spec.slots, spec.threads)
            })
            .collect();
        let (key_row, header) = match &key {
            Some(key) => (
                format!("  key      {}\n", key.expose()),
                format!("  -H 'Authorization: Bearer {}' \\\n", key.expose()),
            ),
            None => (String::new(), String::new()),
        };
        let question =
            r#""messages": [{"role": "user", "content": "What is the capital of France?"}]"#;
        let text = format!(
            "Pilotage is ready.\n\n  engines  {}\n  API      {url}/v1\n  admin    {}\n{key_row}\n\
             Try it:\n\ncurl {url}/v1/chat/completions \\\n{header}  -H 'Content-Type: application/json' \\\n  \
             -d '{{\"model\": \"{model}\", {question}, \"max_tokens\": 40}}'\n\n\
             Or `pilotage chat` in another terminal. Ctrl-C stops.",
            runs.join(", "),
            shown(admin_at),
        );
        Self { text }
    }

    pub(super) fn show(&self) {
        output::line(&self.text);
    }
}
