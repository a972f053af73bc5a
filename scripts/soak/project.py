"""The project that is soaked: a small sweep of every kind of stage that leaves results, on a model of random weights."""
import json
import os
import shutil

RECIPE = """
name = "soak"
seed = 1

[model]
path = "models/tiny"
dtype = "float32"
lora = { rank = 4, alpha = 8, dropout = 0.1 }

[data.text]
path = "data/text.txt"

[data.mcq]
path = "data/mcq.jsonl"
prompt = "{{ question }}\\n"
completion = "<think>{{ explanation }}</think><answer>{{ answer }}</answer>"
reference = "{{ explanation }}"
answer = "{{ answer }}"

[stages.cpt]
kind = "cpt"
data = "text"
seq_len = 64
steps = 4
global_batch_size = 4
micro_batch_size = 2
lr = 1e-2

[stages.sft]
kind = "sft"
after = "cpt"
data = "mcq"
seq_len = 256
steps = 6
global_batch_size = 4
micro_batch_size = 2
lr = 1e-2

[stages.grpo]
kind = "grpo"
after = "sft"
data = "mcq"
steps = 4
prompts_per_step = 2
group_size = 3
micro_batch_size = 3
max_new_tokens = 16
lr = 1e-2
kl_coef = 0.01

[stages.grpo.rewards.rouge]
scope = "completion"

[stages.prepare]
kind = "command"
command = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i >> $STAGE_OUTPUT/counted; sleep 0.1; done"]

[stages.patient]
kind = "command"
resume = true
command = ["sh", "-c", "for i in 1 2 3 4 5 6; do test -e $STAGE_RESUME/$i || { sleep 0.1; echo $i > $STAGE_RESUME/part; mv $STAGE_RESUME/part $STAGE_RESUME/$i; }; done; cat $STAGE_RESUME/? > $STAGE_OUTPUT/all"]

[stages.digest]
kind = "command"
after = "grpo"
command = ["sh", "-c", "cd $STAGE_PARENT && cat *.safetensors | sha256sum > $STAGE_OUTPUT/digest && echo '{\\"bytes\\": 64}' > $STAGE_OUTPUT/metrics.json"]

[stages.join]
kind = "command"
after = ["prepare", "patient"]
command = ["sh", "-c", "cat {{ parents[0] }}/counted {{ parents[1] }}/all > $STAGE_OUTPUT/joined"]

[runtime]
device = "cpu"
threads = 1
resume_interval_s = 1e-6
stop_grace_s = 5
retries = { oom = 0, crash = 0, judge_unavailable = 0 }

[sweep]
base_name = "rouge"
[[sweep.variants]]
name = "length"
set = { "stages.grpo.rewards" = { length = { max_words = 3, tolerance_words = 5, scope = "completion" } } }
[[sweep.variants]]
name = "format"
set = { "stages.grpo.rewards" = { format = {}, correctness = {} } }
"""


def printable():
    """GPT-2's printable stand-in for every byte."""
    shown, following = {}, 256
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            shown[chr(byte)] = byte
        else:
            shown[chr(following)] = byte
            following += 1
    return shown


def tokenizer():
    """A byte-level tokenizer: 256 bytes, then the special tokens."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {"id": 256 + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, text in enumerate(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    ]
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "vocab": printable(), "merges": [],
    }
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model,
    }


def make(directory, golden):
    """Writes the project into `directory`; the weights are those of `golden`, tests/golden."""
    weights = os.path.join(golden, "decoders", "llama")
    model = os.path.join(directory, "models", "tiny")
    os.makedirs(model)
    os.makedirs(os.path.join(directory, "data"))
    shutil.copy(os.path.join(weights, "model.safetensors"), model)
    with open(os.path.join(weights, "config.json"), encoding="utf-8") as file:
        config = json.load(file) | {"eos_token_id": 257}
    turn = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template = turn + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    settings = {"chat_template": template, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    rows = [
        {"question": f"Which organ has number {i}?", "answer": "ABCD"[i % 4], "explanation": f"Number {i} pumps blood."}
        for i in range(24)
    ]
    files = {
        "models/tiny/config.json": json.dumps(config),
        "models/tiny/tokenizer.json": json.dumps(tokenizer()),
        "models/tiny/tokenizer_config.json": json.dumps(settings),
        "data/text.txt": "".join(f"Paragraph {i}. The heart pumps blood through vessel {i}.\n\n" for i in range(30)),
        "data/mcq.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "soak.toml": RECIPE,
    }
    for name, text in files.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
