#!/usr/bin/env python3
"""Data sets written by the official Minari library, and their comparison with what gato-data made of them.

    import_minari.py make                  writes data sets below $MINARI_DATASETS_PATH
    import_minari.py make-old FOLDER       one of them once more, as an older Minari kept it
    import_minari.py check ID SHARD...     compares every value, as Minari reads it, with the shards
"""
import io
import os
import sys

import gymnasium as gym
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from PIL import Image

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "episode"))
import read_shard

read_shard.png_pixels = bytes  # Pictures are compared as stored files.

OBSERVATION = spaces.Dict({
    "camera": spaces.Box(0, 255, (40, 36, 3), np.uint8),
    "grey": spaces.Box(0, 255, (32, 40), np.uint8),
    "state": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    "mission text!": spaces.Text(20),
    "pair": spaces.Tuple((spaces.Discrete(5, start=-2), spaces.MultiDiscrete([3, 4]))),
    "bits": spaces.MultiBinary(4),
    "tiles": spaces.Box(0, 9, (2, 2), np.uint8),
})
ACTION = spaces.Dict({"torque": spaces.Box(np.array([-2, -1], "f4"), np.array([2, 1], "f4")),
                      "gear": spaces.Discrete(3, start=1)})


class TinyEnvironment(gym.Env):
    """Only its spaces matter."""
    observation_space, action_space = OBSERVATION, ACTION

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return OBSERVATION.sample(), {}

    def step(self, action):
        return OBSERVATION.sample(), 0.0, False, False, {}


gym.register("GatoTiny-v0", "import_minari:TinyEnvironment", max_episode_steps=9)


def stack(space, values):
    """A list of samples in the columns that Minari's buffers have."""
    if isinstance(space, spaces.Dict):
        return {key: stack(part, [value[key] for value in values]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stack(part, [value[i] for value in values]) for i, part in enumerate(space.spaces))
    return list(values) if isinstance(space, spaces.Text) else np.stack(values)


def make_buffers(observation, action, same_pictures):
    observation.seed(3)
    action.seed(4)
    chance = np.random.default_rng(5)
    for episode in range(4):
        steps = 5 + episode
        values = [observation.sample() for _ in range(steps + 1)]
        if same_pictures:
            for value in values:
                value["camera"][:] = 100
        yield EpisodeBuffer(
            id=episode, seed=40 + episode if episode else None, observations=stack(observation, values),
            actions=stack(action, [action.sample() for _ in range(steps)]), rewards=list(chance.normal(size=steps)),
            terminations=[False] * (steps - 1) + [episode % 2 == 0],
            truncations=[False] * (steps - 1) + [episode % 2 == 1],
            infos={"success": [False, episode == 2] + [False] * (steps - 2) + [episode > 2]})


def make():
    for data_format in ("hdf5", "arrow", "parquet"):
        for same in (False, True):
            minari.create_dataset_from_buffers(
                "tiny/%s-%s-v0" % (data_format, "same" if same else "mixed"), list(make_buffers(OBSERVATION, ACTION, same)),
                env=gym.make("GatoTiny-v0"), data_format=data_format, algorithm_name="noise", author="nobody",
                author_email="nobody@example.org", code_permalink="none", description="Noise.",
                ref_min_score=-1.0, ref_max_score=7.0, num_episodes_average_score=30)
    minari.create_dataset_from_buffers(
        "tiny/lossless-v0", list(make_buffers(OBSERVATION, ACTION, False)), env=gym.make("GatoTiny-v0"),
        data_format="hdf5", jpeg_encoding=False, algorithm_name="noise", author="nobody",
        author_email="nobody@example.org", code_permalink="none", description="Noise.")
    check_storage_shapes()
    bare = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    minari.create_dataset_from_buffers(
        "tiny/bare-v0", list(make_buffers(bare, bare, False)), observation_space=bare, action_space=bare,
        data_format="hdf5", algorithm_name="noise", author="nobody", author_email="nobody@example.org",
        code_permalink="none", description="Noise.")


def check_storage_shapes():
    """Both shapes of stored JPEG files must occur, or the comparison would say less than it seems."""
    import h5py
    for name, table in (("mixed", False), ("same", True)):
        path = os.path.join(os.environ["MINARI_DATASETS_PATH"], "tiny", "hdf5-%s-v0" % name, "data", "main_data.hdf5")
        with h5py.File(path, "r") as file:
            camera = file["episode_0"]["observations"]["camera"]
            assert (camera.ndim == 2) == table and (h5py.check_vlen_dtype(camera.dtype) is None) == table, name


def make_old(target):
    """A data set as Minari 0.4 kept it: metadata as attributes of the HDF5 file."""
    import json
    import shutil
    import h5py
    source = os.path.join(os.environ["MINARI_DATASETS_PATH"], "tiny", "hdf5-mixed-v0", "data")
    os.makedirs(os.path.join(target, "data"))
    shutil.copy(os.path.join(source, "main_data.hdf5"), os.path.join(target, "data"))
    with open(os.path.join(source, "metadata.json")) as file:
        metadata = json.load(file)
    with h5py.File(os.path.join(target, "data", "main_data.hdf5"), "a") as file:
        for key, value in metadata.items():
            if key != "data_format" and value is not None:
                file.attrs[key] = value


def as_stored(values, spec, offset):
    """Minari's values as shards hold them: flat numbers per step."""
    values = np.asarray(values).reshape(len(values), -1)
    return [list(row) for row in (values.astype(np.int64) - offset if spec["modality"] == "discrete"
                                  else values.astype("f4"))]


def find(tree, name):
    for part in name.split("/"):
        tree = tree[int(part)] if isinstance(tree, tuple) else tree[part]
    return tree


OFFSETS = {"pair/0": -2, "gear": 1}
NAMES = {"mission_text_": "mission text!"}


def check_pictures(stored, expected, codec, where):
    for step, file in enumerate(stored):
        assert file[:2] == (b"\xff\xd8" if codec == 1 else b"\x89P"), "%s step %d: another codec" % (where, step)
        picture = np.asarray(Image.open(io.BytesIO(file)))
        shown = expected[step]
        if picture.ndim == 3 and shown.ndim == 2:
            shown = np.repeat(shown[:, :, None], 3, axis=2)
        assert np.array_equal(picture, shown), "%s step %d: other pixels" % (where, step)


def check_group(specs, stored, tree, steps, where):
    for spec, values in zip(specs, stored):
        column = find(tree, NAMES.get(spec["name"], spec["name"])) if isinstance(tree, dict) else tree
        place = "%s %s" % (where, spec["name"])
        column = column[:steps]
        if spec["modality"] == "image":
            check_pictures(values, column, spec["codec"], place)
        elif spec["modality"] == "text":
            assert values == list(column), place
        else:
            expected = as_stored(column, spec, OFFSETS.get(spec["name"], 0))
            assert len(values) == steps and all(list(a) == list(b) for a, b in zip(values, expected)), place


def check(dataset_id, shards):
    dataset = minari.load_dataset(dataset_id)
    episodes = {}
    for path in shards:
        shard = read_shard.Shard(path)
        for episode in shard.episodes():
            episodes[episode["id"]] = episode
    task = shard.tasks[0]
    assert len(episodes) == dataset.total_episodes, "%d episodes" % len(episodes)
    attributes = list(dataset.storage.get_episode_metadata(range(dataset.total_episodes)))
    for original in dataset.iterate_episodes():
        where = "episode_%d" % original.id
        mine, steps = episodes[where], len(original.rewards)
        assert mine["num_steps"] == steps and mine["source_agent"] == "noise", where
        assert mine["seed"] == (attributes[original.id].get("seed") or 0), where
        assert mine["reward"] == [float(np.float32(reward)) for reward in original.rewards], where
        assert mine["terminated"] == bool(original.terminations[-1]), where
        assert mine["truncated"] == bool(original.truncations[-1]), where
        check_group(task["observation"], mine["observation"], original.observations, steps, where)
        check_group(task["action"], mine["action"], original.actions, steps, where)
    print("%s: %d episodes are what Minari reads; success %s, expert %s, max_steps %d" % (
        dataset_id, len(episodes), [episodes["episode_%d" % i]["success"] for i in range(4)],
        task["expert"]["mean"], task["max_steps"]))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make()
    elif sys.argv[1] == "make-old":
        make_old(sys.argv[2])
    else:
        check(sys.argv[2], sys.argv[3:])
