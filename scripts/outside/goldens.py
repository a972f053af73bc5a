"""The values that the tests expect, computed again: each generator runs on a copy of tests/golden, and every number is compared."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

from report import largest

# The generator, its arguments after the copy's directory, the file it writes, whether that is its standard output, and by how
# much a number may differ: models differ by the order of their sums, and Muon by products in bfloat16, from one CPU to another.
GENERATORS = [
    ("gen_stats.py", [], "stats.json", True, 1e-6),
    ("gen_comparison.py", [], "comparison.json", True, 1e-6),
    ("gen_judges.py", [], "judges.json", True, 1e-9),
    ("gen_grpo.py", ["{golden}", "--trl"], "grpo_variants.json", False, 1e-9),
    ("gen_choices.py", ["{golden}", "--models", "{project}/models"], "choices.json", False, 1e-3),
    ("gen_curves.py", ["{golden}"], "curves.json", False, 2e-2),
]


def leaves(value, path=""):
    """The numbers and texts of a JSON value, by where they are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def compare(report, _program, project):
    with tempfile.TemporaryDirectory() as directory:
        golden = os.path.join(directory, "golden")
        shutil.copytree(os.path.join(project, "tests/golden"), golden)
        for generator, arguments, file, is_output, most in GENERATORS:
            words = [argument.format(golden=golden, project=project) for argument in arguments]
            ended = subprocess.run([sys.executable, os.path.join(golden, generator), *words], capture_output=True, text=True)
            if ended.returncode != 0:
                raise SystemExit(f"{generator} ended with {ended.returncode}:\n{ended.stderr}")
            made = json.loads(ended.stdout) if is_output else json.load(open(os.path.join(golden, file)))
            kept = json.load(open(os.path.join(project, "tests/golden", file)))
            ours, theirs = dict(leaves(kept)), dict(leaves(made))
            numbers = [(value, theirs[path]) for path, value in ours.items() if is_number(value) and is_number(theirs.get(path))]
            report.same(f"places and texts of {file}", [(
                {path: value for path, value in ours.items() if not is_number(value)},
                {path: value for path, value in theirs.items() if not is_number(value)},
            )])
            report.row(f"numbers of {file}", len(numbers), largest(numbers), most)
    ratings(report, project)
    rouge(report, project)


def rouge(report, project):
    """ROUGE and stems of the golden texts and words, which are drawn from texts that change."""
    from nltk.stem.porter import PorterStemmer
    from rouge_score import rouge_scorer

    for file, variants, stems in (
        ("rouge.json", ["rouge1", "rouge2", "rougeL"], False),
        ("rouge_lsum.json", ["rougeLsum"], False),
        ("rouge_stemmed.json", ["rouge1", "rouge2", "rougeL", "rougeLsum"], True),
    ):
        scorer = rouge_scorer.RougeScorer(variants, use_stemmer=stems)
        pairs = []
        for case in json.load(open(os.path.join(project, "tests/golden", file))):
            found = scorer.score(case["reference"], case["candidate"])
            known = case["scores"] if stems else case["scores"]["ascii"]
            for variant in variants:
                values = known if variants == ["rougeLsum"] else known[variant]
                pairs += zip(values, found[variant])
        report.row(f"{file} (rouge-score)", len(pairs), largest(pairs), 1e-12)
    stemmer = PorterStemmer()
    with open(os.path.join(project, "tests/golden/stems.txt")) as file:
        words = [line.split() for line in file]
    report.same("stems.txt (NLTK)", ((stem, stemmer.stem(word)) for word, stem in words))


def ratings(report, project):
    """The golden ratings against two more packages."""
    import choix
    import evalica
    import math

    with open(os.path.join(project, "tests/golden/bradley_terry.json")) as file:
        golden = json.load(file)
    names = list(golden["centered_elo"])
    # a draw is half a game won by each, so every game is played twice
    wins = []
    for a, b, score in golden["games"]:
        pair = names.index(a), names.index(b)
        wins += {1.0: [pair, pair], 0.5: [pair, pair[::-1]], 0.0: [pair[::-1], pair[::-1]]}[score]
    found = choix.ilsr_pairwise(len(names), wins, alpha=0.0, tol=1e-12)
    elo = (found - found.mean()) * 400 / math.log(10)
    report.row("ratings (choix)", len(names), largest(zip(elo, golden["centered_elo"].values())), 1e-4, " Elo")
    outcomes = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    winners = [outcomes[score] for _, _, score in golden["games"]]
    result = evalica.bradley_terry([a for a, _, _ in golden["games"]], [b for _, b, _ in golden["games"]], winners, tolerance=1e-12)
    logs = {name: math.log(score) for name, score in result.scores.items()}
    mean = sum(logs.values()) / len(logs)
    elo = [(logs[name] - mean) * 400 / math.log(10) for name in names]
    report.row("ratings (evalica)", len(names), largest(zip(elo, golden["centered_elo"].values())), 1e-4, " Elo")
