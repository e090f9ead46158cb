"""Tasks on resources, played event by event."""

from __future__ import annotations

import dataclasses

COMPUTE = "compute"


@dataclasses.dataclass(frozen=True)
class Task:
    name: str
    resource: str  # "compute", or a link that collectives share
    seconds: float  # with the resource to itself
    after: tuple[int, ...]  # tasks that must have ended


@dataclasses.dataclass(frozen=True)
class Timeline:
    seconds: float  # from the start to the end of the last task
    started: tuple[float, ...]  # of each task
    ended: tuple[float, ...]
    busy: dict[str, float]  # seconds in which a resource had a task running


class Schedule:
    """What one GPU does. A resource runs its tasks one at a time and in the order in which they were added, as streams
    do: a task that waits for others holds back those behind it."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def add(self, name: str, resource: str, seconds: float, after: list[int] | tuple[int, ...] = ()) -> int:
        """Returns the task's number, for `after` of others. Throws ValueError for what cannot be played."""
        if not seconds >= 0 or seconds == float("inf"):
            raise ValueError(f"task {name!r} would take {seconds} s; a duration is finite and not negative")
        unknown = [task for task in after if not 0 <= task < len(self.tasks)]
        if unknown:
            raise ValueError(f"task {name!r} waits for task {unknown[0]}, which was not added before it")
        self.tasks.append(Task(name, resource, seconds, tuple(after)))
        return len(self.tasks) - 1

    def run(self, compute_scale: float = 1.0, slowdown: float = 0.0) -> Timeline:
        """Plays all tasks. Compute tasks take `compute_scale` times as long; while any other resource is at work,
        compute goes at 1 - `slowdown` of its speed, since collectives occupy multiprocessors and memory too. Tasks only
        wait for tasks added before them and queues keep that order, so there is always one that can go on."""
        if not 0 <= slowdown < 1 or compute_scale <= 0:
            raise ValueError(f"slowdown {slowdown} must be in [0, 1) and compute_scale {compute_scale} positive")
        queues: dict[str, list[int]] = {}
        for number, task in enumerate(self.tasks):
            queues.setdefault(task.resource, []).append(number)
        position = dict.fromkeys(queues, 0)
        left: dict[str, float] = {}  # work of the task that each busy resource has
        started, ended = [-1.0] * len(self.tasks), [-1.0] * len(self.tasks)
        busy = dict.fromkeys(queues, 0.0)
        now = 0.0
        while True:
            for resource, queue in queues.items():
                if resource in left or position[resource] == len(queue):
                    continue
                task = self.tasks[queue[position[resource]]]
                if all(ended[other] >= 0 for other in task.after):
                    started[queue[position[resource]]] = now
                    left[resource] = task.seconds * (compute_scale if resource == COMPUTE else 1.0)
            if not left:
                return Timeline(now, tuple(started), tuple(ended), busy)
            speed = 1.0 - slowdown if len(left) > 1 else 1.0
            speeds = {resource: speed if resource == COMPUTE else 1.0 for resource in left}
            next_end = min(left, key=lambda resource: left[resource] / speeds[resource])
            passed = left[next_end] / speeds[next_end]
            now += passed
            for resource in list(left):
                busy[resource] += passed
                left[resource] -= passed * speeds[resource]
                if resource == next_end or left[resource] <= 1e-15:
                    ended[queues[resource][position[resource]]] = now
                    position[resource] += 1
                    del left[resource]
