#!/usr/bin/env python3
"""check_headers.py ROOT COMPILER [TORCH_INCLUDE...]: every public header compiles alone, with warnings as errors. Headers of
modules without LibTorch are compiled without its folders, so that they cannot lean on them; headers of modules with it
are left out when no TORCH_INCLUDE is given."""
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from modules import WITH_TORCH  # noqa: E402

FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-x", "c++", "-"]


def compile_alone(compiler, root, header, torch_includes):
    """Returns the compiler's complaint, or an empty string."""
    name = header.relative_to(root / "include").as_posix()
    command = [compiler, "-I", str(root / "include")]
    if name.split("/")[1] in WITH_TORCH:
        for folder in torch_includes:
            command += ["-isystem", folder]
    # Twice: a header that lacks its guard fails here as well.
    source = '#include "%s"\n#include "%s"\n' % (name, name)
    result = subprocess.run(command + FLAGS, input=source, capture_output=True, text=True)
    return "" if result.returncode == 0 else "%s does not compile alone:\n%s" % (name, result.stderr)


def main():
    root, compiler, torch_includes = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3:]
    headers = sorted((root / "include").rglob("*.h"))
    if not torch_includes:
        headers = [header for header in headers if header.relative_to(root).parts[2] not in WITH_TORCH]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        complaints = list(pool.map(lambda header: compile_alone(compiler, root, header, torch_includes), headers))
    complaints = [complaint for complaint in complaints if complaint]
    if complaints or not headers:
        sys.exit("\n".join(complaints) or "no header below %s/include" % root)
    print("%d public headers compile alone" % len(headers))


if __name__ == "__main__":
    main()
