"""ROUGE through `score`, against rouge-score."""
import os
import tempfile

from models import questions
from program import Program
from report import largest
from rouge_score import rouge_scorer

RECIPE = """
name = "outside"
[model]
path = "{project}/models/smollm2-135m-instruct"
[data.rows]
path = "{project}/data/biomedical/mcq.jsonl"
prompt = "{{{{ question }}}}"
reference = "{{{{ explanation }}}}"
[stages.eval]
kind = "eval"
data = "rows"
split = "all"
[stages.eval.rewards.rouge1]
kind = "rouge"
variant = "1"
tokenizer = "rouge-score"
scope = "completion"
[stages.eval.rewards.rouge2]
kind = "rouge"
variant = "2"
tokenizer = "rouge-score"
scope = "completion"
[stages.eval.rewards.rouge_l]
kind = "rouge"
variant = "L"
tokenizer = "rouge-score"
scope = "completion"
"""


def compare(report, program, project):
    rows = questions(project)
    pairs = [(one["explanation"], other["explanation"]) for one, other in zip(rows, rows[1:])]
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "outside.toml"), "w") as file:
            file.write(RECIPE.format(project=project))
        lines = [{"prompt": "", "completion": completion, "reference": reference} for completion, reference in pairs]
        scored = Program(program.path, directory).json("score", "outside.toml", "eval", "--input", "-", lines=lines)
    for name, component in (("rouge1", "rouge1"), ("rouge2", "rouge2"), ("rougeL", "rouge_l")):
        theirs = [scorer.score(reference, completion)[name].fmeasure for completion, reference in pairs]
        ours = [line["parts"][component]["value"] for line in scored]
        report.row(f"{name} (rouge-score)", len(ours), largest(zip(ours, theirs)), 1e-12)
