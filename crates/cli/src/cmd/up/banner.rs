//! What is said once, when everything is ready: what runs, where, with which key, and a line to try
//! it with.

use pilotage_plan::Plan;
use pilotage_shell::secret::Secret;

use crate::output;

/// The text, ready to be shown.
pub(super) struct Greeting {
    text: String,
}

impl Greeting {
    pub(super) fn new(plan: &Plan, key: Option<Secret>, url: &str, admin_url: &str) -> Self {
        let processes = plan.processes.iter().map(|spec| {
            format!("{} ({} sequences, {} threads)", spec.name, spec.slots, spec.threads)
        });
        let endpoints =
            plan.endpoints.iter().map(|spec| format!("{} ({} sequences)", spec.name, spec.slots));
        let runs: Vec<String> = processes.chain(endpoints).collect();
        let first = plan.routes.first().and_then(|route| route.public_names.first());
        let model = first.cloned().unwrap_or_default();
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
            "Pilotage is ready.\n\n  engines  {}\n  API      {url}/v1\n  admin    {admin_url}\n{key_row}\n\
             Try it:\n\ncurl {url}/v1/chat/completions \\\n{header}  -H 'Content-Type: application/json' \\\n  \
             -d '{{\"model\": \"{model}\", {question}, \"max_tokens\": 40}}'\n\n\
             Or `pilotage chat` in another terminal. Ctrl-C stops.",
            runs.join(", "),
        );
        Self { text }
    }

    pub(super) fn show(&self) {
        output::line(&self.text);
    }
}
