"""Numbers of the reference: those of this folder, and those of ../shared.

Both have one layout: `units/`, `e2e/`, `minidata/`, `manifests/` and a JSON and
an npz file per whole network. Those of this folder were computed from small
networks, to travel with the tests (experiments/fidelity/fixtures). Those of
../shared are of networks at full size, and lie beside the project where it is
developed.
"""

import dataclasses
import gzip
import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.parity import rule

OWN = pathlib.Path(__file__).parent
SHARED = OWN.parents[2] / "shared"
# Each manifest once, by the name of its file.
MANIFESTS = {
  path.name.partition(".")[0]: path
  for path in (
    *sorted(SHARED.glob("manifests/*__*.json")),
    *sorted(OWN.glob("manifests/*.json.gz")),
  )
}


@dataclasses.dataclass(frozen=True)
class Origin:
  """A folder of numbers, and the rule for weights, inputs and samples.

  Attributes:
    folder: of the files.
    rule: for weights, inputs and samples.
    gsd: sensor -> GSD of the patches in metres, where it is not the published.
  """

  folder: pathlib.Path
  rule: Any
  gsd: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def arrays(self, name: str) -> Any:
    """The arrays of an npz file."""
    with np.load(self.folder / f"{name}.npz") as arrays:
      return dict(arrays)

  def settings(self, name: str) -> dict[str, Any]:
    """What a JSON file says."""
    text = (self.folder / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


def own() -> Origin:
  """The numbers of this folder."""
  coarse = ("SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")
  return Origin(OWN, rule, {"SPOT_RGBI": 0.8, **dict.fromkeys(coarse, 1.6)})


def of_shared(shared: pathlib.Path) -> Origin:
  """The numbers of ../shared, with its own rule."""
  path = shared / "parity" / "det.py"
  spec = importlib.util.spec_from_file_location("det", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return Origin(path.parent, module)


ORIGINS = {"own": own()}
if SHARED.is_dir():
  ORIGINS["shared"] = of_shared(SHARED)


def manifest(name: str) -> dict[str, Any]:
  """Names, shapes and counts of a network of the reference."""
  path = MANIFESTS[name]
  data = path.read_bytes()
  return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
