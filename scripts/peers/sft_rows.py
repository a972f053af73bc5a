"""Multiple-choice rows as a user of transformers prepares them: chat template, prompts masked with -100.

sft_rows.py MODEL_DIR MCQ.jsonl OUT.jsonl [COUNT]
"""
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import AutoTokenizer

model, source, out = sys.argv[1:4]
count = int(sys.argv[4]) if len(sys.argv) > 4 else 64
tokenizer = AutoTokenizer.from_pretrained(model)
with open(source, encoding="utf-8") as lines, open(out, "w", encoding="utf-8") as rows:
    for line, _ in zip(lines, range(count)):
        row = json.loads(line)
        options = "".join(f"{letter}) {text}\n" for letter, text in row["options"].items())
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": f"{row['question']}\n{options}"}],
                                               add_generation_prompt=True, tokenize=False)
        completion = f"<think>{row['explanation']}</think><answer>{row['answer']}</answer>{tokenizer.eos_token}"
        prompt, completion = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion))
        rows.write(json.dumps(dict(input_ids=prompt + completion, labels=[-100] * len(prompt) + completion)) + "\n")
