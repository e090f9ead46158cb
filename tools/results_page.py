#!/usr/bin/env python3
"""Writes the tables of an evaluation into a Markdown page, between two marks; what a person wrote around them stays.

    tools/results_page.py runs/results --suite results --times runs/results.times --out docs/results.md

Reads eval/results/step-N@SUITE/summary.json and the results beside it (docs/formats/scores.md) of the run's newest
evaluated checkpoint, metrics.jsonl, and a file of `stage<TAB>seconds` lines. Computes nothing that summary.json
holds."""

import argparse
import collections
import json
import pathlib
import sys

BEGIN = "<!-- tables of tools/results_page.py: what stands between these two lines is written anew -->"
END = "<!-- end of the tables -->"
NEW_PAGE = f"# Results\n\n{BEGIN}\n{END}\n"


class PageError(Exception):
    """What is wrong, where, and what to do."""


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PageError(f"{path}: {error}") from error


def newest_evaluation(run, suite):
    """The folder of the highest step that has a summary."""
    folders = [path.parent for path in (run / "eval" / "results").glob(f"step-*@{suite}/summary.json")]
    if not folders:
        command = f"gato-eval --checkpoint {run} --suite {suite}"
        raise PageError(f"{run}: no evaluation of the suite {suite}; play it with {command}")
    return max(folders)


def read_lengths(folder):
    """Mean length of the rollouts of each task that were played."""
    lengths = collections.defaultdict(list)
    for path in sorted(folder.glob("*.shard-*.json")):
        result = read_json(path)
        lengths[result["task"]] += [rollout["length"] for rollout in result["rollouts"] if not rollout.get("failure")]
    return {task: sum(steps) / len(steps) for task, steps in lengths.items() if steps}


def read_tokens(run, step):
    """Tokens seen until `step`; None where the metrics do not say."""
    tokens = None
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line that a crash cut short
        if record.get("step", step + 1) <= step:
            tokens = record.get("tokens", tokens)
    return tokens


def read_times(path):
    """Seconds of each stage, interrupted tries added up."""
    times = collections.Counter()
    if path is not None:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            stage, tab, seconds = line.partition("\t")
            if not tab or not seconds.isdigit():
                raise PageError(f"{path}, line {number}: expected a stage, a tab and seconds, found {line!r}")
            times[stage] += int(seconds)
    return times


def number(value, digits=1):
    return "" if value is None else f"{value:.{digits}f}"


def interval(bounds):
    return "" if bounds is None else f" [{bounds[0]:.0f}, {bounds[1]:.0f}]"


def percent_interval(share, bounds):
    return "" if share is None else f"{100 * share:.0f} %" + interval(bounds and [100 * bound for bound in bounds])


def table(header, rows):
    return ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |",
            *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]  # fmt: skip


def task_row(name, task, lengths):
    score = "" if task.get("score") is None else number(task["score"]) + interval(task.get("ci95"))
    return (name, score, percent_interval(task.get("success_rate"), task.get("success_ci95")),
            *(number(task.get(key), 2) for key in ("mean_return", "expert_return", "random_return")),
            number(lengths.get(name), 0), task["rollouts"], task.get("note", ""))  # fmt: skip


def facts(run, summary, times):
    tasks = summary["tasks"].values()
    played = sum(1 for task in tasks if task["rollouts"] > 0)
    tokens = read_tokens(run, summary["step"])
    lines = [
        f"One set of weights, step {summary['step']}" + (f", {tokens / 1e6:.1f} M tokens" if tokens else "")
        + f"; {played} tasks played, {sum(task['rollouts'] for task in tasks)} rollouts."
    ]  # fmt: skip
    if times:
        spent = ", ".join(f"{stage} {seconds / 60:.1f} min" for stage, seconds in times.items())
        lines += ["", f"Time: {spent}, together {sum(times.values()) / 60:.1f} min."]
    return lines


def overview(summary):
    scored = [task["score"] for task in summary["tasks"].values() if task.get("score") is not None]
    reached = [sum(1 for score in scored if score >= bar) for bar in (25, 50, 75, 100)]
    lines = table(
        ("at least", "25 %", "50 %", "75 %", "100 % of the expert", "of tasks with a score"),
        [("tasks", *reached, len(scored))],
    )
    rows = []
    for domain, values in summary["domains"].items():
        own = [task.get("score") for name, task in summary["tasks"].items() if name.split("/")[0] == domain]
        at_half = sum(1 for score in own if score is not None and score >= 50)
        rows.append((domain, values["tasks"], number(values["score"]), at_half))
    mean = summary.get("mean_score")
    rows.append(("mean of domains", len(scored), number(mean), sum(1 for score in scored if score >= 50)))
    return [*lines, "", *table(("domain", "tasks with a score", "mean score", "at 50 % of the expert"), rows)]


def tables(run, folder, times):
    summary = read_json(folder / "summary.json")
    lengths = read_lengths(folder)
    played = {name: task for name, task in summary["tasks"].items() if task["scoring"] != "loss"}
    losses = {name: task["loss"] for name, task in summary["tasks"].items() if task.get("loss")}
    texts = [(name, number(loss["nats_per_token"], 3), number(loss["unigram_nats_per_token"], 3), loss["tokens"])
             for name, loss in losses.items()]  # fmt: skip
    header = ("task", "score", "success", "mean return", "expert", "random", "mean steps", "rollouts", "note")
    lines = [*facts(run, summary, times), "", *overview(summary), "",
             "Score: 100 x (mean return - random) / (expert - random), or percent exactly right; 95 % intervals in brackets.",
             "", *table(header, [task_row(name, task, lengths) for name, task in sorted(played.items())])]  # fmt: skip
    if texts:
        lines += ["", *table(("text", "nats per token", "of a unigram model", "held-out tokens"), texts)]
    return "\n".join(lines)


def put_between_marks(page, text):
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise PageError(f"the page needs this line once\n{BEGIN}\nand after it once\n{END}")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="run folder")
    parser.add_argument("--suite", default="results")
    parser.add_argument("--times", type=pathlib.Path, help="file of stages and seconds")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the page; made where there is none")
    given = parser.parse_args(arguments)
    try:
        folder = newest_evaluation(given.run, given.suite)
        text = tables(given.run, folder, read_times(given.times))
        page = given.out.read_text(encoding="utf-8") if given.out.exists() else NEW_PAGE
        page = put_between_marks(page, text)
    except (PageError, OSError) as error:
        print(f"tools/results_page.py: {error}", file=sys.stderr)
        return 1
    given.out.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
