#!/usr/bin/env python3
"""Feeds check_includes.py small trees, good and bad, and sees it pass and fail."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECKER = Path(__file__).resolve().parent / "check_includes.py"
GOOD = {
    "include/gato/core/error.h": "#pragma once\n#include <string>\n",
    "include/gato/core/json.h": "#pragma once\n#include <nlohmann/json_fwd.hpp>\n",
    "include/gato/episode/episode.h": '#pragma once\n#include "gato/core/error.h"\n',
    "include/gato/kernels/ops.h": '#pragma once\n#include <ATen/core/Tensor.h>\n#include "gato/core/error.h"\n',
    "src/episode/footer.h": "#pragma once\n",
    "src/episode/shard.cpp": '#include "gato/episode/episode.h"\n#include "episode/footer.h"\n#include "episode/shard.pb.h"\n',
    "src/core/json.cpp": "#include <nlohmann/json.hpp>\n#include <yaml-cpp/yaml.h>\n",
    "tests/episode/shard_test.cpp": '#include "episode/footer.h"\n#include "support/compare.h"\n#include <gtest/gtest.h>\n',
}


def run(tree):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in tree.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return subprocess.run([sys.executable, str(CHECKER), folder], capture_output=True, text=True)


class CheckIncludesTest(unittest.TestCase):
    def accepts(self, changes):
        result = run({**GOOD, **changes})
        self.assertEqual(result.returncode, 0, result.stderr)

    def refuses(self, changes, *fragments):
        result = run({**GOOD, **changes})
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for fragment in fragments:
            self.assertIn(fragment, result.stderr)

    def test_good_tree_passes(self):
        self.accepts({})

    def test_empty_tree_fails(self):
        self.assertEqual(run({}).returncode, 1)

    def test_wrong_direction(self):
        self.refuses({"src/core/a.cpp": '#include "gato/episode/episode.h"\n'}, "src/core/a.cpp:1", "may not include episode")

    def test_wrong_direction_with_angle_brackets(self):
        self.refuses({"src/core/a.cpp": "#include <gato/episode/episode.h>\n"}, "may not include episode")

    def test_train_and_eval_never_meet(self):
        self.refuses({"include/gato/eval/job.h": "#pragma once\n", "src/train/a.cpp": '#include "gato/eval/job.h"\n'},
                     "train may not include eval")

    def test_wrong_direction_in_a_test(self):
        self.refuses({"tests/core/a_test.cpp": '#include "gato/episode/episode.h"\n'}, "tests/core/a_test.cpp:1")

    def test_torch_in_a_module_without(self):
        self.refuses({"src/episode/a.cpp": "\n#include <torch/torch.h>\n"}, "src/episode/a.cpp:2", "LibTorch")

    def test_torch_in_a_public_header_of_a_module_without(self):
        self.refuses({"include/gato/episode/a.h": "#pragma once\n#include <c10/core/Device.h>\n"}, "LibTorch")

    def test_private_header_of_another_module(self):
        self.refuses({"src/data/a.cpp": '#include "episode/footer.h"\n'}, "private to episode")

    def test_private_header_in_a_public_one(self):
        self.refuses({"include/gato/episode/a.h": '#pragma once\n#include "episode/footer.h"\n'}, "is public")

    def test_generated_header_in_a_public_one(self):
        self.refuses({"include/gato/episode/a.h": '#pragma once\n#include "episode/shard.pb.h"\n'}, "is public")

    def test_heavy_headers_in_public_ones(self):
        for module, path in (("core", "nlohmann/json.hpp"), ("core", "yaml-cpp/yaml.h"), ("core", "spdlog/spdlog.h"),
                             ("env", "mujoco/mujoco.h"), ("episode", "google/protobuf/message.h")):
            with self.subTest(path):
                self.refuses({"include/gato/%s/a.h" % module: "#pragma once\n#include <%s>\n" % path}, "is public", path)

    def test_library_outside_its_module(self):
        self.refuses({"src/run/a.cpp": "#include <yaml-cpp/yaml.h>\n"}, "run may not include yaml-cpp")

    def test_missing_header(self):
        self.refuses({"src/core/a.cpp": '#include "gato/core/gone.h"\n'}, "does not exist")

    def test_relative_include(self):
        self.refuses({"src/episode/a.cpp": '#include "../core/x.h"\n'}, "relative to itself")
        self.refuses({"include/gato/core/a.h": '#pragma once\n#include "error.h"\n'}, "relative to itself")

    def test_sibling_in_a_private_folder(self):
        self.accepts({"src/episode/a.cpp": '#include "footer.h"\n'})

    def test_header_without_pragma_once(self):
        self.refuses({"src/core/a.h": "int f();\n"}, "#pragma once")

    def test_unknown_module(self):
        self.refuses({"src/extra/a.cpp": "int a;\n"}, "no module of the table")

    def test_protobuf_and_torch_through_a_header(self):
        self.refuses({"src/cli/wire.h": "#pragma once\n#include <google/protobuf/message.h>\n",
                      "src/cli/a.cpp": '#include "wire.h"\n#include "gato/kernels/ops.h"\n'},
                     "src/cli/a.cpp", "src/cli/wire.h", "include/gato/kernels/ops.h")


if __name__ == "__main__":
    unittest.main()
