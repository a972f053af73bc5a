"""Writes classifiers/NAME/: tiny random models with a head for sequence classification, whole directories with tokenizers, and
cases.json, the logits of texts by transformers.

    python tests/golden/gen_classifiers.py tests/golden          # torch 2.11.0, transformers 5.23.0

Each case has the `input` of the component `classifier`, a prompt, a text, the logits, and whether the tokenizer cut it.
"""
import json, os, pathlib, sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification, ModernBertConfig,
                          ModernBertForSequenceClassification, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForSequenceClassification,
                          Qwen3Config, Qwen3ForSequenceClassification, XLMRobertaConfig, XLMRobertaForSequenceClassification)

out = pathlib.Path(sys.argv[1]) / "classifiers"
torch.manual_seed(0)
LIMIT = 48
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "<|end|>"]  # ids 256 to 259
small = dict(vocab_size=260, hidden_size=8, intermediate_size=12, num_attention_heads=2, num_hidden_layers=2, initializer_range=0.4, pad_token_id=256)
encoder = dict(**small, max_position_embeddings=64)
roberta = dict(**{**small, "pad_token_id": 1}, max_position_embeddings=64, type_vocab_size=1)
modern = dict(**{**small, "hidden_size": 16}, max_position_embeddings=64, local_attention=8, attn_implementation="eager")
decoder = dict(**small, num_key_value_heads=1, max_position_embeddings=64)
labels = lambda *names: dict(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
built = {
    "bert": (BertForSequenceClassification, BertConfig(**encoder, **labels("bad", "fair", "good"))),
    "xlm_roberta": (XLMRobertaForSequenceClassification, XLMRobertaConfig(**roberta, **labels("LABEL_0"), problem_type="regression")),
    "modernbert": (ModernBertForSequenceClassification, ModernBertConfig(**modern, **labels("no", "yes"), classifier_pooling="cls")),
    "modernbert_mean": (ModernBertForSequenceClassification, ModernBertConfig(
        **modern, **labels("helpful", "safe"), classifier_pooling="mean", classifier_bias=True, problem_type="multi_label_classification")),
    "llama": (LlamaForSequenceClassification, LlamaConfig(**{**decoder, "pad_token_id": 259}, **labels("LABEL_0"))),
    "qwen2": (Qwen2ForSequenceClassification, Qwen2Config(**decoder, **labels("worse", "better"))),
    "qwen3": (Qwen3ForSequenceClassification, Qwen3Config(**{**decoder, "pad_token_id": None}, **labels("LABEL_0"), head_dim=4)),
}
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}<|end|>{% endfor %}"
pairs = [("Which organ pumps blood?", "The heart."), ("Quale?", "È il cuore"), ("a", ""), ("Why?", "Because, " * 12), ("Why? " * 12, "So.")]
for name, (kind, config) in built.items():
    tokenizer = Tokenizer(models.BPE(vocab={b: i for i, b in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    is_decoder = "pooled" not in name and hasattr(config, "num_key_value_heads")
    special = [("[CLS]", 257), ("[SEP]", 258)]
    if name == "bert":
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special)
    elif not is_decoder:
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=special)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LIMIT, pad_token="<|end|>" if name == "llama" else "[PAD]", eos_token="<|end|>",
                                   model_input_names=["input_ids", *(["token_type_ids"] if name == "bert" else []), "attention_mask"])
    if is_decoder:
        fast.chat_template = TEMPLATE
    model = kind(config).eval()
    for key, value in model.named_parameters():
        if key.endswith("bias"):
            value.data.normal_(0, 0.3)
    folder = out / name
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    cases = []
    for prompt, text in pairs:
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        inputs = {"text": (lambda **how: fast([text], **how))}
        if is_decoder:
            inputs["chat"] = lambda **how: fast([fast.apply_chat_template(chat, tokenize=False)], add_special_tokens=False, **how)
        else:
            # lists, since a lone empty second text counts as none
            inputs["pair"] = lambda **how: fast([prompt], [text], **how)
        for which, encode in inputs.items():
            if which == "text" and not text and is_decoder:
                continue  # no token
            encoded = encode(truncation=True, max_length=LIMIT, return_tensors="pt")
            whole = len(encode(truncation=False)["input_ids"][0])
            with torch.no_grad():
                logits = model(**encoded).logits[0]
                # llama's padding ends its turns, so a padded row has no other last token; qwen3 has no padding
                if config.pad_token_id is not None and name != "llama":
                    for side in ("right", "left") if is_decoder else ("right",):
                        fast.padding_side = side
                        padded = encode(truncation=True, max_length=LIMIT, padding="max_length", return_tensors="pt")
                        padded["input_ids"][padded["attention_mask"] == 0] = config.pad_token_id
                        beside = model(**padded).logits[0]
                        assert torch.allclose(beside, logits, atol=1e-4), (name, side, beside, logits)
            cases.append(dict(input=which, prompt=prompt, text=text, logits=[round(float(x), 7) for x in logits], cut=whole > LIMIT))
    (folder / "cases.json").write_text(json.dumps(cases, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
