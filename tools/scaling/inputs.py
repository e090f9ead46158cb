"""Reads what the simulator starts from. Every number in the files says where it comes from: `source` (published),
`assumed` (with the reason), or `calibrated` (fitted by tools/simulate_scaling calibrate on the rows that published.json
names)."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from typing import Any

from .collectives import Fabric, Protocol
from .compute import Batch, Device, Model, Software
from .steps import Run

SCALES = {"TFLOP/s": 1e12, "TB/s": 1e12, "GB/s": 1e9, "GB/s per GPU": 1e9, "us": 1e-6, "ms": 1e-3}
ORIGINS = ("source", "assumed", "calibrated")
ROW = ("gpus", "rows", "micro_batches", "tokens_per_second", "mfu")


class InputError(Exception):
    """What is wrong with an input file, where, and what is expected there."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One published measurement and the run that it is of."""

    group: str
    required: bool
    calibrates: str  # the set of parameters fitted on it; empty: a prediction
    run: Run
    tokens_per_second: float  # per GPU
    mfu: float  # in %


@dataclasses.dataclass
class Quantity:
    """One number, or one per head size, as the file has it. Changed by calibration alone."""

    entry: dict[str, Any]
    where: str

    def value(self, key: str | None = None) -> Any:
        found = self.entry["value"]
        if isinstance(found, dict):
            if key not in found:
                raise InputError(f"{self.where}: nothing for {key}; there is {', '.join(found)}")
            found = found[key]
        scale = SCALES.get(self.entry["unit"])
        return found if scale is None or isinstance(found, list) else found * scale


def read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no JSONDecodeError
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__} where an object is expected")
    return found


def field(holder: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """holder[name] of that kind; a bool is no number."""
    if not isinstance(holder, dict) or name not in holder:
        raise InputError(f"{where}: there is no {name}")
    found = holder[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
        raise InputError(
            f"{where}: {name} is {json.dumps(found)[:60]}, expected {' or '.join(k.__name__ for k in kinds)}"
        )
    return found


def _check_number(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise InputError(f"{where}: {json.dumps(value)[:60]} is not a number from 0 to 1e18")


def quantity(holder: Any, name: str, where: str) -> Quantity:
    """A number with its unit and its origin."""
    entry = field(holder, name, dict, where)
    where = f"{where}: {name}"
    if "value" not in entry:
        raise InputError(f"{where}: there is no value")
    field(entry, "unit", str, where)
    given = [origin for origin in ORIGINS if origin in entry]
    if len(given) != 1 or not isinstance(entry[given[0]], str) or not entry[given[0]]:
        raise InputError(
            f"{where}: a number says where it comes from by exactly one of {', '.join(ORIGINS)}; this has "
            f"{' and '.join(given) or 'none'}"
        )
    value = entry["value"]
    for number in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
        for part in number if isinstance(number, list) else [number]:
            _check_number(part, where)
    return Quantity(entry, where)


def resolve(table: dict[str, Any], name: str, where: str, names: tuple[str, ...]) -> dict[str, Quantity]:
    """The quantities of an entry; a whole entry or one quantity may be `like` another entry's."""
    seen: list[tuple[str, str]] = []

    def find(entry_name: str, wanted: str) -> Quantity:
        if (entry_name, wanted) in seen or len(seen) > 32:
            raise InputError(f"{where}: {name}: {wanted} is like itself")
        seen.append((entry_name, wanted))
        place = f"{where}: {entry_name}"
        entry = field(table, entry_name, dict, where)
        if wanted not in entry:
            if "like" in entry:
                return find(field(entry, "like", str, place), wanted)
            raise InputError(f"{place}: there is no {wanted}")
        if isinstance(entry[wanted], dict) and "like" in entry[wanted]:
            return find(field(entry[wanted], "like", str, f"{place}: {wanted}"), wanted)
        return quantity(entry, wanted, place)

    found = {}
    unknown = set(field(table, name, dict, where)) - set(names) - {"like"}
    if unknown:
        raise InputError(f"{where}: {name}: unknown {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    for wanted in names:
        seen.clear()
        found[wanted] = find(name, wanted)
    return found


DEVICE = ("peak", "peak_fp8", "multiprocessors", "memory", "memory_share", "product_share")
SOFTWARE = (
    "attention",
    "backward_share",
    "layer_bytes",
    "layer_kernels",
    "logit_bytes",
    "launch",
    "recompute",
    "optimizer_bytes",
    "step",
    "noise",
    "host_noise",
    "overlap_slowdown",
    "fp8_share",
)
FABRIC = ("gpus_per_node", "nvlink", "link", "link_share", "multicast", "multicast_base")
PROTOCOL = ("base", "nvlink_hop", "network_hop", "share", "most_one_node", "most_more_nodes")
MOST = {"layers": 10_000, "gpus": 1 << 20, "micro_batches": 10_000}  # beyond them a step takes minutes to play
MODEL = {
    "layers": int,
    "width": int,
    "heads": int,
    "head_dim": int,
    "key_heads": int,
    "feed": int,
    "gated": bool,
    "vocabulary": int,
    "tied": bool,
    "positions": int,
}


class Inputs:
    """The files of a folder. Quantities are looked up anew by every call, so calibration sees what it changes."""

    def __init__(self, folder: pathlib.Path, root: pathlib.Path):
        self.folder, self.root = folder, root
        self.files = {
            name: read_json(folder / f"{name}.json") for name in ("devices", "fabrics", "software", "published", "ours")
        }

    def where(self, name: str) -> str:
        return str(self.folder / f"{name}.json")

    def table(self, file: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = field(self.files[file], name, dict, self.where(file))
        return found

    def device(self, name: str) -> Device:
        place = self.where("devices")
        found = resolve(self.table("devices", "devices"), name, place, DEVICE)
        tiles = quantity(self.files["devices"], "tiles", place).value()
        if (
            not isinstance(tiles, list)
            or not tiles
            or any(not isinstance(t, list) or len(t) != 3 or min(t) <= 0 for t in tiles)
        ):
            raise InputError(f"{place}: tiles: expected lists of rows, columns and share, all positive")
        value = {key: self.positive(found[key]) for key in DEVICE if key != "peak_fp8"}
        return Device(
            name,
            value["peak"],
            found["peak_fp8"].value(),
            int(value["multiprocessors"]),
            value["memory"],
            value["product_share"],
            value["memory_share"],
            tuple((int(r), int(c), s) for r, c, s in tiles),
            quantity(self.files["devices"], "depth", place).value(),
        )

    @staticmethod
    def positive(found: Quantity, key: str | None = None) -> float:
        value = float(found.value(key))
        if not value > 0:
            raise InputError(f"{found.where}: {value} must be positive")
        return value

    def protocols(self, name: str) -> dict[str, Protocol]:
        table, place = self.table("fabrics", name), f"{self.where('fabrics')}: {name}"
        result = {}
        for protocol in table:
            found = resolve(table, protocol, place, PROTOCOL)
            result[protocol] = Protocol(*(self.positive(found[key]) for key in PROTOCOL))
        if not result:
            raise InputError(f"{place}: there must be one protocol at least")
        return result

    def fabric(self, name: str) -> Fabric:
        found = resolve(self.table("fabrics", "fabrics"), name, self.where("fabrics"), FABRIC)
        link = self.positive(found["link"]) * self.positive(found["link_share"])
        return Fabric(
            int(self.positive(found["gpus_per_node"])),
            self.positive(found["nvlink"]),
            link,
            self.protocols("rings"),
            self.protocols("trees"),
            found["multicast"].value(),
            found["multicast_base"].value(),
        )

    def software(self, name: str, head_dim: int, recompute: float | None = None) -> Software:
        found = resolve(self.table("software", "software"), name, self.where("software"), SOFTWARE)
        forward = self.positive(found["attention"], str(head_dim))
        # The share counts seconds per operation alike in both directions.
        backward = forward * self.positive(found["backward_share"], str(head_dim))
        value = {key: found[key].value() for key in SOFTWARE[2:]}
        again = value["recompute"] if recompute is None else recompute
        if again > 1 or value["overlap_slowdown"] >= 1 or value["noise"] >= 1:
            raise InputError(
                f"{self.where('software')}: {name}: recompute is at most 1, overlap_slowdown and noise below 1"
            )
        return Software(
            name,
            forward,
            backward,
            value["layer_bytes"],
            int(value["layer_kernels"]),
            value["logit_bytes"],
            value["launch"],
            again,
            value["optimizer_bytes"],
            value["step"],
            value["noise"],
            value["host_noise"],
            value["overlap_slowdown"],
            value["fp8_share"],
        )

    def model(self, name: str) -> Model:
        place = f"{self.where('published')}: models: {name}"
        entry = field(self.table("published", "models"), name, dict, self.where("published") + ": models")
        values = {key: field(entry, key, kind, place) for key, kind in MODEL.items()}
        if any(value < 1 for key, value in values.items() if MODEL[key] is int and key != "positions"):
            raise InputError(f"{place}: all sizes must be positive")
        if values["layers"] > MOST["layers"]:
            raise InputError(f"{place}: {values['layers']} layers, at most {MOST['layers']}")
        return Model(name, **values)

    def published(self) -> list[Row]:
        groups = field(self.files["published"], "groups", list, self.where("published"))
        return [
            row
            for number, group in enumerate(groups)
            for row in self._group(group, f"{self.where('published')}: group {number}")
        ]

    def not_simulated(self) -> list[list[str]]:
        """Published rows that are no data parallelism, and why they are left out."""
        place = self.where("published")
        found = field(self.files["published"], "not_simulated", list, place)
        for line in found:
            if not isinstance(line, list) or len(line) != 2 or any(not isinstance(text, str) for text in line):
                raise InputError(f"{place}: not_simulated: {json.dumps(line)[:60]} is not a row and a reason")
        return list(found)

    def _group(self, group: Any, place: str) -> list[Row]:
        name = field(group, "name", str, place)
        place = f"{place} ({name})"
        model = self.model(field(group, "model", str, place))
        tokens = field(group, "tokens", int, place)
        if tokens < 1:
            raise InputError(f"{place}: rows of {tokens} tokens")
        field(group, "source", str, place)
        recompute = field(group, "recompute", (int, float), place) if "recompute" in group else None
        fitted = field(group, "calibration_rows", list, place) if "calibrates" in group else []
        fixed = dict(
            device=self.device(field(group, "device", str, place)),
            fabric=self.fabric(field(group, "fabric", str, place)),
            software=self.software(field(group, "software", str, place), model.head_dim, recompute),
            model=model,
            strategy=field(group, "strategy", str, place),
            gradient_bytes=field(group, "gradient_bytes", int, place),
            weight_bytes=field(group, "weight_bytes", int, place),
        )
        result = []
        for line in field(group, "rows", list, place):
            check_row(line, place)
            gpus, rows, micro_batches, speed, mfu = line
            run = Run(batch=Batch(rows, tokens, float(tokens)), micro_batches=micro_batches, gpus=gpus, **fixed)
            fits = field(group, "calibrates", str, place) if gpus in fitted else ""
            result.append(Row(name, field(group, "required", bool, place), fits, run, speed, mfu))
        return result

    def own(self, name: str) -> float:
        found = quantity(self.files["ours"], name, self.where("ours"))
        if isinstance(found.value(), (list, dict)):
            raise InputError(f"{found.where}: expected one number")
        return float(found.value())

    def own_count(self, name: str) -> int:
        value = self.own(name)
        if value != int(value) or value < 1:
            raise InputError(f"{self.where('ours')}: {name}: {value} is not a positive whole number")
        return int(value)

    def own_counts(self, name: str) -> list[int]:
        found = quantity(self.files["ours"], name, self.where("ours"))
        values = found.value()
        if (
            not isinstance(values, list)
            or not values
            or any(not isinstance(v, int) or not 0 < v <= MOST["gpus"] for v in values)
        ):
            raise InputError(f"{found.where}: expected a list of whole numbers from 1 to {MOST['gpus']}")
        return values

    def own_model(self, name: str) -> tuple[Model, dict[str, int]]:
        """One of our configurations and its rows, tokens and micro-batch."""
        path = self.root / field(self.table("ours", "models"), name, str, self.where("ours"))
        try:
            return self._own_model(name, path, read_config(path))
        except InputError as error:
            raise InputError(f"{self.where('ours')}: models: {name}: {error}") from error

    def _own_model(self, name: str, path: pathlib.Path, config: dict[str, str]) -> tuple[Model, dict[str, int]]:
        sizes = {
            key: config_number(config, f"model.{key}", path)
            for key in ("layers", "width", "heads", "head_dim", "hidden")
        }
        if sizes["layers"] > MOST["layers"]:
            raise InputError(f"{path}: {sizes['layers']} layers, at most {MOST['layers']}")
        # `hidden` counts gate and values; there is a stem, two convolutions and a map in front of pictures.
        channels = config_number(config, "model.patch_channels", path)
        patches = 27 * channels + 18 * channels * channels + 16 * channels * sizes["width"]
        model = Model(
            name,
            sizes["layers"],
            sizes["width"],
            sizes["heads"],
            sizes["head_dim"],
            sizes["heads"],
            sizes["hidden"] // 2,
            True,
            self.own_count("vocabulary"),
            config.get("model.tied") == "true",
            self.own_count("positions"),
            patches,
        )
        batch = {
            key: config_number(config, place, path)
            for key, place in (
                ("tokens", "data.row_tokens"),
                ("rows", "train.batch_rows"),
                ("micro_batch", "train.micro_batch_rows"),
            )
        }
        return model, batch


def check_row(line: Any, place: str) -> None:
    if not isinstance(line, list) or len(line) != len(ROW):
        raise InputError(f"{place}: {json.dumps(line)[:60]} is not a row of {', '.join(ROW)}")
    for value, title in zip(line, ROW):
        _check_number(value, f"{place}: {title}")
        if value <= 0 or (title in ROW[:3] and not isinstance(value, int)):
            raise InputError(f"{place}: {title} is {value}, expected a positive number, whole for {', '.join(ROW[:3])}")
        if value > MOST.get(title, value):
            raise InputError(f"{place}: {title} is {value}, at most {MOST[title]}")


def read_config(path: pathlib.Path) -> dict[str, str]:
    """The lines `section:` and `  key: value` of one of configs/*.yaml; what nests deeper is passed over."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    found, section = {}, ""
    for line in text.splitlines():
        if match := re.fullmatch(r"(\w+):\s*(#.*)?", line):
            section = match[1]
        elif match := re.fullmatch(r"  (\w+):\s*([^#]*?)\s*(#.*)?", line):
            found[f"{section}.{match[1]}"] = match[2]
    return found


def config_number(config: dict[str, str], key: str, path: pathlib.Path) -> int:
    text = config.get(key, "")
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise InputError(f"{path}: {key} is {text!r}, expected a positive whole number")
    return int(text)
