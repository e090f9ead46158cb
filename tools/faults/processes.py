#!/usr/bin/env python3
"""Campaigns of faults on whole training processes; the results at full size are in docs/reliability.md.

    tools/faults/processes.py kill   [--trials 200]   SIGKILL at random times
    tools/faults/processes.py term   [--trials 50]    SIGTERM at random times: saved, exit code 75, at most 25 s
    tools/faults/processes.py resume [--trials 10]    stopped at random steps: the same bits in the end
    tools/faults/processes.py stop   [--trials 4]     SIGSTOP of one of several processes: the others end and name it
    tools/faults/processes.py calls  [--trials 60]    a system call that fails, by an interposed library

--processes N trains with N processes (gradients over Gloo), --bin DIR says where the programs are (build/dev/bin), --work
DIR keeps everything that was made. Every campaign compares the parameters of the finished run, bit for bit, with those of
a run that nobody disturbed. Prints `figure NAME VALUE UNIT` lines; exits with 1 when anything was not as it must be.
"""
import argparse
import filecmp
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUITE = "name: tiny\ntasks:\n  - {pattern: control/point_mass, episodes: 12}\n"
STEPS, SAVE_EVERY = 300, 20
CONFIG = f"""data: {{row_tokens: 64, loader_threads: 1, prefetch_batches: 2}}
model: {{layers: 1, width: 32, heads: 2, head_dim: 16, hidden: 64, patch_channels: 8}}
optimizer: {{learning_rate: 0.003, warmup_steps: 5}}
train: {{steps: {STEPS}, batch_rows: 12, micro_batch_rows: 1, validation_rows: 4, log_every: 10, validate_every: 50,
  checkpoint_every: {SAVE_EVERY}, threads: 1}}
"""
FINISHED, FAILED, PREEMPTED, PEER = 0, 1, 75, 76


class Broken(Exception):
    """Something was not as it must be."""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Bench:
    """Data, configuration and the undisturbed run of a campaign."""

    def __init__(self, options):
        self.bin = pathlib.Path(options.bin).resolve()
        self.processes = options.processes
        self.extra = options.setting
        self.work = pathlib.Path(options.work or tempfile.mkdtemp(prefix="gato_faults_")).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.random = random.Random(options.seed)
        (self.work / "suite.yaml").write_text(SUITE)
        (self.work / "tiny.yaml").write_text(CONFIG)
        if not (self.work / "data").exists():
            self.call([self.bin / "gato-data", "collect", "--suite", "suite.yaml", "--reference-episodes", "2", "--out", "data"])

    def call(self, command):
        done = subprocess.run(list(map(str, command)), cwd=self.work, env=self.environment(), capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(f"{command}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        return done

    def environment(self, **more):
        return {**os.environ, "GATO_ROOT": str(ROOT), "OMP_NUM_THREADS": "1", **more}

    def start(self, run, *settings, processes=None, **environment):
        return Run(self, run, [*self.extra, *settings], processes or self.processes, environment)

    def reference(self):
        """The undisturbed run, and how long it takes."""
        begin = time.monotonic()
        codes = self.start("reference").wait()
        if any(codes):
            raise Broken(f"the undisturbed run ended with {codes}: see {self.work}/reference-*.txt")
        return time.monotonic() - begin

    def same_as_reference(self, run):
        name = f"checkpoints/step-{STEPS:08d}"
        files = sorted(path.name for path in (self.work / "reference" / name).glob("*.safetensors"))  # parts, when divided
        if "model.safetensors" not in files or len(files) < 2:
            raise Broken(f"the undisturbed run saved only {files}")
        for file in files:
            other = self.work / run / name / file
            if not other.exists() or not filecmp.cmp(self.work / "reference" / name / file, other, shallow=False):
                raise Broken(f"{run}: {file} is not that of the undisturbed run")

    def newest_step(self, run):
        steps = [int(path.parent.name[5:]) for path in (self.work / run / "checkpoints").glob("step-*/MANIFEST.json")
                 if re.fullmatch(r"step-\d+", path.parent.name)]
        return max(steps, default=0)


class Run:
    """The processes of one start of gato-train, each with its output in a file."""

    def __init__(self, bench, run, settings, processes, environment):
        self.bench, self.run, self.begin = bench, run, time.monotonic()
        command = [str(bench.bin / "gato-train"), "--config", "tiny.yaml", "data.datasets=[data]", f"run.dir={run}", *settings]
        port = free_port()
        self.outputs, self.children = [], []
        for rank in range(processes):
            place = {} if processes == 1 else {
                "RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            output = bench.work / f"{run}-{rank}.txt"
            self.outputs.append(output)
            with open(output, "wb") as file:
                self.children.append(subprocess.Popen(command, cwd=bench.work, stdout=file, stderr=subprocess.STDOUT,
                                                      env=bench.environment(**place, **environment)))

    def signal(self, number, ranks=None):
        for rank, child in enumerate(self.children):
            if (ranks is None or rank in ranks) and child.poll() is None:
                child.send_signal(number)

    def running(self):
        return any(child.poll() is None for child in self.children)

    def wait(self, timeout=120, ranks=None):
        """Exit codes; those of processes that a signal ended are negative. Nobody is left running after `timeout`."""
        deadline = time.monotonic() + timeout
        chosen = [child for rank, child in enumerate(self.children) if ranks is None or rank in ranks]
        for child in chosen:
            try:
                child.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.end()
                raise Broken(f"{self.run}: a process still ran after {timeout} s: {self.text()[-3000:]}") from None
        return [child.returncode for child in chosen]

    def end(self):
        for child in self.children:
            child.kill()
            child.wait()

    def text(self, rank=0):
        return self.outputs[rank].read_text(errors="replace")


def note(text):
    print(text, flush=True)


def figure(name, value, unit):
    print(f"figure faults/{name} {value} {unit}", flush=True)


class Rounds:
    """One run after the other: as soon as one has finished it is compared, and the next begins."""

    def __init__(self, bench, name):
        self.bench, self.name, self.number, self.finished = bench, name, 1, 0

    @property
    def run(self):
        return f"{self.name}-{self.number}"

    def finish(self):
        self.bench.same_as_reference(self.run)
        self.number, self.finished = self.number + 1, self.finished + 1


def finish_last(bench, rounds, *settings):
    codes = bench.start(rounds.run, *settings).wait()
    if any(codes):
        raise Broken(f"{rounds.run} is lost: {codes}")
    rounds.finish()


def kill(bench, trials):
    """Random kills may well hit the same step three times: the guard against that is off."""
    settings = ["train.max_failures_per_step=0"]
    whole, rounds, killed, before = bench.reference(), Rounds(bench, "killed"), 0, 0
    while killed < trials:
        train = bench.start(rounds.run, *settings)
        time.sleep(bench.random.uniform(0.05, 0.8 * whole))
        still = train.running()
        train.signal(signal.SIGKILL)
        codes = train.wait()
        if not still or not any(codes):
            if any(codes):
                raise Broken(f"{rounds.run} is lost: exit codes {codes}: {train.text()[-3000:]}")
            rounds.finish()
            before = 0
            continue
        killed += 1
        step = bench.newest_step(rounds.run)
        if step < before:
            raise Broken(f"{rounds.run}: checkpoint {before} is lost, the newest is {step}")
        before = step
        if killed % 20 == 0:
            note(f"{killed} kills, {rounds.finished} runs finished, now at step {step}")
    finish_last(bench, rounds, *settings)
    figure("kill/kills", killed, "kills")
    figure("kill/lost_runs", 0, "runs")
    figure("kill/wrong_loads", 0, "runs")


def term(bench, trials):
    whole, rounds, stopped, longest, at_step = bench.reference(), Rounds(bench, "stopped"), 0, 0.0, 0
    while stopped < trials:
        train = bench.start(rounds.run)
        time.sleep(bench.random.uniform(0.02, 0.8 * whole))
        if not train.running():
            train.wait()
            rounds.finish()
            continue
        begin = time.monotonic()
        # A launcher signals all processes, a careless person one; before they have met, only all of them can hear of it.
        one = " step " in train.text() and bench.random.random() < 0.5
        train.signal(signal.SIGTERM, {bench.random.randrange(bench.processes)} if one else None)
        codes = train.wait()
        longest = max(longest, time.monotonic() - begin)
        if not any(codes):  # it came in the last moment
            rounds.finish()
            continue
        if any(code not in (PREEMPTED, -signal.SIGTERM) for code in codes):
            raise Broken(f"{rounds.run}: exit codes {codes}: {train.text()[-3000:]}")
        if -signal.SIGTERM in codes:
            continue  # it came before main() could ask for the signal: nothing had begun
        stopped += 1
        said = re.search(r"stopped by a signal at step (\d+)", train.text())
        if said:
            at_step += 1
            if bench.newest_step(rounds.run) != int(said.group(1)):
                raise Broken(f"{rounds.run}: it says step {said.group(1)}, but step {bench.newest_step(rounds.run)} is saved")
    finish_last(bench, rounds)
    if longest > 25:
        raise Broken(f"a stop took {longest:.1f} s")
    figure("term/stops", stopped, "stops")
    figure("term/stops_while_training", at_step, "stops")
    figure("term/longest", f"{longest:.2f}", "s")


def resume(bench, trials):
    bench.reference()
    points = sorted(bench.random.sample(range(1, STEPS), trials))
    for point in points:
        run = f"resumed-{point}"
        codes = bench.start(run, GATO_FAULTS=f"step={point},kind=term").wait()
        if set(codes) != {PREEMPTED} or bench.newest_step(run) != point:
            raise Broken(f"{run}: exit codes {codes}, saved step {bench.newest_step(run)}")
        codes = bench.start(run).wait()
        if any(codes):
            raise Broken(f"{run}: exit codes {codes} after resuming")
        bench.same_as_reference(run)
    note(f"resumed at steps {points}: the same bits each time")
    figure("resume/points_bitwise_equal", len(points), "points")


def stop(bench, trials):
    processes, longest = max(2, bench.processes), 0.0
    for trial in range(trials):
        rank, step, run = bench.random.randrange(processes), bench.random.randrange(2, 60), f"sigstop-{trial}"
        train = bench.start(run, processes=processes, GATO_FAULTS=f"step={step},rank={rank},kind=stop")
        others = [other for other in range(processes) if other != rank]
        wait_for_stop(train.children[rank].pid)
        begin = time.monotonic()
        try:
            codes = train.wait(ranks=others)
            longest = max(longest, time.monotonic() - begin)
            if set(codes) != {PEER}:
                raise Broken(f"{run}: exit codes {codes}: {train.text(others[0])[-3000:]}")
            for other in others:
                if f"rank {rank} (" not in train.text(other) or "is stopped" not in train.text(other):
                    raise Broken(f"{run}: rank {other} does not name rank {rank}: {train.text(other)[-3000:]}")
        finally:
            train.end()
        note(f"rank {rank} of {processes} stopped at step {step}: named by all others")
    figure("stop/trials", trials, "stops")
    figure("stop/longest", f"{longest:.1f}", "s")
    if longest > 90:
        raise Broken(f"a stopped process was noticed after {longest:.1f} s only")


def wait_for_stop(process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        if fields[0] == "T":
            return
        time.sleep(0.02)
    raise Broken("the process that was to stop did not")


def calls(bench, trials):
    """Each trial lets one call fail for good or once. The run reports it, ends or goes on, and nothing is lost."""
    library = bench.work / "failing_calls.so"
    source = pathlib.Path(__file__).with_name("failing_calls.c")
    bench.call([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"])
    bench.reference()
    endings = {}
    for trial in range(trials):
        run = f"calls-{trial}"
        call = bench.random.choice(["write", "fsync", "rename", "open"])
        error = bench.random.choice(["EIO", "ENOSPC", "short"] if call == "write" else ["EIO", "ENOSPC"])
        fault = f"call={call},nth={bench.random.randrange(1, 60)},error={error},path={run}/"
        train = bench.start(run, LD_PRELOAD=str(library), GATO_FAILING_CALLS=fault)
        codes, text = train.wait(), train.text()
        struck = "failing_calls: struck" in text
        if any(code not in (FINISHED, FAILED, PEER) for code in codes):
            raise Broken(f"{fault}: exit codes {codes}: {text[-3000:]}")
        if struck and not any(codes) and error != "short" and not re.search(r"(warning|error)", text):
            raise Broken(f"{fault}: nothing was reported: {text[-3000:]}")
        if any(codes) and not re.search(r"error: .*(Input/output error|No space left)", text):
            raise Broken(f"{fault}: the cause is not named: {text[-3000:]}")
        if any(bench.start(run).wait()):
            raise Broken(f"{fault}: {run} is lost")
        bench.same_as_reference(run)
        ending = ("not reached" if not struck else "ended with 1, went on when started again" if any(codes) else "went on by itself")
        endings[ending] = endings.get(ending, 0) + 1
    for ending, count in sorted(endings.items()):
        figure(f"calls/{ending.replace(' ', '_').replace(',', '')}", count, "trials")


CAMPAIGNS = {"kill": (kill, 200), "term": (term, 50), "resume": (resume, 10), "stop": (stop, 4), "calls": (calls, 60)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--bin", default=str(ROOT / "build/dev/bin"))
    parser.add_argument("--work")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--setting", action="append", default=[], help="key.path=value for every run; may be repeated")
    options = parser.parse_args()
    campaign, usual = CAMPAIGNS[options.campaign]
    try:
        campaign(Bench(options), options.trials or usual)
    except Broken as problem:
        print(f"FAILED: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
