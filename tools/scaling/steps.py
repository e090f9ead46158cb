"""The tasks of one training step, of the programs that are simulated."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics

from . import collectives, compute
from .collectives import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, Fabric
from .compute import Batch, Device, Model, Software
from .events import COMPUTE, Schedule, Timeline

SAMPLES = 256  # steps over whose slowest GPUs a step's time is averaged
MOST_LAYERS = 100_000  # of all micro-batches
PLAYED = 5  # of them that are played; times between are interpolated


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a step depends on."""

    device: Device
    fabric: Fabric
    software: Software
    model: Model
    batch: Batch  # of a micro-batch
    micro_batches: int
    gpus: int
    strategy: str  # "full_shard" (FSDP) or "data_parallel" (ours)
    gradient_bytes: int = 4  # of an element, as gradients are exchanged
    weight_bytes: int = 2  # of an element of a product's weight, as weights are gathered
    other_weight_bytes: int = 4  # of all others (tables, patches), data_parallel alone
    shard_optimizer: bool = True  # data_parallel alone
    overlap: bool = True  # data_parallel alone
    two_level: bool = False
    bucket_elements: int = 1 << 22  # data_parallel alone

    def divides_masters(self) -> bool:
        """Whether a GPU keeps fp32 values of its own part of the products' weights alone."""
        return self.shard_optimizer and self.gpus > 1 and self.weight_bytes < self.other_weight_bytes


@dataclasses.dataclass(frozen=True)
class Result:
    """Seconds of a step, and of it what each cause adds."""

    seconds: float
    compute: float  # forward and backward alone
    optimizer: float  # its pass over its part of the parameters, and what the program does between steps
    exposed: float  # collectives that compute waits for, and what it loses to those that run beside it
    stragglers: float  # waiting for the slowest GPU
    communication: float  # all collectives, hidden or not
    tokens_per_gpu: float  # per second


class _Builder:
    """Adds compute one after the other and collectives as they become possible."""

    def __init__(self, run: Run, with_collectives: bool):
        self.run, self.with_collectives = run, with_collectives
        self.schedule = Schedule()
        self.last = -1  # compute task added last

    def compute(self, name: str, seconds: float, after: list[int] | tuple[int, ...] = ()) -> int:
        self.last = self.schedule.add(name, COMPUTE, seconds, after)
        return self.last

    def collective(self, name: str, operation: str, size: float, after: list[int]) -> int:
        """Returns the task after which its result is there."""
        run = self.run
        parts = collectives.stages(run.fabric, operation, size, run.gpus, run.two_level)
        for resource, seconds in parts:
            task = self.schedule.add(name, resource, seconds if self.with_collectives else 0.0, after)
            after = [task]
        return after[0]


def _full_shard(run: Run, build: _Builder) -> None:
    """PyTorch's FSDP as it is set in the published runs: a unit per layer and one of the tables; weights gathered
    before forward and again before backward, at most two units ahead; gradients scattered by every micro-batch."""
    layer = compute.layer_cost(run.device, run.software, run.model, run.batch)
    head = compute.head_cost(run.device, run.software, run.model, run.batch)
    embedding = compute.embedding_cost(run.device, run.software, run.model, run.batch)
    layers, size = run.model.layers, float(run.model.layer_parameters())
    root = run.model.parameters() - layers * size
    ready: list[int] = []  # what the optimizer waits for
    for _ in range(run.micro_batches):
        begin = [build.last] if build.last >= 0 else []
        tables = build.collective("gather tables", ALL_GATHER, root * run.weight_bytes, begin)
        forward = [build.compute("embedding", embedding.forward, [tables])]
        gathers = [
            build.collective(f"gather {i}", ALL_GATHER, size * run.weight_bytes, begin) for i in range(min(2, layers))
        ]
        for i in range(layers):
            forward.append(build.compute(f"forward {i}", layer.forward, [gathers[i]]))
            if i + 2 < layers:
                gathers.append(build.collective(f"gather {i + 2}", ALL_GATHER, size * run.weight_bytes, [forward[-1]]))
        build.compute("head", head.forward + head.backward)
        waits = [build.last]
        again = [build.collective(f"gather {layers - 1} again", ALL_GATHER, size * run.weight_bytes, [forward[-1]])]
        for i in reversed(range(layers)):
            if i > 0:  # the next unit's weights are asked for before this one's gradients are
                again.append(build.collective(f"gather {i - 1} again", ALL_GATHER, size * run.weight_bytes, waits))
            waits = [build.compute(f"backward {i}", layer.backward, [again[layers - 1 - i]])]
            ready.append(build.collective(f"scatter {i}", REDUCE_SCATTER, size * run.gradient_bytes, waits))
        end = build.compute("embedding's backward", embedding.backward)
        ready.append(build.collective("scatter tables", REDUCE_SCATTER, root * run.gradient_bytes, [end]))
    norm = build.collective("norm", ALL_REDUCE, 4.0, ready)
    build.compute(
        "optimizer", compute.optimizer_seconds(run.device, run.software, run.model.parameters() / run.gpus), [norm]
    )


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Consecutive parameters, exchanged at once. Parts of the model are numbered as forward passes them: 0 is the
    embedding, 1 .. layers the layers."""

    elements: int
    first_part: int  # needed first in forward, and finished last in backward
    table: bool  # the token table, which the head uses too
    products: bool = False  # nothing but weights of products, in divided buckets


def buckets(model: Model, elements: int, divided: bool = False) -> list[Bucket]:
    """In the order in which backward finishes them, as ParameterStore::buckets cuts them: whole parameters, each bucket
    closed once it has `elements`, the token table by itself. With `divided` masters the weights of products come first,
    in buckets of their own, and the token table is among the rest."""
    if elements < 1:
        raise ValueError(f"a bucket of {elements} elements")
    # A layer's parameters as declare_block (src/model/layout.cpp) orders them: the last product first.
    sizes = [
        (columns * inner, layer, divided)
        for layer in range(model.layers, 0, -1)
        for columns, inner in reversed(model.products())
    ]
    sizes += [(size, 0, False) for size in (model.patches, model.positions * model.width) if size]
    result: list[Bucket] = []
    if not model.tied:
        head = (model.head_parameters(), 0 if divided else model.layers, False)
        sizes.insert(len(sizes) if divided else 0, head)
    filled = elements
    for size, part, products in sizes:
        if filled >= elements or result[-1].products != products:
            result.append(Bucket(0, part, False))
            filled = 0
        filled += size
        result[-1] = Bucket(filled, part, False, products)
    table = model.head_parameters()
    if divided and not result[-1].products and filled < elements:
        table += result.pop().elements
    result.append(Bucket(table, 0, True))
    return result


def _data_parallel(run: Run, build: _Builder) -> None:
    """Ours: gradients of all micro-batches add up on each GPU; while the last one's backward goes on, buckets that it
    has finished are exchanged. With shard_optimizer each GPU updates its part of every bucket, and weights are gathered
    while the next forward, which begins the step here, goes on."""
    layer = compute.layer_cost(run.device, run.software, run.model, run.batch)
    head = compute.head_cost(run.device, run.software, run.model, run.batch)
    embedding = compute.embedding_cost(run.device, run.software, run.model, run.batch)
    parts = [embedding] + [layer] * run.model.layers  # as Bucket numbers them
    parted = buckets(run.model, run.bucket_elements, run.divides_masters())
    needs: dict[int, list[int]] = {}
    rounding = [0.0] * len(parts)  # of the first micro-batch, for weights that come in fp32: 6 bytes per element
    if run.shard_optimizer and run.gpus > 1:
        for bucket in reversed(parted):
            part = bucket.first_part if run.overlap else 0
            width = run.weight_bytes if bucket.products else run.other_weight_bytes
            task = build.collective("gather", ALL_GATHER, float(bucket.elements * width), [])
            needs.setdefault(part, []).append(task)
            if width == 4:
                rounding[part] += compute.stream_seconds(run.device, run.software, 6.0 * bucket.elements, 1)
    for micro_batch in range(run.micro_batches):
        last = micro_batch == run.micro_batches - 1
        for i, cost in enumerate(parts):
            more = rounding[i] if micro_batch == 0 else 0.0
            build.compute(f"forward {i}", cost.forward + more, needs.pop(i, []))
        build.compute("head", head.forward + head.backward)
        finished = {i: build.compute(f"backward {i}", parts[i].backward) for i in reversed(range(len(parts)))}
        if last:
            _exchange_gradients(run, build, parted, finished)


def _exchange_gradients(run: Run, build: _Builder, parted: list[Bucket], finished: dict[int, int]) -> None:
    operation = REDUCE_SCATTER if run.shard_optimizer else ALL_REDUCE
    ready = []
    for bucket in parted:
        after = finished[bucket.first_part] if run.overlap else finished[0]
        ready.append(build.collective("exchange", operation, float(bucket.elements * run.gradient_bytes), [after]))
    # Norm, loss sums and what all must agree on are one small all-reduce.
    agreed = build.collective("norm", ALL_REDUCE, 64.0, ready)
    held = run.model.parameters() / (run.gpus if run.shard_optimizer else 1)
    build.compute("optimizer", compute.optimizer_seconds(run.device, run.software, held), [agreed])


def tasks(run: Run, compute_scale: float = 1.0, with_collectives: bool = True) -> Schedule:
    """Of one step. What the program does between steps takes its time whatever the GPU's speed."""
    if run.gpus < 1 or run.micro_batches < 1:
        raise ValueError(f"a step of {run.micro_batches} micro-batches on {run.gpus} GPUs")
    if run.micro_batches * run.model.layers > MOST_LAYERS:
        layers = f"{run.micro_batches} micro-batches of {run.model.layers} layers"
        raise ValueError(f"a step of {layers} would take minutes to play, at most {MOST_LAYERS} in all")
    builders = {"full_shard": _full_shard, "data_parallel": _data_parallel}
    if run.strategy not in builders:
        raise ValueError(f"there is no strategy {run.strategy!r}; known are {', '.join(builders)}")
    build = _Builder(run, with_collectives)
    builders[run.strategy](run, build)
    build.schedule.add("program", COMPUTE, run.software.step / compute_scale, [build.last])
    return build.schedule


def play(run: Run, compute_scale: float = 1.0, with_collectives: bool = True) -> Timeline:
    """One step of a GPU whose compute takes `compute_scale` times as long as it should."""
    schedule = tasks(run, compute_scale, with_collectives)
    return schedule.run(compute_scale, run.software.overlap_slowdown if with_collectives else 0.0)


def slowest(gpus: int, noise: float, host: float, seed: int) -> list[tuple[float, float]]:
    """Of SAMPLES steps the time of the slowest of `gpus` GPUs as a multiple of the mean, and the largest delay by a
    host. The largest of n independent values is one at whose probability the n-th root lies; samples are spread evenly.
    """
    generator, normal = random.Random(seed), statistics.NormalDist()
    drawn = []
    for i in range(SAMPLES):
        high = ((i + generator.random()) / SAMPLES) ** (1.0 / gpus)
        scale = 1.0 + noise * normal.inv_cdf(min(max(high, 1e-12), 1 - 1e-12))
        other = generator.random() ** (1.0 / gpus)
        drawn.append((max(scale, 0.1), -host * math.log1p(-min(other, 1 - 1e-15))))
    return drawn


def _interpolate(points: list[tuple[float, float]], at: float) -> float:
    """Of points ordered by their first number, at least two; straight lines go on beyond the ends."""
    right = next((i for i in range(1, len(points) - 1) if points[i][0] >= at), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def mean_seconds(run: Run, drawn: list[tuple[float, float]]) -> float:
    """Of steps whose slowest GPUs are `drawn`, on average. A step's time grows with compute in few straight pieces."""
    least, most = min(scale for scale, _ in drawn), max(scale for scale, _ in drawn)
    if most - least < 1e-9:
        return play(run, least).seconds + statistics.fmean(host for _, host in drawn)
    scales = [least + (most - least) * i / (PLAYED - 1) for i in range(PLAYED)]
    points = [(scale, play(run, scale).seconds) for scale in scales]
    return statistics.fmean(_interpolate(points, scale) + host for scale, host in drawn)


def simulate(run: Run, seed: int = 1) -> Result:
    seconds = mean_seconds(run, slowest(run.gpus, run.software.noise, run.software.host_noise, seed))
    even, alone = play(run), play(run, with_collectives=False)
    held = run.model.parameters() / (run.gpus if run.strategy == "full_shard" or run.shard_optimizer else 1)
    optimizer = compute.optimizer_seconds(run.device, run.software, held) + run.software.step
    links = sum(time for resource, time in even.busy.items() if resource != COMPUTE)
    return Result(
        seconds,
        alone.seconds - optimizer,
        optimizer,
        even.seconds - alone.seconds,
        seconds - even.seconds,
        links,
        run.batch.all_tokens() * run.micro_batches / seconds,
    )
