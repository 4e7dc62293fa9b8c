"""A network as one file that runs without this software: StableHLO, contract.

The file is a zip archive of `contract.json` and `network.jax`, which
`jax.export.deserialize` reads. It holds no pickle.
"""

import contextlib
import json
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

# `jax.export` needs it to write programs, which JAX does not declare.
import flatbuffers  # noqa: F401
import jax
import jax.export
import jax.numpy as jnp

from flairhub_jax import atomic
from flairhub_jax.models import build, kernels

PLATFORMS = ("cpu", "cuda", "tpu")
CONTRACT = "contract.json"
PROGRAM = "network.jax"


def batch_shapes(config: Any) -> dict[str, Any]:
  """Shapes of a batch of any number `b` of patches and `t` of dates.

  Patches have the size in `config.inputs`. Several series have the same number
  of dates, the shorter ones padded.
  """
  shapes = build.input_shapes(config)
  samples, dates = jax.export.symbolic_shape("b, t")

  def symbolic(axes, leaves):
    return {
      name: jax.ShapeDtypeStruct((*axes, *x.shape[len(axes) :]), x.dtype)
      for name, x in leaves.items()
    }

  series = shapes["dates"]
  images = {n: x for n, x in shapes["inputs"].items() if n not in series}
  stacks = {n: x for n, x in shapes["inputs"].items() if n in series}
  axes = samples, dates
  result = {"inputs": symbolic((samples,), images) | symbolic(axes, stacks)}
  for part in ("dates", "valid"):
    result[part] = symbolic(axes, shapes[part])
  present = jax.ShapeDtypeStruct((samples,), jnp.bool_)
  result["present"] = dict.fromkeys(shapes["inputs"], present)
  return {part: leaves for part, leaves in result.items() if leaves}


def export(
  config: Any, variables: Mapping[str, Any], shapes: Mapping[str, Any]
) -> jax.export.Exported:
  """Lowers a network, with its weights, for all platforms.

  Forms of operations for CPUs depend on the size of the batch, so that all
  platforms get the forms of the others.

  Args:
    config: of the run.
    variables: the weights.
    shapes: of `batch_shapes`.

  Returns:
    A function of a batch, which returns task -> float32 [b h w k],
    probabilities.
  """
  network = build.build_segmenter(config)

  def probabilities(batch):
    logits = network.apply(variables, batch, train=False)["logits"]
    return {
      task: jax.nn.softmax(values.astype(jnp.float32), -1)
      for task, values in logits.items()
    }

  with kernels.forced(**kernels.TABLE["other"]), _without_folders():
    lower = jax.export.export(jax.jit(probabilities), platforms=PLATFORMS)
    return lower(shapes)


@contextlib.contextmanager
def _without_folders() -> Iterator[None]:
  """Leaves the folders of this machine out of the program's source lines."""
  name = "jax_hlo_source_file_canonicalization_regex"
  before = getattr(jax.config, name)
  jax.config.update(name, r".*[/\\]")
  try:
    yield
  finally:
    jax.config.update(name, before)


def write(
  out: pathlib.Path, exported: jax.export.Exported, contract: Mapping[str, Any]
) -> None:
  """Writes the archive atomically."""
  text = json.dumps(contract, indent=1, ensure_ascii=False) + "\n"
  entries = {
    CONTRACT: text.encode("utf-8"),
    PROGRAM: bytes(exported.serialize()),
  }
  with atomic.write_aside(out) as aside, zipfile.ZipFile(aside, "w") as archive:
    for name, content in entries.items():
      archive.writestr(name, content)
