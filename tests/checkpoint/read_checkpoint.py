#!/usr/bin/env python3
"""read_checkpoint.py FOLDER: reads a checkpoint as docs/formats/checkpoint.md describes it, with nothing but Python's standard
library and none of our code. Verifies every checksum but the XXH3 digests, then prints one line per tensor:
FILE NAME DTYPE SHAPE and, for F32 and I64, the sum of the values. Exits 1, naming file and offset, when something is damaged."""
import json
import struct
import sys
from pathlib import Path

CHUNK_BYTES = 1 << 20


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def read_manifest(folder):
    text = (folder / "MANIFEST.json").read_bytes()
    body, key, tail = text.rpartition(b' "manifest_crc32c": "')
    if tail != b'%08x"\n}\n' % crc32c(body):
        sys.exit("MANIFEST.json: damaged")
    manifest = json.loads(text)
    if (manifest["format"], manifest["version"], manifest["chunk_bytes"]) != ("gato-checkpoint", 1, CHUNK_BYTES):
        sys.exit("MANIFEST.json: not of this format")
    return manifest


def verify(folder, entry):
    data = (folder / entry["name"]).read_bytes()
    if len(data) != entry["size"]:
        sys.exit("%s at offset %d: %d bytes are missing" % (entry["name"], len(data), entry["size"] - len(data)))
    for number, expected in enumerate(entry["crc32c"]):
        offset = number * CHUNK_BYTES
        if crc32c(data[offset:offset + CHUNK_BYTES]) != expected:
            sys.exit("%s at offset %d: damaged" % (entry["name"], offset))
    return data


def tensors_of(data):
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = tensor["data_offsets"]
        yield name, tensor["dtype"], tensor["shape"], data[8 + length + begin:8 + length + end]


def describe(dtype, content):
    code = {"F32": "f", "I64": "q"}.get(dtype)
    if code is None:
        return ""
    return " %g" % sum(value for (value,) in struct.iter_unpack("<" + code, content))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    for entry in read_manifest(folder)["files"]:
        data = verify(folder, entry)
        if not entry["name"].endswith(".safetensors"):
            continue
        for name, dtype, shape, content in tensors_of(data):
            print("%s %s %s %s%s" % (entry["name"], name, dtype, "x".join(map(str, shape)), describe(dtype, content)))


if __name__ == "__main__":
    main()
