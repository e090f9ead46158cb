"""BabyAI (96 levels, solved by its bot) and MiniGrid (76 tasks, without an expert): grid worlds seen in part, with a
mission in words. The view is 7 x 7 cells; what the package says of a cell in three numbers, object, colour and state, is
one here, which is a third of the tokens. The agent's direction is a field of its own. MiniGrid's six WFC tasks are left
out: the package on PyPI lacks the pictures that they are drawn from."""
import minigrid  # noqa: F401  (registers the tasks)
import gymnasium
import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.utils.baby_ai_bot import BabyAIBot

from task import Family, Place, Task, discrete, text, words

NUM_OBJECTS, NUM_COLORS = len(OBJECT_TO_IDX), len(COLOR_TO_IDX)
NUM_CELL_VALUES = NUM_OBJECTS * NUM_COLORS * 4  # A state is one of a door, or a direction.
PREFIXES = {"babyai": "BabyAI-", "minigrid": "MiniGrid-"}


def cells(image):
    """One number of a cell: object + objects x (colour + colours x state)."""
    image = image.astype(np.int32)
    return image[..., 0] + NUM_OBJECTS * (image[..., 1] + NUM_COLORS * image[..., 2])


def package_id(task_id):
    domain, name = task_id.split("/")
    return PREFIXES[domain] + name


class GridPlace(Place):
    def __init__(self, task):
        self.env = gymnasium.make(package_id(task.id), render_mode="rgb_array", disable_env_checker=True).unwrapped
        self.num_actions = task.action[0].num_values
        self.bot = None

    def _values(self, observation):
        return [observation["mission"], observation["direction"], cells(observation["image"])]

    def reset(self, seed):
        self.bot = None
        self.executed = None
        observation, _ = self.env.reset(seed=seed)
        return self._values(observation)

    def step(self, action):
        self.executed = int(action[0])
        observation, reward, terminated, truncated, _ = self.env.step(self.executed)
        terminated, truncated = bool(terminated), bool(truncated) and not bool(terminated)
        success = float(reward) > 0 if terminated or truncated else None
        return self._values(observation), float(reward), terminated, truncated, success

    def act(self):
        """The bot follows what was executed. Where it loses its way, by actions that were not its own, it starts over from
        the present state."""
        try:
            return [self._replan()]
        except Exception:  # assertions and its own errors: the state is beyond the bot's plan
            self.bot = None
            return [self._replan()]

    def _replan(self):
        if self.bot is None:
            self.bot = BabyAIBot(self.env)
            self.executed = None
        return int(self.bot.replan(self.executed))

    def frame(self):
        return self.env.get_frame(highlight=True, tile_size=max(4, 256 // max(self.env.width, self.env.height)))


class Grids(Family):
    packages = ("minigrid", "gymnasium", "numpy")

    def tasks(self):
        ids = []
        for domain, prefix in PREFIXES.items():
            names = [name.removeprefix(prefix) for name in gymnasium.registry if name.startswith(prefix)]
            ids += [f"{domain}/{name}" for name in names if not name.startswith("WFC-")]
        return sorted(ids)

    def describe(self, task_id):
        env = gymnasium.make(package_id(task_id), disable_env_checker=True).unwrapped
        bot = task_id.startswith("babyai/")
        rows, columns, _ = env.observation_space["image"].shape
        return Task(
            task_id,
            f"Grid world seen in part: {words(task_id.split('/')[1])}. The mission is given in words.",
            observation=[
                text("mission"),
                discrete("direction", 4),
                discrete("view", NUM_CELL_VALUES, (rows, columns)),
            ],
            action=[discrete("action", int(env.action_space.n))],
            # BabyAI's limit depends on the mission of the episode.
            max_steps=0 if bot else env.max_steps,
            partial_view=True,
            has_expert=bot,
        )

    def make(self, task):
        return GridPlace(task)


FAMILY = Grids()
