#!/usr/bin/env python3
"""The other side of tools/bench/decode: what a PyTorch user writes for acting with a cache.

A decoder-only transformer of the same sizes (pre-norm, GEGLU, tied head, scaled_dot_product_attention), eager, weights
and cache of the asked type, keys and values kept in tensors made once, inference mode, logits of the value bins alone.
No positions, which leaves it less to do than our side has. Takes the commands of decode.cpp on standard input.
"""
import argparse
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

# layers, width, heads, hidden width, vocabulary: the same as in decode.cpp
SIZES = {"small": (6, 256, 8, 1024, 4097), "79m": (8, 768, 24, 3072, 33025)}
ROW_TOKENS = 1024
BINS = 1024


class Block(nn.Module):
    def __init__(self, width, heads, hidden, slots):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden // 2, width)
        self.register_buffer("cache", torch.zeros(2, slots, heads, ROW_TOKENS, width // heads))

    def attend(self, x, position, mask):
        slots, tokens, width = x.shape
        heads = self.qkv(x).view(slots, tokens, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        end = position + tokens
        self.cache[0, :, :, position:end] = key
        self.cache[1, :, :, position:end] = value
        keys, values = self.cache[0, :, :, :end], self.cache[1, :, :, :end]
        mixed = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(slots, tokens, width))

    def forward(self, x, position, mask):
        x = x + self.attend(self.attention_norm(x), position, mask)
        gate, value = self.up(self.feed_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.gelu(gate) * value)


class Decoder(nn.Module):
    """All slots hold `position` tokens."""

    def __init__(self, layers, width, heads, hidden, vocabulary, slots):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, slots) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.first_bin = vocabulary - 1 - BINS
        self.position = 0

    def append(self, ids):
        """Hidden states of the slots' last tokens."""
        tokens = ids.shape[1]
        mask = None  # one token sees everything
        if tokens > 1:
            mask = torch.ones(tokens, self.position + tokens, dtype=torch.bool).tril(self.position)
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, self.position, mask)
        self.position += tokens
        return self.norm(x[:, -1])

    def choose(self, hidden):
        bins = self.tokens.weight[self.first_bin : self.first_bin + BINS]
        return functional.linear(hidden, bins).argmax(-1, keepdim=True) + self.first_bin


class Player:
    def __init__(self, args):
        torch.manual_seed(0)
        self.args = args
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[args.weights]
        self.model = Decoder(*SIZES[args.model], args.slots).to(dtype).eval()
        self.hidden = self.append_random(args.context)

    def append_random(self, tokens):
        return self.model.append(torch.randint(0, BINS, (self.args.slots, tokens)) + self.model.first_bin)

    def forget(self):
        self.model.position = self.args.context

    def token(self):
        self.hidden = self.model.append(self.model.choose(self.hidden))

    def control_step(self):
        self.hidden = self.append_random(1 + self.args.observation)
        for i in range(self.args.action):
            if i > 0:
                self.hidden = self.model.append(chosen)
            chosen = self.model.choose(self.hidden)
            chosen.tolist()  # an environment wants numbers

    def timed(self, work, count, forget_each):
        seconds = []
        for _ in range(count):
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
            if forget_each:
                self.forget()
        self.forget()
        return {"seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="79m")
    parser.add_argument("--weights", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--context", type=int, default=456)
    parser.add_argument("--observation", type=int, default=30)
    parser.add_argument("--action", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        player = Player(args)
        print(json.dumps({"parameters": sum(p.numel() for p in player.model.parameters())}), flush=True)
        for line in sys.stdin:
            command, count = line.split()
            if command == "tokens":
                answer = player.timed(player.token, int(count), False)
            elif command == "control":
                answer = player.timed(player.control_step, int(count), True)
            else:
                sys.exit(f"no such command: {line!r}")
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
