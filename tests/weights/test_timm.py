"""ImageNet encoders: names, channels, windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.errors import InputErrors
from flairhub_jax.models import build
from flairhub_jax.weights import timm
from tests.weights import timm_files


def encoder_shape(name, channels=3, side=None):
  encoder = build.ENCODERS[name]()
  side = side or 32 * getattr(encoder, "window", 2)
  x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
  key = jax.eval_shape(jax.random.key, 0)
  return jax.eval_shape(lambda key, x: encoder.init(key, x, False), key, x)


def imported(name, tensors):
  return timm.import_encoder(tensors, encoder_shape(name), where="file")


def started(encoder, name, channels, side=64):
  """The encoder in a network of one image, from drawn zeros."""
  shape = encoder_shape(name, channels, side)
  variables = {
    collection: {
      "encoder_X": jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree),
      "decoder": {"kernel": np.full(2, 5.0)},
    }
    for collection, tree in shape.items()
  }
  actual = timm.start_encoder(encoder, variables, "encoder_X", where="file")
  assert all((tree["decoder"]["kernel"] == 5).all() for tree in actual.values())
  return {c: tree["encoder_X"] for c, tree in actual.items()}


def same(left, right):
  assert left.keys() == right.keys()
  for name in left:
    np.testing.assert_array_equal(left[name], right[name])


def test_each_parameter_of_a_swin_has_its_place():
  tensors = timm_files.draw(timm_files.swin())
  actual = imported(timm_files.SWIN, tensors)
  same(
    actual,
    actual
    | {
      "params/patch_embedding/projection/kernel": tensors[
        "patch_embed.proj.weight"
      ]
      .transpose(2, 3, 1, 0)
      .reshape(48, 96),
      "params/merge_2/reduction/kernel": tensors[
        "layers.2.downsample.reduction.weight"
      ].T,
      "params/stage_2_block_5/attention/bias_table": tensors[
        "layers.2.blocks.5.attn.relative_position_bias_table"
      ],
    },
  )
  # All but the head and the last norm.
  assert len(actual) == len(tensors) - 4


def test_older_and_flat_names_of_swin_are_the_same_encoder():
  shapes = timm_files.swin()
  tensors = timm_files.draw(shapes)
  actual = imported(timm_files.SWIN, tensors)
  old = {key: np.zeros(1) for key in timm_files.swin(is_old=True)}
  for key, tensor in tensors.items():
    if ".downsample." in key:
      stage = int(key.split(".")[1])
      key = key.replace(f"layers.{stage}", f"layers.{stage - 1}")
    old[key.replace("head.fc", "head")] = tensor
  same(imported(timm_files.SWIN, old), actual)
  flat = {key.replace("layers.", "layers_"): x for key, x in tensors.items()}
  same(imported(timm_files.SWIN, flat), actual)


@pytest.mark.parametrize(
  ("name", "shapes"),
  [("convnextv2_atto", timm_files.atto), ("convnextv2_tiny", timm_files.tiny)],
)
def test_both_layouts_and_both_namings_of_convnext(name, shapes):
  tensors = timm_files.draw(shapes())
  actual = imported(name, tensors)
  layer = "pointwise" if name.endswith("atto") else "linear"
  kernel = tensors["stages.1.blocks.1.mlp.fc1.weight"]
  np.testing.assert_array_equal(
    actual[f"params/stage_1_block_1/{layer}_1/kernel"],
    kernel.reshape(kernel.shape[:2]).T,
  )
  same(imported(name, timm_files.under_metas_names(tensors)), actual)


def test_resnet_with_and_without_counters():
  tensors = timm_files.draw(timm_files.resnet18())
  actual = imported("resnet18", tensors)
  count = "batch_stats/layer_2_block_0/shortcut_norm/count"
  assert actual[count] == tensors["layer2.0.downsample.1.num_batches_tracked"]
  older = {k: v for k, v in tensors.items() if "num_batches" not in k}
  assert imported("resnet18", older)[count] == 0
  # Some of them missing is a damaged file.
  del tensors["bn1.num_batches_tracked"]
  with pytest.raises(InputErrors, match=r"bn1\.num_batches_tracked"):
    imported("resnet18", tensors)


def test_all_that_does_not_fit_is_one_error():
  tensors = timm_files.draw(timm_files.resnet18())
  del tensors["bn1.weight"]
  tensors["layer1.0.conv1.weight"] = np.zeros((64, 64, 1, 1), np.float32)
  tensors["layer9.0.conv1.weight"] = np.zeros(3, np.float32)
  with pytest.raises(InputErrors) as error:
    imported("resnet18", tensors)
  assert len(error.value.problems) == 3
  with pytest.raises(InputErrors):
    imported("resnet34", timm_files.draw(timm_files.resnet18()))
  table = "layers.0.blocks.0.attn.relative_position_bias_table"
  for shape in ((168, 3), (169, 4), (16, 3), (507,)):
    broken = timm_files.draw(timm_files.swin())
    broken[table] = np.zeros(shape, np.float32)
    with pytest.raises(InputErrors, match="bias_table"):
      imported(timm_files.SWIN, broken)


@pytest.mark.parametrize(
  ("channels", "expected"),
  [
    (1, [[111.0]]),
    (2, [[1.5, 15.0]]),
    (3, [[1.0, 10.0, 100.0]]),
    (4, [[0.75, 7.5, 75.0, 0.75]]),
    (7, np.array([[1, 10, 100, 1, 10, 100, 1]]) * np.float32(3 / 7)),
  ],
)
def test_channels_are_adapted_as_in_timm(channels, expected):
  kernel = np.float32([[1], [10], [100]])
  actual = timm.adapt_channels(kernel, channels)
  assert actual.dtype == np.float32
  np.testing.assert_array_equal(actual.T, np.float32(expected))


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize(
  ("name", "shapes", "key", "path"),
  [
    ("convnextv2_atto", timm_files.atto, "stem.0.weight", "stem"),
    ("resnet18", timm_files.resnet18, "conv1.weight", "stem_conv"),
  ],
)
def test_the_first_layer_of_another_number_of_channels(
  name, shapes, key, path, channels
):
  tensors = timm_files.draw(shapes())
  variables = started(imported(name, tensors), name, channels)
  kernel = tensors[key].transpose(2, 3, 1, 0)
  if channels == 1:
    expected = kernel.sum(2, keepdims=True)
  else:
    expected = kernel[:, :, [i % 3 for i in range(channels)]]
    expected = expected * np.float32(3 / channels)
  actual = variables["params"][path]["kernel"]
  np.testing.assert_array_equal(actual, expected.reshape(actual.shape))


def test_tables_shrink_with_the_windows():
  tensors = timm_files.draw(timm_files.swin())
  encoder = imported(timm_files.SWIN, tensors)
  variables = started(encoder, timm_files.SWIN, 3)
  for stage, rows in enumerate((169, 169, 49, 9)):
    table = variables["params"][f"stage_{stage}_block_1"]["attention"]
    assert table["bias_table"].shape[0] == rows
  kept = tensors["layers.0.blocks.1.attn.relative_position_bias_table"]
  actual = variables["params"]["stage_0_block_1"]["attention"]["bias_table"]
  np.testing.assert_array_equal(actual, kept)


def test_a_table_of_another_window_is_kept_and_resized_at_the_start():
  tensors = timm_files.draw(timm_files.swin(window=12))
  encoder = imported(timm_files.SWIN, tensors)
  name = "params/stage_0_block_0/attention/bias_table"
  assert encoder[name].shape == (529, 3)
  variables = started(encoder, timm_files.SWIN, 3)
  table = variables["params"]["stage_0_block_0"]["attention"]["bias_table"]
  assert table.shape == (169, 3)


# As timm 1.0.31 resizes squares of whole numbers.
SMALLER = [[36, 49, 64], [121, 144, 169], [256, 289, 324]]
LARGER = [
  [0, 0, 1, 4, 4],
  [0, 0, 1, 4, 4],
  [9, 9, 16, 25, 25],
  [36, 36, 49, 64, 64],
  [36, 36, 49, 64, 64],
]
WINDOW_12 = [78.00000762939453, 78.34011840820312, 78.68022918701172]


def test_tables_are_resized_as_in_timm():
  squares = np.arange(25, dtype=np.float32)[:, None] ** 2
  actual = timm.resize_bias_table(squares, 9).reshape(3, 3)
  np.testing.assert_allclose(actual, SMALLER, rtol=1e-6)
  actual = timm.resize_bias_table(squares[:9], 25).reshape(5, 5)
  np.testing.assert_allclose(actual, LARGER, rtol=1e-6)
  table = np.arange(169, dtype=np.float32)[:, None]
  actual = timm.resize_bias_table(table, 529).reshape(23, 23)
  np.testing.assert_allclose(actual[11, :3], WINDOW_12, rtol=1e-6)
  assert timm.resize_bias_table(table, 169) is table


def test_an_encoder_of_another_kind_does_not_start():
  encoder = imported("resnet18", timm_files.draw(timm_files.resnet18()))
  with pytest.raises(InputErrors, match="layer_1_block_0"):
    started(encoder, "convnextv2_atto", 3)
