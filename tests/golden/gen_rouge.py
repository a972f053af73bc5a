"""Writes tests/golden/rouge_lsum.json: summary-level ROUGE-L of texts of several lines, from rouge-score, ASCII and Unicode words.

    python tests/golden/gen_rouge.py tests/golden        # rouge-score 0.1.2
"""
import json, pathlib, random, re, sys

from rouge_score import rouge_scorer


class Unicode:
    def tokenize(self, text):
        return re.findall(r"\w+", text.lower())


rng = random.Random(0)
# Few words, so that lines share them and the longest common subsequence is seldom the only one.
words = "il cuore pompa sangue perché è the heart pumps blood; Élan naïve cell-wall CO2".split()
line = lambda: " ".join(rng.choices(words, k=rng.randint(0, 9)))
text = lambda: "\n".join(line() for _ in range(rng.randint(1, 5)))
pairs = [(text(), text()) for _ in range(60)]
long = lambda: "\n".join(" ".join(rng.choices(words[:5], k=rng.randint(60, 140))) for _ in range(3))
pairs += [(long(), long()) for _ in range(4)]
pairs += [("", ""), ("a\n", ""), ("\n\n", "a"), ("a a\na", "a\na x\na a"), ("a b\n\nc d", "c d\r\na b"), ("one line", "one\nline")]
scorers = {"ascii": rouge_scorer.RougeScorer(["rougeLsum"]), "unicode": rouge_scorer.RougeScorer(["rougeLsum"], tokenizer=Unicode())}
cases = [
    dict(reference=r, candidate=c, scores={k: list(map(float, s.score(r, c)["rougeLsum"])) for k, s in scorers.items()})
    for r, c in pairs
]
path = pathlib.Path(sys.argv[1]) / "rouge_lsum.json"
path.write_text(json.dumps(cases, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
