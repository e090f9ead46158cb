"""The module table of docs/design.md ("Modules"): who may include whom. The checks here read it, and module_table_test.py
holds it against src/CMakeLists.txt."""

# Module -> modules it may include.
MAY_INCLUDE = {
    "core": set(),
    "episode": {"core"},
    "tokenizer": {"core", "episode"},
    "data": {"core", "episode", "tokenizer"},
    "checkpoint": {"core"},
    "run": {"core", "checkpoint"},
    "env": {"core", "episode"},
    "kernels": {"core"},
    "model": {"core", "checkpoint", "kernels"},
    "train": {"core", "episode", "tokenizer", "data", "checkpoint", "run", "kernels", "model"},
    "eval": {"core", "episode", "tokenizer", "data", "checkpoint", "run", "env", "kernels", "model"},
    "cli": {"core", "episode", "tokenizer", "data", "checkpoint", "run", "env", "kernels", "model", "train", "eval"},
}

# Modules whose files may include LibTorch. In cli only the programs do; its library has no LibTorch on its path.
WITH_TORCH = {"kernels", "model", "train", "eval", "cli"}

# A foreign library -> (prefixes of its headers, modules whose sources may include it). None may appear in a public
# header, except LibTorch in the modules above.
FOREIGN = {
    "LibTorch": (("ATen/", "c10/", "torch/", "caffe2/"), WITH_TORCH),
    "protobuf": (("google/protobuf/",), {"episode", "tokenizer", "env", "cli"}),
    "yaml-cpp": (("yaml-cpp/",), {"core"}),
    "spdlog": (("spdlog/", "fmt/"), {"core"}),
    "nlohmann": (("nlohmann/",), set(MAY_INCLUDE)),
    "MuJoCo": (("mujoco/",), {"env"}),
    "OSMesa": (("GL/",), {"env"}),
    "SentencePiece": (("sentencepiece",), {"tokenizer"}),
    "CLI11": (("CLI/",), {"cli"}),
    "libpng": (("png.h",), {"episode"}),
    "libjpeg-turbo": (("turbojpeg.h", "jpeglib.h"), {"episode"}),
    "xxHash": (("xxhash.h",), set(MAY_INCLUDE)),
    "zstd": (("zstd.h",), {"episode"}),
    "RE2": (("re2/",), {"episode"}),
    "zlib": (("zlib.h",), {"core", "episode"}),
}

# Headers of the libraries above that are harmless in a public header.
PUBLIC_EXCEPTIONS = {"nlohmann/json_fwd.hpp"}
