"""Makes a folder with a model for vLLM: random weights of fifteen million parameters, whose heads and layers
two can share, and the tokenizer of a GGUF file. Beside it a LoRA adapter that makes it say something else.

    VENV/bin/python tiny_llama.py FILE.gguf FOLDER ADAPTER_FOLDER

It answers with nonsense, but always with the same: what is tried with it is not what a model knows.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, CONTEXT = 256, 704, 4, 8, 4, 4096
RANK = 4


def weights(vocabulary):
    torch.manual_seed(0)
    head = HIDDEN // HEADS

    def drawn(*shape):
        return (torch.randn(*shape) * 0.05).to(torch.bfloat16)

    def ones():
        return torch.ones(HIDDEN, dtype=torch.bfloat16)

    made = {"model.embed_tokens.weight": drawn(vocabulary, HIDDEN), "model.norm.weight": ones()}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        made |= {
            at + "self_attn.q_proj.weight": drawn(HEADS * head, HIDDEN),
            at + "self_attn.k_proj.weight": drawn(KV_HEADS * head, HIDDEN),
            at + "self_attn.v_proj.weight": drawn(KV_HEADS * head, HIDDEN),
            at + "self_attn.o_proj.weight": drawn(HIDDEN, HEADS * head),
            at + "mlp.gate_proj.weight": drawn(INNER, HIDDEN),
            at + "mlp.up_proj.weight": drawn(INNER, HIDDEN),
            at + "mlp.down_proj.weight": drawn(HIDDEN, INNER),
            at + "input_layernorm.weight": ones(),
            at + "post_attention_layernorm.weight": ones(),
        }
    return made


def adapter(folder):
    """All attention's output, turned by a matrix of rank four."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    made = {}
    for layer in range(LAYERS):
        at = f"base_model.model.model.layers.{layer}.self_attn.o_proj."
        made[at + "lora_A.weight"] = torch.randn(RANK, HIDDEN).to(torch.bfloat16)
        made[at + "lora_B.weight"] = torch.randn(HIDDEN, RANK).to(torch.bfloat16)
    save_file(made, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 16, "lora_dropout": 0.0,
        "bias": "none", "target_modules": ["o_proj"], "base_model_name_or_path": "tiny-llama",
    }, indent=1))


def main():
    gguf, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    adapter(pathlib.Path(sys.argv[3]))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
    vocabulary = len(tokenizer)
    save_file(weights(vocabulary), folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HIDDEN // HEADS, "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "hidden_act": "silu",
        "tie_word_embeddings": True, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))


main()
