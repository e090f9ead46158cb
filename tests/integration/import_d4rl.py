#!/usr/bin/env python3
"""A file in the layout of D4RL, written by h5py, and its comparison with what gato-data made of it.

    import_d4rl.py make FILE        with timeouts, a cut last episode, infos and metadata
    import_d4rl.py check FILE SHARD...
"""
import os
import sys

import h5py
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "episode"))
import read_shard

LENGTHS = [5, 8, 3, 4]  # Ended by: terminal, timeout, both, the end of the file.


def make(path):
    chance = np.random.default_rng(3)
    rows, ends = sum(LENGTHS), np.cumsum(LENGTHS) - 1
    terminals, timeouts = np.zeros(rows, bool), np.zeros(rows, bool)
    terminals[ends[[0, 2]]] = timeouts[ends[[1, 2]]] = True
    with h5py.File(path, "w") as file:
        file["observations"] = chance.normal(size=(rows, 17)).astype("f4")
        file["next_observations"] = chance.normal(size=(rows, 17)).astype("f4")
        file["actions"] = chance.uniform(-1, 1, size=(rows, 6)).astype("f8")
        file["rewards"] = chance.normal(size=rows)
        file["terminals"], file["timeouts"] = terminals, timeouts
        file["infos/qpos"] = chance.normal(size=(rows, 9))
        file["metadata/algorithm"] = "SAC"


def check(path, shards):
    episodes = [episode for shard in shards for episode in read_shard.Shard(shard).episodes()]
    assert [episode["num_steps"] for episode in episodes] == LENGTHS
    assert [episode["terminated"] for episode in episodes] == [True, False, True, False]
    assert [episode["truncated"] for episode in episodes] == [False, True, True, True]
    with h5py.File(path, "r") as file:
        for name, values in (("observations", [row for e in episodes for row in e["observation"][0]]),
                             ("actions", [row for e in episodes for row in e["action"][0]]),
                             ("rewards", [reward for e in episodes for reward in e["reward"]])):
            assert np.array_equal(np.array(values, "f4"), file[name][()].astype("f4")), name
    print("D4RL: every value is what h5py reads")


if __name__ == "__main__":
    make(sys.argv[2]) if sys.argv[1] == "make" else check(sys.argv[2], sys.argv[3:])
