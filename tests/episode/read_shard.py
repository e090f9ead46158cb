#!/usr/bin/env python3
"""read_shard.py FILE.gato [FILE.gato.tokens]: a second reader of shards, written from docs/formats/shard.md alone with
Python's standard library. Verifies every checksum and prints the whole content as JSON. Exits 1 with one line on standard
error when the file is damaged. It is the proof that the page suffices; it is not meant to be fast."""
import json
import struct
import sys
import zlib

HEADER_MAGIC = b"\x89GATOC\r\n"
END_MAGIC = b"GATOEND\n"
BLOCK = 65536
INDEX, IDS, OBSERVATION, ACTION, LABEL, REWARD = 1, 2, 3, 4, 5, 6
ELEMENT = {1: ("B", 1), 2: ("H", 2), 3: ("I", 4), 4: ("f", 4), 5: ("", 48)}
MODALITIES = ["text", "image", "discrete", "continuous"]


class Damaged(Exception):
    pass


def make_crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def split_hash(episode_id):
    mask = (1 << 64) - 1
    value = 0xCBF29CE484222325
    for byte in episode_id.encode():
        value = ((value ^ byte) * 0x100000001B3) & mask
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = ((value ^ (value >> 33)) * factor) & mask
    return value ^ (value >> 33)


# ---- Protocol buffers -----------------------------------------------------------------------------------------------


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def message(data):
    """Field number -> list of its values: integers for varints, bytes for everything else."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(tag & 7)
            if size is None:
                size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def number(fields, key):
    return fields.get(key, [0])[-1]


def text(fields, key):
    return fields.get(key, [b""])[-1].decode()


def double(fields, key):
    return struct.unpack("<d", fields.get(key, [bytes(8)])[-1])[0]


def packed_floats(fields, key):
    data = b"".join(fields.get(key, []))
    return list(struct.unpack("<%df" % (len(data) // 4), data))


def packed_varints(fields, key):
    data, values, at = b"".join(fields.get(key, [])), [], 0
    while at < len(data):
        value, at = varint(data, at)
        values.append(value)
    return values


# ---- Container ------------------------------------------------------------------------------------------------------


class ColumnFile:
    def __init__(self, path, kind):
        with open(path, "rb") as file:
            self.data = data = file.read()
        if len(data) < 96 or data[:8] != HEADER_MAGIC or data[-8:] != END_MAGIC:
            raise Damaged("marks are missing")
        if struct.unpack_from("<II", data, 8) != (1, kind):
            raise Damaged("another version or kind")
        trailer = len(data) - 32
        footer_bytes, file_bytes, footer_crc, trailer_crc = struct.unpack_from("<QQII", data, trailer)
        if crc32c(data[trailer:trailer + 20]) != trailer_crc or file_bytes != len(data):
            raise Damaged("trailer")
        footer = data[trailer - footer_bytes:trailer]
        if crc32c(footer) != footer_crc:
            raise Damaged("footer")
        self.footer = message(footer)
        self.check_blocks(trailer - footer_bytes)
        self.columns = [message(column) for column in self.footer.get(4, [])]

    def check_blocks(self, payload):
        if number(self.footer, 1) != payload or number(self.footer, 2) != BLOCK:
            raise Damaged("payload")
        crcs = self.footer[3][-1]
        for block, begin in enumerate(range(0, payload, BLOCK)):
            actual = crc32c(self.data[begin:min(begin + BLOCK, payload)])
            if actual != struct.unpack_from("<I", crcs, 4 * block)[0]:
                raise Damaged("block at offset %d" % begin)

    def column(self, role, task=0, field=0):
        for column in self.columns:
            if (number(column, 1), number(column, 2), number(column, 3)) == (role, task, field):
                return column
        return None

    def rows(self, column):
        """The rows of a column, each as bytes."""
        code, size = ELEMENT[number(column, 4)]
        start, count, table = number(column, 7), number(column, 5), number(column, 9)
        if table:
            ends = struct.unpack_from("<%dQ" % (count + 1), self.data, table)
            return [self.data[start + ends[i] * size:start + ends[i + 1] * size] for i in range(count)]
        row = size * number(column, 6)
        return [self.data[start + i * row:start + (i + 1) * row] for i in range(count)]


def elements(column, row):
    code, size = ELEMENT[number(column, 4)]
    return list(struct.unpack("<%d%s" % (len(row) // size, code), row))


# ---- Shard ----------------------------------------------------------------------------------------------------------


def png_pixels(data):
    """Height, width and pixels of an 8-bit RGB PNG without interlace."""
    at, compressed = 8, b""
    while at < len(data):
        size = struct.unpack_from(">I", data, at)[0]
        kind, body = data[at + 4:at + 8], data[at + 8:at + 8 + size]
        at += 12 + size
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", body)
        elif kind == b"IDAT":
            compressed += body
    raw, stride, pixels, above = zlib.decompress(compressed), 3 * width, [], [0] * (3 * width)
    for y in range(height):
        kind, row = raw[y * (stride + 1)], list(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride):
            left, up, corner = (row[x - 3] if x > 2 else 0), above[x], (above[x - 3] if x > 2 else 0)
            guess = left + up - corner
            nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            row[x] = (row[x] + [0, left, up, (left + up) // 2, nearest][kind]) & 255
        pixels += row
        above = row
    return {"height": height, "width": width, "pixels": pixels}


def field_spec(data):
    fields = message(data)
    return {"name": text(fields, 1), "modality": MODALITIES[number(fields, 2)], "shape": packed_varints(fields, 3),
            "num_values": number(fields, 4), "low": packed_floats(fields, 5), "high": packed_floats(fields, 6),
            "codec": number(fields, 7), "unit": text(fields, 8)}


def returns(fields, key):
    inner = message(fields.get(key, [b""])[-1])
    return {"mean": double(inner, 1), "standard_error": double(inner, 2), "episodes": number(inner, 3)}


def task_spec(data):
    fields = message(data)
    return {"id": text(fields, 1), "description": text(fields, 2), "observation": [field_spec(f) for f in fields.get(3, [])],
            "action": [field_spec(f) for f in fields.get(4, [])], "scoring": number(fields, 5),
            "partial_view": bool(number(fields, 6)), "max_steps": number(fields, 7), "expert": returns(fields, 8),
            "random": returns(fields, 9), "licence": text(fields, 10)}


class Shard(ColumnFile):
    def __init__(self, path):
        super().__init__(path, 1)
        shard = message(self.footer[5][-1])
        self.info = {"name": text(shard, 1), "description": text(shard, 2), "licence": text(shard, 3),
                     "created_by": text(shard, 4)}
        self.tasks = [task_spec(task) for task in shard.get(5, [])]
        self.agents = [agent.decode() for agent in shard.get(6, [])]

    def group(self, role, task, specs, first, count):
        result = []
        for i, spec in enumerate(specs):
            column = self.column(role, task, i)
            rows = self.rows(column)[first:first + count]
            if spec["modality"] == "text":
                result.append([row.decode() for row in rows])
            elif spec["modality"] == "image":
                result.append([png_pixels(row) for row in rows])
            else:
                result.append([elements(column, row) for row in rows])
        return result

    def episodes(self):
        ids = self.rows(self.column(IDS))
        for i, entry in enumerate(self.rows(self.column(INDEX))):
            split, first, seed, steps, task, total, agent, flags, _ = struct.unpack("<QQQIIfIII", entry)
            episode_id = ids[i].decode()
            if split != split_hash(episode_id):
                raise Damaged("split hash of episode %d" % i)
            spec = self.tasks[task]
            yield {
                "id": episode_id, "source_agent": self.agents[agent], "seed": seed, "task": task, "num_steps": steps,
                "total_return": total, "terminated": bool(flags & 1), "truncated": bool(flags & 2),
                "success": bool(flags & 8) if flags & 4 else None,
                "observation": self.group(OBSERVATION, task, spec["observation"], first, steps),
                "action": self.group(ACTION, task, spec["action"], first, steps),
                "label": self.group(LABEL, task, spec["action"], first, steps) if flags & 32 else [],
                "reward": [elements({4: [4]}, row)[0] for row in self.rows(self.column(REWARD, task))[first:first + steps]]
                          if flags & 16 else [],
            }


def read_tokens(path):
    file = ColumnFile(path, 2)
    info = message(file.footer[6][-1])
    columns = [{"role": number(column, 1), "task": number(column, 2), "field": number(column, 3),
                "steps": [elements(column, row) for row in file.rows(column)]} for column in file.columns]
    return {"tokenizer_digest": text(info, 1), "shard_fingerprint": text(info, 2), "columns": columns}


def main(arguments):
    try:
        shard = Shard(arguments[0])
        content = {"info": shard.info, "tasks": shard.tasks, "episodes": list(shard.episodes())}
        if len(arguments) > 1:
            content["tokens"] = read_tokens(arguments[1])
    except Damaged as error:
        print("%s: damaged: %s" % (arguments[0], error), file=sys.stderr)
        return 1
    json.dump(content, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
