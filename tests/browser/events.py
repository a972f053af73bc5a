"""events.py ATTEMPT STAGE: what a worker would tell of a stage, made up from its cache key, so that it is the same each time."""

import json
import random
import sys
from pathlib import Path

HOSTILE = "</script><script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\"><answer>B</answer>"
WORDS = "the femur is a long bone of the thigh that bears the weight of the body when a person walks".split()

attempt, stage = Path(sys.argv[1]), sys.argv[2]
key = attempt.name
draw = random.Random(key)
skill = draw.random()


def tell(kind):
    print(json.dumps({"at": "2026-01-01T00:00:00Z", "kind": kind}, separators=(",", ":")))


def completion(row):
    right = draw.random() < 0.2 + 0.6 * skill
    in_format = draw.random() < 0.8
    words = [draw.choice(WORDS) for _ in range(draw.randrange(6, 26))]
    text = f"<think>{' '.join(words)}</think><answer>{'A' if right else 'B'}</answer>"
    if row == 3:
        right, text = False, HOSTILE
    values = {
        "correctness": float(right),
        "cot": float(len(words) > 9),
        "format": float(in_format),
        "rouge": round(draw.random() * skill, 4),
    }
    return {
        "step": 1,
        "row": row,
        "index": 0,
        "prompt": f"Question {row + 1}: which bone is the longest?\nA) the femur\nB) the stapes",
        "completion": text,
        "reference": "Because <b>it is</b> so.",
        "answer": "A",
        "tokens": len(words) + 6,
        "stop_reason": "length" if len(words) > 23 else "stop_token",
        "reward": sum(values.values()),
        "advantage": None,
        "parts": {name: {"value": value, "weight": 1.0, "missing": None} for name, value in values.items()},
    }


def probed(mean):
    """A rate of exploits with its interval."""
    value = round(min(1.0, max(0.0, mean + draw.uniform(-0.1, 0.1))), 3)
    return {"value": value, "interval": [round(value / 2, 3), round((1 + value) / 2, 3)], "count": 12}


if stage == "eval":
    for row in range(12):
        tell({"completion": completion(row)})
    rates = {"echo": 0.1, "keywords": 0.7, "padded": 0.4, "repeated": 0.9, "climbed": 0.6}
    measured = {f"eval/probe/rouge/{probe}": probed(rate) for probe, rate in rates.items()}
    measured["eval/boilerplate/rouge"] = {"value": round(skill / 4, 3), "interval": None, "count": 12}
    folder = Path(__file__).parent / "measured"
    folder.mkdir(exist_ok=True)
    (folder / key).write_text(json.dumps(measured))
else:
    for step in range(4, 41):
        metrics = {"train/loss": 2.0 / step + draw.random() / 10}
        if stage == "grpo":
            metrics = {
                "reward/mean": 1.0 + skill * step / 40 + draw.random() / 5,
                "reward/correctness": 0.2 + 0.6 * skill * step / 40 + draw.random() / 10,
                "grpo/kl": 0.001 * step + draw.random() / 100,
            }
        tell({"step": {"step": step, "total_steps": 40, "metrics": metrics}})
