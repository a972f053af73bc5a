"""Loss and gradient norm of 20 optimizer steps by transformers, PEFT and torch.optim: gen_curves.py GOLDEN_DIR -> curves.json

The model is decoders/llama, the adapter lora/; the token sequences follow a formula that the test repeats.
"""
import json, math, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

golden = sys.argv[1]
STEPS, ROWS, PROMPT, WARMUP, MAX_NORM = 20, 4, 4, 3, 1.0


def row(step, index):
    step %= 2  # two batches in turn, so that there is something to learn
    length = 10 + (index * 5 + step) % 13
    return [(step * 131 + index * 31 + t * 17 + t * t * 7) % 320 for t in range(length)]


def multiplier(step):
    if step < WARMUP:
        return step / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def curve(lora, muon, lr, weight_decay):
    model = LlamaForCausalLM.from_pretrained(os.path.join(golden, "decoders/llama"), dtype=torch.float32)
    if lora:
        model = PeftModel.from_pretrained(model, os.path.join(golden, "lora"), is_trainable=True)
    model.eval()  # no dropout
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = lambda name, p: p.dim() == 2 and not name.endswith(("embed_tokens.weight", "lm_head.weight"))
    matrices = [p for name, p in named if muon and hidden(name, p)]
    rest = [(name, p) for name, p in named if not (muon and hidden(name, p))]
    groups = [dict(params=[p for _, p in rest if p.dim() >= 2], weight_decay=weight_decay),
              dict(params=[p for _, p in rest if p.dim() < 2], weight_decay=0.0)]
    optimizers = [torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.95), eps=1e-8)] if rest else []
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=lr, momentum=0.95, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    losses, norms = [], []
    for step in range(STEPS):
        rows = [row(step, i) for i in range(ROWS)]
        trained = sum(len(r) - PROMPT for r in rows)
        loss = 0.0
        for r in rows:
            ids = torch.tensor([r])
            logp = model(input_ids=ids).logits[0, PROMPT - 1:-1].log_softmax(-1)
            part = -logp.gather(1, ids[0, PROMPT:, None]).sum() / trained
            part.backward(); loss += float(part)
        norms.append(float(torch.nn.utils.clip_grad_norm_([p for _, p in named], MAX_NORM)))
        losses.append(loss)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * multiplier(step)
            optimizer.step(); optimizer.zero_grad()
    return dict(lora=lora, muon=muon, lr=lr, weight_decay=weight_decay, loss=losses, grad_norm=norms)


cases = {"lora_adamw": curve(True, False, 2e-2, 0.0), "full_adamw": curve(False, False, 3e-3, 0.1), "full_muon": curve(False, True, 1e-2, 0.1)}
with open(os.path.join(golden, "curves.json"), "w", encoding="utf-8") as file:
    json.dump(dict(steps=STEPS, rows=ROWS, prompt=PROMPT, warmup_steps=WARMUP, max_grad_norm=MAX_NORM, cases=cases), file, indent=1)
    file.write("\n")
