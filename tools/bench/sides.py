"""Two programs that take turns in one run: what tools/bench/train_step and tools/bench/decode share."""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST_OTHERS = 0.3  # processors that others may keep busy before figures are not to be trusted


class Side:
    """One of the programs that take turns. It prints a line of JSON about itself, then one for every command."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )
        self.facts = self._answer()
        self.turns = []
        self.seconds = []

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {self.name} ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def turn(self, command):
        """A command whose answer has a list of `seconds`."""
        answer = self.ask(command)
        self.turns.append(answer)
        self.seconds += answer["seconds"]

    def forget(self):
        """After warm-up."""
        self.turns.clear()
        self.seconds.clear()

    def median(self):
        return statistics.median(self.seconds)

    def mean(self, key):
        return statistics.mean(turn[key] for turn in self.turns)

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def take_turns(sides, commands, rounds):
    """One turn of every side for warm-up, then `rounds`; returns how many processors others kept busy meanwhile.
    `commands` has a side's command under its name."""
    for name, side in sides.items():
        side.turn(commands[name])
        side.forget()
    busy, begin = _busy_seconds(), time.monotonic()
    own = sum(side.processor_seconds() for side in sides.values())
    for _ in range(rounds):
        for name, side in sides.items():
            side.turn(commands[name])
    own = sum(side.processor_seconds() for side in sides.values()) - own
    return (_busy_seconds() - busy - own) / (time.monotonic() - begin)


def _busy_seconds():
    """Seconds that all processors together were busy since the machine started."""
    fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")


def _library_folders():
    """Where the libraries that PyTorch's Python part loads may lie."""
    site = pathlib.Path(os.environ.get("GATO_DEPS_DIR", ROOT / ".deps")) / "site"
    folders = sorted(str(x) for x in site.glob("nvidia/*/lib"))
    return folders + [x for x in os.environ.get("LD_LIBRARY_PATH", "").split(":") if x]


def find_torch(test="import torch"):
    """(command, environment) of a Python that imports torch and for which the statement `test` holds, or None."""
    deps = pathlib.Path(os.environ.get("GATO_DEPS_DIR", ROOT / ".deps"))
    own = {"PYTHONPATH": str(deps / "site"), "LD_LIBRARY_PATH": ":".join(_library_folders())}
    candidates = [(str(deps / "oracle/bin/python"), {}), (str(deps / "oracle/bin/python"), own), ("python3.11", own)]
    if "GATO_TORCH_PYTHON" in os.environ:
        candidates = [(os.environ["GATO_TORCH_PYTHON"], {}), (os.environ["GATO_TORCH_PYTHON"], own)]
    for python, environment in candidates:
        try:
            found = subprocess.run(
                [python, "-c", test], env={**os.environ, **environment}, capture_output=True, timeout=120
            )
        except FileNotFoundError:
            continue
        if found.returncode == 0:
            return python, environment
    return None
