"""DeepMind Control suite: 51 tasks with rewards in [0, 1] per step and, as a rule, 1000 steps. The package has no experts. The
regulator of its two linear tasks is not used: their actions have no bounds, so that random play means nothing there."""
import math

import numpy as np
from dm_control import suite

from task import Family, Place, Task, continuous, short_seed, words

FRAME_SIZE = 160
MOST_STEPS = 1000  # For the linear tasks, which have no limit of their own.


def load(task_id):
    """The environment of "dm_control/cartpole-swingup"; names of domains hold no "-". The seed builds the models that are
    drawn at random; episodes have their own."""
    domain, name = task_id.split("/")[1].split("-")
    env = suite.load(domain, name, task_kwargs={"random": 0})
    env.physics.model.vis.quality.shadowsize = 0  # drawn by the processor: many times as fast without
    env.physics.model.vis.quality.offsamples = 0
    return env


def limit(env):
    return int(env._step_limit) if math.isfinite(env._step_limit) else MOST_STEPS


def action_bounds(env):
    """Those of the linear tasks are infinite: there, 1."""
    spec = env.action_spec()
    low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
    return np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0)


class DeepMindPlace(Place):
    def __init__(self, task):
        self.env = load(task.id)
        self.names = [field.name for field in task.observation]
        self.max_steps = task.max_steps

    def _values(self, timestep):
        return [timestep.observation[name] for name in self.names]

    def reset(self, seed):
        self.env.task._random = np.random.RandomState(short_seed(seed))
        self.steps = 0
        return self._values(self.env.reset())

    def step(self, action):
        timestep = self.env.step(action[0].astype(np.float64))
        self.steps += 1
        terminated = timestep.last() and timestep.discount == 0.0
        truncated = not terminated and (timestep.last() or self.steps >= self.max_steps)
        return self._values(timestep), float(timestep.reward or 0.0), terminated, truncated, None

    def frame(self):
        return self.env.physics.render(FRAME_SIZE, FRAME_SIZE, camera_id=0)


class DeepMindControl(Family):
    packages = ("dm_control", "mujoco", "numpy")

    def tasks(self):
        return sorted(f"dm_control/{domain}-{name}" for domain, name in suite.ALL_TASKS)

    def describe(self, task_id):
        env = load(task_id)
        low, high = action_bounds(env)
        return Task(
            task_id,
            f"DeepMind Control: {words(task_id.split('/')[1])}.",
            observation=[continuous(name, spec.shape) for name, spec in sorted(env.observation_spec().items())],
            action=[continuous("action", low.shape, low, high)],
            max_steps=limit(env),
        )

    def make(self, task):
        return DeepMindPlace(task)


FAMILY = DeepMindControl()
