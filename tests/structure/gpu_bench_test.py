#!/usr/bin/env python3
"""gpu_bench_test.py ROOT: what of tools/bench/gpu needs no GPU: arguments, counts, tables and figures."""
import contextlib
import importlib.machinery
import importlib.util
import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1))
TOOL = ROOT / "tools/bench/gpu"
sys.path.insert(0, str(TOOL.parent))
loader = importlib.machinery.SourceFileLoader("gpu_bench", str(TOOL))
tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_bench", loader))
loader.exec_module(tool)


def printed(work, *arguments):
    """(what the call returns, what it prints)"""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        result = work(*arguments)
    return result, out.getvalue()


def trial(route, forward=0.0, backward=0.0, problem=""):
    return {"route": route, "problem": problem, "forward": forward, "backward": backward, "difference": 0.004}


class Counts(unittest.TestCase):
    def test_attention_counts_two_products_forward_and_five_backward(self):
        self.assertEqual(tool.attention_flops(10, 3, 32, backward=False), 10 * 3 * 2 * 2 * 32)
        self.assertEqual(tool.attention_flops(10, 3, 32, backward=True), 10 * 3 * 2 * 5 * 32)

    def test_peaks_tell_variants_apart(self):
        for name, peak in [("NVIDIA H100 80GB HBM3", 989.4e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H200", 989.4e12),
                           ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA GeForce RTX 4090", 165.2e12),
                           ("NVIDIA GeForce RTX 4090 D", None), ("Some other device", None)]:  # fmt: skip
            self.assertEqual(tool.peak_of(name), peak, name)

    def test_sizes_are_those_of_the_configurations(self):
        for shape, file in (("79m", "gato_79m"), ("364m", "gato_364m"), ("1180m", "large")):
            text = (ROOT / f"configs/{file}.yaml").read_text()
            for key in ("width", "heads", "head_dim", "hidden"):
                self.assertRegex(text, rf"(?m)^ +{key}: {tool.SHAPES[shape][key]}\b", f"{file}: {key}")

    def test_the_step_has_the_same_sizes_on_both_sides(self):
        ours = (ROOT / "tools/bench/train_step.cpp").read_text()
        peer = (ROOT / "tools/bench/train_step_peer.py").read_text()
        for shape in tool.STEP_ROWS:
            sizes = tool.SHAPES[shape]
            numbers = rf"(\d+), {sizes['width']}, {sizes['heads']}, {sizes['hidden']}, {tool.VOCABULARY}, (\d+), {tool.TOKENS}"
            self.assertRegex(ours, rf'"{shape}", {{{numbers}}}')
            self.assertRegex(peer, rf'"{shape}": \({numbers}\)')


class Tables(unittest.TestCase):
    def test_attention_has_rates_ratios_and_reasons(self):
        answer = {"pairs": 1e6, "routes": [trial("own", 1e-3, 4e-3), trial("flash", 2e-3, 3e-3),
                                           trial("cudnn", problem="fails: no such thing")]}  # fmt: skip
        figures, text = printed(tool.attention_table, "79m", "100", answer)
        self.assertEqual(figures["attention/79m/100/own/forward"], (1.0, "ms"))
        self.assertAlmostEqual(figures["attention/79m/100/own/forward_rate"][0], 4 * 1e6 * 24 * 32 / 1e-3 / 1e12)
        self.assertAlmostEqual(figures["attention/79m/100/forward_speed_to_flash"][0], 2.0)
        self.assertAlmostEqual(figures["attention/79m/100/backward_speed_to_flash"][0], 0.75)
        self.assertAlmostEqual(figures["attention/79m/100/speed_to_flash"][0], 1.0)
        self.assertFalse(any("cudnn" in name for name in figures))
        self.assertIn("no such thing", text)
        self.assertIn("documents of 100 tokens", text)

    def test_without_flash_there_is_no_ratio(self):
        answer = {"pairs": 1e6, "routes": [trial("own", 1e-3, 4e-3), trial("flash", problem="fails")]}
        figures, _ = printed(tool.attention_table, "364m", "row", answer)
        self.assertFalse(any("speed_to_flash" in name for name in figures))
        self.assertIn("attention/364m/row/own/backward", figures)

    def test_streaming_is_compared_with_the_copy(self):
        answer = {"kernels": [{"name": "copy", "bytes": 2e9, "seconds": 1e-3}, {"name": "adamw", "bytes": 9e8, "seconds": 5e-4}]}
        figures, _ = printed(tool.streaming_table, "79m", answer)
        self.assertAlmostEqual(figures["streaming/79m/copy"][0], 2000)
        self.assertAlmostEqual(figures["streaming/79m/adamw_of_copy"][0], 0.9)
        self.assertNotIn("streaming/79m/copy_of_copy", figures)

    def test_step_says_mfu_only_where_the_peak_is_known(self):
        medians = {"own": 0.1, "flash": 0.2, "pytorch": 0.3}
        figures, _ = printed(tool.step_table, "79m", 1e15, medians, 16384, 4e13)
        self.assertAlmostEqual(figures["step/79m/own/mfu"][0], 0.4)
        self.assertAlmostEqual(figures["step/79m/own/ratio"][0], 3.0)
        self.assertAlmostEqual(figures["step/79m/own/tokens_per_second"][0], 163840)
        figures, _ = printed(tool.step_table, "79m", None, {"own": 0.1}, 16384, 4e13)
        self.assertEqual(list(figures), ["step/79m/own/tokens_per_second"])

    def test_head_is_a_share_of_all_positions(self):
        figures, _ = printed(tool.head_table, "79m", 0.26e-3, 1e-3)
        self.assertAlmostEqual(figures["head/79m/share_of_all"][0], 0.26)

    def test_figures_are_lines_for_programs(self):
        _, text = printed(tool.print_figures, {"a/b": (1.23456, "ms")})
        self.assertEqual(text, "figure gpu/a/b 1.235 ms\n")


class Program(unittest.TestCase):
    def run_tool(self, *arguments):
        return subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=60)

    def fake_build(self, folder, script):
        (Path(folder) / "bin").mkdir()
        for name in ("bench_gpu", "bench_train_step"):
            program = Path(folder) / "bin" / name
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

    def test_wrong_arguments_are_refused(self):
        for arguments in (["--device", "cpu"], ["--device", "cuda:x"], ["--part", "all"], ["--rounds", "0"], ["--peak", "-1"],
                          ["--shape", "1b"]):  # fmt: skip
            result = self.run_tool(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(arguments[0].lstrip("-"), result.stderr)

    def test_without_a_gpu_it_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            self.fake_build(folder, """echo '{"problem": "no CUDA device was found"}'""")
            result = self.run_tool("--build", folder)
        if tool.has_driver():
            self.assertEqual((result.returncode, result.stderr), (1, "gpu: no CUDA device was found\n"))
        else:
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(result.stdout, "no GPU: no CUDA device was found\nNothing was measured.\n")

    def test_without_a_build_it_says_what_to_do(self):
        with tempfile.TemporaryDirectory() as folder:
            result = self.run_tool("--build", folder)
        if tool.has_driver():
            self.assertEqual(result.returncode, 1)
            self.assertIn("--target bench", result.stderr)
        else:
            self.assertEqual(result.returncode, 0)
            self.assertIn("no GPU", result.stdout)

    def test_measures_through_the_program(self):
        with tempfile.TemporaryDirectory() as folder:
            self.fake_build(
                folder,
                """echo '{"name": "NVIDIA A100-SXM4-80GB", "capability": 80, "multiprocessors": 108, "memory_bytes": 85899345920,"""
                """ "proven": false}'\nwhile read command rest; do [ "$command" = quit ] && exit; echo '{"seconds": 0.002}'; done""",
            )
            result = self.run_tool("--build", folder, "--part", "head", "--shape", "79m")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("bf16 peak 312 TFLOP/s", result.stdout)
        self.assertIn("run it first", result.stdout)
        self.assertIn("figure gpu/head/79m/share_of_all 1 x", result.stdout)


if __name__ == "__main__":
    unittest.main()
