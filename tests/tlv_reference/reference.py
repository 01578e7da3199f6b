"""TLV as the specification of the dirty protocol has it, written from its tables: for comparison with the library's.

Reads lines of hex digits; answers each with what is in it and how that is written again, or with what is wrong.
"""

import struct
import sys

MOST_BYTES = 64 * 1024 * 1024
MOST_ITEMS = 1024 * 1024

sys.setrecursionlimit(5000)


class Wrong(Exception):
    pass


def number(data, at, what):
    if len(data) - at < 4:
        raise Wrong(f"Truncated TLV data: incomplete {what}")
    return int.from_bytes(data[at : at + 4], "big"), at + 4


def counted(data, at, name, what, extra):
    size, at = number(data, at, f"{what} length")
    if size > MOST_BYTES:
        raise Wrong(f"{name} too large: {size} bytes (max: {MOST_BYTES})")
    if len(data) - at < size:
        raise Wrong(f"Truncated TLV data: expected {size} bytes{extra}, got {len(data) - at}")
    return data[at : at + size], at + size


def several(data, at, name, what):
    count, at = number(data, at, f"{what} count")
    if count > MOST_ITEMS:
        raise Wrong(f"{name} too large: {count} items (max: {MOST_ITEMS})")
    return count, at


def value(data, at):
    if at >= len(data):
        raise Wrong("Truncated TLV data: no type byte")
    code, at = data[at], at + 1
    if code == 0x00:
        return None, at
    if code == 0x01:
        if at >= len(data):
            raise Wrong("Truncated TLV data: missing bool value")
        return data[at] != 0, at + 1
    if code in (0x05, 0x06):
        if len(data) - at < 8:
            raise Wrong("Truncated TLV data: incomplete " + ("int64" if code == 0x05 else "float64"))
        return struct.unpack(">q" if code == 0x05 else ">d", data[at : at + 8])[0], at + 8
    if code == 0x10:
        return counted(data, at, "Bytes", "bytes", "")
    if code == 0x11:
        raw, at = counted(data, at, "String", "string", " for string")
        try:
            return raw.decode("utf-8"), at
        except UnicodeDecodeError as e:
            raise Wrong(f"Invalid UTF-8 in string: {e}")
    if code == 0x20:
        count, at = several(data, at, "List", "list")
        items = []
        for _ in range(count):
            item, at = value(data, at)
            items.append(item)
        return items, at
    if code == 0x21:
        count, at = several(data, at, "Dict", "dict")
        pairs = {}
        for _ in range(count):
            key, at = value(data, at)
            if not isinstance(key, str):
                raise Wrong(f"Dict key must be string, got {type(key).__name__}")
            pairs[key], at = value(data, at)
        return pairs, at
    raise Wrong(f"Unknown TLV type code: 0x{code:02x}")


def whole(data):
    found, at = value(data, 0)
    if at != len(data):
        raise Wrong(f"Trailing data after TLV: {len(data) - at} bytes")
    return found


def written(of):
    if of is None:
        return b"\x00"
    if isinstance(of, bool):
        return b"\x01" + bytes([of])
    if isinstance(of, int):
        return b"\x05" + struct.pack(">q", of)
    if isinstance(of, float):
        return b"\x06" + struct.pack(">d", of)
    if isinstance(of, bytes):
        return b"\x10" + struct.pack(">I", len(of)) + of
    if isinstance(of, str):
        raw = of.encode("utf-8")
        return b"\x11" + struct.pack(">I", len(raw)) + raw
    if isinstance(of, list):
        return b"\x20" + struct.pack(">I", len(of)) + b"".join(map(written, of))
    pairs = b"".join(written(key) + written(item) for key, item in of.items())
    return b"\x21" + struct.pack(">I", len(of)) + pairs


for line in sys.stdin:
    try:
        print("ok", written(whole(bytes.fromhex(line.strip()))).hex())
    except Wrong as e:
        print("no", e)
