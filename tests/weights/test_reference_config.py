"""The reference's YAML as our configuration, and back."""

import json

import pytest
import yaml

from flairhub_jax import configuration
from flairhub_jax.configs import base, benchmark
from flairhub_jax.errors import InputError
from flairhub_jax.weights import (
  reference_config,
  reference_export,
  reference_yaml,
)
from tests.weights import reference_files
from tests.weights.reference_files import COVER, CROPS, config_of, network


def notes_of(document):
  return reference_config.fill_config(document, base.get_config(), where="YAML")


def refusal(document):
  with pytest.raises(InputError) as error:
    config_of(document)
  assert str(error.value).startswith("YAML: ")
  return str(error.value)


def test_the_shipped_yaml_is_our_default():
  config = config_of(network("swin_base_patch4_window12_384-upernet"))
  expected = base.get_config()
  expected.data.cloud_filter.fallback = "snow_free"
  expected.data.averaging = "reference"
  expected.model.utae.count_padding = True
  # By position: the unread band's statistics are not there.
  del expected.inputs.AERIAL_RGBI.mean["B"]
  del expected.inputs.AERIAL_RGBI.std["B"]
  assert not configuration.differences(expected, config)
  assert not notes_of(reference_files.document())


def test_statistics_belong_to_channels_by_position():
  """The published means of SPOT are in band order, its channels are not."""
  document = network(active=("SPOT_RGBI",))
  spot = config_of(document).inputs.SPOT_RGBI
  assert spot.bands == ("NIR", "R", "G")
  assert dict(spot.mean) == {"NIR": 433.26, "R": 508.75, "G": 467.77}
  assert dict(spot.std) == {"NIR": 312.76, "R": 284.61, "G": 226.02}
  (note,) = notes_of(document)
  assert "SPOT_RGBI_means" in note and "4 numbers for 3 channels" in note


@pytest.mark.parametrize(
  ("calculated", "stacked", "bands"),
  [
    (True, True, ("DSM", "NDSM")),
    (True, False, ("NDSM",)),
    (False, True, ("DSM", "DTM")),
    (False, False, ("DSM", "DTM")),
  ],
)
def test_bands_of_the_elevation(calculated, stacked, bands):
  document = network(
    active=("DEM_ELEV",),
    modalities__pre_processings__calc_elevation=calculated,
    modalities__pre_processings__calc_elevation_stack_dsm=stacked,
    modalities__normalization__DEM_ELEV_means=[1.0, 2.0],
  )
  elevation = config_of(document).inputs.DEM_ELEV
  assert elevation.bands == bands
  assert tuple(elevation.mean.values()) == (1.0, 2.0)[: len(bands)]


def test_every_field_that_the_yaml_has():
  config = config_of(
    network(
      "resnet34-unet",
      ("SENTINEL2_TS", "AERIAL_RGBI", "SENTINEL1-ASC_TS"),
      (CROPS, COVER),
      ("SENTINEL2_TS", "SPOT_RGBI"),
      modalities__aux_loss_weight=0.5,
      modalities__pre_processings__filter_sentinel2_max_cloud=20,
      modalities__pre_processings__filter_sentinel2_max_snow=30,
      modalities__pre_processings__filter_sentinel2_max_frac_cover=0.5,
      modalities__pre_processings__temporal_average_sentinel2="monthly",
      modalities__pre_processings__temporal_average_sentinel1="semi-monthly",
      modalities__pre_processings__use_augmentation=True,
      modalities__inputs_channels__SENTINEL2_TS=[3, 1],
      models__multitemp_model__ref_date="01-01",
      models__multitemp_model__encoder_widths=[8, 16],
      models__multitemp_model__decoder_widths=[8, 16],
      models__multitemp_model__out_conv=[8],
      models__multitemp_model__str_conv_k=4,
      models__multitemp_model__str_conv_s=2,
      models__multitemp_model__str_conv_p=0,
      models__multitemp_model__agg_mode="att_mean",
      models__multitemp_model__encoder_norm="batch",
      models__multitemp_model__n_head=4,
      models__multitemp_model__d_model=64,
      models__multitemp_model__d_k=8,
      models__multitemp_model__padding_mode="zeros",
      hyperparams__num_epochs=3,
      hyperparams__batch_size=7,
      hyperparams__seed=11,
      hyperparams__learning_rate="1e-3",
      hyperparams__optim_weight_decay=0.1,
      hyperparams__optim_betas=[0.8, 0.95],
      hyperparams__warmup_fraction=0.1,
      hyperparams__optimizer="sgd",
      hyperparams__plateau_patience=4,
    )
  )
  data, utae, optim = config.data, config.model.utae, config.optim
  assert data.modalities == (
    "AERIAL_RGBI",
    "SENTINEL2_TS",
    "SENTINEL1-ASC_TS",
  )
  assert data.tasks == (CROPS, COVER)
  # Of modalities that are not read there is no auxiliary decoder.
  assert config.model.auxiliary == ("SENTINEL2_TS",)
  assert set(config.auxiliary_weight.values()) == {0.5}
  assert dict(data.cloud_filter) == {
    "enabled": True,
    "max_cloud": 20,
    "max_snow": 30,
    "max_cover": 0.5,
    "fallback": "snow_free",
  }
  assert config.inputs.SENTINEL2_TS.temporal_average == "monthly"
  for orbit in ("ASC", "DESC"):
    row = config.inputs[f"SENTINEL1-{orbit}_TS"]
    assert row.temporal_average == "semi-monthly"
  assert data.averaging == "reference" and data.augment
  assert config.inputs.SENTINEL2_TS.bands == ("B04", "B02")
  assert data.reference_date == "01-01"
  assert config.model.encoder == "resnet34" and config.model.decoder == "unet"
  assert dict(utae) == {
    "encoder_widths": (8, 16),
    "decoder_widths": (8, 16),
    "head_widths": (8,),
    "kernel": 4,
    "stride": 2,
    "padding": 0,
    "aggregation": "att_mean",
    "encoder_norm": "batch",
    "padding_mode": "zeros",
    "num_heads": 4,
    "attention_width": 64,
    "key_width": 8,
    "attention_dropout": 0.1,
    "mlp_dropout": 0.2,
    "count_padding": True,
  }
  assert (config.train.num_epochs, data.batch_size, config.seed) == (3, 7, 11)
  assert (optim.learning_rate, optim.weight_decay) == (1e-3, 0.1)
  assert (optim.beta1, optim.beta2, optim.warmup_fraction) == (0.8, 0.95, 0.1)
  assert (optim.name, optim.schedule) == ("sgd", "one_cycle")
  assert optim.plateau.patience == 4


def test_class_weights():
  document = network(tasks=(COVER, CROPS))
  weights = document["labels_configs"][CROPS]["value_weights"]
  weights |= {"default": 2, "default_exceptions": {22: 0.5, 0: 0}}
  document["labels_configs"][CROPS]["task_weight"] = 3
  settings = config_of(document).tasks
  assert settings[COVER].class_weights == (1.0,) * 15 + (0.0,) * 4
  assert settings[CROPS].class_weights == (0.0,) + (2.0,) * 21 + (0.5,)
  assert settings[CROPS].weight == 3


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(modalities__modality_dropout={"AERIAL_RGBI": 0.3}), "dropout"),
    (dict(hyperparams__scheduler="reduce_on_plateau"), "plateaus"),
    (dict(hyperparams__momentum=0.9), "momentum"),
    (dict(models__multitemp_model__dilation=2), "dilation"),
  ],
)
def test_ignored_settings_are_reported(changes, message):
  (note,) = notes_of(reference_files.document(**changes))
  assert message in note


def test_weights_per_modality_are_reported():
  document = reference_files.document()
  weights = document["labels_configs"][COVER]["value_weights"]
  weights["per_modality_exceptions"] = {"AERIAL_RGBI": {3: 0}}
  (note,) = notes_of(document)
  assert "per_modality_exceptions" in note


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(modalities__inputs={"LIDAR": True, "RADAR": True}), "RADAR"),
    (dict(modalities__inputs={"AERIAL_RGBI": False}), "at least one"),
    (dict(modalities__inputs={"AERIAL_RGBI": "yes"}), "'yes'"),
    (dict(modalities__inputs=["AERIAL_RGBI"]), "inputs"),
    (dict(modalities=None), "inputs"),
    (dict(modalities__inputs_channels={}), "AERIAL_RGBI"),
    (dict(modalities__inputs_channels={"AERIAL_RGBI": [0, 1]}), "from 1 to 4"),
    (dict(modalities__inputs_channels={"AERIAL_RGBI": [1, 1]}), "once"),
    (dict(modalities__inputs_channels={"AERIAL_RGBI": [5]}), "from 1 to 4"),
    (dict(modalities__normalization__norm_type="zscore"), "zscore"),
    (dict(modalities__normalization__AERIAL_RGBI_means=[1.0, 2.0]), "means"),
    (dict(modalities__normalization__AERIAL_RGBI_stds=[1, 0, 1]), "positive"),
    (dict(modalities__normalization__AERIAL_RGBI_stds=[1] * 4), "3 and 4"),
    (
      dict(modalities__pre_processings__temporal_average_sentinel2="daily"),
      "daily",
    ),
    (dict(modalities__pre_processings__filter_sentinel2=1), "valid boolean"),
    (dict(models__monotemp_model__arch="resnet9-unet"), "resnet9"),
    (dict(models__monotemp_model__arch="swin_nano-upernet"), "swin_nano"),
    (dict(models__monotemp_model__arch="resnet18-upernet_nano"), "_nano"),
    (dict(models__monotemp_model__arch="resnet18"), "ENCODER-DECODER"),
    (dict(models__monotemp_model__arch=None), "ENCODER-DECODER"),
    (dict(models__multitemp_model__pad_value=-1), "pad_value"),
    (dict(models__multitemp_model__encoder_widths=[10**9]), "widths"),
    (dict(models__multitemp_model__encoder_widths=[4] * 1000), "widths"),
    (dict(models__multitemp_model__str_conv_k=10**9), "str_conv_k"),
    (dict(models__multitemp_model__n_head=0), "n_head"),
    (dict(labels=["COSIA", "LPIS"]), "LPIS"),
    (dict(labels=[]), "at least one"),
    (dict(labels=[COVER, COVER]), "once"),
    (dict(labels=COVER), "valid list"),
    (dict(labels_configs={}), "0 classes"),
    (dict(hyperparams__batch_size=0), "batch_size"),
    (dict(hyperparams__optim_betas=[0.9]), "at least 2"),
    (dict(hyperparams=[1]), "hyperparams"),
  ],
)
def test_invalid_settings_are_refused(changes, message):
  assert message in refusal(reference_files.document(**changes))


def test_unknown_names_are_reported_together():
  text = refusal(
    reference_files.document(modalities__inputs={"LIDAR": True, "RADAR": True})
  )
  assert "LIDAR" in text and "RADAR" in text and "SPOT_RGBI" in text


def crops(edit):
  document = network(tasks=(CROPS,))
  edit(document["labels_configs"][CROPS])
  return document


def test_classes_that_are_not_ours():
  text = refusal(crops(lambda labels: labels["value_name"].pop(22)))
  assert "23 classes" in text and "22 classes" in text
  text = refusal(
    crops(lambda labels: labels["value_name"].update({0: "wheat"}))
  )
  assert "grasses" in text and "wheat" in text
  assert "'23'" in refusal(
    crops(
      lambda labels: labels["value_name"].update(
        {23: labels["value_name"].pop(22)}
      )
    )
  )
  assert "nomenclature" in refusal(
    crops(lambda labels: labels.update(label_channel_nomenclature=2))
  )


@pytest.mark.parametrize(
  "weights",
  [
    {"default": -1},
    {"default": 0},
    {"default": "much"},
    {"default": 1, "default_exceptions": {23: 0}},
    {"default": 1, "default_exceptions": {"a": 0}},
    {"default": 1, "default_exceptions": [1]},
    {"default": 1, "default_exceptions": {1: float("nan")}},
  ],
)
def test_invalid_class_weights_are_refused(weights):
  assert "value_weights" in refusal(
    crops(lambda labels: labels.update(value_weights=weights))
  )


def exported(config, tmp_path):
  """The configuration's way through YAML files."""
  documents, notes = reference_export.documents(config)
  reference_yaml.write_documents(tmp_path / "configs", documents)
  names = sorted(p.stem for p in (tmp_path / "configs").iterdir())
  assert names == [
    "config_modalities",
    "config_models",
    "config_supervision",
    "config_task",
  ]
  return reference_yaml.read_documents(tmp_path / "configs"), notes


@pytest.mark.parametrize(
  "document",
  [
    network("swin_tiny_patch4_window7_224-upernet"),
    network("resnet34-unet", ("DEM_ELEV", "SPOT_RGBI"), (CROPS,)),
    network(
      active=("AERIAL-RLT_PAN", "DEM_ELEV", "SENTINEL1-ASC_TS"),
      tasks=(COVER, CROPS),
      auxiliary=("DEM_ELEV",),
      modalities__normalization__norm_type="scaling",
      modalities__pre_processings__calc_elevation_stack_dsm=False,
      modalities__pre_processings__temporal_average_sentinel1="monthly",
      modalities__pre_processings__use_augmentation=True,
      models__multitemp_model__n_head=4,
      hyperparams__learning_rate=1e-3,
    ),
    network(active=("SENTINEL2_TS",)),
  ],
)
def test_a_configuration_goes_out_and_comes_back(document, tmp_path):
  config = config_of(document)
  back, notes = exported(config, tmp_path)
  assert not notes
  actual = config_of(back)
  # Statistics of unread modalities may have fewer bands.
  for modality in config.inputs:
    if modality not in config.data.modalities:
      config.inputs[modality] = actual.inputs[modality]
  assert not configuration.differences(config, actual)


@pytest.mark.parametrize("experiment", ["LC-A", "LC-L", "LC-G", "LPIS-J"])
def test_the_reference_reads_every_key_that_its_own_files_have(
  experiment, tmp_path
):
  back, _ = exported(benchmark.get_config(experiment), tmp_path)

  def keys(node, prefix=""):
    if not isinstance(node, dict):
      return set()
    own = {f"{prefix}{key}" for key in node}
    return own.union(*(keys(v, f"{prefix}{k}.") for k, v in node.items()))

  expected = json.loads(json.dumps(reference_files.DOCUMENT))
  optional = ("per_modality_exceptions.", "default_exceptions.")
  missing = {
    key
    for key in keys(expected) - keys(json.loads(json.dumps(back)))
    if not any(name in key for name in optional)
  }
  assert not missing
  assert yaml.safe_dump(back)


def test_differences_from_the_reference_are_reported(tmp_path):
  config = benchmark.get_config("LC-D")
  config.inputs.SENTINEL2_TS.temporal_average = "monthly"
  _, notes = exported(config, tmp_path)
  assert len(notes) == 2


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("model.encoder", "swin_nano", "swin_nano"),
    ("model.decoder", "upernet_nano", "upernet_nano"),
    ("fusion.kind", "early", "mid_concat"),
    ("inputs.DEM_ELEV.bands", ("DTM",), "DTM"),
    ("inputs.SENTINEL1-ASC_TS.temporal_average", "monthly", "both"),
  ],
)
def test_networks_the_reference_cannot_build_are_refused(field, value, message):
  config = benchmark.get_config("LC-L")
  *parents, name = field.split(".")
  node = config
  for parent in parents:
    node = node[parent]
  node[name] = value
  with pytest.raises(InputError, match=message):
    reference_export.documents(config)


def test_series_alone_need_no_image_encoder(tmp_path):
  config = benchmark.get_config("LC-G")
  config.model.encoder, config.model.decoder = "swin_nano", "upernet_nano"
  back, _ = exported(config, tmp_path)
  assert "nano" not in back["models"]["monotemp_model"]["arch"]
