"""LoRA steps on rows of many lengths, padded to the longest of their micro-batch; prints real tokens/s, padding not counted.

sft_step.py MODEL_DIR --rows ROWS.jsonl [--batch 16] [--micro 8] [--steps 3] [--dtype float32|bfloat16]
"""
import argparse, json, os, resource, statistics, time
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

p = argparse.ArgumentParser()
p.add_argument("model"); p.add_argument("--rows"); p.add_argument("--batch", type=int, default=16)
p.add_argument("--micro", type=int, default=8); p.add_argument("--steps", type=int, default=3); p.add_argument("--dtype", default="float32")
a = p.parse_args()
rows = [json.loads(line) for line in open(a.rows, encoding="utf-8")]
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=getattr(torch, a.dtype), attn_implementation="sdpa")
model = get_peft_model(model, LoraConfig(r=32, lora_alpha=64, target_modules="all-linear"))
model.train()
optimizer = torch.optim.AdamW([q for q in model.parameters() if q.requires_grad], lr=1e-4, fused=True)

def padded(batch):
    width = max(len(row["input_ids"]) for row in batch)
    pad = lambda name, value: torch.tensor([row[name] + [value] * (width - len(row[name])) for row in batch])
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch])
    return dict(input_ids=pad("input_ids", 0), attention_mask=mask, labels=pad("labels", -100))

speeds, loss = [], None
for step in range(a.steps + 1):
    batch = [rows[(step * a.batch + i) % len(rows)] for i in range(a.batch)]
    trained = sum(label != -100 for row in batch for label in row["labels"])
    start = time.perf_counter(); loss = 0.0
    for i in range(0, a.batch, a.micro):
        part = model(**padded(batch[i:i + a.micro]), use_cache=False, num_items_in_batch=trained).loss
        part.backward(); loss += float(part)
    optimizer.step(); optimizer.zero_grad()
    if step: speeds.append(sum(len(row["input_ids"]) for row in batch) / (time.perf_counter() - start))
print(json.dumps(dict(peer="transformers+peft", dtype=a.dtype, batch=a.batch, micro=a.micro, tokens_per_s=round(statistics.median(speeds), 1),
    loss=loss, peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)))
