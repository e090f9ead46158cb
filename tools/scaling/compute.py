"""How long one GPU computes: matrix products cut into tiles, attention, and kernels that move bytes."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Device:
    name: str
    peak: float  # FLOP/s of dense products in bf16, of the data sheet
    peak_fp8: float  # 0: none
    multiprocessors: int
    memory: float  # bytes per second, of the data sheet
    product_share: float  # of the peak that large products sustain
    memory_share: float  # of the memory's bandwidth that streaming kernels sustain
    tiles: tuple[
        tuple[int, int, float], ...
    ]  # rows, columns of a tile of a product, share of the speed of the best tile
    depth: float  # what a tile costs to begin and to end, in steps of its inner dimension


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    layers: int
    width: int
    heads: int
    head_dim: int
    key_heads: int
    feed: int  # inner width of the feed-forward network
    gated: bool  # whether it has a gate beside its values
    vocabulary: int
    tied: bool  # whether the token table is the head too
    positions: int = 0  # learned vectors of positions
    patches: int = 0  # parameters of an embedder of pictures

    def products(self) -> list[tuple[int, int]]:
        """(columns, inner dimension) of a layer's products, in forward order."""
        attention = self.heads * self.head_dim
        return [
            (attention + 2 * self.key_heads * self.head_dim, self.width),
            (self.width, attention),
            ((2 if self.gated else 1) * self.feed, self.width),
            (self.width, self.feed),
        ]

    def layer_parameters(self) -> int:
        return sum(columns * inner for columns, inner in self.products())

    def head_parameters(self) -> int:
        return self.vocabulary * self.width

    def parameters(self) -> int:
        """Without biases and norms."""
        tables = (1 if self.tied else 2) * self.head_parameters() + self.positions * self.width
        return self.layers * self.layer_parameters() + tables + self.patches


@dataclasses.dataclass(frozen=True)
class Software:
    """What a training program makes of a device."""

    name: str
    attention_forward: float  # FLOP/s, pairs counted that a causal mask leaves
    attention_backward: float
    layer_bytes: (
        float  # moved by a layer beside products and attention, forward and backward, per token and unit of width
    )
    layer_kernels: int  # of a layer's forward, beside products and attention; backward has twice as many
    logit_bytes: float  # moved per logit by the loss, forward and backward
    launch: float  # seconds that a kernel takes at least
    recompute: float  # share of the forward's products that backward computes again
    optimizer_bytes: float  # moved per parameter by the optimizer
    step: float  # seconds of a step in which the GPU waits for the program
    noise: float  # standard deviation of a GPU's time for a step, as a share of it
    host_noise: float  # mean of what the host adds to a GPU's step now and then, in seconds; exponentially distributed
    overlap_slowdown: float  # share of compute's speed lost while collectives run
    fp8_share: float = 0.0  # of bf16's time for products, that fp8's take; 0: bf16


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a GPU computes at once."""

    rows: int
    tokens: int  # of a row
    sequence: float  # tokens that see each other, on average
    loss_share: float = 1.0  # of positions for which logits are computed

    def all_tokens(self) -> int:
        return self.rows * self.tokens


@dataclasses.dataclass(frozen=True)
class LayerCost:
    forward: float  # seconds
    backward: float


def product_seconds(device: Device, rows: int, columns: int, inner: int) -> float:
    """Of one product [rows, inner] x [inner, columns]. Multiprocessors take tiles of the result in waves; the last wave
    is rarely full, and a tile has a beginning and an end in which nothing is multiplied. Where tiles are few, the inner
    dimension is split among several multiprocessors. Of all tilings the fastest counts, as the library tries to have
    it."""
    best = math.inf
    speed = device.peak * device.product_share / device.multiprocessors
    for tile_rows, tile_columns, share in device.tiles:
        tiles = math.ceil(rows / tile_rows) * math.ceil(columns / tile_columns)
        for split in (1, 2, 4, 8):
            if split > 1 and inner / split < 256:
                break
            waves = math.ceil(tiles * split / device.multiprocessors)
            depth = math.ceil(inner / split) + device.depth
            best = min(best, waves * 2.0 * tile_rows * tile_columns * depth / (speed * share))
    return best


def _linear(device: Device, software: Software, tokens: int, columns: int, inner: int) -> tuple[float, float]:
    """Forward and backward of a linear map. Backward has a product for the input and one for the weights."""
    scale = software.fp8_share or 1.0
    times = [
        max(software.launch, scale * product_seconds(device, *shape))
        for shape in ((tokens, columns, inner), (tokens, inner, columns), (columns, inner, tokens))
    ]
    return times[0], times[1] + times[2]


def stream_seconds(device: Device, software: Software, size: float, kernels: int) -> float:
    """Of kernels that move `size` bytes in all."""
    return max(kernels * software.launch, size / (device.memory * device.memory_share))


def layer_cost(device: Device, software: Software, model: Model, batch: Batch) -> LayerCost:
    tokens = batch.all_tokens()
    linear = [_linear(device, software, tokens, columns, inner) for columns, inner in model.products()]
    # Scores and mixing: two products, half of whose pairs the mask leaves; backward has five.
    pairs = 2.0 * tokens * batch.sequence * model.heads * model.head_dim
    bytes_moved = software.layer_bytes * tokens * model.width
    forward = sum(time for time, _ in linear)
    stream = stream_seconds(device, software, bytes_moved / 3, software.layer_kernels)
    attention = max(software.launch, pairs / software.attention_forward)
    backward = sum(time for _, time in linear) + max(3 * software.launch, 2.5 * pairs / software.attention_backward)
    backward += stream_seconds(device, software, bytes_moved * 2 / 3, 2 * software.layer_kernels)
    again = software.recompute * forward + (attention + stream if software.recompute == 1 else 0.0)
    return LayerCost(forward + attention + stream, backward + again)


def head_cost(device: Device, software: Software, model: Model, batch: Batch) -> LayerCost:
    """Of the products with the token table and of the loss, at the positions that have one. fp8 is not used here."""
    positions = math.ceil(batch.all_tokens() * batch.loss_share)
    forward, backward = _linear(
        device, dataclasses.replace(software, fp8_share=0.0), positions, model.vocabulary, model.width
    )
    loss = stream_seconds(device, software, software.logit_bytes * positions * model.vocabulary, 4)
    return LayerCost(forward + loss / 2, backward + loss / 2)


def embedding_cost(device: Device, software: Software, model: Model, batch: Batch) -> LayerCost:
    """Rows of a table read and written; in backward read, added, written (docs/kernels.md: 12 bytes each)."""
    each = stream_seconds(device, software, 12.0 * batch.all_tokens() * model.width, 2)
    return LayerCost(each, each)


def optimizer_seconds(device: Device, software: Software, parameters: float) -> float:
    return stream_seconds(device, software, software.optimizer_bytes * parameters, 2)


def flops_per_token(model: Model, sequence: float, loss_share: float, causal: bool) -> float:
    """Of forward and backward, without what is computed again: 6 per weight of a product, and attention, of which a
    causal mask leaves half."""
    weights = model.layers * model.layer_parameters() + loss_share * model.head_parameters()
    return 6.0 * weights + (6.0 if causal else 12.0) * model.layers * model.heads * model.head_dim * sequence
