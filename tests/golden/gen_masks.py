"""Writes tests/golden/masks.json: conversations as transformers tokenizes and masks them, with SmolLM2's tokenizer.

    python tests/golden/gen_masks.py models/smollm2-135m-instruct        # transformers 5.x

The assistant's turns are marked by `{% generation %}` in a copy of the model's own ChatML template, which renders the same.
"""

import json
import pathlib
import sys

from transformers import AutoTokenizer

OUT = pathlib.Path(__file__).parent / "masks.json"
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)


def turn(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [turn("user", "What pumps blood?"), turn("assistant", "The heart.")],
    [
        turn("system", "Antworte kurz — auf Deutsch."),
        turn("user", "Wie heißt das größte Organ? 🫀"),
        turn("assistant", "\n\nDie Haut.\n"),
        turn("user", "  And the one that pumps?\n\n"),
        turn("assistant", " <think>It beats.</think><answer>A</answer>"),
    ],
    [turn("user", "数字?"), turn("assistant", "一二三"), turn("assistant", ""), turn("user", "ok"), turn("assistant", "\t1 2  3\n\n\n")],
]

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
cases = []
for messages in CONVERSATIONS:
    own = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)
    masked = tokenizer.apply_chat_template(
        messages, chat_template=TEMPLATE, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert own["input_ids"] == masked["input_ids"], "the copy renders otherwise"
    cases.append({"messages": messages, "ids": masked["input_ids"], "trained": masked["assistant_masks"]})
OUT.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
print(sum(sum(case["trained"]) for case in cases), "of", sum(len(case["ids"]) for case in cases), "tokens carry loss")
