"""How long collectives take on a network of two levels: NVLink inside a node, InfiniBand or Ethernet between nodes.

The model is the one by which NCCL chooses between its own algorithms and protocols (src/graph/tuning.cc): a base
latency, a latency per hop, and bytes over bandwidth. As NCCL does, the fastest choice counts."""

from __future__ import annotations

import dataclasses
import math

NVLINK, NETWORK = "nvlink", "network"
ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER = "all_reduce", "reduce_scatter", "all_gather"
OPERATIONS = (ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One algorithm with one protocol of NCCL's."""

    base: float  # seconds
    nvlink_hop: float
    network_hop: float
    share: float  # of the links' bandwidth
    most_one_node: float  # bytes per second
    most_more_nodes: float


@dataclasses.dataclass(frozen=True)
class Fabric:
    gpus_per_node: int
    nvlink: float  # bytes per second that a GPU's ring gets inside a node
    network: float  # the same for a GPU's part of its node's network cards
    rings: dict[str, Protocol]
    trees: dict[str, Protocol]
    multicast: float = 0.0  # bytes per second of an all-reduce that the NVLink switch adds up; 0: it cannot
    multicast_base: float = 0.0  # seconds


def _bandwidth(protocol: Protocol, bus: float, nodes: int) -> float:
    return min(protocol.share * bus, protocol.most_one_node if nodes == 1 else protocol.most_more_nodes)


def _ring(protocol: Protocol, operation: str, size: float, nodes: int, per_node: int, bus: float) -> float:
    rounds = 2 if operation == ALL_REDUCE else 1
    steps = rounds * (nodes * per_node - 1)
    between = rounds * (nodes - 1)
    latency = protocol.base + (steps - between) * protocol.nvlink_hop + between * protocol.network_hop
    return latency + size * steps / (nodes * per_node) / _bandwidth(protocol, bus, nodes)


def _tree(protocol: Protocol, size: float, nodes: int, per_node: int, bus: float) -> float:
    hops = (per_node - 1) * protocol.nvlink_hop + math.ceil(math.log2(nodes)) * protocol.network_hop
    return protocol.base + 2 * hops + 2 * size / _bandwidth(protocol, bus, nodes)


def seconds(fabric: Fabric, operation: str, size: float, nodes: int, per_node: int) -> float:
    """Of one collective over `per_node` GPUs in each of `nodes` nodes. `size` in bytes is that of the whole: what every
    GPU has before a reduce-scatter or an all-reduce, and after an all-gather."""
    if operation not in OPERATIONS:
        raise ValueError(f"there is no collective {operation!r}; known are {', '.join(OPERATIONS)}")
    if size < 0 or nodes < 1 or not 1 <= per_node <= fabric.gpus_per_node:
        raise ValueError(f"{operation} of {size} bytes over {nodes} nodes with {per_node} GPUs each makes no sense")
    if nodes * per_node == 1 or size == 0:
        return 0.0
    # A ring enters and leaves every node once per network card, and each ring's data crosses all of them.
    bus = fabric.nvlink if nodes == 1 else per_node * fabric.network
    if per_node > 1:
        bus = min(bus, fabric.nvlink)
    times = [_ring(protocol, operation, size, nodes, per_node, bus) for protocol in fabric.rings.values()]
    if operation == ALL_REDUCE:
        times += [_tree(protocol, size, nodes, per_node, bus) for protocol in fabric.trees.values()]
        if nodes == 1 and fabric.multicast and per_node > 2:
            times.append(fabric.multicast_base + size / fabric.multicast)
    return min(times)


def stages(fabric: Fabric, operation: str, size: float, gpus: int, two_level: bool) -> list[tuple[str, float]]:
    """The parts of a collective over `gpus` GPUs, one after the other, each with the link that it occupies. Two levels:
    nodes reduce among their GPUs first, so that each GPU exchanges its part with one GPU of every other node alone."""
    nodes = -(-gpus // fabric.gpus_per_node)
    if nodes > 1 and gpus % fabric.gpus_per_node:
        raise ValueError(f"{gpus} GPUs do not fill nodes of {fabric.gpus_per_node}")
    per_node = gpus if nodes == 1 else fabric.gpus_per_node
    if nodes == 1:
        return [(NVLINK, seconds(fabric, operation, size, 1, per_node))]
    if not two_level:
        return [(NETWORK, seconds(fabric, operation, size, nodes, per_node))]
    inside = {kind: (NVLINK, seconds(fabric, kind, size, 1, per_node)) for kind in (REDUCE_SCATTER, ALL_GATHER)}
    between = (NETWORK, seconds(fabric, operation, size / per_node, nodes, 1))
    if operation == REDUCE_SCATTER:
        return [inside[REDUCE_SCATTER], between]
    if operation == ALL_GATHER:
        return [between, inside[ALL_GATHER]]
    return [inside[REDUCE_SCATTER], between, inside[ALL_GATHER]]
