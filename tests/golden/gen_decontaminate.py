"""Writes tests/golden/decontaminate.json: training texts, evaluation questions, and which texts open-r1 calls contaminated.

    curl -O https://raw.githubusercontent.com/huggingface/open-r1/0c68e8cbf0047bdc1d816eb4026e6b7ed4f5d9d2/scripts/decontaminate.py
    python tests/golden/gen_decontaminate.py decontaminate.py        # needs tqdm
"""

import importlib.util
import json
import pathlib
import random
import sys

spec = importlib.util.spec_from_file_location("decontaminate", sys.argv[1])
open_r1 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(open_r1)

random.seed(8)
WORDS = "heart liver lung bone vein nerve cell blood organ tissue Muscle KIDNEY 3 artery the of".split()


def text(least, most):
    return "  ".join(random.choices(WORDS, k=random.randint(least, most)))


questions = [text(8, 14) for _ in range(40)]
rows = [text(8, 40) for _ in range(60)]
for row in range(0, 60, 4):
    words = questions[row // 2].split()
    length = random.randint(6, len(words))
    start = random.randint(0, len(words) - length)
    planted = " ".join(words[start : start + length])
    rows[row] = f"{text(1, 9)} {planted.upper() if row % 8 else planted} {text(1, 9)}"
lookup = open_r1.build_ngram_lookup(questions, 8)
contaminated = [any(gram in lookup for gram in open_r1.build_ngram_single(row, 8)) for row in rows]
assert 5 < sum(contaminated) < 50, sum(contaminated)
out = pathlib.Path(__file__).parent / "decontaminate.json"
out.write_text(json.dumps({"questions": questions, "rows": rows, "contaminated": contaminated}, indent=1) + "\n")
