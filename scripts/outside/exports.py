"""Exports of a small grid, read by pandas, polars, DuckDB and TensorBoard, against what the program says itself."""
import glob
import os
import subprocess
import tempfile

import duckdb
import pandas
import polars
from program import Program
from report import largest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def compare(report, program, project):
    with tempfile.TemporaryDirectory() as directory:
        script = os.path.join(project, "tests/browser/project.sh")
        subprocess.run(["sh", script, directory, program.path], check=True)
        grid = Program(program.path, directory)
        told = grid.json("query", "SELECT key, name, step, value FROM metrics ORDER BY key, name, step")
        steps = [line["value"] for line in told]
        for kind in ("csv", "parquet", "tensorboard"):
            grid.run("export", "--format", kind, "--output", kind)
        tables(report, os.path.join(directory, "csv/metrics.csv"), os.path.join(directory, "parquet/metrics.parquet"), steps)
        scalars(report, os.path.join(directory, "tensorboard"), len(steps), sum(steps))


def tables(report, csv, parquet, steps):
    readers = {
        "metrics.csv in pandas": pandas.read_csv(csv)["value"].tolist(),
        "metrics.csv in polars": polars.read_csv(csv)["value"].to_list(),
        "metrics.csv in DuckDB": [value for value, in duckdb.sql(f"SELECT value FROM read_csv('{csv}')").fetchall()],
        "metrics.parquet in pandas": pandas.read_parquet(parquet)["value"].tolist(),
        "metrics.parquet in polars": polars.read_parquet(parquet)["value"].to_list(),
        "metrics.parquet in DuckDB": [value for value, in duckdb.sql(f"SELECT value FROM '{parquet}'").fetchall()],
    }
    for name, values in readers.items():
        report.same(f"rows of {name}", [(len(steps), len(values))])
        report.row(f"values of {name}", len(values), largest(zip(sorted(steps), sorted(values))), 0.0)


def scalars(report, directory, count, total):
    values = []
    for run in {os.path.dirname(path) for path in glob.glob(f"{directory}/**/*tfevents*", recursive=True)}:
        events = EventAccumulator(run, size_guidance={"scalars": 0})
        events.Reload()
        values += [event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    report.same("scalars in TensorBoard", [(count, len(values))])
    report.row("sum of the scalars in TensorBoard (32-bit)", len(values), abs(sum(values) - total), 1e-6 * abs(total))
