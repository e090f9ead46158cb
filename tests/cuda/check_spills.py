#!/usr/bin/env python3
"""Reads what the compiler said of registers when libgato_cuda.so was built (cmake/log_ptxas) and fails on spills.

    check_spills.py OBJECT_FOLDER ARCHITECTURE...

No kernel may spill registers to memory on any architecture; attention kernels must be among those reported.
"""
import pathlib
import re
import sys

ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def read_reports(folder):
    """[(file, function, architecture, spilled bytes, registers)]"""
    kernels = []
    for path in sorted(folder.rglob("*.ptxas")):
        function, architecture, spilled = None, None, 0
        for line in path.read_text().splitlines():
            if match := ENTRY.search(line):
                function, architecture = match.group(1), match.group(2)
            elif match := SPILL.search(line):
                spilled = int(match.group(2)) + int(match.group(3))
            elif (match := REGISTERS.search(line)) and function:
                kernels.append((path.name.removesuffix(".o.ptxas"), function, architecture, spilled, int(match.group(1))))
                function = None
    return kernels


def main():
    folder, architectures = pathlib.Path(sys.argv[1]), sys.argv[2:]
    kernels = read_reports(folder)
    problems = [f"{file}: {function} for sm_{architecture} spills {spilled} bytes"
                for file, function, architecture, spilled, _ in kernels if spilled > 0]
    for architecture in architectures:
        if not any("attention" in file and arch == architecture for file, _, arch, _, _ in kernels):
            problems.append(f"no attention kernel was reported for sm_{architecture} in {folder}")
    most = {}
    for file, _, architecture, _, registers in kernels:
        most[(file, architecture)] = max(most.get((file, architecture), 0), registers)
    for (file, architecture), registers in sorted(most.items()):
        print(f"sm_{architecture:4} {file:28} at most {registers} registers")
    print(f"{len(kernels)} kernels, {len(problems)} problems")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
