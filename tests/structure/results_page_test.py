#!/usr/bin/env python3
"""results_page_test.py ROOT: tools/results_page.py on a small run: what it says, what it keeps, and what it refuses."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv.pop(1)) / "tools"))
import results_page  # noqa: E402

TASKS = {
    "game/catch": {"scoring": "return", "score": 80.04, "ci95": [70.2, 90.4], "rollouts": 3, "mean_return": 4.0,
                   "expert_return": 5.0, "random_return": 1.0},
    "robot/reach": {"scoring": "return", "score": 20.0, "ci95": [0.0, 40.0], "rollouts": 3, "mean_return": 0.2,
                    "expert_return": 1.0, "random_return": 0.0, "success_rate": 0.2, "success_ci95": [0.06, 0.51]},
    "robot/free": {"scoring": "return", "rollouts": 3, "mean_return": 1.0, "note": "no score: no expert"},
    "text/book": {"scoring": "loss", "rollouts": 0,
                  "loss": {"nats_per_token": 3.5, "tokens": 1000, "unigram_nats_per_token": 6.25}},
}  # fmt: skip
SUMMARY = {"step": 20, "tasks": TASKS, "mean_score": 50.02,
           "domains": {"game": {"score": 80.04, "tasks": 1}, "robot": {"score": 20.0, "tasks": 1}}}  # fmt: skip


class ResultsPageTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.results = self.root / "run/eval/results/step-00000020@small"
        self.results.mkdir(parents=True)
        self.page = self.root / "page.md"
        (self.results / "summary.json").write_text(json.dumps(SUMMARY))
        rollouts = [{"length": 10}, {"length": 20}, {"length": 500, "failure": "died"}]
        for shard in range(2):
            result = json.dumps({"task": "robot/reach", "rollouts": rollouts})
            (self.results / f"robot-reach.shard-{shard}.json").write_text(result)
        records = [{"step": 10, "tokens": 1000000}, {"step": 20, "tokens": 2000000}, {"step": 30, "tokens": 9000000}]
        lines = "\n".join(map(json.dumps, records)) + '\n{"step": 2'
        (self.root / "run/metrics.jsonl").write_text(lines)

    def write(self, *more):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = results_page.main([str(self.root / "run"), "--suite", "small", "--out", str(self.page), *more])
        return code, errors.getvalue()

    def test_says_what_the_summary_says(self):
        times = self.root / "times"
        times.write_text("training\t60\nevaluation\t90\ntraining\t120\n")
        self.assertEqual(self.write("--times", str(times)), (0, ""))
        page = self.page.read_text()
        self.assertIn("step 20, 2.0 M tokens; 3 tasks played, 9 rollouts.", page)
        self.assertIn("training 3.0 min, evaluation 1.5 min, together 4.5 min", page)
        self.assertIn("| tasks | 1 | 1 | 1 | 0 | 2 |", page)
        self.assertIn("| robot | 1 | 20.0 | 0 |", page)
        self.assertIn("| mean of domains | 2 | 50.0 | 1 |", page)
        self.assertIn("| robot/reach | 20.0 [0, 40] | 20 % [6, 51] | 0.20 | 1.00 | 0.00 | 15 | 3 |  |", page)
        self.assertIn("| robot/free |  |  | 1.00 |  |  |  | 3 | no score: no expert |", page)
        self.assertIn("| text/book | 3.500 | 6.250 | 1000 |", page)

    def test_takes_the_newest_step_and_keeps_what_was_written_by_hand(self):
        newer = self.root / "run/eval/results/step-00000100@small"
        newer.mkdir()
        (newer / "summary.json").write_text(json.dumps(SUMMARY | {"step": 100}))
        self.page.write_text(f"# Mine\n\nbefore\n\n{results_page.BEGIN}\nold\n{results_page.END}\n\nafter\n")
        self.assertEqual(self.write()[0], 0)
        once = self.page.read_text()
        self.assertTrue(once.startswith("# Mine\n\nbefore\n") and once.endswith("\n\nafter\n"), once)
        self.assertIn("step 100", once)
        self.assertNotIn("old", once)
        self.assertEqual(self.write()[0], 0)
        self.assertEqual(self.page.read_text(), once)

    def test_refuses_and_leaves_the_page_alone(self):
        self.page.write_text("no marks\n")
        self.assertIn("needs this line once", self.write()[1])
        times = self.root / "times"
        times.write_text("training 60\n")
        self.assertIn("line 1", self.write("--times", str(times))[1])
        (self.results / "summary.json").write_text("{")
        self.assertIn("summary.json", self.write()[1])
        (self.results / "summary.json").unlink()
        code, error = self.write()
        self.assertEqual(code, 1)
        self.assertIn("no evaluation of the suite small", error)
        self.assertEqual(self.page.read_text(), "no marks\n")


if __name__ == "__main__":
    unittest.main()
