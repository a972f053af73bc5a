"""Writes scalars.tfevents with TensorBoard's own writer: `python gen_tensorboard.py` (tensorboard 2.21.0)."""

import pathlib

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def scalars(wall_time, step, values):
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])
    return Event(wall_time=wall_time, step=step, summary=summary)


events = [
    Event(wall_time=1_793_000_000.0, file_version="brain.Event:2"),
    scalars(1_793_000_000.25, 1, [("train/loss", 2.5), ("reward/mean", -0.125)]),
    scalars(1_793_000_001.5, 300, [("train/loss", 0.1)]),
]
with open(pathlib.Path(__file__).parent / "scalars.tfevents", "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    writer.flush()
