"""Image encoders of timm: import and training from them."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from flairhub_jax import __main__
from flairhub_jax.commands import initial_weights
from flairhub_jax.configs import base
from flairhub_jax.data import records
from flairhub_jax.errors import InputError
from flairhub_jax.models import build, initialise
from flairhub_jax.training.resolve import resolve
from tests.commands.command_line import call, left_over
from tests.weights import reference_files, timm_files


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  """An ImageNet encoder of timm, imported."""
  folder = tmp_path_factory.mktemp("timm")
  tensors = timm_files.draw(timm_files.atto())
  safetensors.numpy.save_file(tensors, folder / "timm.safetensors")
  argv = ["--weights", folder / "timm.safetensors"]
  argv += ["--encoder", "convnextv2_atto", "--out", folder / "ours.safetensors"]
  assert __main__.main(["import-encoder", *map(str, argv)]) == 0
  return folder / "ours.safetensors", tensors


def initial(converted, workdir, **changes):
  """Initial variables of a run on the simulated data."""
  dataset = records.load_dataset(converted)
  config = base.get_config()
  config.model.encoder, config.model.decoder = "convnextv2_atto", "unet"
  config.data.batch_size = 2
  for path, value in changes.items():
    section, name = path.split("__")
    config[section][name] = str(value) if name != "modalities" else value
  model = build.build_segmenter(config, output_size=dataset.output_size)
  config = resolve(config, dataset)
  assert config.inputs.AERIAL_RGBI.pixels == 64
  return initial_weights.choose(config, dataset, model, workdir).variables


def test_image_encoders_start_from_a_file(encoder, converted, run, tmp_path):
  path, tensors = encoder
  active = ("AERIAL_RGBI", "SENTINEL2_TS")
  start = {"model__encoder_weights": path, "data__modalities": active}
  variables = initial(converted, tmp_path / "run", **start)
  params = variables["params"]
  np.testing.assert_array_equal(
    params["encoder_AERIAL_RGBI"]["stem"]["kernel"],
    tensors["stem.0.weight"].transpose(2, 3, 1, 0).reshape(48, 40),
  )
  # All other parameters are drawn from the seed, as without the file.
  dataset = records.load_dataset(converted)
  config = base.get_config()
  config.model.encoder, config.model.decoder = "convnextv2_atto", "unet"
  config.data.modalities = active
  config.inputs.AERIAL_RGBI.pixels = 64
  model = build.build_segmenter(config, output_size=dataset.output_size)
  drawn = initialise.init_variables(
    model, build.input_shapes(config), seed=config.seed
  )["params"]
  assert drawn.keys() == params.keys()
  for name in drawn.keys() - {"encoder_AERIAL_RGBI"}:
    jax.tree.map(np.testing.assert_array_equal, params[name], drawn[name])
  # A run needs the file only until it has a checkpoint.
  gone = {"model__encoder_weights": tmp_path / "gone"}
  assert initial(converted, run, **gone) is None
  with pytest.raises(InputError, match="gone"):
    initial(converted, tmp_path / "run", **gone)
  assert initial(converted, tmp_path / "run") is not None  # drawn


def test_encoder_files_that_do_not_start_a_run(
  encoder, converted, run, tmp_path
):
  path, _ = encoder
  for message, changes in (
    ("resnet18", {"model__encoder": "resnet18"}),
    ("init_from", {"train__init_from": run}),
    (
      "import-encoder",
      {"model__encoder_weights": path.parent / "timm.safetensors"},
    ),
  ):
    with pytest.raises(InputError, match=message):
      initial(
        converted,
        tmp_path / "run",
        **({"model__encoder_weights": path} | changes),
      )


def test_invalid_encoders_are_refused(capsys, encoder, released, tmp_path):
  path, _ = encoder
  source = path.parent / "timm.safetensors"
  out = tmp_path / "x.safetensors"

  def refusal(weights, name, out=out):
    return call(
      capsys,
      *("import-encoder", "--weights", weights),
      *("--encoder", name, "--out", out),
      code=2,
    )

  assert "vit" in refusal(source, "vit")
  assert "swin_nano" in refusal(source, "swin_nano")
  assert "stages_1" in refusal(source, "convnextv2_femto")
  assert "expected no such key" in refusal(released[0], "convnextv2_atto")
  assert "an existing file" in refusal(source, "convnextv2_atto", source)
  reference_files.write_pickle(tmp_path / "x.pth")
  assert "weights_only" in refusal(tmp_path / "x.pth", "resnet18")
  assert left_over(tmp_path, "x.pth")
