#!/usr/bin/env python3
"""The other side of tools/bench/data: what a PyTorch user writes to read the same data.

Control episodes by Minari (HDF5) and numpy, text as a memory-mapped array of token ids, images by WebDataset and Pillow,
each in rows of 1024 tokens, through torch.utils.data.DataLoader in one process (num_workers=0: per core) where torch can
be imported, else without it ("loader": false in the answer), which only favours this side.

    data_peer.py make DIR                 the data sets in the libraries' own formats, from what bench_data made
    data_peer.py run DIR CASE SECONDS     one turn in processor time; prints one line of JSON
"""
import json
import os
import pathlib
import sys
import tarfile
import time

import numpy as np

try:
    from torch.utils.data import DataLoader, IterableDataset
except (ImportError, OSError):
    DataLoader, IterableDataset = None, object

ROW, OBSERVED, ACTED, STEPS = 1024, 17, 6, 1000  # as in data.cpp
TEXT_SIZE = 4096


def make(folder):
    with tarfile.open(folder / "images.tar", "w") as archive:
        for number, path in enumerate(sorted((folder / "jpeg").glob("*.jpg"))):
            archive.add(path, f"{path.stem}.jpg")
            label = folder / "label.cls"
            label.write_text(str(number % 10))
            archive.add(label, f"{path.stem}.cls")
    make_minari(folder)


def make_minari(folder):
    os.environ["MINARI_DATASETS_PATH"] = str(folder / "minari")
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    if "bench/control-v0" in minari.list_local_datasets():
        return
    values = np.fromfile(folder / "control.f32", np.float32).reshape(-1, STEPS, OBSERVED + ACTED)
    buffers = []
    for number, episode in enumerate(values):
        observations = np.concatenate([episode[:, :OBSERVED], episode[-1:, :OBSERVED]])  # Minari keeps the last one too
        zeros = np.zeros(STEPS)
        buffers.append(EpisodeBuffer(number, None, None, observations, episode[:, OBSERVED:], zeros, zeros, zeros))
    minari.create_dataset_from_buffers(
        "bench/control-v0",
        buffers,
        observation_space=gymnasium.spaces.Box(-1, 1, (OBSERVED,), np.float32),
        action_space=gymnasium.spaces.Box(-1, 1, (ACTED,), np.float32),
    )


class Rows(IterableDataset):
    """Endless rows of one case; `rows` yields arrays."""

    def __init__(self, folder, case):
        self.folder, self.case = folder, case

    def __iter__(self):
        return {"control": self.control, "text": self.text, "images": self.images}[self.case.split("/")[0]]()

    def control(self):
        """Mu-law, 1024 bins, separator: the tokens of our steps, packed back to back."""
        os.environ["MINARI_DATASETS_PATH"] = str(self.folder / "minari")
        import minari

        dataset = minari.load_dataset("bench/control-v0")
        rest = np.zeros(0, np.int32)
        while True:
            for episode in dataset.iterate_episodes():
                seen, done = episode.observations[:-1], episode.actions
                law = np.sign(seen) * np.log(np.abs(seen) * 100 + 1) / np.log(256 * 100 + 1)
                tokens = np.empty((len(done), OBSERVED + 1 + ACTED), np.int32)
                tokens[:, :OBSERVED] = TEXT_SIZE + np.clip((law + 1) * 512, 0, 1023)
                tokens[:, OBSERVED] = TEXT_SIZE + 1024
                tokens[:, OBSERVED + 1 :] = TEXT_SIZE + np.clip((done + 1) * 512, 0, 1023)
                rest = np.concatenate([rest, tokens.reshape(-1)])
                whole = len(rest) // ROW * ROW
                yield from rest[:whole].reshape(-1, ROW)
                rest = rest[whole:]

    def text(self):
        ids = np.memmap(self.folder / "text.u16", np.uint16, "r")
        random = np.random.default_rng(1)
        while True:
            begin = random.integers(len(ids) - ROW)
            yield ids[begin : begin + ROW].astype(np.int32)

    def images(self):
        import webdataset

        dataset = webdataset.WebDataset(str(self.folder / "images.tar"), shardshuffle=False).decode("rgb8")
        while True:
            for sample in dataset:
                image = sample["jpg"]
                yield np.ascontiguousarray(image.reshape(16, 16, 16, 16, 3).swapaxes(1, 2).reshape(256, -1))


def run(folder, case, seconds):
    rows = Rows(folder, case)
    batches = iter(DataLoader(rows, batch_size=16, num_workers=0)) if DataLoader else map(np.stack, groups(iter(rows), 16))
    next(batches)
    items, begin, passed = 0, time.process_time(), 0.0
    while passed < seconds:
        shape = next(batches).shape
        items += shape[0] if case == "images" else shape[0] * shape[1]
        passed = time.process_time() - begin
    print(json.dumps({"case": case, "items": items, "seconds": passed, "loader": DataLoader is not None}), flush=True)


def groups(items, size):
    while True:
        yield [next(items) for _ in range(size)]


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[2]).resolve()
    if sys.argv[1] == "make":
        make(target)
    else:
        run(target, sys.argv[3], float(sys.argv[4]))
