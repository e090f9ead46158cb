#!/usr/bin/env python3
"""kernel_counts_test.py ROOT: the arithmetic and tables of tools/bench/kernel_counts."""
import importlib.machinery
import importlib.util
import sys
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1))
loader = importlib.machinery.SourceFileLoader("kernel_counts", str(ROOT / "tools/bench/kernel_counts"))
tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("kernel_counts", loader))
loader.exec_module(tool)

NAMES = ("group\toperation\tkernel\telements\tmma\tldmatrix\tshared_phases\tshared_cycles\tglobal_requests\tsectors\t"
         "ideal_sectors\tatomics\tbarriers\twarp_operations")  # fmt: skip


def line(group, operation, kernel="", elements=100, mma=0, shared=0, sectors=0, ideal=0, requests=0):
    return "\t".join(map(str, (group, operation, kernel, elements, mma, mma // 2, shared, shared, requests, sectors, ideal, 0, 0, 0)))


def all_counts():
    lines = [NAMES]
    for head_dim in (32, 128):
        for sequences in (1, 4):
            group = f"attention/{head_dim}/{sequences}"
            lines.append(line(group, "forward", "attention_forward", mma=1000, shared=300))
            for kernel in ("query_numbers", "keys_backward", "queries_backward"):
                lines.append(line(group, "backward", f"attention_{kernel}", mma=0 if "numbers" in kernel else 700, shared=50))
    for _, _, _, width, _ in tool.SHAPES:
        lines += [line(f"streaming/{width}", operation, sectors=50, ideal=40, requests=20) for operation in tool.STREAMING]
    return tool.read_counts("\n".join(lines))


class Work(unittest.TestCase):
    def test_adds_kernels_and_heads(self):
        work = tool.attention_work(all_counts(), 32, 24, 1, "backward", tokens=10)
        self.assertEqual(work["mma"], 24 * 1400)
        self.assertEqual(work["shared_cycles"], 24 * 150)
        self.assertEqual(work["bytes"], 13 * 10 * 24 * 32 * 2)
        self.assertEqual(work["flops"], 10 * 32 * 24 * 100)
        # An exponential for every element of a tile: 2048 products of an mma, spread over head_dim and the tile's products.
        self.assertAlmostEqual(work["exponentials"], 24 * 700 * 2048 / 32 * (1 / 4 + 1 / 3))

    def test_each_limit_follows_the_device(self):
        device = ("toy", 10, 1e9, 2.0, 1e12)
        work = {"mma": 5e9, "shared_cycles": 2e10, "exponentials": 4.8e11, "bytes": 4e12}
        limits = tool.limits(work, device)
        self.assertEqual({name: round(seconds, 9) for name, seconds in limits.items()},
                         {"tensor": 1.0, "shared": 2.0, "exp": 3.0, "memory": 4.0})  # fmt: skip
        self.assertEqual(tool.largest(work, device)[1], "memory")

    def test_devices_reach_their_peaks(self):
        """A device that only multiplies reaches what its data sheet says (an H100 by mma.sync 0.62 of it)."""
        for device, peak in zip(tool.DEVICES, (312e12, 0.62 * 989e12, 0.62 * 989e12)):
            work = {"mma": 1e9, "shared_cycles": 0, "exponentials": 0, "bytes": 0}
            self.assertAlmostEqual(2 * 2048 * 1e9 / tool.largest(work, device)[0] / peak, 1, delta=0.02)

    def test_missing_counts_are_named(self):
        with self.assertRaisesRegex(SystemExit, "nothing was counted for forward of 64"):
            tool.attention_work(all_counts(), 64, 1, 1, "forward")


class Tables(unittest.TestCase):
    def test_every_row_has_every_column(self):
        for text in (tool.attention_table(all_counts()), tool.streaming_table(all_counts())):
            columns = {row.count("|") for row in text.splitlines()}
            self.assertEqual(len(columns), 1, text)

    def test_counted_bytes_are_sectors_per_element(self):
        row = next(x for x in tool.streaming_table(all_counts()).splitlines() if x.startswith("| `dropout`"))
        self.assertIn("16.00 (1.25, 200.0)", row)  # 50 sectors of 32 bytes for 100 elements, 40 at best, 20 requests

    def test_kernels_are_named_as_in_the_source(self):
        prefix = "_ZN4gato7kernels4cuda54_GLOBAL__N__59da2910_21_attention_backward_cu_2c8e05f9"
        self.assertEqual(tool.kernel_name(prefix + "21attention_keys_kernelI6__halfLi128EEEvNS2_17BackwardArgumentsIT_EE"),
                         ("attention_keys_kernel", 128))  # fmt: skip
        self.assertEqual(tool.kernel_name(prefix + "17query_ends_kernelEPKi"), ("query_ends_kernel", None))

    def test_registers_are_the_most_of_any_instantiation(self):
        prefix = "_ZN4gato12geglu_kernelI"
        reports = [("geglu.cu", prefix + "fLi1EEEvv", "80", 0, 20), ("geglu.cu", prefix + "fLi4EEEvv", "80", 0, 40),
                   ("geglu.cu", prefix + "fLi4EEEvv", "120", 8, 30)]  # fmt: skip
        self.assertEqual(tool.register_table(reports).splitlines()[2:], ["| `geglu.cu` | `geglu_kernel` | 40 | 30 (spills 8) |"])


if __name__ == "__main__":
    unittest.main()
