"""Random corruption of files: of bytes, of text and of JSON values."""

import copy
import json
from typing import Any

import numpy as np

_WORDS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1)
_VALUES = (
  None, True, -1, 0, 1, 2**31, 2**63, 10**30, -1.5, float("nan"), float("inf"),
  "", "\0", "x" * 5000, "../../etc/passwd", "é\ud800", [], {}, [[]], {"a": 1},
  [1, "a", None], [0] * 1000,
)  # fmt: skip
_PIECES = (
  b"\0", b"\xff\xfe", b"\xc3", b"\n", b"\r", b",", b";", b'"', b"'", b"-", b"{",
  b"[", b"]", b"}", b"*a", b"&a ", b"!!python/object:os.system ", b": ", b"nan",
  b"inf", b"1e999", b"99999999999999999999", b"../", b"\xef\xbb\xbf", b"%s",
  b"null", b"\x1b[31m",
)  # fmt: skip


def spoil(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
  """Corrupts a file one to four times.

  Args:
    content: bytes of the file.
    suffix: of its name; JSON is corrupted value by value in half of the cases,
      text in pieces.
    rng: random generator.
  """
  if suffix == ".json" and rng.random() < 0.5:
    return _spoil_json(content, rng)
  is_text = suffix in (".json", ".csv", ".yaml", ".toml")
  for _ in range(rng.integers(1, 5)):
    if is_text and rng.random() < 0.7:
      content = _spoil_text(content, rng)
    else:
      content = _spoil_bytes(content, rng)
  return content


def _place(content: bytes, rng: np.random.Generator) -> int:
  """An offset; in half of the cases among the first bytes, the header."""
  end = len(content) if rng.random() < 0.5 else min(len(content), 512)
  return int(rng.integers(max(end, 1)))


def _spoil_bytes(content: bytes, rng: np.random.Generator) -> bytes:
  spoiled, at = bytearray(content), _place(content, rng)
  length = int(rng.integers(1, 64))
  match rng.integers(7):
    case 0 if spoiled:
      spoiled[at] ^= 1 << int(rng.integers(8))
    case 1:
      spoiled[at : at + length] = rng.bytes(length)
    case 2:
      del spoiled[at:]
    case 3:
      del spoiled[at : at + length]
    case 4:
      spoiled[at:at] = spoiled[at : at + length]
    case 5:
      spoiled[at : at + length] = bytes(length)
    case _:
      word = _WORDS[rng.integers(len(_WORDS))]
      order = "little" if rng.random() < 0.5 else "big"
      spoiled[at : at + 4] = word.to_bytes(4, order)
  return bytes(spoiled)


def _spoil_text(content: bytes, rng: np.random.Generator) -> bytes:
  lines = content.split(b"\n")
  at = int(rng.integers(len(lines)))
  match rng.integers(4):
    case 0:
      lines.insert(at, lines[rng.integers(len(lines))])
    case 1:
      del lines[at]
    case _:
      line, start = lines[at], int(rng.integers(len(lines[at]) + 1))
      end = start + int(rng.integers(0, 6))
      piece = _PIECES[rng.integers(len(_PIECES))]
      lines[at] = line[:start] + piece + line[end:]
  return b"\n".join(lines)


def _spoil_json(content: bytes, rng: np.random.Generator) -> bytes:
  tree = json.loads(content)
  for _ in range(rng.integers(1, 4)):
    items = list(_items(tree))
    if not items:
      break
    parent, key = items[rng.integers(len(items))]
    match rng.integers(4):
      case 0:
        del parent[key]
      case 1 if isinstance(parent, dict):
        parent["unknown"] = parent.pop(key)
      case _:
        parent[key] = copy.deepcopy(_VALUES[rng.integers(len(_VALUES))])
  return json.dumps(tree).encode()


def _items(node: Any):
  keys = range(len(node)) if isinstance(node, list) else node
  for key in keys:
    yield node, key
    if isinstance(node[key], dict | list) and len(node[key]) < 100:
      yield from _items(node[key])
