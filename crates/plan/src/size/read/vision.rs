//! Encoders of images and sound: enough of them to size. They are a small part of what a model
//! weighs.

use super::ReadError;
use super::fields::Fields;
use super::mixer::WIDTH_MAX;
use super::parameters::product;

/// Layers of an encoder that are believed.
const LAYERS_MAX: u64 = 512;

/// Colours of a pixel.
const COLOURS: u64 = 3;

/// Parameters of the encoders, with what connects them to a decoder of that width.
pub(super) fn parameters(fields: &Fields<'_>, hidden: u64) -> Result<u64, ReadError> {
    let mut sum = 0_u64;
    for name in ["vision_config", "vision_tower_config", "audio_config", "audio_encoder"] {
        if let Some(encoder) = fields.object(&[name]) {
            sum = sum.saturating_add(encoder_parameters(&encoder, hidden)?);
        }
    }
    Ok(sum)
}

fn encoder_parameters(fields: &Fields<'_>, hidden: u64) -> Result<u64, ReadError> {
    let width = fields.positive(&["hidden_size", "embed_dim", "d_model", "width"], WIDTH_MAX)?;
    let layers =
        fields.positive(&["num_hidden_layers", "depth", "layers", "encoder_layers"], LAYERS_MAX)?;
    // Qwen2-VL calls the decoder's width `hidden_size` and its own `embed_dim`.
    let width = fields.positive(&["embed_dim"], WIDTH_MAX)?.or(width);
    let (Some(width), Some(layers)) = (width, layers) else { return Ok(0) };
    let inner = fields.positive(&["intermediate_size", "mlp_dim", "encoder_ffn_dim"], WIDTH_MAX)?;
    let inner = inner.unwrap_or(4 * width);
    let gated = fields.text(&["hidden_act"]) == Some("silu");
    let matrices = if gated { 3 } else { 2 };
    let layer = product(&[4, width, width])
        .saturating_add(product(&[matrices, width, inner]))
        .saturating_add(9 * width + inner);
    let patch = fields.positive(&["patch_size", "spatial_patch_size"], 1024)?.unwrap_or(14);
    let frames = fields.positive(&["temporal_patch_size"], 64)?.unwrap_or(1);
    let image = fields.positive(&["image_size"], 1 << 16).ok().flatten().unwrap_or(0);
    let rows = (image / patch).pow(2);
    let ends =
        product(&[COLOURS, frames, patch, patch, width]).saturating_add(product(&[rows, width]));
    let merged = fields.positive(&["spatial_merge_size"], 64)?.unwrap_or(1).pow(2);
    let bridge = match merged {
        1 => product(&[width, hidden]),
        _ => product(&[merged, width, merged, width])
            .saturating_add(product(&[merged, width, hidden])),
    };
    Ok(product(&[layers, layer]).saturating_add(ends).saturating_add(bridge))
}
