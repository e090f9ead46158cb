#!/usr/bin/env python3
"""The other side of tools/bench/train_step: what a PyTorch user writes for the same training step.

A decoder-only transformer of the same sizes (pre-norm, GEGLU, tied head, causal attention by
scaled_dot_product_attention), eager, fused AdamW, mixed precision by autocast. Logits are computed at all positions and
targets without loss are ignored, as general trainers do. Takes the commands of train_step.cpp on standard input.
"""
import argparse
import json
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional

# layers, width, heads, hidden width, vocabulary, rows, tokens per row: the same as in train_step.cpp
SIZES = {
    "tiny": (4, 128, 4, 512, 2049, 8, 256),
    "small": (6, 256, 8, 1024, 4097, 4, 512),
    "79m": (8, 768, 24, 3072, 33025, 2, 1024),
    "364m": (12, 1536, 12, 6144, 33025, 1, 1024),
}
IGNORED = -100


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        rows, tokens, width = x.shape
        heads = self.qkv(self.norm(x)).view(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return x + self.out(mixed.transpose(1, 2).reshape(rows, tokens, width))


class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden // 2, width)

    def forward(self, x):
        gate, value = self.up(self.norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.gelu(gate) * value)


class Decoder(nn.Module):
    def __init__(self, layers, width, heads, hidden, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        parts = [part for _ in range(layers) for part in (Attention(width, heads), FeedForward(width, hidden))]
        self.layers = nn.Sequential(*parts)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids, targets):
        hidden = self.norm(self.layers(self.tokens(ids)))
        logits = functional.linear(hidden, self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


class Trainer:
    def __init__(self, args):
        torch.manual_seed(0)
        *sizes, rows, row_tokens = SIZES[args.model]
        rows = args.rows or rows
        self.mixed = args.dtype == "bf16"
        self.device = torch.device(args.device)
        self.model = Decoder(*sizes).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.ids = torch.randint(0, sizes[-1], (rows, row_tokens))
        self.targets = torch.randint(0, sizes[-1], (rows, row_tokens))
        self.targets[torch.rand(rows, row_tokens) > args.loss_share] = IGNORED
        self.ids, self.targets = self.ids.to(self.device), self.targets.to(self.device)

    def step(self):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            loss = self.model(self.ids, self.targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def run(self, steps):
        before = resource.getrusage(resource.RUSAGE_SELF)
        seconds = []
        for _ in range(steps):
            begin = time.perf_counter()
            loss = self.step()
            seconds.append(time.perf_counter() - begin)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "loss": loss,
            "seconds": seconds,
            "cpu_seconds": cpu / steps,
            "page_faults": (after.ru_minflt - before.ru_minflt) / steps,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="tiny")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loss-share", type=float, default=0.25, help="share of positions that carry loss")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--rows", type=int, default=0, help="rows at once; default: as in the table of sizes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trainer = Trainer(args)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    print(json.dumps({"parameters": parameters, "tokens_per_step": trainer.ids.numel()}), flush=True)
    for line in sys.stdin:
        command, *count = line.split() or [""]
        if command == "quit":
            return
        if command != "run":
            sys.exit(f"no such command: {line!r}")
        print(json.dumps(trainer.run(int(count[0]))), flush=True)


if __name__ == "__main__":
    main()
