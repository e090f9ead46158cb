#!/usr/bin/env python3
"""Writes a Minari data set as an episode stream for `gato-data import stream`; `gato-data import minari` runs it.

    .deps/import/bin/python tools/import/minari_to_stream.py SOURCE [options] | gato-data import stream - --out DIR

SOURCE is the id of a data set below $MINARI_DATASETS_PATH (downloads nothing), or its folder (the one that holds data/).
Spaces and metadata are read by the official library. Values are read from the storage itself, HDF5, Arrow or Parquet, so
that stored JPEG frames pass through as they are. What a specification lacks (infinite bounds of actions) is asked for.
"""
import argparse
import json
import math
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gato_stream
from gato_stream import StreamWriter
from import_common import UserError, add_bounds_option, ask_for_bounds, legal, parse_bounds, run, show_mapping

try:
    import minari
    import numpy as np
    from gymnasium import spaces
    from minari.dataset.minari_storage import is_image_space
    from minari.serialization import deserialize_space
except ImportError as error:
    sys.exit("minari_to_stream: %s; run tools/setup --import, and this program by .deps/import/bin/python" % error)

MAX_DISCRETE = 1024


# ------------------------------------------------------------------------------------------------------------- metadata

def find_folder(source):
    """The folder that holds the storage."""
    if Path(source).is_dir():
        folder = Path(source)
    else:
        folder = minari.storage.local.get_dataset_path(source)
    for candidate in (folder / "data", folder):
        if (candidate / "metadata.json").exists() or (candidate / "main_data.hdf5").exists():
            return candidate
    raise UserError("%s: no Minari data set there (neither data/metadata.json nor data/main_data.hdf5). Give its folder, or "
                    "its id with $MINARI_DATASETS_PATH set; fetch it with: minari download %s" % (folder, source))


def read_metadata(folder):
    """metadata.json, or the attributes of the HDF5 file, where Minari 0.4 kept them."""
    if (folder / "metadata.json").exists():
        with open(folder / "metadata.json", encoding="utf-8") as file:
            metadata = json.load(file)
    else:
        import h5py
        with h5py.File(folder / "main_data.hdf5", "r") as file:
            metadata = {key: value.item() if hasattr(value, "item") else value for key, value in file.attrs.items()}
    for key in ("observation_space", "action_space"):
        if not isinstance(metadata.get(key), str):
            raise UserError("%s: its metadata names no %s; older data sets took it from their environment. Open and save "
                            "it with the Minari version that wrote it, or give it another version" % (folder, key))
    metadata.setdefault("data_format", "hdf5")
    return metadata


# --------------------------------------------------------------------------------------------------------------- fields

class Leaf:
    """A space without subspaces, as a field."""

    def __init__(self, group, path, space, name):
        self.group, self.path, self.space, self.name = group, path, space, name
        self.offset = 0  # Subtracted from whole numbers.
        self.image = False
        self.spec = None
        self.note = ""

    def title(self):
        return "/".join((self.group,) + self.path)


def find_leaves(group, space, path=()):
    if isinstance(space, spaces.Dict):
        return [leaf for key, part in space.spaces.items() for leaf in find_leaves(group, part, path + (key,))]
    if isinstance(space, spaces.Tuple):
        return [leaf for i, part in enumerate(space.spaces) for leaf in find_leaves(group, part, path + (i,))]
    return [Leaf(group, tuple(str(part) for part in path), space, None)]


def name_leaves(leaves):
    taken = set()
    for leaf in leaves:
        name = base = legal("/".join(leaf.path) or leaf.group.rstrip("s"))
        number = 2
        while name in taken:
            name, number = "%s_%d" % (base, number), number + 1
        taken.add(name)
        leaf.name = name


def bounds_of(leaf, arguments):
    """Finite bounds of a Box, or what the user said; None where there are none."""
    space = leaf.space
    if leaf.title() in arguments.bounds:
        low, high = arguments.bounds.pop(leaf.title())
        leaf.note = "bounds %g to %g as asked" % (low, high)
        return low, high
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        if leaf.group == "actions":
            raise ask_for_bounds(leaf.title())
        return None, None
    low, high = space.low.astype("f4").reshape(-1), space.high.astype("f4").reshape(-1)
    same = (low == low[0]).all() and (high == high[0]).all()
    leaf.note = "bounds %g to %g%s" % (low.min(), high.max(), "" if same else ", own ones for each element")
    return (float(low[0]), float(high[0])) if same else (low, high)


def whole_numbers(leaf, low, high, shape):
    """A discrete field of values in [low, high]."""
    count = int(high) - int(low) + 1
    if count > MAX_DISCRETE:
        raise UserError("%s: %d values, at most %d are allowed. Leave it out with --ignore %s"
                        % (leaf.title(), count, MAX_DISCRETE, leaf.title()))
    leaf.offset = int(low)
    leaf.note = "%d values%s" % (count, ", stored minus %d" % leaf.offset if leaf.offset else "")
    leaf.spec = gato_stream.discrete(leaf.name, count, shape)


def specify_box(leaf, storage, arguments):
    space = leaf.space
    if leaf.group == "observations" and is_image_space(space) and space.shape[2:] in ((), (1,), (3,)):
        # What the storage holds decides: sets of Minari 0.4 have raw pixels, and no metadata that say so.
        codec = "jpeg" if storage.holds_files(leaf) else "png"
        leaf.image = True
        leaf.note = "%s as stored" % codec
        leaf.spec = gato_stream.image(leaf.name, space.shape[0], space.shape[1], codec)
        return
    small = space.dtype.kind in "iu" and np.isfinite(space.low).all() and np.isfinite(space.high).all() and (
        int(space.high.max()) - int(space.low.min()) < MAX_DISCRETE)
    if small and leaf.title() not in arguments.bounds:
        whole_numbers(leaf, space.low.min(), space.high.max(), space.shape)
        return
    low, high = bounds_of(leaf, arguments)
    leaf.spec = gato_stream.continuous(leaf.name, space.shape, low, high)


def specify(leaf, storage, arguments):
    space = leaf.space
    if isinstance(space, spaces.Box):
        specify_box(leaf, storage, arguments)
    elif isinstance(space, spaces.Discrete):
        whole_numbers(leaf, space.start, space.start + space.n - 1, ())
    elif isinstance(space, spaces.MultiDiscrete):
        start = np.asarray(getattr(space, "start", 0))
        whole_numbers(leaf, start.min(), (start + space.nvec).max() - 1, space.shape)
    elif isinstance(space, spaces.MultiBinary):
        whole_numbers(leaf, 0, 1, space.shape)
    elif isinstance(space, spaces.Text):
        leaf.spec = gato_stream.text(leaf.name)
    else:
        raise UserError("%s: spaces of type %s cannot be imported. Leave it out with --ignore %s"
                        % (leaf.title(), type(space).__name__, leaf.title()))


def space_text(space):
    text = type(space).__name__
    return text + " %s%s" % (space.dtype, list(space.shape)) if isinstance(space, spaces.Box) else text


def make_fields(metadata, storage, arguments):
    """The leaves that become fields, and the lines that say how."""
    leaves, mapping = [], []
    for group in ("observations", "actions"):
        found = find_leaves(group, deserialize_space(metadata[group[:-1] + "_space"]))
        kept = [leaf for leaf in found if leaf.title() not in arguments.ignore]
        mapping += ["%s: not used (--ignore)" % leaf.title() for leaf in found if leaf not in kept]
        arguments.ignore -= {leaf.title() for leaf in found}
        name_leaves(kept)
        for leaf in kept:
            specify(leaf, storage, arguments)
            mapping.append("%s: %s -> %s %s `%s`%s" % (leaf.title(), space_text(leaf.space), leaf.spec["modality"],
                                                       group[:-1], leaf.name, leaf.note and ", " + leaf.note))
        leaves += kept
    for option, names in (("--ignore", arguments.ignore), ("--bounds", arguments.bounds)):
        if names:
            raise UserError("%s %s: there is no such field; there are: %s"
                            % (option, min(names), ", ".join(leaf.title() for leaf in leaves)))
    return leaves, mapping


# --------------------------------------------------------------------------------------------------------------- values

class Hdf5Storage:
    def __init__(self, folder):
        import h5py
        self._file = h5py.File(folder / "main_data.hdf5", "r")

    def numbers(self):
        names = [name[8:] for name in self._file if name.startswith("episode_") and name[8:].isdigit()]
        return sorted(int(name) for name in names)

    def open(self, number):
        self._episode = self._file["episode_%d" % number]
        return dict(self._episode.attrs)

    def _item(self, group, path):
        item = self._episode[group]
        for part in path:
            item = item["_index_" + part if part not in item and "_index_" + part in item else part]
        return item

    def column(self, name):
        return np.asarray(self._episode[name][()])

    def info(self, path):
        try:
            return np.asarray(self._item("infos", path)[()])
        except KeyError:
            return None

    def holds_files(self, leaf):
        """Whether pictures are stored as JPEG files. These have two shapes: rows of unlike sizes, or a table where all
        happened to be of one size."""
        item = self._item(leaf.group, leaf.path)
        return item.dtype == object or item.ndim == 2

    def leaf(self, leaf):
        values = self._item(leaf.group, leaf.path)[()]
        if isinstance(leaf.space, spaces.Text):
            return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]
        if leaf.image and self.holds_files(leaf):
            return [np.asarray(value, dtype=np.uint8).tobytes() for value in values]
        return values


class ArrowStorage:
    def __init__(self, folder, data_format):
        self._folder, self._format = folder, data_format

    def numbers(self):
        return sorted(int(entry.name) for entry in self._folder.iterdir() if entry.is_dir() and entry.name.isdigit())

    def open(self, number):
        import pyarrow.dataset
        folder = self._folder / str(number)
        table = pyarrow.dataset.dataset(str(folder), format=self._format,
                                        ignore_prefixes=["_", ".", "metadata.json"]).to_table().combine_chunks()
        self._table = table
        with open(folder / "metadata.json", encoding="utf-8") as file:
            return json.load(file)

    def _array(self, group, path):
        array = self._table.column(group)
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
        for part in path:
            array = array.field(part)
        return array

    def column(self, name):  # The last row is padding.
        return self._array(name, ()).to_numpy(zero_copy_only=False)[:-1]

    def info(self, path):
        try:
            return np.asarray(self._array("infos", path).to_pylist())
        except (KeyError, AttributeError):
            return None

    def holds_files(self, leaf):
        return str(self._array(leaf.group, leaf.path).type) == "binary"

    def leaf(self, leaf):
        array = self._array(leaf.group, leaf.path)
        if leaf.group == "actions":
            array = array.slice(0, len(array) - 1)  # Padding.
        if isinstance(leaf.space, spaces.Text) or str(array.type) == "binary":
            return array.to_pylist()
        if leaf.space.shape:
            return array.flatten().to_numpy(zero_copy_only=False).reshape((-1,) + leaf.space.shape)
        return array.to_numpy(zero_copy_only=False)


def open_storage(folder, data_format):
    if data_format == "hdf5":
        return Hdf5Storage(folder)
    if data_format in ("arrow", "parquet"):
        return ArrowStorage(folder, data_format)
    raise UserError("%s: storage format %r is not known (hdf5, arrow and parquet are)" % (folder, data_format))


def values_of(leaf, storage, steps):
    """What the stream holds for the leaf, or None where the lengths do not fit. The observation behind the last step
    is left out."""
    values = storage.leaf(leaf)
    if len(values) not in ((steps, steps + 1) if leaf.group == "observations" else (steps,)):
        return None
    values = values[:steps]
    if leaf.image:
        return [value if isinstance(value, bytes) else np.ascontiguousarray(value, dtype=np.uint8) for value in values]
    if leaf.spec["modality"] == "discrete":
        return np.asarray(values).astype(np.int64).reshape(-1) - leaf.offset
    if leaf.spec["modality"] == "continuous":
        return np.asarray(values, dtype=np.float64).astype("<f4").reshape(-1)
    return values


def success_of(storage, arguments):
    """Whether the episode succeeded by its infos; None where they say nothing."""
    if not arguments.success_key:
        return None
    values = storage.info(tuple(arguments.success_key.split("/")))
    if values is None or len(values) == 0:
        return None
    values = np.asarray(values).reshape(len(values), -1)[:, 0].astype(bool)
    return bool(values.any() if arguments.success_when == "any" else values[-1])


def write_episode(out, number, leaves, storage, arguments):
    attributes = storage.open(number)
    rewards = storage.column("rewards").astype(np.float64).reshape(-1)
    steps = len(rewards)
    origin = "episode_%d" % number
    if steps == 0:
        return out.dropped("no steps", origin)
    groups = {"observations": {}, "actions": {}}
    for leaf in leaves:
        values = values_of(leaf, storage, steps)
        if values is None:
            return out.dropped("lengths of observations, actions and rewards do not fit", origin)
        groups[leaf.group][leaf.name] = values
    success = success_of(storage, arguments)
    if arguments.success_key and success is None:
        raise UserError("%s: no infos/%s in it, which --success-key names" % (origin, arguments.success_key))
    seed = attributes.get("seed")
    out.episode(observation=groups["observations"], action=groups["actions"], id=origin, reward=rewards,
                source_agent=arguments.source_agent, seed=0 if seed is None else int(seed), num_steps=steps,
                terminated=bool(storage.column("terminations")[-1]), truncated=bool(storage.column("truncations")[-1]),
                success=success)


# -------------------------------------------------------------------------------------------------------------- program

def reference_returns(metadata):
    """(random, expert) as ReturnRecords, and a line for people."""
    scores = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    episodes = int(metadata.get("num_episodes_average_score") or 0)
    if None in scores or episodes < 1 or not all(math.isfinite(score) for score in scores):
        return None, None, "reference scores: none"
    random, expert = ((float(score), 0.0, episodes) for score in scores)
    return random, expert, "ref_min_score %g -> random return, ref_max_score %g -> expert return (%d episodes each)" % (
        scores + (episodes,))


def max_steps_of(metadata):
    try:
        return int(json.loads(metadata.get("env_spec") or "{}").get("max_episode_steps") or 0)
    except (ValueError, AttributeError, TypeError):
        return 0


def make_task(metadata, leaves, arguments):
    random, expert, line = reference_returns(metadata)
    name = legal(str(metadata.get("dataset_id") or Path(arguments.source).name))
    task = gato_stream.task(
        arguments.task or "minari/" + name, description=str(metadata.get("description") or ""),
        observation=[leaf.spec for leaf in leaves if leaf.group == "observations"],
        action=[leaf.spec for leaf in leaves if leaf.group == "actions"], max_steps=max_steps_of(metadata),
        random=random, expert=expert)
    return name, task, line


def general_mapping(metadata, arguments, references):
    infos = "infos: not used"
    if arguments.success_key:
        infos = "infos/%s (%s) -> success; other infos: not used" % (arguments.success_key, arguments.success_when)
    return ["rewards -> reward, terminations and truncations of the last step -> terminated, truncated; seed -> seed",
            "the observation behind the last step: not used", infos, references,
            "source agent of every episode: %s" % arguments.source_agent,
            "storage: %s, written by Minari %s" % (metadata["data_format"], metadata.get("minari_version", "(unknown)"))]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="id or folder of a data set")
    parser.add_argument("--task", help="task id; default: minari/ and the data set's id")
    add_bounds_option(parser)
    parser.add_argument("--ignore", action="append", default=[], metavar="FIELD",
                        help="leave a field out, such as observations/goal; repeatable")
    parser.add_argument("--success-key", help="the entry of the infos that says success, such as success")
    parser.add_argument("--success-when", choices=("last", "any"), default="last",
                        help="an episode succeeded when its last step did, or any")
    parser.add_argument("--source-agent", help="who acted; default: the data set's algorithm")
    parser.add_argument("--quiet", action="store_true", help="print no mapping on standard error")
    arguments = parser.parse_args()
    arguments.bounds, arguments.ignore = parse_bounds(arguments.bounds), set(arguments.ignore)
    return arguments


def main():
    arguments = parse_arguments()
    folder = find_folder(arguments.source)
    metadata = read_metadata(folder)
    arguments.source_agent = arguments.source_agent or str(metadata.get("algorithm_name") or "minari")
    storage = open_storage(folder, metadata["data_format"])
    if not storage.numbers():
        raise UserError("%s: the data set has no episodes" % folder)
    storage.open(storage.numbers()[0])
    leaves, mapping = make_fields(metadata, storage, arguments)
    name, task, references = make_task(metadata, leaves, arguments)
    mapping += general_mapping(metadata, arguments, references)
    show_mapping(mapping, arguments)
    with StreamWriter(sys.stdout.buffer, "minari/" + name, [task], description=task["description"],
                      created_by="minari_to_stream.py, Minari %s" % minari.__version__, mapping=mapping) as out:
        for number in storage.numbers():
            write_episode(out, number, leaves, storage, arguments)


if __name__ == "__main__":
    run(main, "minari_to_stream")
