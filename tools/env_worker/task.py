"""What a family of environments is made of, as the worker sees it. families/*.py implement Family and Place."""
import dataclasses
import importlib.metadata
import math

import numpy as np

TEXT, IMAGE, DISCRETE, CONTINUOUS = range(4)  # As gato::episode::Modality.


@dataclasses.dataclass
class Field:
    """One named field of an observation or an action, as gato::episode::FieldSpec."""

    name: str
    modality: int
    shape: tuple = ()
    num_values: int = 0
    low: tuple = ()
    high: tuple = ()
    unit: str = ""

    @property
    def elements(self):
        return math.prod(self.shape)


def text(name):
    return Field(name, TEXT)


def image(name, height, width):
    return Field(name, IMAGE, (height, width, 3))


def discrete(name, num_values, shape=()):
    return Field(name, DISCRETE, tuple(shape), num_values=num_values)


def continuous(name, shape, low=(), high=(), unit=""):
    """Bounds: one per element, one for all, or none. Infinite ones say nothing and are left out."""
    low, high = (tuple(float(x) for x in np.atleast_1d(bound).ravel()) for bound in (low, high))
    if not all(map(math.isfinite, low + high)):
        low = high = ()
    if len(set(low)) == 1 and len(set(high)) == 1:
        low, high = low[:1], high[:1]
    return Field(name, CONTINUOUS, tuple(shape), low=low, high=high, unit=unit)


@dataclasses.dataclass
class Task:
    """Everything that is fixed about a task, as gato::episode::TaskSpec."""

    id: str
    description: str
    observation: list
    action: list
    max_steps: int = 0
    partial_view: bool = False
    has_expert: bool = False


class Place:
    """One place of play of a task. Values are lists aligned with the fields of the task: str for text, otherwise whatever
    numpy turns into an array of the field's shape. An exception costs the episode: the place is made anew for the next."""

    def reset(self, seed):
        """Starts the episode of a 64-bit seed. Returns the observation."""
        raise NotImplementedError

    def step(self, action):
        """`action`: list of str or arrays of the fields' shapes, within bounds. Returns observation, reward, terminated,
        truncated, success (None while the episode goes on, and where the task defines none)."""
        raise NotImplementedError

    def act(self):
        """What the expert would do now. It is asked before a step or not at all, and need not be obeyed."""
        raise NotImplementedError

    def frame(self):
        """A picture of the present state for people, height x width x 3 uint8, or None."""
        return None

    def close(self):
        """Frees what the place holds outside Python."""


class Family:
    """The tasks of one package."""

    packages = ()  # Names of the distributions whose versions bear on what is played.

    def versions(self):
        return {name: importlib.metadata.version(name) for name in self.packages}

    def tasks(self):
        """Ids of all tasks."""
        raise NotImplementedError

    def describe(self, task_id):
        """The Task of an id. May be slow: only asked for the list of all tasks and once per batch."""
        raise NotImplementedError

    def make(self, task):
        """A Place of a Task."""
        raise NotImplementedError


def short_seed(seed):
    """A seed of 32 bits for packages that take no more. The two lowest bits, which say what an episode is for, stay."""
    mixed = (seed >> 2) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    return (mixed >> 34) << 2 | seed & 3


def words(name):
    """"pick-place-wall" -> "pick place wall"."""
    return name.replace("-", " ").replace("_", " ")
