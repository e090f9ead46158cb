#!/usr/bin/env python3
"""simulate_scaling_test.py ROOT: tools/simulate_scaling against formulas by hand, published runs and damaged inputs."""

import dataclasses
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1)).resolve()
TOOL = ROOT / "tools/simulate_scaling"
sys.path.insert(0, str(ROOT / "tools"))
from scaling import calibrate, collectives, compute, events, predict, steps  # noqa: E402
from scaling.inputs import InputError, Inputs, read_json  # noqa: E402

INPUTS = ROOT / "tools/scaling/inputs"
RING = collectives.Protocol(10e-6, 2e-6, 5e-6, 1.0, 1e15, 1e15)
FABRIC = collectives.Fabric(8, 400e9, 50e9, {"ring": RING}, {})
DEVICE = compute.Device("toy", 1e15, 0.0, 100, 1e12, 1.0, 1.0, ((128, 128, 1.0),), 0.0)
SOFTWARE = compute.Software("toy", 1e14, 1e14, 100.0, 4, 4.0, 0.0, 0.0, 30.0, 1e-4, 0.0, 0.0, 0.0)
MODEL = compute.Model("toy", 2, 256, 4, 64, 4, 512, True, 1000, True)


def own_run(**changes):
    run = steps.Run(DEVICE, FABRIC, SOFTWARE, MODEL, compute.Batch(4, 256, 256.0), 1, 16, "data_parallel")
    return dataclasses.replace(run, **changes)


def program(*words):
    return subprocess.run([sys.executable, str(TOOL), *words], capture_output=True, text=True, timeout=120)


class Events(unittest.TestCase):
    def test_a_resource_runs_tasks_in_order_and_waits(self):
        schedule = events.Schedule()
        first = schedule.add("first", "compute", 2.0)
        send = schedule.add("send", "network", 3.0, [first])
        schedule.add("beside", "compute", 1.0)
        schedule.add("after", "compute", 1.0, [send])
        line = schedule.run()
        self.assertEqual(line.started, (0, 2, 2, 5))
        self.assertEqual(line.ended, (2, 5, 3, 6))
        self.assertEqual((line.seconds, line.busy), (6, {"compute": 4, "network": 3}))

    def test_what_waits_holds_back_what_is_behind_it(self):
        schedule = events.Schedule()
        slow = schedule.add("slow", "compute", 5.0)
        schedule.add("needs slow", "network", 1.0, [slow])
        schedule.add("ready", "network", 1.0)
        self.assertEqual(schedule.run().started, (0, 5, 6))

    def test_compute_slows_down_while_a_link_is_busy(self):
        schedule = events.Schedule()
        schedule.add("send", "network", 2.0)
        schedule.add("work", "compute", 3.0)
        # 2 s at 0.75 leave 1.5 of 3.
        self.assertAlmostEqual(schedule.run(slowdown=0.25).seconds, 3.5)
        self.assertAlmostEqual(schedule.run(compute_scale=2.0).seconds, 6.0)

    def test_nothing_and_tasks_of_no_time(self):
        self.assertEqual(events.Schedule().run().seconds, 0)
        schedule = events.Schedule()
        for _ in range(3):
            schedule.add("none", "compute", 0.0)
        self.assertEqual(schedule.run().seconds, 0)

    def test_refuses_what_cannot_be_played(self):
        schedule = events.Schedule()
        for seconds in (-1.0, math.nan, math.inf):
            with self.assertRaisesRegex(ValueError, "finite"):
                schedule.add("bad", "compute", seconds)
        with self.assertRaisesRegex(ValueError, "not added before"):
            schedule.add("early", "compute", 1.0, [0])


class Collectives(unittest.TestCase):
    def test_rings_by_hand(self):
        time = collectives.seconds(FABRIC, "reduce_scatter", 800e6, 1, 8)
        self.assertAlmostEqual(time, 10e-6 + 7 * 2e-6 + 800e6 * 7 / 8 / 400e9)
        time = collectives.seconds(FABRIC, "all_gather", 800e6, 4, 8)  # 8 cards of 50 GB/s make a ring of 400
        self.assertAlmostEqual(time, 10e-6 + 28 * 2e-6 + 3 * 5e-6 + 800e6 * 31 / 32 / 400e9)
        time = collectives.seconds(FABRIC, "all_reduce", 800e6, 2, 1)
        self.assertAlmostEqual(time, 10e-6 + 2 * 5e-6 + 800e6 / 50e9)

    def test_the_fastest_algorithm_counts(self):
        tree = collectives.Protocol(1e-6, 1e-6, 1e-6, 0.1, 1e15, 1e15)
        fabric = dataclasses.replace(FABRIC, trees={"tree": tree}, multicast=800e9, multicast_base=20e-6)
        self.assertAlmostEqual(collectives.seconds(fabric, "all_reduce", 8.0, 64, 8), 1e-6 + 2 * 13e-6 + 16 / 40e9)
        self.assertAlmostEqual(collectives.seconds(fabric, "all_reduce", 8e9, 1, 8), 20e-6 + 8e9 / 800e9)
        self.assertEqual(
            collectives.seconds(fabric, "reduce_scatter", 8.0, 64, 8),
            collectives.seconds(FABRIC, "reduce_scatter", 8.0, 64, 8),
        )

    def test_one_gpu_exchanges_nothing(self):
        self.assertEqual(collectives.seconds(FABRIC, "all_reduce", 1e9, 1, 1), 0)
        self.assertEqual(sum(time for _, time in collectives.stages(FABRIC, "all_gather", 1e9, 1, True)), 0)

    def test_two_levels_use_both_links(self):
        parts = collectives.stages(FABRIC, "reduce_scatter", 800e6, 64, True)
        self.assertEqual([link for link, _ in parts], ["nvlink", "network"])
        self.assertAlmostEqual(parts[0][1], collectives.seconds(FABRIC, "reduce_scatter", 800e6, 1, 8))
        self.assertAlmostEqual(parts[1][1], 10e-6 + 7 * 5e-6 + 100e6 * 7 / 8 / 50e9)
        links = [link for link, _ in collectives.stages(FABRIC, "all_reduce", 1.0, 64, True)]
        self.assertEqual(links, ["nvlink", "network", "nvlink"])

    def test_bad_questions_are_refused(self):
        for operation, size, nodes, per_node in (
            ("all_gather", -1, 1, 8),
            ("all_gather", 1, 0, 8),
            ("gather", 1, 1, 8),
        ):
            with self.assertRaises(ValueError):
                collectives.seconds(FABRIC, operation, size, nodes, per_node)
        with self.assertRaisesRegex(ValueError, "12 GPUs do not fill nodes of 8"):
            collectives.stages(FABRIC, "all_gather", 1.0, 12, False)


class Compute(unittest.TestCase):
    def test_products_take_waves_of_tiles(self):
        # 100 tiles on 100 multiprocessors of 1e13 FLOP/s: one wave; one tile more: a second.
        wave = 2 * 128 * 128 * 200 / 1e13
        self.assertAlmostEqual(compute.product_seconds(DEVICE, 1280, 1280, 200), wave)
        self.assertAlmostEqual(compute.product_seconds(DEVICE, 1281, 1280, 200), 2 * wave)

    def test_few_tiles_split_the_inner_dimension(self):
        self.assertAlmostEqual(compute.product_seconds(DEVICE, 128, 128, 4096), 2 * 128 * 128 * 512 / 1e13)

    def test_counts_of_a_known_model(self):
        inputs = Inputs(INPUTS, ROOT)
        for name, published in (("mpt-125m", 125311488), ("mpt-1b", 1315950592), ("mpt-70b", 64862437376)):
            self.assertAlmostEqual(inputs.model(name).parameters() / published, 1, delta=0.001)
        self.assertAlmostEqual(inputs.model("llama-8b").parameters() / 8.03e9, 1, delta=0.001)

    def test_configurations_have_the_parameters_that_they_say(self):
        inputs = Inputs(INPUTS, ROOT)
        for name, parameters in (("79m", 73.2e6), ("364m", 335.3e6), ("large", 1076.5e6)):
            model, _ = inputs.own_model(name)
            self.assertAlmostEqual((model.parameters() - model.patches) / parameters, 1, delta=0.01)

    def test_less_loss_costs_less(self):
        all_of_it = compute.head_cost(DEVICE, SOFTWARE, MODEL, compute.Batch(64, 1024, 1024.0))
        quarter = compute.head_cost(DEVICE, SOFTWARE, MODEL, compute.Batch(64, 1024, 1024.0, 0.25))
        self.assertAlmostEqual(quarter.forward / all_of_it.forward, 0.25, delta=0.02)


class Steps(unittest.TestCase):
    def test_without_overlap_times_add_up(self):
        """One bucket and the token table, nothing beside anything else: the sum of all parts, by hand."""
        run = own_run(overlap=False, bucket_elements=1 << 40, weight_bytes=2)
        layers, table = 2 * MODEL.layer_parameters(), MODEL.head_parameters()
        wanted = sum(
            collectives.seconds(FABRIC, operation, size, 2, 8)
            for operation, size in (
                ("all_gather", 2.0 * layers),  # weights of products come in bf16, the table in fp32
                ("all_gather", 4.0 * table),
                ("reduce_scatter", 4.0 * layers),
                ("reduce_scatter", 4.0 * table),
            )
        )
        wanted += compute.stream_seconds(DEVICE, SOFTWARE, 6.0 * table, 1)  # and is rounded here
        wanted += collectives.seconds(FABRIC, "all_reduce", 64.0, 2, 8)
        layer = compute.layer_cost(DEVICE, SOFTWARE, MODEL, run.batch)
        head = compute.head_cost(DEVICE, SOFTWARE, MODEL, run.batch)
        embedding = compute.embedding_cost(DEVICE, SOFTWARE, MODEL, run.batch)
        wanted += sum(cost.forward + cost.backward for cost in (layer, layer, head, embedding))
        wanted += 30.0 * (layers + table) / 16 / 1e12 + 1e-4
        self.assertAlmostEqual(steps.play(run).seconds / wanted, 1, places=9)

    def test_without_sharding_gradients_are_reduced_everywhere(self):
        run = own_run(overlap=False, shard_optimizer=False, bucket_elements=1 << 40)
        wanted = steps.play(run, with_collectives=False).seconds
        for elements in (2 * MODEL.layer_parameters(), MODEL.head_parameters()):
            wanted += collectives.seconds(FABRIC, "all_reduce", 4.0 * elements, 2, 8)
        wanted += collectives.seconds(FABRIC, "all_reduce", 64.0, 2, 8)
        self.assertAlmostEqual(steps.play(run).seconds / wanted, 1, places=9)

    def test_overlap_helps_and_never_beats_compute_or_links(self):
        for sharded in (True, False):
            run = own_run(shard_optimizer=sharded, bucket_elements=1 << 18)
            apart = steps.play(dataclasses.replace(run, overlap=False)).seconds
            line = steps.play(run)
            self.assertLess(line.seconds, apart)
            self.assertGreaterEqual(line.seconds, max(line.busy.values()))

    def test_buckets_are_cut_as_the_trainer_cuts_them(self):
        """feed.down 512 x 256, feed.up 1024 x 256, attention.out 256 x 256, attention.qkv 768 x 256, twice."""
        sizes = [131072, 262144, 65536, 196608] * 2
        cut = steps.buckets(MODEL, 300000)
        self.assertEqual([bucket.elements for bucket in cut], [393216, 393216, 327680, 196608, 256000])
        self.assertEqual([bucket.first_part for bucket in cut], [2, 1, 1, 1, 0])
        self.assertEqual(sum(sizes) + 256000, sum(bucket.elements for bucket in cut))
        self.assertEqual([bucket.table for bucket in cut], [False] * 4 + [True])
        self.assertEqual(len(steps.buckets(MODEL, 1)), 9)
        divided = steps.buckets(dataclasses.replace(MODEL, positions=10), 300000, divided=True)
        self.assertEqual([bucket.elements for bucket in divided], [393216, 393216, 327680, 196608, 2560 + 256000])
        self.assertEqual([bucket.products for bucket in divided], [True] * 4 + [False])
        with self.assertRaises(ValueError):
            steps.buckets(MODEL, 0)

    def test_one_gpu_exchanges_nothing_whatever_the_strategy(self):
        for strategy in ("data_parallel", "full_shard"):
            result = steps.simulate(own_run(gpus=1, strategy=strategy))
            self.assertEqual((result.exposed, result.communication), (0, 0))
        with self.assertRaisesRegex(ValueError, "no strategy"):
            steps.play(own_run(strategy="pipeline"))

    def test_steps_that_never_end_are_refused(self):
        with self.assertRaisesRegex(ValueError, "1000000 micro-batches of 2 layers would take minutes"):
            steps.play(own_run(micro_batches=10**6))

    def test_micro_batches_exchange_once(self):
        one, four = steps.play(own_run(micro_batches=1)), steps.play(own_run(micro_batches=4))
        self.assertAlmostEqual(one.busy["network"], four.busy["network"])
        self.assertGreater(four.seconds, 2 * one.busy["compute"])

    def test_full_shard_exchanges_with_every_micro_batch(self):
        one = steps.play(own_run(strategy="full_shard", micro_batches=1)).busy["network"]
        two = steps.play(own_run(strategy="full_shard", micro_batches=2)).busy["network"]
        norm = collectives.seconds(FABRIC, "all_reduce", 4.0, 2, 8)
        self.assertAlmostEqual(two - norm, 2 * (one - norm))

    def test_the_slowest_of_many(self):
        mean = lambda drawn: sum(scale for scale, _ in drawn) / len(drawn)  # noqa: E731
        self.assertAlmostEqual(mean(steps.slowest(1, 0.05, 0.0, 1)), 1, delta=0.001)
        self.assertAlmostEqual(mean(steps.slowest(2, 0.05, 0.0, 1)), 1 + 0.05 / math.sqrt(math.pi), delta=0.001)
        self.assertAlmostEqual(mean(steps.slowest(512, 0.05, 0.0, 1)), 1 + 0.05 * 3.04, delta=0.002)
        hosts = [delay for _, delay in steps.slowest(8, 0.0, 1e-3, 1)]
        self.assertAlmostEqual(sum(hosts) / len(hosts), 1e-3 * sum(1 / k for k in range(1, 9)), delta=2e-4)
        self.assertEqual(steps.slowest(8, 0.05, 1e-3, 7), steps.slowest(8, 0.05, 1e-3, 7))
        self.assertNotEqual(steps.slowest(8, 0.05, 1e-3, 7), steps.slowest(8, 0.05, 1e-3, 8))

    def test_interpolated_steps_are_like_played_ones(self):
        run = own_run(software=dataclasses.replace(SOFTWARE, noise=0.05, overlap_slowdown=0.1), bucket_elements=1 << 18)
        drawn = steps.slowest(16, 0.05, 0.0, 3)
        played = sum(steps.play(run, scale).seconds for scale, _ in drawn) / len(drawn)
        self.assertAlmostEqual(steps.mean_seconds(run, drawn) / played, 1, delta=1e-3)


class Published(unittest.TestCase):
    def test_required_rows_are_within_five_points(self):
        done = program("reproduce")
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = dict(line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("figure "))
        self.assertLess(float(figures["scaling/worst_mfu_error"]), 5)
        self.assertLess(float(figures["scaling/worst_efficiency_error"]), 5)
        self.assertGreaterEqual(float(figures["scaling/rows_predicted"]), 2 * float(figures["scaling/rows_fitted"]))
        page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
        stale = [line for line in done.stdout.splitlines() if line.startswith("| ") and line not in page]
        self.assertEqual(stale, [], "docs/scaling.md has other rows than tools/simulate_scaling reproduce --all")

    def test_single_collectives_are_like_published_ones(self):
        done = program("collectives")
        rows = [line.split("|") for line in done.stdout.splitlines() if "NVIDIA/nccl" in line]
        self.assertGreaterEqual(len(rows), 7, done.stderr)
        for row in rows:
            self.assertAlmostEqual(float(row[6]), 1, delta=0.2, msg="|".join(row))

    def test_fails_when_a_row_is_out(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(INPUTS, folder, dirs_exist_ok=True)
            path = Path(folder, "software.json")
            files = json.loads(path.read_text(encoding="utf-8"))
            files["software"]["mosaic-h100"]["layer_bytes"]["value"] = 2000
            path.write_text(json.dumps(files), encoding="utf-8")
            done = program("--inputs", folder, "reproduce")
        self.assertEqual(done.returncode, 1)
        self.assertIn("MosaicML 125M on 8 h100 is out by", done.stderr)

    def test_parameters_are_what_a_fit_gives(self):
        """At the values in the files the rows of a group are met as well as they can be."""
        for group in calibrate.GROUPS:
            inputs = Inputs(INPUTS, ROOT)
            rows = [row for row in inputs.published() if row.calibrates == group]
            self.assertGreaterEqual(len(rows), len(calibrate.parameters(inputs, group)))
            for row in rows:
                speed = steps.simulate(row.run).tokens_per_gpu
                self.assertAlmostEqual(speed / row.tokens_per_second, 1, delta=0.01, msg=f"{group}: {row.group}")

    def test_a_fit_finds_what_was_changed(self):
        inputs = Inputs(INPUTS, ROOT)
        wanted = {one.name: one.value for one in calibrate.parameters(inputs, "torchtitan")}
        for one in calibrate.parameters(inputs, "torchtitan"):
            one.value *= 1.15
        found, error = calibrate.fit(inputs, "torchtitan")
        self.assertLess(error, 0.005)
        for name, value in wanted.items():
            self.assertAlmostEqual(found[name] / value, 1, delta=0.02, msg=name)

    def test_files_are_laid_out_as_a_fit_writes_them(self):
        for name in ("devices", "software"):
            text = (INPUTS / f"{name}.json").read_text(encoding="utf-8")
            self.assertEqual(text, calibrate.layout(json.loads(text)) + "\n", name)


class Predictions(unittest.TestCase):
    def test_more_gpus_are_less_efficient_and_shares_add_up(self):
        inputs = Inputs(INPUTS, ROOT)
        for rows_of in (lambda gpus: 512 // gpus, lambda gpus: 64):
            found = [predict.predict(inputs, "h100", "364m", gpus, rows_of(gpus)) for gpus in (8, 64, 512)]
            efficiencies = [one.efficiency for one in found]
            self.assertEqual(efficiencies, sorted(efficiencies, reverse=True))
            for one in found:
                self.assertLess(one.efficiency, 1)
                self.assertAlmostEqual(1 - sum(one.lost.values()), one.efficiency, places=6)

    def test_what_if_changes_what_it_says(self):
        inputs = Inputs(INPUTS, ROOT)
        changes = dict(predict.what_if(0.05))
        base = predict.predict(inputs, "h100", "79m", 64, 8).efficiency
        for name in ("collectives without latency", "collectives that cost compute nothing", "no GPU ever slower"):
            self.assertGreater(predict.predict(inputs, "h100", "79m", 64, 8, changes[name]).efficiency, base, name)
        for name in ("half the network", "GPUs that vary by 5.0 %, as MosaicML's", "hosts that delay a step by 0.2 ms"):
            self.assertLess(predict.predict(inputs, "h100", "79m", 64, 8, changes[name]).efficiency, base, name)
        self.assertEqual(predict.predict(inputs, "h100", "79m", 64, 8, changes["as configured"]).efficiency, base)

    def test_commands_answer(self):
        done = program("step", "79m", "64", "--two-levels", "--bucket-elements", "16777216")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"figure scaling/step \d+\.\d+ ms")
        self.assertIn("| backward 8 | compute |", done.stdout)
        self.assertIn("assumed", program("inputs").stdout)
        self.assertIn("what-if", program("--help").stdout)
        for words, said in (
            (("step", "80m", "8"), "there is no 80m"),
            (("step", "79m", "12"), "12 GPUs do not fill nodes of 8"),
            (("step", "79m", "8", "--rows", "65"), "65 rows per GPU cannot be computed 64 at once"),
            (("step", "79m", "-8", "--rows", "8"), "79m on -8 GPUs"),
            (("step", "79m", "8", "--rows", "64000000"), "1000000 micro-batches, at most"),
            (("step", "79m", "8", "--bucket-elements", "-1"), "a bucket of -1 elements"),
            (("predict", "--cluster", "v100"), "there is no v100"),
            (("--inputs", "/nowhere", "inputs"), "/nowhere/devices.json: No such file"),
        ):
            done = program(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(said, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


class Damage(unittest.TestCase):
    """Whatever is in the files, the answer is a result or an InputError that names the file."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copytree(INPUTS, self.folder, dirs_exist_ok=True)

    def read_all(self):
        inputs = Inputs(self.folder, ROOT)
        inputs.published()
        for cluster in inputs.table("ours", "clusters"):
            for name in inputs.table("ours", "models"):
                predict.run_of(inputs, cluster, name, 8, 64)
        inputs.own_counts("gpus")

    def change(self, file, change):
        path = self.folder / f"{file}.json"
        entries = json.loads((INPUTS / f"{file}.json").read_text(encoding="utf-8"))
        change(entries)
        path.write_text(json.dumps(entries), encoding="utf-8")

    def test_every_truncation_is_an_error(self):
        for name in ("devices", "fabrics", "software", "published", "ours"):
            path = self.folder / f"{name}.json"
            data = path.read_bytes()
            for length in range(0, len(data.rstrip()), 1 if len(data) < 8000 else 5):
                path.write_bytes(data[:length])
                with self.assertRaisesRegex(InputError, f"{name}.json"):
                    read_json(path)
            path.write_bytes(data)

    def test_flipped_bytes_are_noticed_or_harmless(self):
        generator = random.Random(5)
        for name in ("devices", "fabrics", "software", "published", "ours"):
            path = self.folder / f"{name}.json"
            data = path.read_bytes()
            for _ in range(40):
                place = generator.randrange(len(data))
                path.write_bytes(data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :])
                try:
                    self.read_all()
                except InputError as error:
                    self.assertRegex(str(error), r"\.json")
            path.write_bytes(data)

    def test_a_number_says_where_it_comes_from(self):
        self.change("devices", lambda all: all["devices"]["h100"]["peak"].pop("source"))
        with self.assertRaisesRegex(InputError, "devices.json: h100: peak: a number says where it comes from"):
            self.read_all()
        self.change("devices", lambda all: all["devices"]["h100"]["peak"].update(assumed="no"))
        with self.assertRaisesRegex(InputError, "source and assumed"):
            self.read_all()

    def test_wrong_entries_are_named(self):
        for file, change, said in (
            (
                "devices",
                lambda all: all["devices"]["h100"]["peak"].update(value="fast"),
                'peak: "fast" is not a number',
            ),
            ("devices", lambda all: all["devices"]["h100"]["peak"].update(value=-1), "peak: -1 is not a number from 0"),
            ("devices", lambda all: all["devices"]["h100"]["memory"].update(value=0), "memory: 0.0 must be positive"),
            ("devices", lambda all: all["devices"]["h100"].update(colour={}), "h100: unknown colour"),
            ("devices", lambda all: all["devices"]["h200"]["product_share"].update(like="h200"), "is like itself"),
            ("devices", lambda all: all["tiles"].update(value=[[128, 0, 1]]), "tiles: expected lists"),
            ("fabrics", lambda all: all["rings"].clear(), "rings: there must be one protocol"),
            ("software", lambda all: all["software"]["llm.c"].update(like="nobody"), "there is no nobody"),
            ("software", lambda all: all["software"]["llm.c"]["attention"].update(value={"32": 1}), "nothing for 64"),
            (
                "software",
                lambda all: all["software"]["mosaic-h100"]["recompute"].update(value=2),
                "recompute is at most 1",
            ),
            ("published", lambda all: all["groups"][0].update(model="gpt-9"), "there is no gpt-9"),
            ("published", lambda all: all["groups"][0].update(tokens="many"), 'tokens is "many", expected int'),
            ("published", lambda all: all["groups"][0]["rows"].append([8, 1]), r"\[8, 1\] is not a row of"),
            ("published", lambda all: all["groups"][0]["rows"][0].__setitem__(0, 0), "gpus is 0, expected a positive"),
            (
                "published",
                lambda all: all["groups"][0]["rows"][0].__setitem__(2, 10**9),
                "micro_batches is 1000000000, at most",
            ),
            ("published", lambda all: all["models"]["mpt-1b"].update(layers=10**9), "1000000000 layers, at most"),
            ("published", lambda all: all["models"]["mpt-1b"].update(heads=True), "heads is true, expected int"),
            ("ours", lambda all: all["gpus"].update(value=[8.5]), "expected a list of whole numbers"),
            ("ours", lambda all: all["models"].update({"79m": "configs/none.yaml"}), "none.yaml: cannot be read"),
            ("ours", lambda all: all["bucket_elements"].update(value=0.5), "0.5 is not a positive whole number"),
        ):
            self.change(file, change)
            with self.assertRaisesRegex(InputError, said):
                self.read_all()
            shutil.copy(INPUTS / f"{file}.json", self.folder)

    def test_odd_json_is_an_error(self):
        for text in ("[]", "1", '"x"', "[" * 100000, '{"devices": ' + "9" * 5000 + "}", "{}", '{"devices": NaN}'):
            (self.folder / "devices.json").write_text(text, encoding="utf-8")
            with self.assertRaises(InputError):
                self.read_all()
        (self.folder / "devices.json").write_bytes(b'{"a": "\xff"}')
        with self.assertRaisesRegex(InputError, "not UTF-8"):
            self.read_all()

    def test_odd_configurations_are_errors(self):
        config = self.folder / "odd.yaml"
        for text, said in (
            ("", "model.layers is ''"),
            ("model:\n  layers: -1\n", "'-1'"),
            ("model:\n  layers: 1e3\n", "'1e3'"),
        ):
            config.write_text(text, encoding="utf-8")
            self.change("ours", lambda all: all["models"].update({"79m": str(config)}))
            with self.assertRaisesRegex(InputError, said):
                self.read_all()


if __name__ == "__main__":
    unittest.main()
