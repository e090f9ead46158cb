#!/usr/bin/env python3
"""Reads a run folder with the official packages and compares with what gato wrote beside it.

    read_back.py RUN

TensorBoard's own reader must give every value of metrics.jsonl, and the safetensors library every tensor of the newest
checkpoint, bit for bit as a plain reading of the file says.
"""
import json
import pathlib
import sys

import numpy
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read_metrics(path):
    """{name: {step: value}}; of a step that was done again after a restart the last attempt counts."""
    series = {}
    for line in path.read_text().splitlines():
        point = json.loads(line)
        for name, value in point.items():
            if name not in ("time", "attempt", "step", "tokens") and value is not None:
                series.setdefault(name, {})[point["step"]] = value
    return series


def check_events(run):
    events = EventAccumulator(str(run / "tensorboard" / "train"), size_guidance={"scalars": 0})
    events.Reload()
    metrics = read_metrics(run / "metrics.jsonl")
    assert metrics, "metrics.jsonl is empty"
    names = set(events.Tags()["scalars"])
    assert names == set(metrics), f"names differ: {sorted(names ^ set(metrics))}"
    count = 0
    for name, expected in metrics.items():
        seen = {event.step: event.value for event in events.Scalars(name)}
        assert set(seen) == set(expected), f"{name}: steps {sorted(set(seen) ^ set(expected))}"
        for step, value in expected.items():
            assert numpy.float32(value) == numpy.float32(seen[step]), (name, step, value, seen[step])
            count += 1
    return f"{count} values of {len(metrics)} series"


def check_tensors(run):
    path = sorted((run / "checkpoints").glob("step-*"))[-1] / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = load_file(path)
    assert set(tensors) == set(header), "tensor names differ"
    for name, tensor in tensors.items():
        begin, end = header[name]["data_offsets"]
        assert list(tensor.shape) == header[name]["shape"], name
        assert tensor.tobytes() == raw[8 + length + begin : 8 + length + end], name
    return f"{len(tensors)} tensors"


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    print("read back by the official packages:", check_events(folder) + ",", check_tensors(folder))
