"""Plays the tasks of one family of environments for gato, which starts it: worker.py FAMILY SOCKET MEMORY LIFELINE.

SOCKET is a stream socket, MEMORY shared memory for frames, LIFELINE the reading end of a pipe whose other end gato holds:
when that goes, the kernel ends this process, whatever it is doing. All are inherited file descriptors. What is said on the
socket: docs/environments.md, section "Protocol"."""
import fcntl
import importlib
import mmap
import os
import signal
import socket
import struct
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy as np  # noqa: E402
import remote_pb2 as messages  # noqa: E402

import frames  # noqa: E402
import task as tasks  # noqa: E402

MAX_SLOTS = 4096
MAX_MESSAGE_CHARACTERS = 2000
MAX_LOG_BYTES = 1 << 20


def end_with_gato(lifeline):
    """The default action of SIGIO is to end the process; no code of ours need run, so a place that never returns is no
    hindrance."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        if os.read(lifeline, 1) == b"":
            sys.exit("gato was gone before the worker began")
    except BlockingIOError:
        pass


def check_peer(connection):
    """Only a process of the same user may ask."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    if user != os.getuid():
        sys.exit(f"the socket belongs to user {user}, the worker to user {os.getuid()}")


def load_family(name):
    if not name.replace("_", "").isalnum():
        sys.exit(f"no family of environments is called '{name}'")
    return importlib.import_module(f"families.{name}").FAMILY


def field_message(field):
    return messages.Field(
        name=field.name,
        modality=field.modality,
        shape=field.shape,
        num_values=field.num_values,
        low=field.low,
        high=field.high,
        unit=field.unit,
    )


def task_message(task):
    return messages.Task(
        id=task.id,
        description=task.description,
        observation=[field_message(field) for field in task.observation],
        action=[field_message(field) for field in task.action],
        max_steps=task.max_steps,
        partial_view=task.partial_view,
        has_expert=task.has_expert,
    )


def describe(error):
    """An error in a few lines: its kind, its words, and where it came from."""
    where = traceback.extract_tb(error.__traceback__)
    at = f" ({os.path.basename(where[-1].filename)}:{where[-1].lineno})" if where else ""
    return f"{type(error).__name__}: {error}{at}"[:MAX_MESSAGE_CHARACTERS]


class Columns:
    """Values of several slots, field by field, as the protocol carries them."""

    TYPES = {tasks.CONTINUOUS: np.dtype("<f4"), tasks.DISCRETE: np.dtype("<i4"), tasks.IMAGE: np.dtype("u1")}

    def __init__(self, fields, count):
        self.fields = fields
        self.values = []
        for field in fields:
            if field.modality == tasks.TEXT:
                self.values.append([""] * count)
            else:
                self.values.append(np.zeros((count,) + field.shape, self.TYPES[field.modality]))

    def put(self, index, values):
        if len(values) != len(self.fields):
            raise ValueError(f"{len(values)} values for {len(self.fields)} fields")
        for field, column, value in zip(self.fields, self.values, values):
            if field.modality == tasks.TEXT:
                column[index] = str(value)
            else:
                column[index] = value  # numpy refuses another shape

    def messages(self):
        columns = []
        for field, column in zip(self.fields, self.values):
            if field.modality == tasks.TEXT:
                columns.append(messages.Column(text=column))
            elif field.modality == tasks.IMAGE:
                columns.append(messages.Column(pixels=column.tobytes()))
            else:
                columns.append(messages.Column(numbers=column.tobytes()))
        return columns

    @classmethod
    def parse(cls, fields, columns, count):
        """The actions of a request: one list of values per slot."""
        if len(columns) != len(fields):
            raise frames.FrameError(f"{len(columns)} columns for {len(fields)} action fields")
        values = []
        for field, column in zip(fields, columns):
            if field.modality == tasks.TEXT:
                values.append(column.text)
            else:
                numbers = np.frombuffer(column.numbers, cls.TYPES[field.modality])
                values.append(numbers.reshape((count,) + field.shape))
        return [[column[index] for column in values] for index in range(count)]


class Server:
    """Answers requests one by one."""

    def __init__(self, family, memory):
        self.family = family
        self.memory = memory
        self.task = None
        self.places = []
        self.calls = {
            "list_tasks": self.list_tasks,
            "open": self.open,
            "reset": self.reset,
            "step": self.step,
            "act": self.act,
            "look": self.look,
            "close": self.close,
        }

    def answer(self, body):
        request = messages.Request.FromString(body)
        name = request.WhichOneof("call")
        if name not in self.calls:
            return messages.Reply(refused=messages.Refused(message=f"cannot answer '{name}'"))
        try:
            return self.calls[name](getattr(request, name))
        except frames.FrameError:
            raise
        except Exception as error:
            return messages.Reply(refused=messages.Refused(message=describe(error)))

    # ---- each call ----

    def list_tasks(self, _):
        offers = [task_message(self.family.describe(task_id)) for task_id in self.family.tasks()]
        return messages.Reply(tasks=messages.Tasks(tasks=offers))

    def open(self, call):
        self.drop_places()
        if not 1 <= call.slots <= MAX_SLOTS:
            return messages.Reply(refused=messages.Refused(message=f"{call.slots} slots; 1 to {MAX_SLOTS} are possible"))
        if call.task not in self.family.tasks():
            return messages.Reply(refused=messages.Refused(message=f"there is no task '{call.task}' here"))
        self.task = self.family.describe(call.task)
        self.places = [self.family.make(self.task) for _ in range(call.slots)]
        return messages.Reply(opened=messages.Opened(task=task_message(self.task)))

    def close(self, _):
        self.drop_places()
        return messages.Reply(closed=messages.Closed())

    def reset(self, call):
        columns, failures = Columns(self.task.observation, len(call.slots)), []

        def begin(index, slot):
            if self.places[slot] is None:
                self.places[slot] = self.family.make(self.task)
            columns.put(index, self.places[slot].reset(call.seeds[index]))

        self.for_each(call.slots, begin, failures)
        return messages.Reply(observations=messages.Observations(columns=columns.messages(), failures=failures))

    def step(self, call):
        count = len(call.slots)
        actions = Columns.parse(self.task.action, call.actions, count)
        columns, failures, reply = Columns(self.task.observation, count), [], messages.Steps()
        rewards, terminated, truncated, success = [0.0] * count, bytearray(count), bytearray(count), bytearray(count)

        def move(index, slot):
            observation, reward, ended, cut, succeeded = self.places[slot].step(actions[index])
            columns.put(index, observation)
            rewards[index] = float(reward)
            terminated[index], truncated[index] = bool(ended), bool(cut)
            success[index] = 0 if succeeded is None else 1 + bool(succeeded)

        self.for_each(call.slots, move, failures)
        reply.columns.extend(columns.messages())
        reply.reward.extend(rewards)
        reply.terminated, reply.truncated, reply.success = bytes(terminated), bytes(truncated), bytes(success)
        reply.failures.extend(failures)
        return messages.Reply(steps=reply)

    def act(self, call):
        columns, failures = Columns(self.task.action, len(call.slots)), []
        self.for_each(call.slots, lambda index, slot: columns.put(index, self.places[slot].act()), failures)
        return messages.Reply(actions=messages.Actions(columns=columns.messages(), failures=failures))

    def look(self, call):
        picture = self.places[call.slot].frame()
        if picture is None:
            return messages.Reply(picture=messages.Picture())
        pixels = np.ascontiguousarray(picture, np.uint8)
        height, width, channels = pixels.shape
        if channels != 3 or pixels.nbytes > len(self.memory):
            raise ValueError(f"a frame of {pixels.shape} does not fit {len(self.memory)} bytes of shared memory")
        self.memory[: pixels.nbytes] = pixels.tobytes()
        return messages.Reply(picture=messages.Picture(height=height, width=width))

    # ---- helpers ----

    def for_each(self, slots, body, failures):
        """Runs body(index, slot); a place that raises an error loses its episode and is dropped."""
        for index, slot in enumerate(slots):
            try:
                body(index, slot)
            except Exception as error:
                failures.append(messages.Failure(index=index, message=describe(error)))
                if slot < len(self.places):
                    self.places[slot] = None

    def drop_places(self):
        for place in self.places:
            if place is not None:
                place.close()
        self.places, self.task = [], None


def shorten_log():
    """What packages print goes to a file in memory, of which gato shows the end when something goes wrong."""
    if os.fstat(sys.stdout.fileno()).st_size > MAX_LOG_BYTES:
        os.ftruncate(sys.stdout.fileno(), 0)
        os.lseek(sys.stdout.fileno(), 0, os.SEEK_SET)


def welcome(family, body):
    hello = messages.Request.FromString(body)
    if hello.WhichOneof("call") != "hello" or hello.hello.protocol != frames.PROTOCOL_VERSION:
        raise frames.FrameError(f"gato speaks another protocol than {frames.PROTOCOL_VERSION}")
    packages = family.versions()
    message = messages.Welcome(protocol=frames.PROTOCOL_VERSION, process_id=os.getpid(), packages=packages)
    return hello.hello, messages.Reply(welcome=message)


def serve(name, connection, memory_descriptor):
    family = load_family(name)
    body = frames.receive(connection)
    if body is None:
        return
    hello, reply = welcome(family, body)
    memory = mmap.mmap(memory_descriptor, hello.memory_bytes)
    frames.send(connection, reply.SerializeToString())
    server = Server(family, memory)
    while (body := frames.receive(connection)) is not None:
        frames.send(connection, server.answer(body).SerializeToString())
        shorten_log()


def main():
    name, *descriptors = sys.argv[1:]
    socket_descriptor, memory_descriptor, lifeline = map(int, descriptors)
    end_with_gato(lifeline)
    connection = socket.socket(fileno=socket_descriptor)
    check_peer(connection)
    try:
        serve(name, connection, memory_descriptor)
    except (frames.FrameError, BrokenPipeError, ConnectionResetError) as error:
        sys.exit(f"env_worker {name}: {error}")
    # Libraries for drawing are known to hang or crash on the way out; there is nothing left to save.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
