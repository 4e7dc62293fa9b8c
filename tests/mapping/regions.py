"""Runs with random weights, rasters to map, and calls of `flairhub zonal`."""

import json
import pathlib
import warnings

import jax
import numpy as np
import rasterio
import rasterio.enums
import rasterio.errors
from rasterio import Affine

from flairhub_jax import __main__, checkpoint, run_directory
from flairhub_jax.models import build, initialise
from tests import tiny

COSIA = "AERIAL_LABEL-COSIA"
ORIGIN = (700000.0, 6600000.0)
# Pixels of a window of the run of one sensor.
SIDE = 32


def write_run(
  folder,
  *,
  modalities=("AERIAL_RGBI",),
  pixels=64,
  noise=0.2,
  seed=0,
  **fields,
):
  """The run directory of a network for windows of so many pixels.

  `noise`: standard deviation of what is added to the initial weights, which
  predict one class only.
  """
  config = tiny.get_config()
  config.data.modalities = modalities
  config.data.tasks = (COSIA,)
  config.data.batch_size = 2
  config.update_from_flattened_dict(fields)
  for name in modalities:
    metres = pixels * 0.2
    side = metres / config.schema.sensors[name].gsd
    config.inputs[name].pixels = max(1, round(side))
  model = build.build_segmenter(config)
  variables = initialise.init_variables(
    model, build.input_shapes(config), seed=seed
  )
  rng = np.random.default_rng(seed)
  variables["params"] = jax.tree.map(
    lambda x: x + noise * rng.standard_normal(x.shape).astype(np.float32),
    variables["params"],
  )
  run = run_directory.start_or_continue(pathlib.Path(folder), config.lock())
  checkpoints = checkpoint.Checkpoints(run.checkpoints)
  checkpoints.save(variables, 3, None)
  checkpoints.close()
  return run


def image(height, width, bands=4, seed=0, dtype=np.uint8):
  """Blocks of 8 pixels of random colours, [h w c]."""
  rng = np.random.default_rng(seed)
  blocks = rng.integers(1, 250, (-(-height // 8), -(-width // 8), bands))
  whole = np.kron(blocks, np.ones((8, 8, 1)))[:height, :width]
  return whole.astype(dtype)


def write_raster(
  path, values, *, pixel=0.2, transform=None, crs="EPSG:2154", **profile
):
  """Writes values [h w c] as a GeoTIFF."""
  if transform is None:
    transform = Affine(pixel, 0, ORIGIN[0], 0, -pixel, ORIGIN[1])
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    raster = rasterio.open(
      path,
      "w",
      driver="GTiff",
      height=values.shape[0],
      width=values.shape[1],
      count=values.shape[2],
      dtype=values.dtype,
      crs=crs,
      transform=transform,
      photometric="MINISBLACK",
      **profile,
    )
  with raster:
    raster.write(np.moveaxis(values, -1, 0))
  return path


def name_bands(path, descriptions=(), colours=()):
  """Sets descriptions and colour interpretations of the bands of a raster."""
  with rasterio.open(path, "r+") as raster:
    for i, text in enumerate(descriptions):
      raster.set_band_description(i + 1, text)
    if colours:
      every = [rasterio.enums.ColorInterp[colour] for colour in colours]
      every += list(raster.colorinterp[len(every) :])
      raster.colorinterp = every


def read(path):
  """Values [h w c] and the profile of a raster."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    raster = rasterio.open(path)
  with raster:
    return np.moveaxis(raster.read(), 0, -1), raster.profile


def zonal(run, out, *words, code=0):
  """Classes [h w] of the map that the command writes; None if it fails."""
  argv = ["zonal", "--run", run.path, "--out", out, *words]
  assert __main__.main([str(word) for word in argv]) == code
  return None if code else read(out)[0][..., 0]


def refused(capsys, run, out, *words, code=2):
  """The line of a command that fails and writes nothing."""
  zonal(run, out, *words, code=code)
  lines = capsys.readouterr().err.strip().splitlines()
  lines = [line for line in lines if line.startswith("flairhub zonal: ")]
  assert len(lines) == 1 and not out.exists()
  assert not list(out.parent.glob(f".{out.stem}*"))
  return lines[0]


def task():
  """The classes of the runs."""
  return tiny.get_config().schema.tasks[COSIA]


def write_zones(path, *squares, crs="EPSG::2154", **properties):
  """Writes rectangles (left, bottom, right, top) with fields as GeoJSON."""
  features = [
    {
      "type": "Feature",
      "properties": {key: values[n] for key, values in properties.items()},
      "geometry": {
        "type": "Polygon",
        "coordinates": [
          [[a, b], [c, b], [c, d], [a, d], [a, b]],
        ],
      },
    }
    for n, (a, b, c, d) in enumerate(squares)
  ]
  system = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs}"}}
  content = {"type": "FeatureCollection", "crs": system, "features": features}
  path.write_text(json.dumps(content))
  return path
