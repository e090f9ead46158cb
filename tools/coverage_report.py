#!/usr/bin/env python3
"""Adds up gcov's line counts over a build folder: a line counts as run when any translation unit ran it."""
import argparse
import collections
import concurrent.futures
import gzip
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def lines_of(gcda):
    """(source file, line, count) of everything of ours in one object file."""
    found = []
    output = subprocess.run(["gcov", "--json-format", "--stdout", str(gcda)], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=True, cwd=gcda.parent).stdout
    for document in output.splitlines():
        document = gzip.decompress(document) if document[:2] == b"\x1f\x8b" else document
        report = json.loads(document)
        for source in report["files"]:
            path = pathlib.Path(report["current_working_directory"], source["file"]).resolve()
            if not path.is_relative_to(ROOT / "src") and not path.is_relative_to(ROOT / "include"):
                continue
            name = str(path.relative_to(ROOT))
            found += [(name, line["line_number"], line["count"]) for line in source["lines"]]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--files", type=int, default=15)
    parser.add_argument("--fail-under", type=float, default=0)
    arguments = parser.parse_args()

    counts = collections.defaultdict(lambda: collections.defaultdict(int))
    gcda = sorted(arguments.build.resolve().rglob("*.gcda"))
    if not gcda:
        sys.exit(f"{arguments.build} holds no *.gcda: run the tests of a coverage build first")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for found in pool.map(lines_of, gcda):
            for name, line, count in found:
                counts[name][line] += count

    modules = collections.defaultdict(lambda: [0, 0])
    missed = []
    for name, lines in counts.items():
        run = sum(count > 0 for count in lines.values())
        module = name.split("/")[1] if name.startswith("src/") else name.split("/")[2]
        for key in (module, "all"):
            modules[key][0] += run
            modules[key][1] += len(lines)
        missed.append((len(lines) - run, len(lines), name))
    for missing, total, name in sorted(missed, reverse=True)[:arguments.files]:
        print(f"{missing:6d} of {total:5d} lines not run  {name}")
    for module, (run, total) in sorted(modules.items(), key=lambda item: (item[0] == "all", item[0])):
        print(f"figure coverage/{module} {100 * run / total:.1f} %")
    run, total = modules["all"]
    sys.exit(0 if 100 * run / total >= arguments.fail_under else 1)


if __name__ == "__main__":
    main()
