#!/usr/bin/env python3
"""Opens exports with the reference safetensors library, as other programs do, and writes one with it.

    read_export.py ONE SEVERAL THEIRS

ONE has its weights in one file, SEVERAL the same in several with an index; THEIRS becomes a folder with the weights as the
library writes them, for our programs to read.
"""
import json
import pathlib
import sys

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def read_one(folder):
    path = folder / "model.safetensors"
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}, file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    assert all(numpy.array_equal(tensors[name], value) for name, value in load_file(path).items())
    return tensors


def read_several(folder):
    """As Hugging Face's loaders do: the index names the file of every tensor."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors = {}
    for name, file in index["weight_map"].items():
        with safe_open(folder / file, framework="numpy") as opened:
            tensors[name] = opened.get_tensor(name)
    assert len(set(index["weight_map"].values())) > 1, "there is only one file"
    assert sum(tensor.nbytes for tensor in tensors.values()) == index["metadata"]["total_size"]
    return tensors


def check_config(folder, tensors):
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "gato"
    assert tensors["token_table"].shape == (config["vocab_size"], config["hidden_size"])
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    assert len(blocks) == config["num_hidden_layers"]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and "\n---\n" in card and "library_name: gato" in card


def main():
    one, several, theirs = map(pathlib.Path, sys.argv[1:])
    tensors = read_one(one)
    again = read_several(several)
    assert set(tensors) == set(again)
    for name, tensor in tensors.items():
        assert tensor.dtype == numpy.float32 and numpy.array_equal(tensor, again[name]), name
    check_config(one, tensors)
    check_config(several, tensors)
    theirs.mkdir()
    (theirs / "config.json").write_text((one / "config.json").read_text())
    save_file(tensors, theirs / "model.safetensors", metadata={"format": "pt"})
    print(f"the reference library opens our exports: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
