"""Meta-World: 50 tasks of a robot arm, each with a scripted policy.

An episode ends with success, or after 500 steps without, as the package's own evaluation has it. Goal and objects are
placed by the seed, and the goal is part of the observation. The reward is 1 for success and 0 otherwise, so that the
return is the success rate, which is what is published; the package's dense reward differs from version to version."""
import re

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

from task import Family, Place, Task, continuous, words

FRAME_SIZE = 160
CAMERA = "corner2"  # hangs upside down in the package


class MetaWorldPlace(Place):
    def __init__(self, name):
        self.env = ALL_V3_ENVIRONMENTS[name](
            render_mode="rgb_array", camera_name=CAMERA, width=FRAME_SIZE, height=FRAME_SIZE
        )
        # What set_task() does for one of the benchmark's fixed goals; here the seed decides.
        self.env._freeze_rand_vec = False
        self.env.seeded_rand_vec = True
        self.env._partially_observable = False
        self.env._set_task_called = True
        self.env.__dict__.pop("sawyer_observation_space", None)  # cached without the goal
        self.env.model.vis.quality.shadowsize = 0  # drawn by the processor: many times as fast without
        self.env.model.vis.quality.offsamples = 0
        self.policy_class = ENV_POLICY_MAP[name]

    def reset(self, seed):
        self.env.seed(seed)
        self.policy = self.policy_class()
        self.observation, _ = self.env.reset()
        return [self.observation]

    def step(self, action):
        self.observation, _, _, truncated, info = self.env.step(action[0].astype(np.float64))
        success = bool(info["success"])
        done = success or truncated
        return [self.observation], float(success), success, truncated and not success, success if done else None

    def act(self):
        return [np.clip(self.policy.get_action(self.observation), -1, 1)]

    def frame(self):
        return self.env.render()[::-1, ::-1]

    def close(self):
        self.env.close()


class MetaWorld(Family):
    packages = ("metaworld", "mujoco", "gymnasium", "numpy")

    def tasks(self):
        return [f"metaworld/{name}" for name in sorted(ALL_V3_ENVIRONMENTS)]

    def describe(self, task_id):
        name = task_id.split("/")[1]
        what = words(re.sub(r"-v3$", "", name))
        return Task(
            task_id,
            f"Robot arm: {what}. Ends with success; the reward is 1 then and 0 otherwise.",
            observation=[continuous("state", (39,))],
            action=[continuous("move", (4,), -1, 1)],
            max_steps=ALL_V3_ENVIRONMENTS[name].max_path_length,
            has_expert=name in ENV_POLICY_MAP,
        )

    def make(self, task):
        return MetaWorldPlace(task.id.split("/")[1])


FAMILY = MetaWorld()
