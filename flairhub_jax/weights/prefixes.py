"""Prefixes that wrappers put before the keys of a network's tensors.

Lightning writes `model.`, DDP `module.`, torch.compile `_orig_mod.`, averages
of the weights `ema_model.` or `module.`, and people's own classes anything.
Each key is matched by itself: an unknown one does not affect the others.
"""

import collections
import re
from collections.abc import Collection, Mapping
from typing import Any

from flairhub_jax.errors import listed

# Put before any module, in the middle of a key too.
_ANYWHERE = (
  "module",
  "_orig_mod",
  "_fsdp_wrapped_module",
  "_checkpoint_wrapped_module",
)
# Prefixes of classifiers; no part of an encoder has such a name.
_USUAL = (*_ANYWHERE, "model", "ema", "ema_model", "model_ema", "student",
          "teacher", "net", "network", "backbone", "encoder")  # fmt: skip
# Lightning's, which needs no note.
_SILENT = ("", "model.")
# Counter of torch.optim.swa_utils.
_COUNTER = "n_averaged"


def strip(
  tensors: Mapping[str, Any],
  expected: Collection[str],
  allow: re.Pattern[str] | None = None,
) -> tuple[dict[str, Any], list[str]]:
  """Returns tensors by keys of the network, without prefixes of wrappers.

  Args:
    tensors: a state dictionary.
    expected: the keys of the network.
    allow: keys that it matches may be left over: where a file has the network
      twice, the other one is taken.

  Returns:
    Key -> tensor: those of `expected`, and all others without the prefix that
    most keys have; and a note for each prefix.
  """
  split = {full: _split(full, expected) for full in tensors}
  split.pop(_COUNTER, None)
  counts = collections.Counter(
    prefix for prefix, key in split.values() if key is not None
  )
  unwanted = {
    full for full in split if allow is not None and allow.search(full)
  }

  def rank(full: str) -> tuple[bool, int, int, str]:
    prefix = split[full][0]
    return full in unwanted, -counts[prefix], len(prefix), prefix

  found, left = {}, []
  for full in sorted(split, key=rank):
    key = split[full][1]
    if key is None or key in found:
      left.append(full)
    else:
      found[key] = tensors[full]
  main = min(counts, key=lambda p: (-counts[p], len(p)), default="")
  for full in left:
    name = full.removeprefix(main)
    found[full if name in found else name] = tensors[full]
  taken = sorted(p for p in counts if p not in _SILENT)
  inside = {
    part
    for full, (prefix, key) in split.items()
    if key is not None and full != prefix + key
    for part in full.split(".")
    if part in _ANYWHERE
  }
  notes = []
  if taken or inside:
    names = [*taken, *(f"….{part}." for part in sorted(inside))]
    notes.append(f"keys were recognised without {listed(names)}")
  return found, notes


def strip_usual(tensors: Mapping[str, Any]) -> dict[str, Any]:
  """Returns tensors of any network without the usual prefixes."""
  stripped = {}
  for full, tensor in tensors.items():
    parts = full.split(".")
    while len(parts) > 1 and parts[0] in _USUAL:
      parts = parts[1:]
    key = ".".join(part for part in parts if part not in _ANYWHERE)
    # Two networks in one file: the second keeps its prefix.
    stripped[full if key in stripped else key] = tensor
  stripped.pop(_COUNTER, None)
  return stripped


def unwrapped(full: str) -> str:
  """Returns a key without the parts that wrappers insert anywhere."""
  return ".".join(part for part in full.split(".") if part not in _ANYWHERE)


def _split(full: str, expected: Collection[str]) -> tuple[str, str | None]:
  """Prefix and key of the network; None: not one of its keys."""
  parts = full.split(".")
  for read in (str, unwrapped):
    for start in range(len(parts)):
      key = read(".".join(parts[start:]))
      if key in expected:
        return "".join(f"{part}." for part in parts[:start]), key
  return "", None
