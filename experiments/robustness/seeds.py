"""Valid files of every kind, and the function that reads each kind."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from flairhub_jax import checkpoint, configuration
from flairhub_jax.configs import base, quickstart
from flairhub_jax.data import convert, pipeline, records, simulate
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import trained
from flairhub_jax.models import build, initialise
from flairhub_jax.weights import (
  files,
  reference,
  reference_config,
  reference_export,
  reference_yaml,
)

MODALITIES = ("AERIAL_RGBI", "SENTINEL2_TS")
_CSV = "csv/FLAIR-HUB_SIMULATED_TRAIN.csv"


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of file.

  Attributes:
    folder: valid files; a case gets a copy.
    files: pattern of those that are corrupted.
    read: reads a folder as the commands do.
  """

  folder: pathlib.Path
  files: str
  read: Callable[[pathlib.Path], object]


def write(folder: pathlib.Path) -> None:
  """Writes small valid files of every kind into a folder."""
  raw = folder / "raw"
  simulate.simulate(
    raw,
    num_patches=10,
    pixels=64,
    modalities=MODALITIES,
    seed=0,
    num_workers=0,
    progress=False,
  )
  _keep(raw, num_patches=2)
  _convert(raw, folder / "records")
  config = _config()
  for name in ("run", "weights"):
    (folder / name).mkdir()
  (folder / "run/config.json").write_text(configuration.to_json(config))
  variables = initialise.init_variables(
    _network(config), build.input_shapes(config), seed=0
  )
  saved = checkpoint.Checkpoints(folder / "run/checkpoints")
  saved.save(variables, 0, None)
  saved.close()
  files.write_tensors(
    folder / "weights/w.safetensors",
    reference.to_reference(variables),
    {"a": "b"},
  )
  documents, _ = reference_export.documents(config, weights="w.safetensors")
  reference_yaml.write_documents(folder / "yaml", documents)


def kinds(folder: pathlib.Path) -> Mapping[str, Kind]:
  """The kinds of file in a folder of `write`."""
  config = _config()
  shape = build.variables_shape(_network(config), build.input_shapes(config))

  def read_weights(folder: pathlib.Path) -> None:
    tensors, _ = files.read_tensors(folder / "w.safetensors")
    reference.fit_reference(tensors, shape)

  def read_checkpoint(folder: pathlib.Path) -> None:
    trained.restore(folder, shape)

  return {
    "GeoTIFF": Kind(folder / "raw", "**/*.tif", _read_raw),
    "GeoPackage": Kind(folder / "raw", "**/*.gpkg", _read_raw),
    "CSV": Kind(folder / "raw", _CSV, _read_raw),
    "records": Kind(folder / "records", "*/*.array_record", _read_records),
    "dataset.json": Kind(folder / "records", "dataset.json", _read_records),
    "config.json": Kind(folder / "run", "config.json", _read_config),
    "safetensors": Kind(folder / "weights", "*.safetensors", read_weights),
    "YAML": Kind(folder / "yaml", "*.yaml", _read_yaml),
    "checkpoint": Kind(folder / "run", "checkpoints/**/*", read_checkpoint),
  }


def _network(config: Any) -> Any:
  return build.build_segmenter(config)


def _config() -> Any:
  config = quickstart.get_config()
  config.data.modalities = MODALITIES
  config.data.tasks = (next(iter(FLAIR_HUB.tasks)),)
  config.model.encoder, config.model.decoder = "convnextv2_atto", "unet"
  config.inputs.AERIAL_RGBI.pixels = 64
  return config


def _keep(raw: pathlib.Path, num_patches: int) -> None:
  """Drops all other patches: a case copies the folder."""
  csv = raw / _CSV
  lines = csv.read_text(encoding="utf-8").splitlines()[: 1 + num_patches]
  csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
  for path in raw.rglob("*.tif"):
    if path.name not in "".join(lines):
      path.unlink()


def _convert(raw: pathlib.Path, out: pathlib.Path) -> None:
  convert.convert({"train": raw / _CSV}, out, num_workers=0, progress=False)


def _read_raw(folder: pathlib.Path) -> None:
  _convert(folder, folder / "out")


def _read_records(folder: pathlib.Path) -> None:
  dataset = records.load_dataset(folder)
  config = _config()
  options = pipeline.build_read_options(config)
  for split in dataset.splits:
    reader = pipeline.PatchReader(dataset, split, options)
    table = pipeline.PatchTable(dataset, split)
    for index in range(len(reader)):
      reader[index], table[index]


def _read_config(folder: pathlib.Path) -> None:
  config = configuration.load_json(folder / "config.json")
  build.build_segmenter(config, output_size=(64, 64))
  pipeline.build_read_options(config)


def _read_yaml(folder: pathlib.Path) -> None:
  config = base.get_config()
  documents = reference_yaml.read_documents(folder)
  reference_config.fill_config(documents, config, where=folder)
  config = configuration.complete(config.to_dict(), where=folder)
  build.build_segmenter(config, output_size=(64, 64))
