"""What texts that explain nothing score against the demo's explanations: echo.py ENCODER QUESTIONS.jsonl

Repeating the question must not look like an explanation. For 150 questions, prints the mean cosine (sentence-transformers)
and ROUGE-L (rouge-score) of the question, of the question with its options and of another row's explanation.
"""
import json
import sys

from rouge_score import rouge_scorer
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer(sys.argv[1], device="cpu")
rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
with open(sys.argv[2], encoding="utf-8") as file:
    rows = [json.loads(line) for line in file][:150]
references = [row["explanation"] for row in rows]


def report(name, texts):
    pairs = encoder.encode(references, normalize_embeddings=True) * encoder.encode(texts, normalize_embeddings=True)
    overlap = [rouge.score(reference, text)["rougeL"].fmeasure for reference, text in zip(references, texts)]
    print(json.dumps(dict(text=name, cosine=round(float(pairs.sum(1).mean()), 3), rouge_l=round(sum(overlap) / len(overlap), 3))))


def with_options(row):
    return "\n".join([row["question"], *(f"{letter}) {option}" for letter, option in row["options"].items())])


report("the explanation of another row", references[1:] + references[:1])
report("the question", [row["question"] for row in rows])
report("the question with its options", [with_options(row) for row in rows])
