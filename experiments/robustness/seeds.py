"""Valid files of every kind, and the function that reads each kind."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from flairhub_jax import checkpoint, configuration, schema_file
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

# A schema as users write it, with every field.
_TOML = """
name = "Sologne"

[[sensors]]
id = "DRONE_RGB"
bands = ["R", "G", "B"]
gsd = 0.05
dtype = "uint8"
unit = "digital number"
pixels = 512
mean = [105.0, 111.0, 102.0]
std = [52.0, 45.0, 44.0]
default_bands = ["G", "R"]
no_data = 0
[sensors.derived_bands]
GR = ["G", "R"]

[[sensors]]
id = "WEEKLY"
kind = "series"
bands = ["RED", "NIR"]
gsd = 3.2
dtype = "int16"
dates = "weekly.csv"
num_dates = 52
quality_mask = { id = "WEEKLY_MASK", bands = ["cloud", "snow"], full = 1 }

[[tasks]]
id = "COVER"
title = "land cover"
column = "LAND"
gsd = 0.05
ignored = [0, 99]
classes = [
  { name = "wood", names = { fr = "bois" }, colour = "#00ff00", values = [1] },
  { name = "open", colour = "#ffff00", values = [2, 255], is_scored = false },
]

[[tasks]]
id = "TREES"
column = "LAND"
gsd = 0.05
parent = "COVER"
ignored = [0, 2, 99, 255]
classes = [{ name = "oak", colour = "#00ff00", parent = "wood", values = [1] }]
"""


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
  _write_schemas(folder / "schemas")


def _write_schemas(folder: pathlib.Path) -> None:
  folder.mkdir()
  (folder / "own.toml").write_text(_TOML, encoding="utf-8")
  own = schema_file.load(folder / "own.toml")
  for name, schema in (("own", own), ("flair_hub", FLAIR_HUB)):
    text = schema_file.dumps(schema_file.to_json(schema))
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


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
    "schema": Kind(folder / "schemas", "*", _read_schemas),
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


def _read_schemas(folder: pathlib.Path) -> None:
  for path in sorted(folder.iterdir()):
    schema = schema_file.load(path)
    for task in schema.tasks.values():
      assert len(task.label_of_value) in (256, 65536)
    again = schema_file.parse(schema_file.to_json(schema), where=path)
    assert again == schema


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
