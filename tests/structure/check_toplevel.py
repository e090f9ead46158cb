#!/usr/bin/env python3
"""check_toplevel.py ROOT: the tracked entries at the top of the repository are exactly those of docs/design.md. Exits 77
(skipped) where ROOT is not a git checkout, as in an unpacked source archive."""
import subprocess
import sys

EXPECTED = {"CMakeLists.txt", "CMakePresets.json", "cmake", "src", "include", "configs", "data", "tools", "tests", "docs",
            "README.md", "LICENSE", "CHANGELOG.md"}


def main():
    root = sys.argv[1]
    index = subprocess.run(["git", "-C", root, "ls-files"], capture_output=True, text=True)
    top = subprocess.run(["git", "-C", root, "rev-parse", "--show-cdup"], capture_output=True, text=True)
    if index.returncode or top.returncode or top.stdout.strip():
        print("%s is not the top of a git checkout" % root)
        sys.exit(77)
    tracked = {line.split("/")[0] for line in index.stdout.splitlines()}
    tracked = {name for name in tracked if not name.startswith(".")}
    problems = ["unexpected at the top: " + name for name in sorted(tracked - EXPECTED)]
    problems += ["missing at the top: " + name for name in sorted(EXPECTED - tracked)]
    if problems:
        sys.exit("\n".join(problems))
    print("%d entries at the top, as designed" % len(tracked))


if __name__ == "__main__":
    main()
