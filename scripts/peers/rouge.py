"""rouge-score's ROUGE-L of pairs of texts; prints pairs/s and the mean F1:

rouge.py PAIRS.jsonl, a line being ["reference", "candidate"]
"""
import json, sys, time
from rouge_score import rouge_scorer

with open(sys.argv[1], encoding="utf-8") as lines:
    pairs = [json.loads(line) for line in lines]
scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
times = []
for _ in range(3):
    start = time.perf_counter()
    total = sum(scorer.score(reference, candidate)["rougeL"].fmeasure for reference, candidate in pairs)
    times.append(time.perf_counter() - start)
print(json.dumps(dict(peer="rouge-score", pairs=len(pairs), pairs_per_s=round(len(pairs) / min(times), 1), mean=total / len(pairs))))
