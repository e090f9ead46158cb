"""Frames of the protocol between gato and this worker: docs/environments.md, section "Protocol". The counterpart is
src/env/remote/frame.cpp."""
import struct

from crc32c import crc32c

MAGIC = 0x764E4547  # "GENv", little-endian
PROTOCOL_VERSION = 1
REQUEST, REPLY = 1, 2
MAX_BODY_BYTES = 64 << 20
_HEAD = struct.Struct("<IHHI")  # magic, version, type, bytes of the body
_CHECKSUM = struct.Struct("<I")  # CRC-32C of the head and the body
HEADER_BYTES = _HEAD.size + _CHECKSUM.size


class FrameError(Exception):
    """The other side does not keep to the protocol, or is gone. There is nothing left to say to it."""


def _receive_exactly(connection, count):
    buffer = bytearray(count)
    view = memoryview(buffer)
    done = 0
    while done < count:
        got = connection.recv_into(view[done:])
        if got == 0:
            raise FrameError("the connection ended in the middle of a frame" if done else "the connection ended")
        done += got
    return buffer


def receive(connection):
    """The body of the next request, or None when the other side hung up between two frames."""
    try:
        header = _receive_exactly(connection, HEADER_BYTES)
    except FrameError as error:
        if str(error) == "the connection ended":
            return None
        raise
    magic, version, kind, length = _HEAD.unpack_from(header)
    if magic != MAGIC or version != PROTOCOL_VERSION or kind != REQUEST:
        raise FrameError(f"not a request of protocol {PROTOCOL_VERSION}: {bytes(header).hex()}")
    if length > MAX_BODY_BYTES:
        raise FrameError(f"a request of {length} bytes; at most {MAX_BODY_BYTES} are allowed")
    body = _receive_exactly(connection, length)
    (checksum,) = _CHECKSUM.unpack_from(header, _HEAD.size)
    if crc32c(body, crc32c(header[: _HEAD.size])) != checksum:
        raise FrameError("a request with a wrong checksum")
    return bytes(body)


def send(connection, body):
    """Sends a reply."""
    if len(body) > MAX_BODY_BYTES:
        raise FrameError(f"a reply of {len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    head = _HEAD.pack(MAGIC, PROTOCOL_VERSION, REPLY, len(body))
    connection.sendall(head + _CHECKSUM.pack(crc32c(body, crc32c(head))) + body)
