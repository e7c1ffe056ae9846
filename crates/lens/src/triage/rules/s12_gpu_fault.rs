//! An accelerator reports errors of its hardware.

use super::{Case, Facts, Fix, Outcome, Rule, Severity, Tier, above, names, word};
use crate::triage::evidence::{Gpu, Replica};

pub(super) const RULE: Rule = Rule {
    id: "S12",
    name: "gpu_fault",
    title: "an accelerator reports errors of its hardware",
    severity: Severity::Critical,
    tier: Tier::Fault,
    explains: &[],
    masks: &["S09", "S10", "S11", "S13", "S20"],
    refuted_by: "the same errors come on another accelerator with the same program",
    check,
};

/// Errors (XID) that name the hardware: 48 and 94, 95 memory that could not be corrected, 63 and 64
/// rows remapped or not, 74 NVLink, 79 fallen off the bus. 13, 31 and 43 are most often the program's.
const HARDWARE: [u32; 7] = [48, 63, 64, 74, 79, 94, 95];

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let of = |replica: &Replica| {
        let known = replica.gpus.iter().filter_map(faults);
        known.reduce(|sum, next| sum + next).map(|sum| sum >= 1.0)
    };
    let faulty = facts.which("DCGM_FI_DEV_XID_ERRORS", of)?;
    let sum: f64 = faulty.iter().flat_map(|one| &one.gpus).filter_map(faults).sum();
    case.needs(above("errors of the hardware", Some(sum), 1.0, ""))?;
    case.is_certain();
    let all = facts.evidence.replicas.len();
    case.explains(Some(faulty.len() as f64 / all as f64));
    case.about(names(&faulty));
    let name = word(&faulty[0].name);
    let fix = Fix::new(format!("cordon the node of {name} and have the accelerator tested"))
        .shell(format!("kubectl cordon $(kubectl get pod {name} -o jsonpath='{{.spec.nodeName}}')"))
        .shell("dcgmi diag -r 3")
        .predict("its replicas start on other nodes; what it computed since may be wrong");
    Ok(case.finding(fix))
}

/// Errors of the hardware that it reported.
fn faults(gpu: &Gpu) -> Option<f64> {
    let xids = gpu.xids.as_ref();
    let xids = xids.map(|xids| xids.iter().filter(|xid| HARDWARE.contains(xid)).count() as f64);
    let known = [xids, gpu.ecc_uncorrected, gpu.row_remap_failures];
    known.into_iter().flatten().reduce(|sum, next| sum + next)
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(&RULE, &["S09", "S10", "S11"], &[|evidence| each(evidence, |one| one.gpus.clear())]);
    }

    #[test]
    fn errors_of_programs_are_not_the_hardwares() {
        let check = |xids: &[u32], expect: f64| {
            let gpu = Gpu { xids: Some(xids.to_vec()), ..Gpu::default() };
            assert_eq!(faults(&gpu), Some(expect), "{xids:?}");
        };
        check(&[], 0.0);
        check(&[13, 31, 43], 0.0);
        check(&[79], 1.0);
        check(&[48, 63, 13], 2.0);
        assert_eq!(faults(&Gpu::default()), None);
    }
}
