#!/usr/bin/env python3
"""An independent statement of the model in PyTorch, to hold the C++ one against.

Written from docs/formats/model.md and the papers named there, and from nothing else: if the two agree, either is right or
both misread the same sentence. It computes in fp64.

  oracle.py --write FOLDER        write the fixtures that tests/model/oracle_test.cpp reads
  oracle.py --check FOLDER        compute them again and compare with the files
  oracle.py --load CHECKPOINT --inputs FIXTURE
                                  the loss of a checkpoint (a folder, or model.safetensors beside its config.yaml) on the
                                  inputs of a fixture, whose ids must exist in the checkpoint's vocabulary

`tools/setup --oracle` makes the Python environment, .deps/oracle/bin/python.
"""
import argparse
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

LOCAL_ROWS = 513  # 512 places in an observation, then the row of all actions
ACTION_ROW = 512
PATCH_ROWS = 128

MODEL_DEFAULTS = dict(layers=8, width=768, heads=24, head_dim=32, hidden=3072, position="rotary", rotary_base=10000.0,
                      tied=True, patch_channels=32, patch_stride=1, action_positions=True, action_inputs=True)


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))
        self.offset = nn.Parameter(torch.zeros(size))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.gain, self.offset, 1e-5)


class PatchEmbedder(nn.Module):
    """16 x 16 pixels to one vector: stem, one pre-activation residual block, 4 x 4 cells, linear map."""

    def __init__(self, channels, stride, width):
        super().__init__()
        self.groups = min(32, channels)
        self.stem = nn.Conv2d(3, channels, 3, stride=stride, padding=1)
        self.norm_1, self.norm_2 = Norm(channels), Norm(channels)
        self.convolution_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.convolution_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.output = nn.Linear(16 * channels, width)

    def branch(self, x, norm, convolution):
        return convolution(F.gelu(F.group_norm(x, self.groups, norm.gain, norm.offset, 1e-5)))

    def forward(self, pixels):
        scaled = (pixels.double() * (2 / 255) - 1) / math.sqrt(16)
        x = self.stem(scaled.movedim(3, 1))
        x = x + self.branch(self.branch(x, self.norm_1, self.convolution_1), self.norm_2, self.convolution_2)
        side = x.shape[2] // 4
        cells = x.unflatten(3, (4, side)).unflatten(2, (4, side)).mean((3, 5))  # M, channels, 4, 4
        return self.output(cells.permute(0, 2, 3, 1).reshape(len(cells), -1))


def sinusoids(distances, width):
    """Row d: sines of d / 10000^(2k / width), then as many cosines as there is room for."""
    rates = 10000.0 ** (-2 * torch.arange((width + 1) // 2, dtype=torch.float64) / width)
    angles = torch.arange(distances, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :width]


def rotate(x, base):
    """Token t's elements i and i + D / 2 are a complex number, turned by t base^(-2i / D)."""
    tokens, _, dim = x.shape
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] * base ** (
        -2 * torch.arange(dim // 2, dtype=torch.float64) / dim)
    turned = torch.complex(x[..., : dim // 2], x[..., dim // 2:]) * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.cat([turned.real, turned.imag], -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        inner = c["heads"] * c["head_dim"]
        self.qkv = nn.Linear(c["width"], 3 * inner)
        self.out = nn.Linear(inner, c["width"])
        if c["position"] == "relative":
            self.distance = nn.Linear(c["width"], inner, bias=False)

    def scores(self, q, k, biases):
        """[H, L, L] of one document, before the division by the root of D."""
        if self.c["position"] == "rotary":
            q, k = rotate(q, self.c["rotary_base"]), rotate(k, self.c["rotary_base"])
        if self.c["position"] != "relative":
            return torch.einsum("ihd,jhd->hij", q, k)
        length = len(q)
        keys = self.distance(sinusoids(length, self.c["width"])).view(length, *q.shape[1:])
        by_distance = torch.einsum("ihd,lhd->hil", q + biases.position_bias, keys)
        place = torch.arange(length)
        distance = (place[:, None] - place).clamp_min(0).expand(len(by_distance), -1, -1)
        return torch.einsum("ihd,jhd->hij", q + biases.content_bias, k) + by_distance.gather(2, distance)

    def forward(self, x, documents, biases):
        """`documents`: (begin, end) in the flat list of tokens."""
        heads, dim = self.c["heads"], self.c["head_dim"]
        qkv = self.qkv(x).view(len(x), 3, heads, dim)
        parts = []
        for begin, end in documents:
            q, k, v = qkv[begin:end].unbind(1)
            future = torch.ones(end - begin, end - begin, dtype=torch.bool).triu(1)
            weights = (self.scores(q, k, biases) / math.sqrt(dim)).masked_fill(future, -math.inf).softmax(-1)
            parts.append(torch.einsum("hij,jhd->ihd", weights, v).flatten(1))
        return self.out(torch.cat(parts))


class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden // 2, width)

    def forward(self, x):
        gate, value = self.up(x).chunk(2, -1)
        return self.down(F.gelu(gate) * value)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attention_norm, self.attention = Norm(c["width"]), Attention(c)
        self.feed_norm, self.feed = Norm(c["width"]), FeedForward(c["width"], c["hidden"])

    def forward(self, x, documents, biases):
        x = x + self.attention(self.attention_norm(x), documents, biases)
        return x + self.feed(self.feed_norm(x))


class RelativeBiases(nn.Module):
    def __init__(self, heads, head_dim):
        super().__init__()
        self.content_bias = nn.Parameter(torch.zeros(heads, head_dim))
        self.position_bias = nn.Parameter(torch.zeros(heads, head_dim))


class Agent(nn.Module):
    """The names of the parameters are those of model.safetensors."""

    def __init__(self, config, vocabulary):
        super().__init__()
        self.c = c = dict(MODEL_DEFAULTS, **config)
        width = c["width"]
        self.token_table = nn.Parameter(torch.zeros(vocabulary, width))
        self.local_position_table = nn.Parameter(torch.zeros(LOCAL_ROWS, width))
        self.patch_row_table = nn.Parameter(torch.zeros(PATCH_ROWS, width))
        self.patch_column_table = nn.Parameter(torch.zeros(PATCH_ROWS, width))
        self.patch = PatchEmbedder(c["patch_channels"], c["patch_stride"], width)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.final_norm = Norm(width)
        self.relative = RelativeBiases(c["heads"], c["head_dim"]) if c["position"] == "relative" else None
        self.head = None if c["tied"] else nn.Linear(width, vocabulary, bias=False)
        self.double()

    def embed(self, ids, local, data):
        action = local == ACTION_ROW
        known = (ids >= 0) & (~action if not self.c["action_inputs"] else True)
        placed = (local >= 0) & (~action if not self.c["action_positions"] else True)
        x = self.token_table[ids.clamp_min(0)] * known[:, None]
        x = x + self.local_position_table[local.clamp_min(0)] * placed[:, None]
        place = data["patch_index"]
        vectors = self.patch(data["patches"]) + self.patch_row_table[data["patch_rows"].long()]
        return x.index_add(0, place, vectors + self.patch_column_table[data["patch_columns"].long()])

    def forward(self, data):
        """Hidden states of all tokens, rows one after the other."""
        starts = data["sequence_starts"].long()
        place = torch.arange(starts.shape[1]).expand_as(starts)
        begins = (starts == place).flatten().nonzero().flatten().tolist()
        documents = list(zip(begins, begins[1:] + [starts.numel()]))
        x = self.embed(data["ids"].flatten().long(), data["local_positions"].flatten().long(), data)
        for block in self.blocks:
            x = block(x, documents, self.relative)
        return self.final_norm(x)

    def losses(self, hidden, where, case):
        """Cross entropy at each position with loss."""
        table = self.token_table if self.head is None else self.head.weight
        log_p = (hidden[where["positions"]] @ table.T).log_softmax(-1)
        targets = where["targets"]
        wanted = F.one_hot(targets, len(table)).double()
        if case["soft_sigma"] > 0:
            first, count = case["first_bin"], case["num_bins"]
            bins = torch.arange(first, first + count)
            bell = torch.exp(-((bins - targets[:, None]) / case["soft_sigma"]) ** 2 / 2)
            soft = torch.zeros_like(wanted)
            soft[:, first:first + count] = bell / bell.sum(1, keepdim=True)
            wanted = torch.where(((targets >= first) & (targets < first + count))[:, None], soft, wanted)
        return -(wanted * log_p).sum(1)

    def loss(self, data, where, case):
        hidden = self(data)
        return hidden, (self.losses(hidden, where, case) * where["weights"].double()).sum()


TABLES = ("local_position_table", "patch_row_table", "patch_column_table")


def decays(name):
    """Weight decay is for matrices and convolutions: not for tables, biases, norms."""
    return name.endswith(".weight")


# ---------------------------------------------------------------------------------------------------------- fixtures
SMALL = dict(layers=2, width=8, heads=2, head_dim=4, hidden=12, patch_channels=4)
CASES = {
    "rotary_tied": dict(SMALL, position="rotary", tied=True),
    "rotary_untied": dict(SMALL, position="rotary", tied=False, patch_stride=2, rotary_base=500.0),
    "relative_tied": dict(SMALL, position="relative", tied=True, width=9, head_dim=5),
    "relative_untied": dict(SMALL, position="relative", tied=False, action_inputs=False),
    "none_tied": dict(SMALL, position="none", tied=True, head_dim=3, patch_stride=2),
    "none_untied": dict(SMALL, position="none", tied=False, action_positions=False),
}
SOFT = {"rotary_untied": 1.5, "relative_tied": 2.0}
VOCABULARY, FIRST_BIN, NUM_BINS = 48, 24, 16
STEPS, WARMUP = 10, 3
OPTIMIZER = dict(learning_rate=3e-3, final_share=0.1, warmup_steps=WARMUP, beta_1=0.9, beta_2=0.95, epsilon=1e-8,
                 weight_decay=0.1, clip_norm=1.0)


def rate(step):
    """Linear from 1e-7 over the warm-up, then a cosine to a tenth at the last step."""
    o = OPTIMIZER
    if step <= WARMUP:
        return 1e-7 + (o["learning_rate"] - 1e-7) * step / WARMUP
    share = (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2
    return o["learning_rate"] * (o["final_share"] + (1 - o["final_share"]) * share)


def draw_inputs(g, rows=2, tokens=20, patches=4):
    """Documents of 1 to 9 tokens, the last ones padding; patches, observations and actions among them."""
    whole = lambda low, high, size, dtype=torch.int32: torch.randint(low, high, size, generator=g).to(dtype)
    starts = torch.zeros(rows, tokens, dtype=torch.int32)
    for row in range(rows):
        t = 0
        while t < tokens:
            length = 1 if t >= tokens - 2 else int(torch.randint(3, 10, (), generator=g))
            starts[row, t:t + length] = t
            t += length
    ids = whole(0, VOCABULARY, (rows, tokens))
    index = torch.randperm(rows * tokens, generator=g)[:patches].sort().values
    ids.view(-1)[index] = -1
    local = whole(-1, 6, (rows, tokens))
    local[torch.rand(rows, tokens, generator=g) < 0.2] = ACTION_ROW
    local.view(-1)[index] = whole(0, 6, (patches,))
    ids[:, -1] = local[:, -1] = -1  # padding
    index = index[ids.view(-1)[index] == -1]
    index = index[local.view(-1)[index] >= 0]
    count = len(index)
    data = dict(ids=ids, sequence_starts=starts, local_positions=local, patch_index=index,
                patches=whole(0, 256, (count, 16, 16, 3), torch.uint8), patch_rows=whole(0, PATCH_ROWS, (count,)),
                patch_columns=whole(0, PATCH_ROWS, (count,)))
    data["patch_rows"][-1] = data["patch_columns"][0] = PATCH_ROWS - 1
    flat = starts.flatten()
    positions = [i for i in range(rows * tokens - 1)
                 if (i + 1) % tokens and flat[i + 1] == flat[i] and i % 4]
    where = dict(positions=torch.tensor(positions), targets=whole(0, VOCABULARY, (len(positions),), torch.int64),
                 weights=torch.rand(len(positions), generator=g) + 0.25)
    return data, where


def draw_parameters(agent, data, g):
    """Random everywhere, biases and norms included; rows of position tables that nothing uses are zero and not stored."""
    used = {"local_position_table": data["local_positions"], "patch_row_table": data["patch_rows"],
            "patch_column_table": data["patch_columns"]}
    with torch.no_grad():
        for name, parameter in agent.named_parameters():
            fan_in = parameter[0].numel() if name.endswith(".weight") else 4
            values = torch.randn(parameter.shape, generator=g) / math.sqrt(fan_in)
            if name.endswith("gain"):
                values = 1 + values / 2
            if name in TABLES:
                mask = torch.zeros(len(parameter), 1)
                mask[used[name][used[name] >= 0].long()] = 1
                values = values * mask
            parameter.copy_(values)  # fp32 numbers in fp64


def store(tensors, group, named):
    for name, tensor in named:
        if name in TABLES:
            rows = tensor.abs().sum(1).nonzero().flatten()
            tensors[f"{group}/{name}.rows"] = rows
            tensor = tensor[rows]
        tensors[f"{group}/{name}"] = tensor.detach().float().clone()


def make_fixture(name):
    g = torch.Generator().manual_seed(20220512 + list(CASES).index(name))
    data, where = draw_inputs(g)
    agent = Agent(CASES[name], VOCABULARY)
    draw_parameters(agent, data, g)
    case = dict(vocabulary_size=VOCABULARY, first_bin=FIRST_BIN, num_bins=NUM_BINS, soft_sigma=SOFT.get(name, 0.0))
    tensors = {f"input/{key}": value for key, value in data.items()}
    tensors.update({f"loss/{key}": value for key, value in where.items()})
    store(tensors, "parameters", agent.named_parameters())
    total = where["weights"].double().sum()
    groups = [dict(params=[p for n, p in agent.named_parameters() if decays(n) == decayed],
                   weight_decay=OPTIMIZER["weight_decay"] * decayed) for decayed in (True, False)]
    optimizer = torch.optim.AdamW(groups, betas=(OPTIMIZER["beta_1"], OPTIMIZER["beta_2"]), eps=OPTIMIZER["epsilon"])
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        hidden, loss = agent.loss(data, where, case)
        loss.backward()
        if step == 1:
            tensors["hidden"] = hidden.detach().float()
            store(tensors, "gradients", ((n, p.grad) for n, p in agent.named_parameters()))
        losses.append(loss.detach())
        for parameter in agent.parameters():
            parameter.grad /= total
        norms.append(nn.utils.clip_grad_norm_(agent.parameters(), OPTIMIZER["clip_norm"]))
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
    tensors["losses"] = torch.stack(losses)
    tensors["norms"] = torch.stack(norms).double()
    tensors["rates"] = torch.tensor([rate(s) for s in range(1, STEPS + 1)], dtype=torch.float64)
    store(tensors, "final", agent.named_parameters())
    metadata = dict(case=json.dumps(case), model=json.dumps(CASES[name]), optimizer=json.dumps(OPTIMIZER),
                    made_by=f"tools/oracle/oracle.py --write, torch {torch.__version__.split('+')[0]}")
    return {key: value.contiguous() for key, value in tensors.items()}, metadata


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        tensors, metadata = make_fixture(name)
        path = folder / f"{name}.safetensors"
        save_file(tensors, path, metadata)
        print(f"{path}: {path.stat().st_size} bytes, loss {tensors['losses'][0]:.6f} -> {tensors['losses'][-1]:.6f}")


def read(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}


def check(folder):
    bad = 0
    for name in CASES:
        tensors, metadata = make_fixture(name)
        old, old_metadata = read(folder / f"{name}.safetensors")
        for key in ("case", "model", "optimizer"):
            bad += old_metadata[key] != metadata[key]
        differ = [key for key in sorted(set(old) | set(tensors))
                  if key not in old or key not in tensors or old[key].shape != tensors[key].shape
                  or not torch.allclose(old[key].double(), tensors[key].double(), rtol=1e-6, atol=1e-9)]
        bad += len(differ)
        print(f"{name}: {len(tensors)} tensors, {len(differ)} differ {differ[:5]}")
    return 1 if bad else 0


# ----------------------------------------------------------------------------------------------------- our checkpoints
def load(checkpoint, inputs):
    import yaml
    weights_path = checkpoint / "model.safetensors" if checkpoint.is_dir() else checkpoint
    config = yaml.safe_load((weights_path.parent / "config.yaml").read_text())
    weights, _ = read(weights_path)
    data, metadata = read(inputs)
    case = json.loads(metadata["case"])
    agent = Agent({k: v for k, v in config["model"].items() if k in MODEL_DEFAULTS}, len(weights["token_table"]))
    agent.load_state_dict({name: tensor.double() for name, tensor in weights.items()}, strict=True)
    part = lambda prefix: {k[len(prefix):]: v for k, v in data.items() if k.startswith(prefix)}
    case = dict(case, soft_sigma=0.0)  # the inputs' bins are those of another vocabulary
    with torch.no_grad():
        hidden, loss = agent.loss(part("input/"), part("loss/"), case)
    weight = part("loss/")["weights"].double().sum()
    print(json.dumps(dict(parameters=sum(p.numel() for p in agent.parameters()), summed_loss=loss.item(),
                          mean_loss=(loss / weight).item(), hidden_norm=hidden.norm().item())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FOLDER")
    action.add_argument("--check", type=Path, metavar="FOLDER")
    action.add_argument("--load", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--inputs", type=Path, metavar="FIXTURE")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if arguments.load:
        if not arguments.inputs:
            parser.error("--load needs --inputs")
        return load(arguments.load, arguments.inputs)
    return write(arguments.write) if arguments.write else check(arguments.check)


if __name__ == "__main__":
    sys.exit(main())
