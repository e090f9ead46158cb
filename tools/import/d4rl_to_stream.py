#!/usr/bin/env python3
"""Writes a D4RL data set (one HDF5 file) as an episode stream for `gato-data import stream`; `gato-data import d4rl` runs it.

    .deps/import/bin/python tools/import/d4rl_to_stream.py FILE.hdf5 --bounds actions=-1:1 | gato-data import stream - ...

The file has one flat time axis: observations, actions, rewards, terminals and, in newer sets, timeouts. Episodes end where
one of the last two is set; rows behind the last such end are an episode that the file cuts.
"""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gato_stream
from gato_stream import StreamWriter
from import_common import UserError, add_bounds_option, ask_for_bounds, legal, parse_bounds, run, show_mapping

try:
    import h5py
    import numpy as np
except ImportError as error:
    sys.exit("d4rl_to_stream: %s; run tools/setup --import, and this program by .deps/import/bin/python" % error)

USED = ("observations", "actions", "rewards", "terminals", "timeouts")


def check_columns(file, path):
    """The file's columns, all of one length."""
    for name in USED[:4]:
        if not isinstance(file.get(name), h5py.Dataset):
            raise UserError("%s: no D4RL data set: it has no '%s' at its root" % (path, name))
    columns = {name: file[name] for name in USED if isinstance(file.get(name), h5py.Dataset)}
    lengths = {name: column.shape[0] if column.shape else 0 for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError("%s: columns of different lengths: %s" % (path, lengths))
    for name in ("observations", "actions"):
        if columns[name].dtype.kind not in "fiu" or columns[name].ndim > 4:
            raise UserError("%s: %s is %s, not numbers" % (path, name, columns[name].dtype))
    return columns


def make_task(columns, arguments):
    """The task, and what became what. Observations' bounds only inform; actions need theirs."""
    mapping, fields = [], {}
    for group, name in (("observations", "observation"), ("actions", "action")):
        low, high = arguments.bounds.pop(group, (None, None))
        if group == "actions" and low is None:
            raise ask_for_bounds(group)
        shape = columns[group].shape[1:]
        fields[name] = gato_stream.continuous(name, shape, low, high)
        mapping.append("%s: %s%s -> continuous %s `%s`%s" % (
            group, columns[group].dtype, list(shape), name, name, "" if low is None else ", bounds %g to %g as asked" % (low, high)))
    if arguments.bounds:
        raise UserError("--bounds %s: there is no such field; there are: observations, actions" % min(arguments.bounds))
    task = gato_stream.task(arguments.task, [fields["observation"]], [fields["action"]], max_steps=arguments.max_steps)
    return task, mapping


def episode_ends(columns):
    """[(first row, row behind the last, terminated, truncated)] in order."""
    terminals = columns["terminals"][()].reshape(-1).astype(bool)
    timeouts = columns["timeouts"][()].reshape(-1).astype(bool) if "timeouts" in columns else np.zeros_like(terminals)
    ends, first = [], 0
    for last in np.flatnonzero(terminals | timeouts):
        ends.append((first, int(last) + 1, bool(terminals[last]), bool(timeouts[last])))
        first = int(last) + 1
    if first < len(terminals):
        ends.append((first, len(terminals), False, True))
    return ends


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="HDF5 file")
    parser.add_argument("--task", help="task id; default: d4rl/ and the file's name")
    add_bounds_option(parser)
    parser.add_argument("--max-steps", type=int, default=0, help="the environment's limit of steps; 0: unknown")
    parser.add_argument("--source-agent", default="d4rl", help="who acted")
    parser.add_argument("--quiet", action="store_true", help="print no mapping on standard error")
    arguments = parser.parse_args()
    arguments.task = arguments.task or "d4rl/" + legal(Path(arguments.source).stem)
    arguments.bounds = parse_bounds(arguments.bounds)
    return arguments


def main():
    arguments = parse_arguments()
    with h5py.File(arguments.source, "r") as file:
        columns = check_columns(file, arguments.source)
        task, mapping = make_task(columns, arguments)
        ends = episode_ends(columns)
        mapping += ["rewards -> reward; terminals -> terminated, timeouts -> truncated" +
                    ("" if "timeouts" in columns else " (there are no timeouts)"),
                    "source agent of every episode: %s" % arguments.source_agent]
        if ends and ends[-1][2:] == (False, True) and not ("timeouts" in columns and columns["timeouts"][-1]):
            mapping.append("the last %d rows: an episode cut by the end of the file, truncated" % (ends[-1][1] - ends[-1][0]))
        mapping += ["%s: not used" % name for name in sorted(file) if name not in columns]
        show_mapping(mapping, arguments)
        with StreamWriter(sys.stdout.buffer, arguments.task, [task], created_by="d4rl_to_stream.py", mapping=mapping) as out:
            for number, (first, behind, terminated, truncated) in enumerate(ends):
                out.episode(observation={"observation": columns["observations"][first:behind]},
                            action={"action": columns["actions"][first:behind]},
                            reward=columns["rewards"][first:behind].reshape(-1), id="row_%d" % first,
                            source_agent=arguments.source_agent, terminated=terminated, truncated=truncated)


if __name__ == "__main__":
    run(main, "d4rl_to_stream")
