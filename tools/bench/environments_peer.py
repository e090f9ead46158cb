"""The package itself, stepped in one process, for tools/bench/environments: the same lines in and out as bench_environments.
The bare environment is stepped, not what the worker makes of it. Run by the Python of the task's family."""
import argparse
import importlib
import json
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "env_worker"))
import task as tasks  # noqa: E402


def random_action(fields, random):
    values = []
    for field in fields:
        if field.modality == tasks.DISCRETE:
            values.append(int(random.integers(field.num_values)))
        else:
            low, high = np.broadcast_to(field.low, field.shape), np.broadcast_to(field.high, field.shape)
            values.append(random.uniform(low, high).astype(np.float32))
    return values[0]


def ended(result):
    if isinstance(result, tuple) and len(result) == 5:
        return result[2] or result[3] or bool(result[4].get("success"))
    return result.last()


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # some packages print
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--slots", type=int, default=1)
    args = parser.parse_args()
    family = importlib.import_module(f"families.{args.family}").FAMILY
    task = family.describe(args.task)
    places = [family.make(task) for _ in range(args.slots)]
    steps = [place.env.step for place in places]
    random, seed = np.random.default_rng(1), 0
    for place in places:
        place.reset(4 * seed)
        seed += 1
    print(json.dumps({"task": args.task}), file=answers, flush=True)
    for line in sys.stdin:
        count, seconds = int(line), 0.0
        for _ in range(count):
            actions = [random_action(task.action, random) for _ in places]
            begin = time.perf_counter()
            results = [step(action) for step, action in zip(steps, actions)]
            seconds += time.perf_counter() - begin
            for index, result in enumerate(results):
                if ended(result):
                    places[index].reset(4 * seed)
                    seed += 1
        print(json.dumps({"seconds": [seconds / count]}), file=answers, flush=True)


if __name__ == "__main__":
    main()
