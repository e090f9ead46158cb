"""Your own data into gato: writes two tasks as an episode stream to standard output.

    python3 docs/examples/import_stream.py | gato-data import stream - --out datasets/mine
"""
import math
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "import"))
from gato_stream import StreamWriter, continuous, discrete, image, png, task, text

ARM = task("mine/arm", description="Bring the joint to its goal.", max_steps=21,
           observation=[continuous("joint", (2,), unit="rad"), text("goal")],
           action=[continuous("torque", low=-2, high=2, unit="N m"), discrete("gripper", 2)])
CAPTION = task("mine/caption", observation=[image("picture", 8, 8)], action=[text("caption")], scoring="exact_match")

with StreamWriter(sys.stdout.buffer, "mine/all", [ARM, CAPTION], licence="CC0-1.0") as out:
    for seed in range(10):
        chance = random.Random(seed)
        angles = [[math.cos(step / 7 + seed), chance.gauss(0, 1)] for step in range(12 + seed)]
        out.episode(task=0, id="arm-%d" % seed, seed=seed, source_agent="teacher", truncated=True, success=seed % 2 == 0,
                    observation={"joint": angles, "goal": ["goal %d" % seed] * len(angles)},
                    action={"torque": [-a[0] for a in angles], "gripper": [step % 2 for step in range(len(angles))]},
                    reward=[1 - abs(a[0]) for a in angles])
    for shade in range(0, 256, 51):
        grey = png(8, 8, bytes([shade] * 64))  # Or the bytes of a PNG or JPEG file, or an array of numpy.
        out.episode(task=1, id="picture-%d" % shade, observation={"picture": [grey]}, terminated=True,
                    action={"caption": ["a square of shade %d" % shade]})
    out.dropped("no caption", "picture-256")
