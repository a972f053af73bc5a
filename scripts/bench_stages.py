#!/usr/bin/env python3
"""How fast `orchestrate` itself is, beside dvc and snakemake where they are installed:
bench_stages.py ORCHESTRATE [OUT.json]

Times of whole processes, in ms: `--help`; `run` of 200 and of 10,000 stages that are all cached (as tables of one recipe, and as a
sweep); and what each of 100 stages costs that run `true`. With OUT.json the results are written there, unless the machine is
busy: a load of 3 and more says nothing about the program.
"""
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUSY = 3.0
REPEATS = 5
# limits in ms
LIMITS = {
    "--help": 10,
    "run of 200 cached stages": 50,
    "run of 10000 cached stages": 500,
    "overhead of a stage that runs `true`": 25,
}


def milliseconds(command, directory, repeats=REPEATS):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def tables(count):
    stage = '[stages.s{0}]\nkind = "command"\ncommand = ["true"]\nparameters = {{ index = {0} }}\n'
    return "".join(stage.format(index) for index in range(count))


def sweep(rows, columns):
    """As many stages as cells: 1 for each value of one axis and each of the other."""
    axis = "[" + ", ".join(map(str, range(rows))) + "]"
    other = "[" + ", ".join(map(str, range(columns))) + "]"
    return (
        '[stages.s]\nkind = "command"\ncommand = ["true"]\nparameters = { row = 0, column = 0 }\n'
        f'[sweep.matrix]\n"stages.s.parameters.row" = {axis}\n"stages.s.parameters.column" = {other}\n'
    )


def project(parent, name, recipe):
    directory = os.path.join(parent, name)
    os.makedirs(directory)
    with open(os.path.join(directory, "r.toml"), "w") as file:
        file.write(recipe)
    return directory


def commit_all(orchestrate, directory):
    """Puts a result of every stage into the cache, as the first of them is: to run 10,000 would take minutes."""
    plan = subprocess.run([orchestrate, "plan", "r.toml", "--json"], cwd=directory, check=True, capture_output=True, text=True)
    keys = [json.loads(line)["key"] for line in plan.stdout.splitlines()]
    cache = os.path.join(directory, "runs/cache")
    template = project(directory, "one", tables(1))
    subprocess.run([orchestrate, "run", "r.toml"], cwd=template, check=True, capture_output=True)
    source = os.path.join(template, "runs/cache")
    source = os.path.join(source, os.listdir(source)[0])
    for key in keys:
        shutil.copytree(source, os.path.join(cache, key))


def ours(orchestrate, parent):
    results = {"--help": milliseconds([orchestrate, "--help"], parent, 20)}
    run = [orchestrate, "run", "r.toml"]
    cases = [
        ("run of 200 cached stages", tables(200)),
        ("run of 10000 cached stages", tables(10_000)),
        ("run of 10000 cached stages, a sweep of 100 x 100", sweep(100, 100)),
    ]
    for name, recipe in cases:
        directory = project(parent, name.replace(" ", "-"), recipe)
        commit_all(orchestrate, directory)
        results[name] = milliseconds(run, directory)
    directory = project(parent, "trivial", tables(100))
    whole = milliseconds(run, directory, 1)
    results["overhead of a stage that runs `true`"] = (whole - milliseconds(run, directory)) / 100
    return results


def dvc(parent):
    directory = project(parent, "dvc", "")
    stages = "".join(f"  s{index}:\n    cmd: echo {index} > o{index}\n    outs: [o{index}]\n" for index in range(200))
    with open(os.path.join(directory, "dvc.yaml"), "w") as file:
        file.write("stages:\n" + stages)
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=directory, check=True)
    whole = milliseconds(["dvc", "repro", "-q"], directory, 1)
    cached = milliseconds(["dvc", "repro", "-q"], directory, 3)
    return {"run of 200 cached stages": cached, "overhead of a stage that runs `true`": (whole - cached) / 200}


def snakemake(parent):
    directory = project(parent, "snakemake", "")
    rules = "".join(f'rule s{index}:\n    output: "o{index}"\n    shell: "echo {index} > {{output}}"\n' for index in range(200))
    outputs = ", ".join(f'"o{index}"' for index in range(200))
    with open(os.path.join(directory, "Snakefile"), "w") as file:
        file.write(f"rule all:\n    input: {outputs}\n" + rules)
    command = ["snakemake", "--cores", "1", "--quiet", "all"]
    whole = milliseconds(command, directory, 1)
    cached = milliseconds(command, directory, 3)
    return {"run of 200 cached stages": cached, "overhead of a stage that runs `true`": (whole - cached) / 200}


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    orchestrate = os.path.abspath(sys.argv[1])
    load = os.getloadavg()[0]
    results = {}
    with tempfile.TemporaryDirectory() as parent:
        results["orchestrate"] = ours(orchestrate, parent)
        for name, measure in (("dvc", dvc), ("snakemake", snakemake)):
            if shutil.which(name):
                results[name] = measure(parent)
    for program, cases in results.items():
        for case, value in cases.items():
            limit = f"  (limit {LIMITS[case]})" if program == "orchestrate" and case in LIMITS else ""
            print(f"{program:12} {case:52} {value:9.1f} ms{limit}")
    if max(load, os.getloadavg()[0]) >= BUSY:
        print(f"the machine is busy (load {load:.1f}): these numbers say little", file=sys.stderr)
    elif len(sys.argv) == 3:
        host = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": load}
        document = {"date": datetime.date.today().isoformat(), "host": host, "milliseconds": results}
        with open(sys.argv[2], "w") as file:
            json.dump(document, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
