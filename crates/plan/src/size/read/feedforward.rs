//! The feed-forward half of layers: dense, or a mixture of experts with what all tokens share.

use super::super::facts::Experts;
use super::ReadError;
use super::family::Family;
use super::fields::Fields;
use super::mixer::{WIDTH_MAX, has, narrow};
use super::parameters::{Parameters, product};

/// Experts of a layer that are believed.
const EXPERTS_MAX: u64 = 1 << 16;

/// Feed-forward parts of a model.
#[derive(Clone, Debug)]
pub(super) struct FeedForward {
    pub hidden: u64,
    /// Width of dense layers, one each where they differ.
    pub widths: Vec<u64>,
    matrices: u64,
    biased: bool,
    pub mixture: Option<Mixture>,
}

/// A mixture of experts.
#[derive(Clone, Debug)]
pub(super) struct Mixture {
    pub experts: Experts,
    /// Width of what is shared by all tokens.
    shared_width: u64,
    shared_gate: bool,
    rows: Vec<bool>,
}

impl FeedForward {
    pub(super) fn read(
        fields: &Fields<'_>,
        family: &Family,
        hidden: u64,
        layers: usize,
    ) -> Result<Self, ReadError> {
        let names = ["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"];
        let widths = match fields.list(&["intermediate_size"]) {
            Some(list) => {
                let within = |width: &u64| (1..=WIDTH_MAX).contains(width);
                let widths: Vec<u64> =
                    list.iter().filter_map(serde_json::Value::as_u64).filter(within).collect();
                if widths.len() != list.len() || widths.is_empty() {
                    return Err(fields.missing(&["intermediate_size"]));
                }
                widths
            }
            None => {
                let dense = fields.positive(&["intermediate_size_mlp"], WIDTH_MAX)?;
                let width = match dense {
                    Some(width) => Some(width),
                    None => fields.positive(&names, WIDTH_MAX)?,
                };
                vec![width.unwrap_or(4 * hidden)]
            }
        };
        let gated = family.gated && fields.text(&["hidden_act", "mlp_hidden_act"]) != Some("relu2");
        let matrices = if gated { 3 } else { 2 };
        let biased = has(family.bias_mlp, fields);
        let mixture = Mixture::read(fields, layers)?;
        Ok(Self { hidden, widths, matrices, biased, mixture })
    }

    /// Whether the layer is a mixture.
    pub(super) fn is_mixture(&self, layer: usize) -> bool {
        let rows = self.mixture.as_ref().map(|mixture| &mixture.rows);
        rows.is_some_and(|rows| rows.get(layer).copied().unwrap_or(false))
    }

    /// Parameters of the layer's feed-forward part.
    pub(super) fn parameters(&self, layer: usize) -> Parameters {
        match &self.mixture {
            Some(mixture) if self.is_mixture(layer) => self.mixed(mixture),
            _ => self.dense(layer),
        }
    }

    fn dense(&self, layer: usize) -> Parameters {
        let last = self.widths.last().copied().unwrap_or_default();
        let width = self.widths.get(layer).copied().unwrap_or(last);
        Parameters {
            dense: product(&[self.matrices, self.hidden, width]),
            small: if self.biased { self.biases(width) } else { 0 },
            ..Parameters::default()
        }
    }

    fn mixed(&self, mixture: &Mixture) -> Parameters {
        let Experts { count, intermediate, .. } = mixture.experts;
        let (count, width) = (u64::from(count), u64::from(intermediate));
        let gate = if mixture.shared_gate { self.hidden } else { 0 };
        let one = product(&[self.matrices, self.hidden, width]);
        let biases = if self.biased { self.biases(width) } else { 0 };
        Parameters {
            experts: product(&[count, one.saturating_add(biases)]),
            dense: product(&[self.matrices, self.hidden, mixture.shared_width]),
            small: product(&[count, self.hidden]) + gate + if self.biased { count } else { 0 },
            ..Parameters::default()
        }
    }

    fn biases(&self, width: u64) -> u64 {
        (self.matrices - 1).saturating_mul(width).saturating_add(self.hidden)
    }
}

impl Mixture {
    fn read(fields: &Fields<'_>, layers: usize) -> Result<Option<Self>, ReadError> {
        let names = ["n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts"];
        let Some(count) = fields.number(&names, EXPERTS_MAX)? else { return Ok(None) };
        if count <= 1 || fields.flag(&["enable_moe_block"]) == Some(false) {
            return Ok(None);
        }
        let names = [
            "num_experts_per_tok",
            "num_experts_per_token",
            "experts_per_token",
            "top_k_experts",
            "moe_k",
            "moe_topk",
        ];
        let per_token = fields.required(&names, EXPERTS_MAX)?;
        if per_token > count {
            let detail = format!("a token goes to {per_token} of {count} experts");
            return Err(ReadError::Contradiction { what: fields.what(), detail });
        }
        let own =
            fields.positive(&["moe_intermediate_size", "expert_ffn_hidden_size"], WIDTH_MAX)?;
        let width = match own {
            Some(width) => width,
            None => fields.required(&["intermediate_size"], WIDTH_MAX)?,
        };
        let (shared, shared_width) = shared(fields, width)?;
        let experts = Experts {
            count: narrow(count),
            per_token: narrow(per_token),
            shared: narrow(shared),
            intermediate: narrow(width),
        };
        let shared_gate = fields.get(&["shared_expert_intermediate_size"]).is_some();
        Ok(Some(Self { experts, shared_width, shared_gate, rows: rows(fields, layers)? }))
    }
}

/// How many experts all tokens pass through, and how wide they are together.
fn shared(fields: &Fields<'_>, width: u64) -> Result<(u64, u64), ReadError> {
    let own = [
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        "moe_shared_expert_intermediate_size",
    ];
    let own = fields.number(&own, WIDTH_MAX)?;
    let count = fields.number(
        &["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"],
        EXPERTS_MAX,
    )?;
    Ok(match (own, count) {
        (Some(own), _) => (u64::from(own > 0), own),
        (None, Some(count)) => (count, count.saturating_mul(width)),
        // Llama 4 has one and does not say so.
        (None, None) if fields.get(&["interleave_moe_layer_step"]).is_some() => (1, width),
        (None, None) => (0, 0),
    })
}

/// Which layers are mixtures.
fn rows(fields: &Fields<'_>, layers: usize) -> Result<Vec<bool>, ReadError> {
    let number = |names: &[&str]| fields.number(names, 1 << 16);
    let first = number(&["first_k_dense_replace", "moe_layer_start_index"])?.unwrap_or(0) as usize;
    let step = number(&[
        "moe_layer_freq",
        "decoder_sparse_step",
        "interleave_moe_layer_step",
        "expert_layer_period",
        "moe_layer_interval",
    ]);
    let step = step.ok().flatten().unwrap_or(1).max(1) as usize;
    let offset = match number(&["expert_layer_offset"])? {
        Some(offset) => offset as usize,
        // Qwen and Llama 4 begin with the last of the first so many layers, DeepSeek with the
        // first.
        None if fields.get(&["moe_layer_freq"]).is_some() => 0,
        None => step - 1,
    };
    let dense: Vec<usize> = listed(fields, "mlp_only_layers");
    let dense_lists: Option<Vec<bool>> = fields.list(&["moe_layer_freq"]).map(|list| {
        list.iter().map(|value| value.as_u64().is_some_and(|number| number != 0)).collect()
    });
    let row = |layer: usize| match &dense_lists {
        Some(list) => list.get(layer).copied().unwrap_or(true),
        None => layer >= first && layer % step == offset % step && !dense.contains(&layer),
    };
    Ok((0..layers).map(row).collect())
}

fn listed(fields: &Fields<'_>, name: &str) -> Vec<usize> {
    let list = fields.list(&[name]).unwrap_or_default();
    let number = |value: &serde_json::Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    list.iter().filter_map(number).collect()
}
