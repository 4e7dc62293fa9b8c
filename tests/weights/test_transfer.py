"""Weights of one run as the start of another with other classes or ids."""

import jax
import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.errors import InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build, initialise
from flairhub_jax.schema import LabelClass, LabelTask, Schema
from flairhub_jax.weights import transfer
from tests import tiny

CLASSES = ("water", "building", "tree house")
LAND_COVER = FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"]


def own_schema():
  """Aerial images and Sentinel-2 under other ids, three classes."""
  sensors = [
    FLAIR_HUB.sensors["AERIAL_RGBI"].model_copy(update={"id": "MY_RGB"}),
    FLAIR_HUB.sensors["SENTINEL2_TS"].model_copy(
      update={"id": "MY_TS", "quality_mask": None}
    ),
  ]
  task = LabelTask(
    id="MY_LABEL",
    gsd=0.2,
    classes=tuple(LabelClass(name=n, colour="#123456") for n in CLASSES),
  )
  return Schema(name="own", sensors=tuple(sensors), tasks=(task,))


RENAMED = {
  "MY_RGB": "AERIAL_RGBI",
  "MY_TS": "SENTINEL2_TS",
  "MY_LABEL": "AERIAL_LABEL-COSIA",
}


def configs(kind="mid_concat"):
  source = tiny.get_config()
  target = base.get_config(own_schema())
  source.data.tasks = ("AERIAL_LABEL-COSIA",)
  target.model = source.model.copy_and_resolve_references()
  target.data.modalities = ("MY_RGB", "MY_TS")
  source.inputs.AERIAL_RGBI.pixels = target.inputs.MY_RGB.pixels = 64
  source.fusion.kind = target.fusion.kind = kind
  return source, target


def drawn(config, seed):
  model = build.build_segmenter(config)
  shapes = build.input_shapes(config)
  batch = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
  return initialise.init_variables(model, batch, seed=seed)


def flat(variables):
  return dict(transfer._leaves(variables))


@pytest.mark.parametrize("kind", ["mid_concat", "late_gated"])
def test_classes_are_taken_by_name_and_all_else_as_it_is(kind):
  source, target = configs(kind)
  old, new = drawn(source, 1), drawn(target, 2)
  result, lines = transfer.transfer(
    old,
    new,
    source=transfer.describe(source),
    target=transfer.describe(target),
    renamed=RENAMED,
    where="RUN",
  )
  old, new, result = flat(old), flat(new), flat(result)
  head = {
    "mid_concat": "decoder_MY_LABEL",
    "late_gated": "decoder_MY_RGB__MY_LABEL",
  }
  path = f"params/{head[kind]}/head/kernel"
  origin = path.replace("MY_RGB", "AERIAL_RGBI").replace(
    "MY_LABEL", "AERIAL_LABEL-COSIA"
  )
  for i, name in enumerate(CLASSES[:2]):
    place = LAND_COVER.class_names.index(name)
    np.testing.assert_array_equal(result[path][:, i], old[origin][:, place])
  np.testing.assert_array_equal(result[path][:, 2], new[path][:, 2])
  encoder = "params/encoder_MY_RGB/patch_embed/kernel"
  encoder = next(p for p in result if p.startswith("params/encoder_MY_RGB"))
  np.testing.assert_array_equal(
    result[encoder], old[encoder.replace("MY_RGB", "AERIAL_RGBI")]
  )
  assert "classes initialised: MY_LABEL: tree house" in lines


def test_classes_in_another_order_move_although_shapes_are_equal():
  source, _ = configs()
  source.model.auxiliary = source.data.modalities
  target = source.copy_and_resolve_references()
  task = LAND_COVER.model_copy(
    update={
      "classes": tuple(
        each.model_copy(update={"values": (i,)})
        for i, each in reversed(list(enumerate(LAND_COVER.classes)))
      )
    }
  )
  target.schema = Schema(
    name="reversed", sensors=tuple(FLAIR_HUB.sensors.values()), tasks=(task,)
  )
  old = drawn(source, 1)
  result, lines = transfer.transfer(
    old,
    drawn(target, 2),
    source=transfer.describe(source),
    target=transfer.describe(target),
    renamed={},
    where="RUN",
  )
  old, result = flat(old), flat(result)
  for path in (
    "params/decoder_AERIAL_LABEL-COSIA/head/bias",
    "params/encoder_SENTINEL2_TS/head/conv_1/kernel",
  ):
    np.testing.assert_array_equal(result[path], old[path][..., ::-1])
  assert lines == []


def test_a_network_of_another_kind_is_refused():
  source, target = configs()
  target.model.decoder = "unet"
  with pytest.raises(
    InputErrors, match=r"RUN: batch_stats/decoder_.*found none"
  ):
    transfer.transfer(
      drawn(source, 1),
      drawn(target, 2),
      source=transfer.describe(source),
      target=transfer.describe(target),
      renamed=RENAMED,
      where="RUN",
    )
