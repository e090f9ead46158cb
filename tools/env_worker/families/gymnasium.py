"""Gymnasium: MuJoCo tasks (version 5) and classic control, with the package's rewards and limits. The package has no experts;
classic_experts.py solves the small ones."""
import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from classic_experts import EXPERTS
from task import Family, Place, Task, continuous, discrete, words

CLASSIC = ("Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")
MUJOCO = (
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)
FRAME_SIZE = 160


class GymnasiumPlace(Place):
    def __init__(self, name):
        size = {"width": FRAME_SIZE, "height": FRAME_SIZE} if name in MUJOCO else {}
        self.env = gymnasium.make(name, render_mode="rgb_array", disable_env_checker=True, **size)
        if name in MUJOCO:  # drawn by the processor: many times as fast without shadows
            self.env.unwrapped.model.vis.quality.shadowsize = 0
            self.env.unwrapped.model.vis.quality.offsamples = 0
        self.discrete = isinstance(self.env.action_space, Discrete)
        self.make_expert = EXPERTS.get(name)
        self.expert = None

    def reset(self, seed):
        observation, _ = self.env.reset(seed=seed)
        self.expert = None
        self.observation = observation
        return [observation]

    def step(self, action):
        move = int(action[0]) if self.discrete else action[0]
        self.observation, reward, terminated, truncated, _ = self.env.step(move)
        return [self.observation], float(reward), bool(terminated), bool(truncated) and not terminated, None

    def act(self):
        if self.expert is None:
            self.expert = self.make_expert(self.env.unwrapped)
        action = self.expert(np.asarray(self.observation, np.float64))
        if self.discrete:
            return [int(action)]
        space = self.env.action_space
        return [np.clip(np.atleast_1d(action), space.low, space.high)]

    def frame(self):
        return self.env.render()

    def close(self):
        self.env.close()


class Gymnasium(Family):
    packages = ("gymnasium", "mujoco", "numpy")

    def tasks(self):
        return [f"gymnasium/{name}" for name in sorted(CLASSIC + MUJOCO)]

    def describe(self, task_id):
        name = task_id.split("/")[1]
        env = gymnasium.make(name, disable_env_checker=True)
        seen, done = env.observation_space, env.action_space
        if isinstance(done, Discrete):
            action = discrete("action", int(done.n))
        else:
            action = continuous("action", done.shape, done.low, done.high)
        kind = "MuJoCo" if name in MUJOCO else "Classic control"
        task = Task(
            task_id,
            f"{kind} of Gymnasium: {words(name.rsplit('-', 1)[0])}.",
            observation=[continuous("state", seen.shape, seen.low, seen.high)],
            action=[action],
            max_steps=env.spec.max_episode_steps,
            has_expert=name in EXPERTS,
        )
        env.close()
        return task

    def make(self, task):
        return GymnasiumPlace(task.id.split("/")[1])


FAMILY = Gymnasium()
