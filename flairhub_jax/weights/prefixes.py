"""Prefixes that wrappers add to the keys of a state dictionary.

Lightning adds `model.`, DDP `module.`, torch.compile `_orig_mod.`, weight
averaging `ema_model.` or `module.`, and custom classes any name. Keys are
matched one by one: an unknown key does not affect the others.
"""

import collections
import re
from collections.abc import Collection, Mapping
from typing import Any

from flairhub_jax.errors import listed

# Added to any module, so also in the middle of a key.
_ANYWHERE = (
  "module",
  "_orig_mod",
  "_fsdp_wrapped_module",
  "_checkpoint_wrapped_module",
)
# Usual prefixes of classifiers; no module of an encoder has such a name.
_USUAL = (*_ANYWHERE, "model", "ema", "ema_model", "model_ema", "student",
          "teacher", "net", "network", "backbone", "encoder")  # fmt: skip
# No prefix, and Lightning's: no note.
_EXPECTED = ("", "model.")
# Step counter of torch.optim.swa_utils.
_COUNTER = "n_averaged"


def strip(
  tensors: Mapping[str, Any],
  expected: Collection[str],
  allow: re.Pattern[str] | None = None,
) -> tuple[dict[str, Any], list[str]]:
  """Strips the prefixes of wrappers from the keys of a network.

  Args:
    tensors: a state dictionary.
    expected: the keys of the network.
    allow: matches keys that may remain unused; if a file contains the network
      twice, the copy that does not match is read.

  Returns:
    Key -> tensor, for `expected` keys, and for other keys without the most
    frequent prefix; and notes on the prefixes.
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

  stripped, others = {}, []
  for full in sorted(split, key=rank):
    key = split[full][1]
    if key is None or key in stripped:
      others.append(full)
    else:
      stripped[key] = tensors[full]
  main = min(counts, key=lambda p: (-counts[p], len(p)), default="")
  for full in others:
    name = full.removeprefix(main)
    stripped[full if name in stripped else name] = tensors[full]
  leading = sorted(p for p in counts if p not in _EXPECTED)
  inner = {
    part
    for full, (prefix, key) in split.items()
    if key is not None and full != prefix + key
    for part in full.split(".")
    if part in _ANYWHERE
  }
  notes = []
  if leading or inner:
    names = [*leading, *(f"….{part}." for part in sorted(inner))]
    notes.append(f"keys were recognised without {listed(names)}")
  return stripped, notes


def strip_usual(tensors: Mapping[str, Any]) -> dict[str, Any]:
  """Strips the usual prefixes from the keys of any network."""
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


def unwrap(full: str) -> str:
  """Removes the parts that wrappers insert anywhere in a key."""
  return ".".join(part for part in full.split(".") if part not in _ANYWHERE)


def _split(full: str, expected: Collection[str]) -> tuple[str, str | None]:
  """Splits a key into prefix and key of the network; None if there is none."""
  parts = full.split(".")
  for convert in (str, unwrap):
    for start in range(len(parts)):
      key = convert(".".join(parts[start:]))
      if key in expected:
        return "".join(f"{part}." for part in parts[:start]), key
  return "", None
