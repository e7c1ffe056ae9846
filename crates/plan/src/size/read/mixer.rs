//! What a layer does with the tokens before it: attention of each kind and state space models, as
//! parameters and as what it keeps.

use super::super::facts::Attention;
use super::ReadError;
use super::family::{Bias, Family, QueryNorm};
use super::fields::Fields;
use super::parameters::{Parameters, product};

/// The widest a single dimension may be.
pub(super) const WIDTH_MAX: u64 = 1 << 20;

/// Bytes of an element of the states that most runtimes keep in the model's own type.
const STATE_ELEMENT_BYTES: u64 = 2;

/// Bytes of an element of recurrent states kept in 32 bits.
const WIDE_ELEMENT_BYTES: u64 = 4;

/// The heads of a model's ordinary attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub hidden: u64,
    pub heads: u64,
    pub kv_heads: u64,
    /// Width of one head's key.
    pub key: u64,
    /// Width of one head's value.
    pub value: u64,
    pub latent: Option<Latent>,
}

/// The ranks of latent attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latent {
    rank: u64,
    rope: u64,
    plain: u64,
    query_rank: u64,
    index_heads: u64,
    index_width: u64,
}

/// What kind of layer, by what it keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mixer {
    Full,
    Window(u32),
    Shared,
    /// Linear attention with a gated delta rule, of Qwen.
    Delta,
    /// Lightning attention, of MiniMax.
    Lightning,
    /// A state space model of the first kind.
    Mamba,
    /// And of the second.
    Mamba2,
    /// A layer with nothing but a feed-forward part.
    Nothing,
}

impl Heads {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, ReadError> {
        let hidden =
            fields.required(&["hidden_size", "n_embd", "d_model", "hidden_dim"], WIDTH_MAX)?;
        let heads = fields.required(
            &["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"],
            WIDTH_MAX,
        )?;
        let kv_heads = kv_heads(fields, heads)?;
        let key = match fields.positive(&["head_dim", "attention_head_dim"], WIDTH_MAX)? {
            Some(width) => width,
            None => (hidden / heads).max(1),
        };
        if !heads.is_multiple_of(kv_heads) {
            let detail = format!("{heads} heads are no multiple of {kv_heads} KV heads");
            return Err(ReadError::Contradiction { what: fields.what(), detail });
        }
        let latent = Latent::read(fields)?;
        let value = match latent {
            Some(_) => fields.positive(&["v_head_dim"], WIDTH_MAX)?.unwrap_or(key),
            None => key,
        };
        Ok(Self { hidden, heads, kv_heads, key, value, latent })
    }

    /// Parameters of one layer's attention.
    pub(super) fn parameters(&self, family: &Family, fields: &Fields<'_>) -> Parameters {
        if let Some(latent) = self.latent {
            return latent.parameters(self);
        }
        let queries = product(&[self.heads, self.key]);
        let pairs = product(&[self.kv_heads, self.key + self.value]);
        let gate = if fields
            .flag(&["attn_output_gate"])
            .unwrap_or_else(|| family.names.contains(&"qwen3_next"))
        {
            2
        } else {
            1
        };
        let back = product(&[self.heads, self.value]);
        let mut small = 0_u64;
        if has(family.bias_in, fields) {
            small += queries.saturating_add(pairs);
        }
        if has(family.bias_out, fields) {
            small += self.hidden;
        }
        small += match family.query_norm {
            QueryNorm::None => 0,
            QueryNorm::Head => 2 * self.key,
            QueryNorm::All => queries + product(&[self.kv_heads, self.key]),
            QueryNorm::Asked if fields.flag(&["use_qk_norm"]).unwrap_or(false) => 2 * self.key,
            QueryNorm::Asked => 0,
        };
        if family.names.contains(&"gpt_oss") {
            small += self.heads;
        }
        Parameters {
            attention: product(&[self.hidden, queries, gate])
                .saturating_add(product(&[back, self.hidden])),
            key_value: product(&[self.hidden, pairs]),
            small,
            ..Parameters::default()
        }
    }

    /// What a layer of ordinary attention keeps.
    pub(super) fn keeps(&self, window: Option<u32>) -> Attention {
        let kv_heads = narrow(self.kv_heads);
        let pair_width = narrow(self.key + self.value);
        match (self.latent, window) {
            (Some(latent), _) => latent.keeps(),
            (None, Some(tokens)) => Attention::Window { kv_heads, pair_width, tokens },
            (None, None) => Attention::Full { kv_heads, pair_width },
        }
    }
}

/// KV heads: named, or one for all with `multi_query`, or as many as heads.
fn kv_heads(fields: &Fields<'_>, heads: u64) -> Result<u64, ReadError> {
    let names = [
        "num_key_value_heads",
        "n_head_kv",
        "num_kv_heads",
        "multi_query_group_num",
        "num_query_groups",
    ];
    let named = fields.positive(&names, WIDTH_MAX)?;
    let old_falcon = fields.flag(&["new_decoder_architecture"]) == Some(false);
    let single = fields.flag(&["multi_query"]).unwrap_or(false)
        && fields.flag(&["new_decoder_architecture"]) != Some(true);
    match named {
        // Older Falcon names all heads here and means one.
        _ if single && (named.is_none() || old_falcon) => Ok(1),
        Some(named) => Ok(named),
        None => Ok(heads),
    }
}

impl Latent {
    fn read(fields: &Fields<'_>) -> Result<Option<Self>, ReadError> {
        let Some(rank) = fields.positive(&["kv_lora_rank"], WIDTH_MAX)? else { return Ok(None) };
        Ok(Some(Self {
            rank,
            rope: fields.required(&["qk_rope_head_dim"], WIDTH_MAX)?,
            plain: fields.required(&["qk_nope_head_dim"], WIDTH_MAX)?,
            query_rank: fields.number(&["q_lora_rank"], WIDTH_MAX)?.unwrap_or(0),
            index_heads: fields.number(&["index_n_heads"], WIDTH_MAX)?.unwrap_or(0),
            index_width: fields.number(&["index_head_dim"], WIDTH_MAX)?.unwrap_or(0),
        }))
    }

    fn parameters(&self, of: &Heads) -> Parameters {
        let key = self.plain + self.rope;
        let queries = product(&[of.heads, key]);
        let (down, up) = match self.query_rank {
            0 => (0, product(&[of.hidden, queries])),
            rank => (product(&[of.hidden, rank]), product(&[rank, queries])),
        };
        let kv_down = product(&[of.hidden, self.rank + self.rope]);
        let kv_up = product(&[self.rank, of.heads, self.plain + of.value]);
        let back = product(&[of.heads, of.value, of.hidden]);
        let indexer = match self.index_heads {
            0 => 0,
            heads => {
                let queries = product(&[self.query_rank, heads, self.index_width]);
                queries + product(&[of.hidden, self.index_width + heads]) + 2 * self.index_width
            }
        };
        Parameters {
            attention: up.saturating_add(kv_up).saturating_add(back),
            repeated: down.saturating_add(kv_down).saturating_add(indexer),
            small: self.query_rank + self.rank,
            ..Parameters::default()
        }
    }

    fn keeps(&self) -> Attention {
        // An index has one byte an element and a 32-bit scale for a token.
        let index = if self.index_heads == 0 { 0 } else { self.index_width + 4 };
        Attention::Latent {
            rank: narrow(self.rank),
            rope: narrow(self.rope),
            index_bytes: narrow(index),
        }
    }
}

/// Parameters and state of a layer without ordinary attention.
pub(super) fn states(
    kind: Mixer,
    of: &Heads,
    fields: &Fields<'_>,
) -> Result<(Parameters, Attention), ReadError> {
    match kind {
        Mixer::Delta => delta(of, fields),
        Mixer::Lightning => Ok(lightning(of)),
        Mixer::Mamba => mamba(of, fields),
        Mixer::Mamba2 => mamba_2(of, fields),
        _ => Ok((Parameters::default(), Attention::None)),
    }
}

fn delta(of: &Heads, fields: &Fields<'_>) -> Result<(Parameters, Attention), ReadError> {
    let key_heads = fields.required(&["linear_num_key_heads"], WIDTH_MAX)?;
    let value_heads = fields.required(&["linear_num_value_heads"], WIDTH_MAX)?;
    let key = fields.required(&["linear_key_head_dim"], WIDTH_MAX)?;
    let value = fields.required(&["linear_value_head_dim"], WIDTH_MAX)?;
    let kernel = fields.positive(&["linear_conv_kernel_dim"], 1024)?.unwrap_or(4);
    let (keys, values) = (product(&[key_heads, key]), product(&[value_heads, value]));
    let mixed = 2 * keys + values;
    let into = product(&[of.hidden, mixed + values + 2 * value_heads]);
    let parameters = Parameters {
        attention: into.saturating_add(product(&[values, of.hidden])),
        small: product(&[mixed, kernel]) + 2 * value_heads + value,
        ..Parameters::default()
    };
    let recurrent = product(&[value_heads, key, value]);
    let wide = fields.text(&["mamba_ssm_dtype"]) == Some("float32");
    let element = if wide { WIDE_ELEMENT_BYTES } else { STATE_ELEMENT_BYTES };
    let bytes = product(&[mixed, kernel - 1, STATE_ELEMENT_BYTES])
        .saturating_add(product(&[recurrent, element]));
    Ok((parameters, Attention::State { bytes }))
}

fn lightning(of: &Heads) -> (Parameters, Attention) {
    let all = product(&[of.heads, of.key]);
    let parameters = Parameters {
        attention: product(&[of.hidden, all, 5]),
        small: all,
        ..Parameters::default()
    };
    let bytes = product(&[of.heads, of.key, of.key, WIDE_ELEMENT_BYTES]);
    (parameters, Attention::State { bytes })
}

fn mamba(of: &Heads, fields: &Fields<'_>) -> Result<(Parameters, Attention), ReadError> {
    let expand = fields.positive(&["mamba_expand", "expand"], 64)?.unwrap_or(2);
    let inner = match fields.positive(&["intermediate_size"], WIDTH_MAX)? {
        Some(width) if fields.get(&["mamba_expand"]).is_none() => width,
        _ => expand * of.hidden,
    };
    let state = fields.positive(&["mamba_d_state", "state_size"], WIDTH_MAX)?.unwrap_or(16);
    let kernel = fields.positive(&["mamba_d_conv", "conv_kernel"], 1024)?.unwrap_or(4);
    let rank = fields.number(&["mamba_dt_rank", "time_step_rank"], WIDTH_MAX).ok().flatten();
    let rank = rank.unwrap_or_else(|| of.hidden.div_ceil(16));
    let small_norms =
        if fields.get(&["mamba_dt_rank", "mamba_expand"]).is_some() { rank + 2 * state } else { 0 };
    let parameters = Parameters {
        attention: product(&[of.hidden, inner, 3])
            .saturating_add(product(&[inner, 2 * rank + 2 * state])),
        small: product(&[inner, kernel + 3 + state]) + small_norms,
        ..Parameters::default()
    };
    let bytes = product(&[inner, kernel - 1 + state, STATE_ELEMENT_BYTES]);
    Ok((parameters, Attention::State { bytes }))
}

fn mamba_2(of: &Heads, fields: &Fields<'_>) -> Result<(Parameters, Attention), ReadError> {
    let heads = fields.required(&["mamba_num_heads", "mamba_n_heads"], WIDTH_MAX)?;
    let width = fields.required(&["mamba_head_dim", "mamba_d_head"], WIDTH_MAX)?;
    let groups = fields.positive(&["n_groups", "mamba_n_groups"], WIDTH_MAX)?.unwrap_or(1);
    let state = fields.required(&["ssm_state_size", "mamba_d_state"], WIDTH_MAX)?;
    let kernel = fields.positive(&["conv_kernel", "mamba_d_conv"], 1024)?.unwrap_or(4);
    let inner = product(&[heads, width]);
    let mixed = inner.saturating_add(product(&[2, groups, state]));
    let parameters = Parameters {
        attention: product(&[of.hidden, inner.saturating_add(mixed).saturating_add(heads)])
            .saturating_add(product(&[inner, of.hidden])),
        small: product(&[mixed, kernel + 1]).saturating_add(inner) + 3 * heads,
        ..Parameters::default()
    };
    let wide = fields.text(&["mamba_ssm_cache_dtype"]) == Some("float32");
    let element = if wide { WIDE_ELEMENT_BYTES } else { STATE_ELEMENT_BYTES };
    let bytes = product(&[mixed, kernel - 1, STATE_ELEMENT_BYTES])
        .saturating_add(product(&[inner, state, element]));
    Ok((parameters, Attention::State { bytes }))
}

/// Whether there is a bias.
pub(super) fn has(bias: Bias, fields: &Fields<'_>) -> bool {
    match bias {
        Bias::Never => false,
        Bias::Always => true,
        Bias::If(names) => fields.flag(names).unwrap_or(false),
    }
}

/// A width that was read within limits, so it fits.
pub(super) fn narrow(width: u64) -> u32 {
    u32::try_from(width).unwrap_or(u32::MAX)
}
