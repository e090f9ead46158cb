#!/usr/bin/env python3
"""kernel_mutations_test.py ROOT: how tools/kernel_mutations finds synchronisations and names them."""
import importlib.machinery
import importlib.util
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1))
loader = importlib.machinery.SourceFileLoader("kernel_mutations", str(ROOT / "tools/kernel_mutations"))
tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("kernel_mutations", loader))
loader.exec_module(tool)

SOURCE = """
// __syncthreads() in a comment
template <int N>
__device__ __forceinline__ void gather(float* x) {
  cp_async_commit();
  cp_async_wait<N - 1>();  /* __syncwarp() */
}

template <class T>
__global__ void __launch_bounds__(kThreads<T>(2)) scale_kernel(const T* x,
                                                               T* y) {
  __syncthreads();
  if (a) __syncwarp();
  __syncwarp(kFullMask);
  other(__syncthreads_count(1));
}
"""


class FindSites(unittest.TestCase):
    def setUp(self):
        self.sites = tool.find_sites("a.cu", SOURCE)

    def test_finds_all_outside_comments(self):
        self.assertEqual([site.text for site in self.sites],
                         ["cp_async_commit()", "cp_async_wait<N - 1>()", "__syncthreads()", "__syncwarp()",
                          "__syncwarp(kFullMask)"])

    def test_positions_are_those_of_the_text(self):
        for site in self.sites:
            self.assertEqual(SOURCE[site.begin:site.end], site.text)
            self.assertIn(site.text, SOURCE.splitlines()[site.line - 1])

    def test_names_function_and_ordinal(self):
        self.assertEqual([site.key() for site in self.sites],
                         ["a.cu gather 1", "a.cu gather 2", "a.cu scale_kernel 1", "a.cu scale_kernel 2",
                          "a.cu scale_kernel 3"])

    def test_a_wait_can_be_weakened(self):
        self.assertEqual(tool.weaker("cp_async_wait<N - 1>()"), "cp_async_wait<(N - 1) + 1>()")
        self.assertIsNone(tool.weaker("__syncthreads()"))


class ReadList(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "list.txt"
            path.write_text(text)
            return tool.read_list(path)

    def test_reads_reasons(self):
        self.assertEqual(self.read("# comment\n\na.cu f 2 keeps the loop plain  # aside\n"),
                         {"a.cu f 2": "keeps the loop plain"})

    def test_an_entry_needs_a_reason(self):
        with self.assertRaises(SystemExit):
            self.read("a.cu f 2\n")

    def test_the_list_of_the_tree_names_what_exists(self):
        listed = tool.read_list(ROOT / tool.LIST)
        paths = sorted({key.split()[0] for key in listed})
        for path in paths:
            self.assertTrue((ROOT / path).is_file(), path)
        tool.ROOT = ROOT
        self.assertEqual(tool.stale_entries(listed, paths), [])


if __name__ == "__main__":
    unittest.main()
