"""`import-weights` and `export-weights`; invalid input writes nothing."""

import hashlib
import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from flairhub_jax import configuration
from flairhub_jax.commands import import_weights
from tests.commands.command_line import call, left_over
from tests.weights import reference_files
from tests.weights.reference_files import COVER, CROPS, SIDES

STEM = "encoders.AERIAL_RGBI.seg_model.model.stem_0.weight"
HEAD = f"main_decoders.{COVER}.seg_model.segmentation_head.0.weight"


def bring_in(capsys, weights, configs, out, *more, code=0):
  return call(
    capsys,
    "import-weights",
    *("--weights", weights, "--configs", configs, "--out", out),
    *more,
    code=code,
  )


def test_an_import_is_a_run_directory(released, run):
  files = ("config.json", "checkpoints", "log.txt", "origin.json")
  assert left_over(run, *files, "reference_only.safetensors")
  assert left_over(run.parent, "imported")
  origin = json.loads((run / "origin.json").read_text())
  digest = hashlib.sha256(released[0].read_bytes()).hexdigest()
  assert origin["weights"] == "weights.safetensors"
  assert origin["sha256"] == digest
  tensors = safetensors.numpy.load_file(released[0])
  assert origin["parameters"] == sum(
    tensor.size
    for key, tensor in tensors.items()
    if key.startswith("model.")
    and not key.endswith(("running_mean", "running_var", "tracked"))
  )
  assert digest in (run / "log.txt").read_text()
  assert configuration.load_json(run / "config.json").data.path == ""


def test_the_summary_describes_the_import_and_the_next_commands(
  capsys, released, tmp_path
):
  message = bring_in(capsys, *released, tmp_path / "run")
  for text in (
    "M parameters",
    "AERIAL_RGBI",
    "convnextv2_atto",
    "evaluate --run",
    "predict  --run",
    "init_from",
  ):
    assert text in message


NETWORKS = {
  "several sensors and tasks": (
    reference_files.network(
      "resnet18-unet",
      ("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS"),
      (COVER, CROPS),
      ("DEM_ELEV", "SENTINEL2_TS"),
      models__multitemp_model__encoder_widths=[16, 16],
      models__multitemp_model__decoder_widths=[16, 16],
      models__multitemp_model__n_head=4,
      models__multitemp_model__d_model=16,
    ),
    {"AERIAL_RGBI": 64, "DEM_ELEV": 64},
  ),
  "series": (
    reference_files.network(
      active=("SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS"), tasks=(CROPS,)
    ),
    {},
  ),
  "small patches": (
    reference_files.network("swin_tiny_patch4_window7_224-upernet"),
    {"AERIAL_RGBI": 64},
  ),
}


def assert_drawn_where_a_run_has_none(capsys, tmp_path, tensors):
  """Exports `run` as if it were trained from the start."""
  path = tmp_path / "run" / "reference_only.safetensors"
  unused = safetensors.numpy.load_file(path)
  path.unlink()
  out = tmp_path / "drawn.safetensors"
  argv = ("--out", out, "--configs", tmp_path / "drawn")
  call(capsys, "export-weights", "--run", tmp_path / "run", *argv)
  drawn = safetensors.numpy.load_file(out)
  assert drawn.keys() == tensors.keys()
  for key, tensor in tensors.items():
    actual = drawn[key]
    assert actual.shape == tensor.shape and actual.dtype == tensor.dtype
    is_unused = key.removeprefix("model.") in unused
    assert is_unused != (actual.tobytes() == tensor.tobytes()), key
    if is_unused:
      assert np.isfinite(actual).all()
    if is_unused and key.endswith("running_var"):
      assert (actual == 1).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_import_and_export_are_bitwise_inverse(capsys, tmp_path, name):
  document, sides = NETWORKS[name]
  weights, configs = reference_files.write(tmp_path / "in", document, sides)
  bring_in(capsys, weights, configs, tmp_path / "run")
  out = tmp_path / "out.safetensors"
  message = call(
    capsys,
    "export-weights",
    *("--run", tmp_path / "run", "--out", out, "--configs", tmp_path / "yaml"),
  )
  assert "out.safetensors" in message and "config_models.yaml" in message
  before = safetensors.numpy.load_file(weights)
  after = safetensors.numpy.load_file(out)
  assert before.keys() == after.keys()
  counters = [key for key in before if key.endswith("num_batches_tracked")]
  assert counters and all(before[key] > 0 for key in counters)
  for key, tensor in before.items():
    assert after[key].dtype == tensor.dtype and after[key].shape == tensor.shape
    assert after[key].tobytes() == tensor.tobytes(), key
  assert_drawn_where_a_run_has_none(capsys, tmp_path, before)
  # Importing the exported file gives the same network.
  bring_in(capsys, out, tmp_path / "yaml", tmp_path / "again")
  configs = [
    configuration.load_json(tmp_path / run / "config.json")
    for run in ("run", "again")
  ]
  for config in configs:
    with config.unlocked():
      for row in set(config.inputs) - set(config.data.modalities):
        del config.inputs[row]
  assert not configuration.differences(*configs)


def test_the_prefix_may_be_absent(capsys, run, tmp_path):
  weights, configs = reference_files.write(
    tmp_path / "in", reference_files.network(), SIDES, prefix=""
  )
  bring_in(capsys, weights, configs, tmp_path / "run")
  outs = []
  for i, source in enumerate((run, tmp_path / "run")):
    outs.append(tmp_path / f"{i}.safetensors")
    call(
      capsys,
      "export-weights",
      *("--run", source, "--out", outs[-1], "--configs", tmp_path / f"{i}"),
    )
  first, second = (safetensors.numpy.load_file(out) for out in outs)
  assert first.keys() == second.keys()
  assert all((first[key] == second[key]).all() for key in first)


def test_all_mismatches_are_reported_and_nothing_is_written(capsys, tmp_path):
  def spoil(tensors):
    del tensors[f"model.{HEAD}"]
    tensors[f"model.{STEM}"] = tensors[f"model.{STEM}"][:, :2].copy()
    tensors["model.surplus"] = np.zeros(3, np.float32)

  weights, configs = reference_files.write(
    tmp_path / "in", reference_files.network(), SIDES, edit=spoil
  )
  message = bring_in(capsys, weights, configs, tmp_path / "run", code=2)
  for key in (HEAD, STEM, "surplus"):
    assert sum(key in line for line in message.splitlines()) == 1
  assert len(message.splitlines()) == 3
  assert left_over(tmp_path, "in")


def test_allowed_exceptions_are_named_in_the_log(capsys, tmp_path):
  def spoil(tensors):
    key = f"model.{HEAD}"
    tensors[key] = tensors[key][:7].copy()

  weights, configs = reference_files.write(
    tmp_path / "in", reference_files.network(), SIDES, edit=spoil
  )
  bring_in(capsys, weights, configs, tmp_path / "run", code=2)
  out = tmp_path / "run"
  bring_in(capsys, weights, configs, out, "--allow", "segmentation_head")
  log = (out / "log.txt").read_text()
  assert HEAD in log and "(7, 16, 3, 3)" in log
  assert "--allow" in bring_in(
    capsys, weights, configs, tmp_path / "b", "--allow", "(", code=2
  )


def test_bias_tables_of_other_sizes_are_resized_and_reported(capsys, tmp_path):
  key = (
    "model.encoders.AERIAL_RGBI.seg_model.model.layers_1.blocks.0.attn"
    ".relative_position_bias_table"
  )

  def widen(tensors):
    tensors[key] = np.ones((529, tensors[key].shape[1]), np.float32)

  weights, configs = reference_files.write(
    tmp_path / "in", NETWORKS["small patches"][0], SIDES, edit=widen
  )
  bring_in(capsys, weights, configs, tmp_path / "run")
  log = (tmp_path / "run" / "log.txt").read_text()
  assert "layers_1.blocks.0" in log and "(529, 6) to (169, 6)" in log
  config = configuration.load_json(tmp_path / "run" / "config.json")
  assert config.inputs.AERIAL_RGBI.pixels == 512


def hostile(path):
  """A header that claims more than the file has."""
  path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}" + bytes(100))


def not_finite(path):
  tensors = reference_files.tensors_of(reference_files.network(), SIDES)
  tensors[f"model.{HEAD}"][0, 0, 0, 0] = np.nan
  safetensors.numpy.save_file(tensors, path)


def truncated(path):
  tensors = reference_files.tensors_of(reference_files.network(), SIDES)
  path.write_bytes(safetensors.numpy.save(tensors)[:-1000])


@pytest.mark.parametrize(
  "write", [hostile, not_finite, truncated, reference_files.write_pickle]
)
def test_invalid_files_are_refused(capsys, released, tmp_path, write):
  weights = tmp_path / "x.safetensors"
  write(weights)
  message = bring_in(capsys, weights, released[1], tmp_path / "run", code=2)
  assert len(message.splitlines()) == 1 and str(weights) in message
  assert left_over(tmp_path, "x.safetensors")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(modalities__inputs={"LIDAR": True}), "LIDAR"),
    (dict(labels=[CROPS], labels_configs={CROPS: {"value_name": {}}}), "23"),
    (dict(models__monotemp_model__arch="vit-unet"), "vit"),
  ],
)
def test_invalid_yaml_is_refused(capsys, released, tmp_path, changes, message):
  configs = tmp_path / "configs"
  configs.mkdir()
  reference_files.write_yaml(configs, reference_files.network() | {})
  reference_files.write_yaml(configs, reference_files.document(**changes))
  line = bring_in(capsys, released[0], configs, tmp_path / "run", code=2)
  assert message in line and len(line.splitlines()) == 1
  assert left_over(tmp_path, "configs")


def test_a_network_that_cannot_be_built(capsys, tmp_path):
  document, sides = NETWORKS["series"]
  weights, configs = reference_files.write(tmp_path / "in", document, sides)
  document = json.loads(json.dumps(document))
  document["models"]["multitemp_model"]["d_model"] = 30  # 16 heads
  reference_files.write_yaml(configs, document)
  line = bring_in(capsys, weights, configs, tmp_path / "run", code=2)
  assert len(line.splitlines()) == 1
  assert left_over(tmp_path, "in")


def test_classes_of_another_head(capsys, tmp_path):
  weights, configs = reference_files.write(
    tmp_path / "in", reference_files.network(), SIDES
  )
  reference_files.write_yaml(configs, reference_files.network(tasks=(CROPS,)))
  message = bring_in(capsys, weights, configs, tmp_path / "run", code=2)
  assert CROPS in message and COVER in message
  assert left_over(tmp_path, "in")


def test_folders_that_hold_something_are_left_alone(capsys, released, tmp_path):
  out = tmp_path / "run"
  out.mkdir()
  bring_in(capsys, *released, out)  # an empty folder is accepted
  assert "other files" in bring_in(capsys, *released, out, code=2)
  file = tmp_path / "file"
  file.touch()
  bring_in(capsys, *released, file, code=2)
  bring_in(capsys, *released, file / "run", code=2)
  assert left_over(tmp_path, "run", "file")


def test_an_import_that_breaks_off_leaves_nothing(
  capsys, released, tmp_path, monkeypatch
):
  write_run = import_weights.write_run

  def break_off(*args):
    write_run(*args)
    raise KeyboardInterrupt

  monkeypatch.setattr(import_weights, "write_run", break_off)
  bring_in(capsys, *released, tmp_path / "run", code=130)
  assert left_over(tmp_path)


def test_a_file_of_another_network_beside_a_run(capsys, released, tmp_path):
  bring_in(capsys, *released, tmp_path / "run")
  path = tmp_path / "run" / "reference_only.safetensors"
  tensors = safetensors.numpy.load_file(path)
  tensors.pop(next(iter(tensors)))
  safetensors.numpy.save_file(tensors, path)
  out = tmp_path / "out.safetensors"
  argv = ("--out", out, "--configs", tmp_path / "yaml")
  message = call(
    capsys, "export-weights", "--run", tmp_path / "run", *argv, code=2
  )
  assert str(path) in message and len(message.splitlines()) == 1
  assert left_over(tmp_path, "run")


def test_nothing_is_replaced_by_an_export(capsys, run, tmp_path):
  out, configs = tmp_path / "x.safetensors", tmp_path / "yaml"
  argv = ("export-weights", "--run", run, "--configs", configs, "--out")
  assert ".safetensors" in call(capsys, *argv, tmp_path / "x.ckpt", code=2)
  call(capsys, *argv, out)
  before = out.read_bytes()
  assert "an existing file" in call(capsys, *argv, out, code=2)
  assert "an existing file" in call(
    capsys, *argv, tmp_path / "y.safetensors", code=2
  )
  assert out.read_bytes() == before and left_over(tmp_path, out.name, "yaml")
  call(
    capsys,
    *("export-weights", "--run", tmp_path, "--configs", tmp_path / "z"),
    *("--out", tmp_path / "z.safetensors"),
    code=2,
  )
