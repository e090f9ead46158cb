"""Fits the parameters marked as calibrated to the rows that published.json names for them."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

from . import steps
from .inputs import InputError, Inputs

ROUNDS = 12
GROUPS = ("mosaic-h100", "mosaic-a100", "torchtitan")  # in this order: the second uses what the first found


class Parameter:
    """A number in an input file, changed in place."""

    def __init__(self, name: str, holder: dict[str, Any], key: str):
        self.name, self.holder, self.key = name, holder, key

    @property
    def value(self) -> float:
        return float(self.holder[self.key])

    @value.setter
    def value(self, value: float) -> None:
        self.holder[self.key] = value


def parameters(inputs: Inputs, group: str) -> list[Parameter]:
    found = []
    for file, table in (("devices", "devices"), ("software", "software")):
        for name, entry in inputs.table(file, table).items():
            for key, number in entry.items():
                if not isinstance(number, dict) or number.get("calibrated") != group:
                    continue
                if isinstance(number["value"], dict):
                    found += [Parameter(f"{name}.{key}.{part}", number["value"], part) for part in number["value"]]
                else:
                    found.append(Parameter(f"{name}.{key}", number, "value"))
    return found


def _errors(inputs: Inputs, group: str) -> list[float]:
    """Of each row: the logarithm of simulated over published speed."""
    rows = [row for row in inputs.published() if row.calibrates == group]
    return [math.log(steps.simulate(row.run).tokens_per_gpu / row.tokens_per_second) for row in rows]


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """By elimination with pivots; the matrix is symmetric and made positive by its caller."""
    rows = [row + [value] for row, value in zip(matrix, right)]
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, len(rows)):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i])]
    found = [0.0] * len(rows)
    for i in reversed(range(len(rows))):
        found[i] = (rows[i][-1] - sum(rows[i][c] * found[c] for c in range(i + 1, len(rows)))) / rows[i][i]
    return found


def fit(inputs: Inputs, group: str) -> tuple[dict[str, float], float]:
    """Least squares by damped Gauss-Newton steps in the parameters' logarithms. Changes `inputs`; returns the
    parameters to three digits and the largest error left, as a share of the speed."""
    fitted = parameters(inputs, group)
    errors = _errors(inputs, group)
    if not fitted or len(errors) < len(fitted):
        raise InputError(f"{group}: {len(errors)} rows cannot fit {len(fitted)} parameters")
    for _ in range(ROUNDS):
        start = [parameter.value for parameter in fitted]
        slopes = []
        for parameter in fitted:
            parameter.value *= 1.02
            slopes.append([(a - b) / math.log(1.02) for a, b in zip(_errors(inputs, group), errors)])
            parameter.value /= 1.02
        square = [[sum(a * b for a, b in zip(x, y)) + (1e-5 if x is y else 0.0) for y in slopes] for x in slopes]
        change = _solve(square, [-sum(a * b for a, b in zip(x, errors)) for x in slopes])
        length = 1.0
        while length > 0.01:
            for parameter, value, step in zip(fitted, start, change):
                parameter.value = value * math.exp(max(-0.5, min(0.5, length * step)))
            tried = _errors(inputs, group)
            if sum(e * e for e in tried) < sum(e * e for e in errors):
                break
            length /= 3
        else:
            for parameter, value in zip(fitted, start):
                parameter.value = value
            break
        errors = tried
    for parameter in fitted:
        parameter.value = float(f"{parameter.value:.3g}")
    return {p.name: p.value for p in fitted}, max(abs(math.expm1(e)) for e in _errors(inputs, group))


def layout(value: Any, depth: int = 0) -> str:
    """JSON as the input files have it: one line for a number with its origin, one line per entry of everything else."""
    leaf = not isinstance(value, dict) or "value" in value or "why" in value
    if leaf and not (isinstance(value, dict) and len(json.dumps(value)) > 160 and isinstance(value.get("value"), list)):
        return json.dumps(value, ensure_ascii=False)
    indent = "  " * (depth + 1)
    lines = [f"{indent}{json.dumps(key)}: {layout(part, depth + 1)}" for key, part in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"


def write(inputs: Inputs) -> None:
    """Puts what was fitted into the files that hold parameters."""
    for name in ("devices", "software"):
        pathlib.Path(inputs.where(name)).write_text(layout(inputs.files[name]) + "\n", encoding="utf-8")
