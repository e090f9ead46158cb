"""Meta-World: 50 tasks of a robot arm, each with a scripted policy.

An episode ends with success, or after 500 steps without, as the package's own evaluation has it. Goal and objects are
placed by the seed, and the goal is part of the observation. The reward is 1 for success and 0 otherwise, so that the
return is the success rate, which is what is published; the package's dense reward differs from version to version.

The observation is the package's of the present step with places of objects and goal seen from the hand, since observed
numbers are resolved best near zero: half a metre away to a centimetre, two centimetres away to half a millimetre. The
step before, which the package repeats, is left out. The number of the task stands for the one-hot vector that the
package's MT50 appends: reach, push and pick place differ in nothing else."""
import re

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

from task import Family, Place, Task, continuous, discrete, words

FRAME_SIZE = 160
CAMERA = "corner2"  # hangs upside down in the package
NAMES = sorted(ALL_V3_ENVIRONMENTS)


def from_hand(place, hand):
    """The package has zeros for an object or a goal that is not there; they stay."""
    return place - hand if place.any() else place


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
        self.number = NAMES.index(name)

    def _values(self):
        """In the order of the fields of describe(). The package: hand 0-2, gripper 3, place and rotation of two objects
        4-10 and 11-17, the same of the step before 18-35, goal 36-38."""
        state = self.observation
        hand = state[:3]
        return [
            from_hand(state[36:39], hand), state[3:4], hand, from_hand(state[4:7], hand), state[7:11],
            from_hand(state[11:14], hand), state[14:18], self.number,
        ]  # fmt: skip

    def reset(self, seed):
        self.env.seed(seed)
        self.policy = self.policy_class()
        self.observation, _ = self.env.reset()
        return self._values()

    def step(self, action):
        self.observation, _, _, truncated, info = self.env.step(action[0].astype(np.float64))
        success = bool(info["success"])
        done = success or truncated
        return self._values(), float(success), success, truncated and not success, success if done else None

    def act(self):
        return [np.clip(self.policy.get_action(self.observation), -1, 1)]

    def frame(self):
        return self.env.render()[::-1, ::-1]

    def close(self):
        self.env.close()


class MetaWorld(Family):
    packages = ("metaworld", "mujoco", "gymnasium", "numpy")

    def tasks(self):
        return [f"metaworld/{name}" for name in NAMES]

    def describe(self, task_id):
        name = task_id.split("/")[1]
        what = words(re.sub(r"-v3$", "", name))
        return Task(
            task_id,
            f"Robot arm: {what}. Ends with success; the reward is 1 then and 0 otherwise.",
            observation=[
                continuous("goal_from_hand", (3,), unit="m"),
                continuous("gripper", (1,)),
                continuous("hand", (3,), unit="m"),
                continuous("object_1_from_hand", (3,), unit="m"),
                continuous("object_1_rotation", (4,)),
                continuous("object_2_from_hand", (3,), unit="m"),
                continuous("object_2_rotation", (4,)),
                discrete("task", len(NAMES)),
            ],
            action=[continuous("move", (4,), -1, 1)],
            max_steps=ALL_V3_ENVIRONMENTS[name].max_path_length,
            has_expert=name in ENV_POLICY_MAP,
        )

    def make(self, task):
        return MetaWorldPlace(task.id.split("/")[1])


FAMILY = MetaWorld()
