#!/usr/bin/env python3
"""Writes model directories with random weights, for programs that read one.

random_llama.py DIR tiny|135m|1b|8b... [--tokenizer FROM]
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

# hidden, feed-forward, layers, heads, key-value heads, vocabulary, tied
SHAPES = {
    "tiny": (64, 160, 2, 4, 2, 320, True),
    "135m": (576, 1536, 30, 9, 3, 49152, True),
    "1b": (2048, 8192, 16, 32, 8, 128256, True),
    "8b": (4096, 14336, 32, 32, 8, 128256, False),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def weights(hidden, wide, layers, heads, kv_heads, vocabulary, tied):
    head = hidden // heads

    def draw(*size):
        return (torch.randn(*size, device=DEVICE, dtype=torch.bfloat16) * 0.02).cpu()

    def ones():
        return torch.ones(hidden, dtype=torch.bfloat16)

    found = {"model.embed_tokens.weight": draw(vocabulary, hidden), "model.norm.weight": ones()}
    if not tied:
        found["lm_head.weight"] = draw(vocabulary, hidden)
    parts = {
        "self_attn.q_proj": (heads * head, hidden),
        "self_attn.k_proj": (kv_heads * head, hidden),
        "self_attn.v_proj": (kv_heads * head, hidden),
        "self_attn.o_proj": (hidden, heads * head),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}."
        found |= {f"{at}{part}.weight": draw(*size) for part, size in parts.items()}
        found |= {f"{at}input_layernorm.weight": ones(), f"{at}post_attention_layernorm.weight": ones()}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dir", type=Path)
    parser.add_argument("names", nargs="+", choices=SHAPES)
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer to copy into each directory")
    options = parser.parse_args()
    for name in options.names:
        hidden, wide, layers, heads, kv_heads, vocabulary, tied = SHAPES[name]
        target = options.dir / name
        target.mkdir(parents=True, exist_ok=True)
        file = target / "model.safetensors"
        save_file(weights(*SHAPES[name]), file, metadata={"format": "pt"})
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": wide,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": hidden // heads,
            "vocab_size": vocabulary,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "tie_word_embeddings": tied,
            "hidden_act": "silu",
            "dtype": "bfloat16",
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        (target / "config.json").write_text(json.dumps(config))
        if options.tokenizer:
            shutil.copytree(options.tokenizer, target, dirs_exist_ok=True)
        print(name, f"{file.stat().st_size / 1e9:.1f} GB", flush=True)


if __name__ == "__main__":
    main()
