"""Random damage to files: to their bytes, to the words of a text, and to the values inside a known structure.

A codec takes a file apart into a tree of dicts, lists, text, numbers, bytes and arrays, so that damage to one value
leaves lengths and checksums around it right.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

NUMBERS = [0, 1, -1, 2, 3, 255, 256, 65536, 10**6, 2**31 - 1, 2**31, 2**32, 10**9, 2**63 - 1, 2**63, 10**12, 10**30]
VALUES: list[Any] = [None, True, False, *NUMBERS, 0.5, -0.5, 1e-300, 1e308]
VALUES += [
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "a",
    "0",
    "nan",
    "../a",
    "a" * 1000,
    "\0",
    "\x1b[31m",
    "é\u2028",
]
VALUES += [[], {}, [[]], [1] * 1000, {"a": {}}]
WORDS = [str(n) for n in NUMBERS] + ["1e999", "nan", "inf", "-0.0", "0x10", "9" * 5000, "", "\0", "\x1b[2J", "[", "{"]
WORDS += ["&a", "*a", "<", ">", "&b;", '"', "'", ",", "..", "/", "\\", "true", "null", "~", "=", ":", "- ", "\t"]
WORDS += ["\ufeff", "é"]


def mutate(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """Damage `data`, the content of a file with that suffix, one to three times."""
    if suffix in CODECS and rng.random() < 0.7:
        with contextlib.suppress(Exception):  # what a damaged tree cannot be packed into is damaged as bytes
            tree, pack = CODECS[suffix](data)
            for _ in range(rng.choice([1, 1, 2, 3])):
                tree = change(tree, rng)
            return pack(tree)
    for _ in range(rng.choice([1, 1, 2, 3])):
        data = _damage(data, rng)
    return data


def _damage(data: bytes, rng: random.Random) -> bytes:
    """Damage text as text or as bytes, and other data as bytes."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return rng.choice(_BYTES)(bytearray(data), rng)
    if rng.random() < 0.3:
        return rng.choice(_BYTES)(bytearray(data), rng)
    return rng.choice(_TEXTS)(text, rng).encode("utf-8", "surrogatepass")


def _flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 8])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _number(data: bytearray, rng: random.Random) -> bytes:
    """Overwrite four or eight bytes with a boundary value, or with NaN or infinity."""
    at = rng.randrange(max(1, min(len(data), rng.choice([64, 1 << 40]))))
    kind = rng.choice("iqIQf")
    bits = 8 * struct.calcsize(kind)
    value = rng.choice([float("nan"), float("inf"), 1e38]) if kind == "f" else rng.choice(NUMBERS) % 2 ** (bits - 1)
    raw = struct.pack("<" + kind, value)
    data[at : at + len(raw)] = raw
    return bytes(data)


def _cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data) + 1)])


def _move(data: bytearray, rng: random.Random) -> bytes:
    """Remove a range of bytes, repeat it elsewhere, or zero it."""
    start, to = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice([1, 4, 16, 256, 4096]))
    part = bytes(data[start:end])
    kind = rng.randrange(3)
    if kind == 0:
        del data[start:end]
    elif kind == 1:
        data[to:to] = part
    else:
        data[start:end] = bytes(len(part))
    return bytes(data)


def _word(text: str, rng: random.Random) -> str:
    """Replace a word or number by another one."""
    words = list(re.finditer(r"[\w.+-]+|[^\w\s]", text))
    if not words:
        return rng.choice(WORDS)
    old = rng.choice(words)
    new = rng.choice([*WORDS, rng.choice(words).group()])
    return text[: old.start()] + new + text[old.end() :]


def _line(text: str, rng: random.Random) -> str:
    """Remove a line, or repeat it elsewhere, once or thousands of times."""
    lines = text.splitlines(keepends=True) or [""]
    at, kind = rng.randrange(len(lines)), rng.randrange(4)
    line = lines[at]
    if kind == 0:
        del lines[at]
    else:
        lines[(to := rng.randrange(len(lines) + 1)) : to] = [line] * (3000 if kind == 3 and len(line) < 1000 else 1)
    return "".join(lines)


def _nest(text: str, rng: random.Random) -> str:
    """Insert deeply nested brackets."""
    at, mark = rng.randrange(len(text) + 1), rng.choice(["[", "{", "<a>", "- ", '{"a":', "[["])
    return text[:at] + mark * rng.choice([2, 50, 5000]) + text[at:]


_BYTES: list[Callable[[bytearray, random.Random], bytes]] = [_flip, _flip, _number, _cut, _move]
_TEXTS: list[Callable[[str, random.Random], str]] = [_word, _word, _word, _line, _nest]


def change(tree: Any, rng: random.Random) -> Any:
    """Copy the tree with one value changed, removed or repeated."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return _other(tree, rng)
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.15:
        del holder[key]
    elif kind < 0.25 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif kind < 0.25:
        holder[rng.choice(["a", "", "1", rng.choice(list(holder))])] = holder[key]
    else:
        holder[key] = _other(holder[key], rng)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _other(value: Any, rng: random.Random) -> Any:
    """Choose another value: often of the same type, sometimes of another."""
    if isinstance(value, np.ndarray):
        return _other_array(value, rng)
    if isinstance(value, bytes):
        return rng.choice(_BYTES)(bytearray(value), rng)
    if isinstance(value, str) and value[:1] in ("{", "["):  # JSON within a text
        with contextlib.suppress(ValueError):
            return json.dumps(change(json.loads(value), rng))
    if isinstance(value, str) and rng.random() < 0.4:
        return rng.choice(_TEXTS)(value, rng)
    if isinstance(value, int | float) and rng.random() < 0.5:
        return rng.choice([-value, value + 1, value * 1000, value / 2, rng.choice(NUMBERS)])
    return rng.choice(VALUES)


def _other_array(value: np.ndarray, rng: random.Random) -> np.ndarray:
    kind = rng.randrange(5)
    if kind == 0 and value.size and value.dtype.kind == "f":
        value.flat[rng.randrange(value.size)] = rng.choice([float("nan"), float("inf"), -1e30, 1e30])
        return value
    if kind == 1:
        return value.astype(rng.choice(["u1", "i8", "f2", "f8", "?", "c8"]))
    if kind == 2:
        return value[None]
    return value.reshape(-1) if kind == 3 else value[: len(value) // 2] if value.ndim else value[None]


Pack = Callable[[Any], bytes]


def _json(data: bytes) -> tuple[Any, Pack]:
    return json.loads(data), lambda tree: json.dumps(tree).encode("utf-8", "surrogatepass")


def _safetensors(data: bytes) -> tuple[Any, Pack]:
    (length,) = struct.unpack("<Q", data[:8])

    def pack(tree: Any) -> bytes:
        head = json.dumps(tree["header"]).encode()
        return struct.pack("<Q", len(head)) + head + tree["body"]

    return {"header": json.loads(data[8 : 8 + length]), "body": data[8 + length :]}, pack


def _npy(data: bytes) -> tuple[Any, Pack]:
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    head = {"descr": dtype.str, "fortran_order": fortran, "shape": list(shape)}

    def pack(tree: Any) -> bytes:
        header = {k: tuple(v) if k == "shape" else v for k, v in tree["head"].items()}
        text = repr(header).encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + tree["data"]

    return {"head": head, "data": file.read()}, pack


def _zip(data: bytes) -> tuple[Any, Pack]:
    tree, packs = dict[str, Any](), dict[str, Pack]()
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        kind = file.infolist()[0].compress_type  # torch takes files that are not compressed alone
        for name in file.namelist():
            tree[name], packs[name] = file.read(name), bytes
            if name.endswith(".npy"):
                tree[name], packs[name] = _npy(tree[name])

    def pack(tree: Any) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", kind) as file:
            for name, value in tree.items():
                # Not writestr(name), which takes the time of day: the same seed must give the same bytes.
                file.writestr(zipfile.ZipInfo(name), packs.get(name, bytes)(value), kind)
        return out.getvalue()

    return tree, pack


def _onnx(data: bytes) -> tuple[Any, Pack]:
    """The metadata, and the names and shapes of the outputs."""
    import onnx

    model = onnx.load_from_string(data)
    tree = {
        "metadata": {one.key: one.value for one in model.metadata_props},
        "outputs": [one.name for one in model.graph.output],
        "elements": [one.type.tensor_type.elem_type for one in model.graph.output],
        "operators": [node.op_type for node in model.graph.node],
    }

    def pack(tree: Any) -> bytes:
        onnx.helper.set_model_props(model, tree["metadata"])
        for one, name, kind in zip(list(model.graph.output), tree["outputs"], tree["elements"], strict=False):
            one.name, one.type.tensor_type.elem_type = name, kind
        del model.graph.output[len(tree["outputs"]) :]
        for node, kind in zip(model.graph.node, tree["operators"], strict=False):
            node.op_type = kind
        return model.SerializeToString()

    return tree, pack


def _checkpoint(data: bytes) -> tuple[Any, Pack]:
    """The content of a checkpoint; packing it computes a valid checksum."""
    import torch

    from detect.training.checkpoint import sign

    def pack(tree: Any) -> bytes:
        out = io.BytesIO()
        torch.save(_as_tensors(tree), out)
        return sign(out.getvalue())

    return _as_arrays(torch.load(io.BytesIO(data), weights_only=True)), pack


def _as_arrays(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _as_arrays(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_as_arrays(value) for value in tree]
    return tree.numpy() if hasattr(tree, "numpy") else tree


def _as_tensors(tree: Any) -> Any:
    import torch

    if isinstance(tree, dict):
        return {key: _as_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_as_tensors(value) for value in tree]
    return torch.from_numpy(np.array(tree)) if isinstance(tree, np.ndarray) else tree


CODECS: dict[str, Callable[[bytes], tuple[Any, Pack]]] = {
    ".json": _json,
    ".safetensors": _safetensors,
    ".npy": _npy,
    ".npz": _zip,
    ".pth": _zip,
    ".ckpt": _checkpoint,
    ".onnx": _onnx,
}
