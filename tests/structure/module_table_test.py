#!/usr/bin/env python3
"""module_table_test.py ROOT: the table of modules.py and the gato_module() calls of src/ say the same."""
import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from modules import MAY_INCLUDE, WITH_TORCH  # noqa: E402

ROOT = Path(sys.argv.pop(1))
CALL = re.compile(r"^gato_module\(([^)]*)\)", re.MULTILINE)
KEYWORDS = {"TORCH", "UNITY", "DEPENDS", "LINK_PUBLIC", "LINK", "DEFINE"}


def declared_modules():
    """Module -> (uses LibTorch, dependencies), as CMake has it."""
    modules = {}
    for path in (ROOT / "src/CMakeLists.txt", ROOT / "src/cli/CMakeLists.txt"):
        for call in CALL.findall(path.read_text()):
            words = call.split()
            dependencies, keyword = set(), None
            for word in words[1:]:
                if word in KEYWORDS:
                    keyword = word
                elif keyword == "DEPENDS":
                    dependencies.add(word)
            modules[words[0]] = ("TORCH" in words, dependencies)
    return modules


class ModuleTableTest(unittest.TestCase):
    def test_same_modules(self):
        self.assertEqual(set(declared_modules()), set(MAY_INCLUDE))

    def test_same_dependencies(self):
        for name, (_, dependencies) in declared_modules().items():
            with self.subTest(name):
                if name == "cli":  # Its programs link the rest themselves.
                    self.assertLessEqual(dependencies, MAY_INCLUDE[name])
                else:
                    self.assertEqual(dependencies, MAY_INCLUDE[name])

    def test_same_use_of_torch(self):
        uses = {name for name, (torch, _) in declared_modules().items() if torch}
        self.assertEqual(uses, WITH_TORCH - {"cli"})

    def test_no_cycle(self):
        for name, allowed in MAY_INCLUDE.items():
            for other in allowed:
                self.assertNotIn(name, MAY_INCLUDE[other], "%s and %s include each other" % (name, other))


if __name__ == "__main__":
    unittest.main()
