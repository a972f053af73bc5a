"""sentence-transformers' `encode` on the explanations of the questions, in length 1; prints texts/s:

encode.py MODEL_DIR MCQ.jsonl [--texts 512] [--dtype float32|bfloat16] [--runs 5]
"""
import argparse, json, os, resource, statistics, time
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from sentence_transformers import SentenceTransformer

p = argparse.ArgumentParser(); p.add_argument("model"); p.add_argument("questions"); p.add_argument("--texts", type=int, default=512)
p.add_argument("--dtype", default="float32"); p.add_argument("--runs", type=int, default=5); p.add_argument("--threads", type=int)
a = p.parse_args()
if a.threads:
    torch.set_num_threads(a.threads)
with open(a.questions, encoding="utf-8") as lines:
    texts = [json.loads(line)["explanation"] for line, _ in zip(lines, range(a.texts))]
model = SentenceTransformer(a.model, device="cpu", model_kwargs={"dtype": getattr(torch, a.dtype)})
times = []
for run in range(a.runs + 1):
    start = time.perf_counter()
    model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    if run:
        times.append(time.perf_counter() - start)
print(json.dumps(dict(peer="sentence-transformers", dtype=a.dtype, texts=len(texts), threads=torch.get_num_threads(),
                      texts_per_s=round(len(texts) / statistics.median(times), 1), best_texts_per_s=round(len(texts) / min(times), 1),
                      peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)))
