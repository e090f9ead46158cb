"""What the simulator says of our own configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from . import steps
from .collectives import Fabric, Protocol
from .compute import Batch, flops_per_token
from .inputs import MOST, InputError, Inputs, field
from .steps import Result, Run

Change = Callable[[Run], Run]


@dataclasses.dataclass(frozen=True)
class Prediction:
    gpus: int
    run: Run
    result: Result
    efficiency: float  # tokens per second and GPU, of what one GPU does with the same micro-batches and without others
    single: float  # seconds that one GPU alone would take for this GPU's share of the batch, at its best micro-batch
    mfu: float  # operations of useful results, attention's as its mask leaves them, of the data sheet's peak

    @property
    def lost(self) -> dict[str, float]:
        """Of this GPU's step the share that each cause takes, beyond what one GPU alone would need."""
        result = self.result
        others = result.seconds - self.single - result.exposed - result.stragglers
        return {
            "small batch and optimizer": others / result.seconds,
            "exposed exchange": result.exposed / result.seconds,
            "stragglers": result.stragglers / result.seconds,
        }


def run_of(inputs: Inputs, cluster: str, name: str, gpus: int, rows_per_gpu: int) -> Run:
    """One of ours. Micro-batches are as large as the configuration says, or as rows are few."""
    where = f"{inputs.where('ours')}: {cluster}"
    place = field(inputs.table("ours", "clusters"), cluster, dict, inputs.where("ours"))
    if gpus < 1:
        raise InputError(f"{name} on {gpus} GPUs")
    model, sizes = inputs.own_model(name)
    micro_batch = min(sizes["micro_batch"], rows_per_gpu)
    if rows_per_gpu < 1 or rows_per_gpu % micro_batch:
        raise InputError(f"{name}: {rows_per_gpu} rows per GPU cannot be computed {micro_batch} at once")
    if rows_per_gpu // micro_batch > MOST["micro_batches"]:
        raise InputError(f"{name}: {rows_per_gpu // micro_batch} micro-batches, at most {MOST['micro_batches']}")
    batch = Batch(micro_batch, sizes["tokens"], inputs.own("sequence"), inputs.own("loss_share"))
    return Run(
        inputs.device(field(place, "device", str, where)),
        inputs.fabric(field(place, "fabric", str, where)),
        inputs.software(field(place, "software", str, where), model.head_dim),
        model,
        batch,
        rows_per_gpu // micro_batch,
        gpus,
        "data_parallel",
        inputs.own_count("gradient_bytes"),
        inputs.own_count("weight_bytes"),
        inputs.own_count("other_weight_bytes"),
        bucket_elements=max(inputs.own_count("bucket_elements"), gpus * inputs.own_count("bucket_elements_per_gpu")),
    )


def predict(
    inputs: Inputs, cluster: str, name: str, gpus: int, rows_per_gpu: int, change: Change | None = None
) -> Prediction:
    """Beside one GPU that computes the configuration's whole batch by itself, in the configuration's micro-batches."""
    run = run_of(inputs, cluster, name, gpus, rows_per_gpu)
    run = change(run) if change else run
    alone = dataclasses.replace(
        run_of(inputs, cluster, name, 1, inputs.own_model(name)[1]["rows"]), software=run.software
    )
    result, single = steps.simulate(run), steps.simulate(alone)
    useful = flops_per_token(run.model, run.batch.sequence, run.batch.loss_share, True)
    tokens = run.batch.all_tokens() * run.micro_batches
    return Prediction(
        gpus,
        run,
        result,
        result.tokens_per_gpu / single.tokens_per_gpu,
        tokens / single.tokens_per_gpu,
        useful * result.tokens_per_gpu / run.device.peak,
    )


def even_buckets(run: Run, elements: int) -> Run:
    return dataclasses.replace(run, bucket_elements=elements)


def large_weights(run: Run) -> Run:
    """Everything gathered in fp32."""
    return dataclasses.replace(run, weight_bytes=4)


def two_levels(run: Run) -> Run:
    return dataclasses.replace(run, two_level=True)


def small_gradients(run: Run) -> Run:
    return dataclasses.replace(two_levels(run), gradient_bytes=2)


def _noise(run: Run, gpus: float, hosts: float) -> Run:
    return dataclasses.replace(run, software=dataclasses.replace(run.software, noise=gpus, host_noise=hosts))


def _free_collectives(run: Run) -> Run:
    return dataclasses.replace(run, software=dataclasses.replace(run.software, overlap_slowdown=0.0))


def _fabric(run: Run, change: Callable[[Fabric], Fabric]) -> Run:
    return dataclasses.replace(run, fabric=change(run.fabric))


def _at_once(fabric: Fabric) -> Fabric:
    def quick(protocol: Protocol) -> Protocol:
        return dataclasses.replace(protocol, base=0.0, nvlink_hop=0.0, network_hop=0.0)

    return dataclasses.replace(
        fabric,
        multicast_base=0.0,
        rings={key: quick(value) for key, value in fabric.rings.items()},
        trees={key: quick(value) for key, value in fabric.trees.items()},
    )


def what_if(noise_elsewhere: float) -> list[tuple[str, Change]]:
    """Names and changes of a run; a name that begins with + adds to the one before."""
    return [
        ("as configured", lambda run: run),
        ("buckets of 4 Mi elements, however many GPUs", lambda run: even_buckets(run, 1 << 22)),
        ("+ weights gathered in fp32", lambda run: large_weights(even_buckets(run, 1 << 22))),
        ("weights gathered in fp32", large_weights),
        ("buckets of half the size", lambda run: even_buckets(run, run.bucket_elements // 2)),
        ("buckets of twice the size", lambda run: even_buckets(run, 2 * run.bucket_elements)),
        ("reduced inside nodes first (two levels)", two_levels),
        ("+ gradients exchanged in bf16", small_gradients),
        ("+ no GPU ever slower", lambda run: _noise(small_gradients(run), 0.0, 0.0)),
        ("collectives without latency", lambda run: _fabric(run, _at_once)),
        ("collectives that cost compute nothing", _free_collectives),
        ("half the network", lambda run: _fabric(run, lambda f: dataclasses.replace(f, network=f.network / 2))),
        ("no GPU ever slower", lambda run: _noise(run, 0.0, 0.0)),
        (
            f"GPUs that vary by {100 * noise_elsewhere:.1f} %, as MosaicML's",
            lambda run: _noise(run, noise_elsewhere, run.software.host_noise),
        ),
        ("hosts that delay a step by 0.2 ms", lambda run: _noise(run, run.software.noise, 2e-4)),
    ]
