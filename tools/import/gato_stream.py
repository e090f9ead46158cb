"""Writes episode streams for `gato-data import stream`: docs/formats/stream.md. Needs nothing but Python 3.8; arrays of
numpy are taken where a list is, and are faster.

    from gato_stream import StreamWriter, task, continuous, discrete, text, image

    spec = task("me/arm", observation=[continuous("joints", (6,), unit="rad")],
                action=[continuous("torque", (6,), low=-1, high=1)])
    with StreamWriter(sys.stdout.buffer, "me/arm", [spec], licence="CC0-1.0") as out:
        out.episode(id="0", observation={"joints": joints}, action={"torque": torques}, reward=rewards, terminated=True)

An exception inside the `with` leaves the stream without its end, and the import reports that. Mistakes in the data are
ValueErrors that name episode and field.
"""
import array
import struct
import sys
import zlib

VERSION = 1
MAX_FRAME_BYTES = 256 << 20
MODALITIES = {"text": 0, "image": 1, "discrete": 2, "continuous": 3}
CODECS = {"png": 0, "jpeg": 1}
SCORING = {"return": 0, "exact_match": 1, "loss": 2}


# --------------------------------------------------------------------------------------------- protocol buffers, by hand

def _varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS = [_varint(number) for number in range(1024)]


def _bytes(field, content):
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field, content):
    return _bytes(field, content.encode()) if content else b""


def _number(field, number):
    return _varint(field << 3) + _varint(int(number)) if number else b""


def _double(field, number):
    return _varint(field << 3 | 1) + struct.pack("<d", number)


def _floats(field, numbers):
    packed = _float_bytes(numbers)
    return _bytes(field, packed) if packed else b""


def _float_bytes(numbers):
    if hasattr(numbers, "astype"):
        return numbers.astype("<f4").tobytes()
    packed = array.array("f", _flat(numbers))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _flat(values):
    """Nested sequences as one list."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, (list, tuple, array.array, range)):
        return [values]
    if len(values) and isinstance(values[0], (list, tuple)) or any(hasattr(value, "tolist") for value in values):
        return [number for value in values for number in _flat(value)]
    return list(values)


# ------------------------------------------------------------------------------------------------------- specifications

def _shape_list(shape):
    return [int(shape)] if isinstance(shape, int) else [int(size) for size in shape]


def _bound_list(bound):
    return [] if bound is None else [float(number) for number in _flat(bound)]


def continuous(name, shape=(), low=None, high=None, unit=""):
    """Numbers of `shape` per step. Actions need bounds: a number for all elements, or one for each."""
    low, high = _bound_list(low), _bound_list(high)
    if len(low) != len(high):
        raise ValueError("field %r: give both bounds, or none" % name)
    return {"name": name, "modality": "continuous", "shape": _shape_list(shape), "low": low, "high": high, "unit": unit}


def discrete(name, num_values, shape=()):
    """Whole numbers in [0, num_values), num_values <= 1024."""
    return {"name": name, "modality": "discrete", "shape": _shape_list(shape), "num_values": int(num_values)}


def text(name):
    """A str per step."""
    return {"name": name, "modality": "text", "shape": []}


def image(name, height=0, width=0, codec="png"):
    """A picture per step: the bytes of a PNG or JPEG file, or a numpy array of uint8 (height x width x 3, or without the
    3 for grey). 0 where a size varies. `codec` is what shards store; pictures in it are kept byte for byte."""
    return {"name": name, "modality": "image", "shape": [int(height), int(width), 3], "codec": codec}


def task(id, observation, action, description="", scoring="return", partial_view=False, max_steps=0, licence="",
         expert=None, random=None):
    """A task `domain/name`. `expert` and `random` are measured returns: (mean, standard error, episodes)."""
    return {"id": id, "observation": list(observation), "action": list(action), "description": description,
            "scoring": scoring, "partial_view": partial_view, "max_steps": max_steps, "licence": licence,
            "expert": expert, "random": random}


def _encode_field(field):
    shape = b"".join(_varint(size) for size in field["shape"])
    return (_text(1, field["name"]) + _number(2, MODALITIES[field["modality"]]) + (_bytes(3, shape) if shape else b"")
            + _number(4, field.get("num_values", 0)) + _floats(5, field.get("low", [])) + _floats(6, field.get("high", []))
            + _number(7, CODECS[field.get("codec", "png")]) + _text(8, field.get("unit", "")))


def _encode_returns(record):
    mean, standard_error, episodes = record
    return _double(1, mean) + _double(2, standard_error) + _number(3, episodes)


def _encode_task(spec):
    out = _text(1, spec["id"]) + _text(2, spec["description"])
    out += b"".join(_bytes(3, _encode_field(field)) for field in spec["observation"])
    out += b"".join(_bytes(4, _encode_field(field)) for field in spec["action"])
    out += _number(5, SCORING[spec["scoring"]]) + _number(6, spec["partial_view"]) + _number(7, spec["max_steps"])
    for number, record in ((8, spec["expert"]), (9, spec["random"])):
        out += _bytes(number, _encode_returns(record)) if record else b""
    return out + _text(10, spec["licence"])


# --------------------------------------------------------------------------------------------------------------- values

def png(height, width, pixels):
    """A PNG file of 8-bit pixels, row by row: 3 bytes each (red, green, blue), or one (grey)."""
    row_bytes, rest = divmod(len(pixels), height)
    if rest or row_bytes not in (width, 3 * width):
        raise ValueError("%d bytes are no picture of %d x %d pixels of 1 or 3 bytes" % (len(pixels), height, width))
    raw = b"".join(b"\0" + pixels[row * row_bytes:(row + 1) * row_bytes] for row in range(height))

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    colour = 0 if row_bytes == width else 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(raw, 3)) + chunk(b"IEND", b""))


def _encode_picture(picture):
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return bytes(picture)
    if not hasattr(picture, "tobytes") or str(picture.dtype) != "uint8" or picture.ndim not in (2, 3):
        raise ValueError("a picture is the bytes of a PNG or JPEG file, or an array of uint8, height x width (x 3)")
    return png(picture.shape[0], picture.shape[1], picture.tobytes())


def _encode_numbers(field, values, steps):
    elements = 1
    for size in field["shape"]:
        elements *= size
    if field["modality"] == "continuous":
        packed = _float_bytes(values)
        count = len(packed) // 4
        out = _bytes(1, packed)
    else:
        numbers = _flat(values)
        count = len(numbers)
        if count and not (0 <= min(numbers) and max(numbers) < field["num_values"]):
            raise ValueError("value %r or %r is outside [0, %d)" % (min(numbers), max(numbers), field["num_values"]))
        try:
            out = _bytes(2, b"".join(map(_VARINTS.__getitem__, numbers)))
        except TypeError:
            raise ValueError("discrete values must be whole numbers of type int") from None
    if count != steps * elements:
        raise ValueError("%d values for %d steps of %d elements" % (count, steps, elements))
    return out


def _encode_column(field, values, steps):
    if field["modality"] in ("continuous", "discrete"):
        return _encode_numbers(field, values, steps)
    if len(values) != steps:
        raise ValueError("%d values for %d steps" % (len(values), steps))
    if field["modality"] == "text":
        return b"".join(_bytes(3, value.encode()) for value in values)
    return b"".join(_bytes(4, _encode_picture(value)) for value in values)


class StreamWriter:
    """Writes the header at once, the end when the `with` is left without an exception."""

    def __init__(self, out, name, tasks, description="", licence="", created_by="", mapping=()):
        """`out` is a binary file or pipe; `mapping` are lines for people: what became what, and what is not used."""
        self._out, self._tasks = out, list(tasks)
        self._episodes = self._steps = self._dropped = 0
        dataset = _text(1, name) + _text(2, description) + _text(3, licence) + _text(4, created_by)
        dataset += b"".join(_bytes(5, _encode_task(spec)) for spec in self._tasks)
        self._frame(1, _number(1, VERSION) + _bytes(2, dataset) + b"".join(_bytes(3, line.encode()) for line in mapping))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self._frame(4, _number(1, self._episodes) + _number(2, self._steps) + _number(3, self._dropped))
        self._out.flush()

    def _frame(self, number, content):
        frame = _bytes(number, content) + b"\x2d" + struct.pack("<I", zlib.crc32(content))
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError("a message of %d bytes, at most %d are allowed: cut the episode into parts"
                             % (len(frame), MAX_FRAME_BYTES))
        self._out.write(_varint(len(frame)) + frame)

    def _columns(self, number, group, fields, values, steps, id):
        if set(values) != {field["name"] for field in fields}:
            raise ValueError("episode %r: %s has the fields %s, the task says %s"
                             % (id, group, sorted(values), sorted(field["name"] for field in fields)))
        out = []
        for field in fields:
            try:
                out.append(_bytes(number, _encode_column(field, values[field["name"]], steps)))
            except ValueError as error:
                raise ValueError("episode %r, %s field %r: %s" % (id, group, field["name"], error)) from None
        return b"".join(out)

    def episode(self, observation, action, id="", task=0, reward=None, label=None, source_agent="", seed=0,
                terminated=False, truncated=False, success=None, num_steps=None):
        """One episode. `observation`, `action` and `label` (the expert's actions, where others were executed) map each
        field's name to its values over all steps. `id` is unique in the stream; empty: made from the number."""
        spec = self._tasks[task]
        if num_steps is None:
            longest = reward if reward is not None else action[spec["action"][0]["name"]]
            num_steps = len(longest)
        if num_steps < 1:
            raise ValueError("episode %r has no steps" % id)
        if not 0 <= seed < 1 << 64:
            raise ValueError("episode %r: seed %d is outside [0, 2^64)" % (id, seed))
        content = _number(1, task) + _text(2, id) + _text(3, source_agent) + _number(4, seed) + _number(5, num_steps)
        content += self._columns(6, "observation", spec["observation"], observation, num_steps, id)
        content += self._columns(7, "action", spec["action"], action, num_steps, id)
        if label is not None:
            content += self._columns(8, "label", spec["action"], label, num_steps, id)
        if reward is not None:
            if len(reward) != num_steps:
                raise ValueError("episode %r: %d rewards for %d steps" % (id, len(reward), num_steps))
            content += _floats(9, reward)
        content += _number(10, terminated) + _number(11, truncated)
        if success is not None:
            content += b"\x60" + (b"\x01" if success else b"\x00")
        self._frame(2, content)
        self._episodes += 1
        self._steps += num_steps

    def dropped(self, reason, origin=""):
        """Something was left out; the import's summary counts it by `reason`."""
        self._frame(3, _text(1, reason) + _text(2, origin))
        self._dropped += 1
