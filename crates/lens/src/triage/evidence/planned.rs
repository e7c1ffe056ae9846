//! What is known of a deployment without looking at it: its manifests, the files of its weights, the data sheet
//! of what it runs on.

use serde::{Deserialize, Serialize};

use super::{Accelerator, Config, Dims, Evidence, Goals, Replica};

/// What somebody says of a deployment. A gateway's status has it as `planned`, by the names of these fields.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Planned {
    /// The model.
    pub dims: Dims,
    /// How its replicas are set.
    pub config: Config,
    /// What one of their accelerators can do.
    pub accelerator: Accelerator,
    /// What was promised.
    pub goals: Goals,
}

impl Planned {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Replica {
    /// Takes from it what the replica itself does not say.
    pub fn complete(&mut self, planned: &Planned) {
        self.dims = self.dims.or(&planned.dims);
        self.config = self.config.or(&planned.config);
        self.accelerator = self.accelerator.or(&planned.accelerator);
        self.settle();
    }

    /// A cache of eight bits says so itself, and better than the weights.
    fn settle(&mut self) {
        let dtype = self.config.kv_cache_dtype.as_deref().unwrap_or_default();
        if dtype.starts_with("fp8") || dtype.starts_with("int8") {
            self.dims.kv_number_bytes = self.dims.kv_number_bytes.map(|_| 1.0);
        }
    }
}

impl Evidence {
    /// Takes it for true, whatever else was found out.
    pub fn tell(&mut self, said: &Planned) {
        self.goals = said.goals.or(&self.goals);
        for replica in &mut self.replicas {
            replica.dims = said.dims.or(&replica.dims);
            replica.config = said.config.or(&replica.config);
            replica.accelerator = said.accelerator.or(&replica.accelerator);
            replica.settle();
        }
        if let Some(before) = &mut self.baseline {
            before.tell(said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(slots: f64) -> Planned {
        Planned {
            config: Config { max_num_seqs: Some(slots), tensor: Some(2.0), ..Config::default() },
            dims: Dims { layers: Some(28.0), kv_number_bytes: Some(2.0), ..Dims::default() },
            ..Planned::default()
        }
    }

    #[test]
    fn what_a_replica_says_counts_more_than_its_plan_and_less_than_what_is_told() {
        let mut replica = Replica::default();
        replica.config.max_num_seqs = Some(4.0);
        replica.complete(&planned(8.0));
        assert_eq!((replica.config.max_num_seqs, replica.config.tensor), (Some(4.0), Some(2.0)));
        assert_eq!(replica.dims.layers, Some(28.0));
        let mut evidence = Evidence { replicas: vec![replica], ..Evidence::default() };
        evidence.tell(&planned(16.0));
        assert_eq!(evidence.replicas[0].config.max_num_seqs, Some(16.0));
        evidence.tell(&Planned::default());
        assert_eq!(evidence.replicas[0].config.max_num_seqs, Some(16.0));
    }

    #[test]
    fn a_cache_of_eight_bits_says_so() {
        let check = |dtype: &str, expect: f64| {
            let mut replica = Replica::default();
            replica.config.kv_cache_dtype = Some(dtype.to_owned());
            replica.complete(&planned(8.0));
            assert_eq!(replica.dims.kv_number_bytes, Some(expect), "{dtype}");
        };
        check("auto", 2.0);
        check("fp8_e4m3", 1.0);
        check("bfloat16", 2.0);
    }
}
