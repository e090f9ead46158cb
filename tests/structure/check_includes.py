#!/usr/bin/env python3
"""check_includes.py ROOT: holds every #include of the tree against the module table (modules.py). Prints one line per
violation, `FILE:LINE: what is wrong`, and exits 1 if there is any.

Rules
  direction   "gato/<m>/..." only where the table allows m; the file must exist
  private     headers of src/<m> are included as "<m>/..." or, from the same folder, by their name, by src/<m> and
              tests/<m> alone, never by a public header
  rooted      public headers are included as "gato/..." everywhere; nothing is included through ".."
  foreign     each library only in its modules; none in a public header but LibTorch in modules that have it
  separate    no translation unit sees both protobuf and LibTorch, directly or through our headers
  once        every header begins with #pragma once
"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from modules import FOREIGN, MAY_INCLUDE, PUBLIC_EXCEPTIONS  # noqa: E402

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SUFFIXES = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh"}


def library_of(path):
    """The foreign library a header belongs to, or None."""
    if path.endswith(".pb.h"):
        return "SentencePiece" if path.startswith("sentencepiece") else "protobuf"
    for name, (prefixes, _) in FOREIGN.items():
        if path.startswith(prefixes):
            return name
    return None


class Source:
    """One file of ours: where it is, which module owns it, what it includes."""

    def __init__(self, root, path):
        self.path = path
        self.name = path.relative_to(root).as_posix()
        parts = self.name.split("/")
        self.public = parts[0] == "include"
        self.test = parts[0] == "tests"
        self.module = parts[2] if self.public else parts[1]
        self.text = path.read_text(errors="replace")
        self.includes = []
        for number, line in enumerate(self.text.splitlines(), 1):
            match = INCLUDE.match(line)
            if match:
                self.includes.append((number, match.group(1) == '"', match.group(2)))


class Checker:
    def __init__(self, root):
        self.root = root
        self.violations = []
        self.sources = {}
        folders = [root / "include" / "gato", root / "src"]
        folders += [root / "tests" / module for module in MAY_INCLUDE]
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix in SUFFIXES:
                    source = Source(root, path)
                    self.sources[source.name] = source

    def report(self, source, line, text):
        self.violations.append("%s:%d: %s" % (source.name, line, text))

    def run(self):
        for source in self.sources.values():
            if source.module not in MAY_INCLUDE:
                self.report(source, 1, "is in no module of the table (%s)" % ", ".join(MAY_INCLUDE))
                continue
            if source.path.suffix in (".h", ".hpp", ".cuh") and "#pragma once" not in source.text:
                self.report(source, 1, "lacks #pragma once")
            for line, quoted, path in source.includes:
                self.check(source, line, quoted, path)
        for source in self.sources.values():
            if source.path.suffix in (".cpp", ".cc", ".cu"):
                self.check_separate(source)
        return self.violations

    def check(self, source, line, quoted, path):
        first = path.split("/")[0]
        if first == "gato":
            self.check_direction(source, line, path)
        elif library_of(path) and not (first in MAY_INCLUDE and quoted):
            self.check_foreign(source, line, path)
        elif ".." in path.split("/") or (source.public and quoted and (source.path.parent / path).exists()):
            self.report(source, line, 'includes "%s" relative to itself: write the path from include/, src/ or tests/' % path)
        elif first in MAY_INCLUDE and "/" in path and quoted:
            self.check_private(source, line, path)

    def check_direction(self, source, line, path):
        parts = path.split("/")
        target = parts[1] if len(parts) > 2 else ""
        if target not in MAY_INCLUDE:
            self.report(source, line, "includes %s, which is in no module of the table" % path)
            return
        if target != source.module and target not in MAY_INCLUDE[source.module]:
            self.report(source, line, "%s may not include %s (%s)" % (source.module, target, path))
        if "include/" + path not in self.sources:
            self.report(source, line, "includes %s, which does not exist" % path)

    def check_private(self, source, line, path):
        target = path.split("/")[0]
        if source.public:
            self.report(source, line, 'is public, but includes the private header "%s"' % path)
        elif target != source.module:
            self.report(source, line, 'includes "%s", which is private to %s' % (path, target))

    def check_foreign(self, source, line, path):
        library = library_of(path)
        modules = FOREIGN[library][1]
        if source.module not in modules:
            self.report(source, line, "%s may not include %s (<%s>)" % (source.module, library, path))
        elif source.public and library != "LibTorch" and path not in PUBLIC_EXCEPTIONS:
            self.report(source, line, "is public, but includes %s (<%s>)" % (library, path))

    def check_separate(self, source):
        """Follows our own headers from `source` and names how protobuf and LibTorch are both reached."""
        reached, queue, seen = {}, [source], {source.name}
        while queue:
            current = queue.pop()
            for _, _, path in current.includes:
                library = "protobuf" if path.endswith(".pb.h") else library_of(path)
                if library in ("protobuf", "LibTorch"):
                    reached.setdefault(library, current.name)
                beside = current.name.rsplit("/", 1)[0]
                for name in ("include/" + path, "src/" + path, "tests/" + path, beside + "/" + path):
                    if name in self.sources and name not in seen:
                        seen.add(name)
                        queue.append(self.sources[name])
        if len(reached) == 2:
            self.report(source, 1, "sees both protobuf (in %s) and LibTorch (in %s)" % (reached["protobuf"], reached["LibTorch"]))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    checker = Checker(Path(sys.argv[1]).resolve())
    violations = checker.run()
    if violations:
        sys.exit("\n".join(violations))
    if not checker.sources:
        sys.exit("no source file below %s" % sys.argv[1])
    print("%d files follow the module table" % len(checker.sources))


if __name__ == "__main__":
    main()
