"""Compares the program's numbers with those of other packages: compare.py ORCHESTRATE PROJECT [AREA...]

Areas: goldens texts models exports; default: all. Ends with 1 where something differs. Needs requirements.txt.
"""
import importlib
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["PYTHONWARNINGS"] = "ignore"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from program import Program  # noqa: E402
from report import Report  # noqa: E402


def main(path, project, *areas):
    project = os.path.abspath(project)
    report = Report()
    program = Program(path, project)
    for area in areas or ("goldens", "texts", "models", "exports"):
        print(f"\n{area}", flush=True)
        importlib.import_module(area).compare(report, program, project)
    if report.failed:
        raise SystemExit("differs: " + "; ".join(report.failed))
    print("\neverything agrees")


main(*sys.argv[1:])
