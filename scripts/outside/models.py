"""Language models and encoders: transformers, PEFT, lm-evaluation-harness and sentence-transformers."""
import json
import os
import tempfile

import torch
from peft import PeftModel
from report import largest
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = 40


def questions(project):
    with open(os.path.join(project, "data/biomedical/mcq.jsonl")) as file:
        return [json.loads(line) for line, _ in zip(file, range(400))]


def token_logprobs(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def compare(report, program, project):
    directory = os.path.join(project, "models/smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    rows = questions(project)
    logprobs(report, program, directory, tokenizer, model, rows)
    greedy(report, program, directory, tokenizer, model, rows)
    likelihoods(report, program, directory, tokenizer, model, rows)
    adapters(report, program, project)
    embeddings(report, program, project, rows)


def logprobs(report, program, directory, tokenizer, model, rows):
    texts = [row["question"] + " " + row["explanation"] for row in rows[:QUESTIONS]]
    answers = program.json("model", "logprobs", "--model", directory, "--input", "-", lines=[{"text": text} for text in texts])
    theirs = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    report.same("tokens of texts (transformers)", zip((answer["input_ids"] for answer in answers), theirs))
    pairs = [pair for answer, ids in zip(answers, theirs) for pair in zip(answer["token_logprobs"], token_logprobs(model, ids))]
    report.row("log-probabilities of tokens (transformers)", len(pairs), largest(pairs), 5e-4)


def greedy(report, program, directory, tokenizer, model, rows):
    prompts = [row["question"] for row in rows[:QUESTIONS]]
    ours = program.json("model", "generate", "--model", directory, "--input", "-", "--temperature", "0", "--max-new-tokens", "48",
                        lines=[{"prompt": prompt} for prompt in prompts])
    theirs = []
    for prompt in prompts:
        turn = [{"role": "user", "content": prompt}]
        encoded = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        made = model.generate(**encoded, do_sample=False, max_new_tokens=48, pad_token_id=tokenizer.pad_token_id)
        theirs.append(tokenizer.decode(made[0, encoded.input_ids.shape[1]:], skip_special_tokens=True))
    report.same("greedy completions (transformers)", zip((answer["completion"] for answer in ours), theirs))


def likelihoods(report, program, directory, tokenizer, model, rows):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    pairs = [(row["question"], " " + option) for row in rows[:10] for option in row["options"].values()]
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    theirs = [total for total, _ in harness.loglikelihood(requests)]
    ids = [harness._encode_pair(*pair) for pair in pairs]
    ours = program.json("model", "logprobs", "--model", directory, "--input", "-",
                        lines=[{"input_ids": context + option} for context, option in ids])
    sums = [sum(answer["token_logprobs"][-len(option):]) for answer, (_, option) in zip(ours, ids)]
    report.row("log-likelihoods of options (lm-evaluation-harness)", len(sums), largest(zip(sums, theirs)), 1e-3)


def adapters(report, program, project):
    base, adapter = (os.path.join(project, "tests/golden", name) for name in ("decoders/llama", "lora"))
    generator = torch.Generator().manual_seed(3)
    vocabulary = json.load(open(os.path.join(base, "config.json")))["vocab_size"]
    sequences = [torch.randint(vocabulary, (24,), generator=generator).tolist() for _ in range(8)]
    lines = [{"input_ids": ids} for ids in sequences]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    theirs = [value for ids in sequences for value in token_logprobs(model, ids)]
    ours = program.json("model", "logprobs", "--model", base, "--adapter", adapter, "--input", "-", lines=lines)
    values = [value for answer in ours for value in answer["token_logprobs"]]
    report.row("log-probabilities with an adapter (PEFT)", len(values), largest(zip(values, theirs)), 1e-4)
    with tempfile.TemporaryDirectory() as directory:
        merged = os.path.join(directory, "merged")
        program.run("model", "merge", "--model", base, "--adapter", adapter, "--output", merged)
        model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
        values = [value for ids in sequences for value in token_logprobs(model, ids)]
    report.row("the merged model, read by transformers (PEFT)", len(values), largest(zip(values, theirs)), 1e-4)


def embeddings(report, program, project, rows):
    from sentence_transformers import SentenceTransformer

    directory = os.path.join(project, "models/all-minilm-l6-v2")
    texts = [row["explanation"] for row in rows[:200]]
    theirs = SentenceTransformer(directory, device="cpu").encode(texts, normalize_embeddings=True)
    ours = program.json("model", "embed", "--model", directory, "--input", "-", lines=[{"text": text} for text in texts])
    pairs = [pair for answer, vector in zip(ours, theirs) for pair in zip(answer["embedding"], vector.tolist())]
    report.row("embeddings (sentence-transformers)", len(pairs), largest(pairs), 1e-5)
