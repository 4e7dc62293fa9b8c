"""Sensors, tasks and classes as data: checked, written, compared, merged."""

import copy
import json
import pickle
import tomllib

import numpy as np
import pytest

from flairhub_jax import class_merge, schema_file
from flairhub_jax.commands import schema as command
from flairhub_jax.commands import shipped_schemas
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.flair_challenges import FLAIR_1
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import LabelClass, LabelTask, Schema

SHIPPED = shipped_schemas.SCHEMAS


def content():
  return json.loads(json.dumps(schema_file.to_json(FLAIR_HUB)))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_schema_survives_json_toml_copies_and_pickles(name):
  schema = SHIPPED[name]
  plain = schema_file.to_json(schema)
  for again in (
    schema_file.parse(json.loads(schema_file.dumps(plain)), where="a.json"),
    schema_file.parse(
      tomllib.loads(command.to_toml(schema, ["an assumption"])), where="a.toml"
    ),
    copy.deepcopy(schema),
    pickle.loads(pickle.dumps(schema)),
  ):
    assert again == schema
  assert dict(again.sensors) == dict(schema.sensors)


def test_the_patches_of_all_sensors_of_flair_hub_cover_the_same_ground():
  for row in FLAIR_HUB.sensors.values():
    np.testing.assert_allclose(row.gsd * row.pixels, 102.4, rtol=1e-9)


def test_every_crop_has_a_parent_of_the_same_kind():
  """The lower levels refine the upper: equal names belong together."""
  tasks = FLAIR_HUB.tasks
  for low, high in (
    ("ALL_LABEL-LPIS-3", "ALL_LABEL-LPIS-2"),
    ("ALL_LABEL-LPIS-2", "ALL_LABEL-LPIS"),
  ):
    names = tasks[high].class_names
    for each in tasks[low].classes:
      assert each.name not in names or each.parent == each.name
    groups = class_merge.parents(tasks[low], tasks[high])
    assert sorted(set(groups.tolist())) == list(range(len(names)))
    # Both levels have their classes in one order.
    assert (np.diff(groups) >= 0).all()


def test_labels_of_flair_1_map_to_cosia():
  """Stored 1-19 in the order of FLAIR#1, classes in the order of COSIA."""
  labels = FLAIR_1.tasks["AERIAL_LABEL-COSIA"].label_of_value
  stored = FLAIR_1.tasks["FLAIR_LABEL"]
  cosia = FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"].class_names
  for value in range(1, 20):
    name = stored.class_names[stored.label_of_value[value]]
    assert cosia[labels[value]] == {"other": "undefined"}.get(name, name)
  assert labels[0] == labels[20] == 254


@pytest.mark.parametrize(
  ("change", "line"),
  [
    (
      lambda c: c["sensors"][0].pop("gsd"),
      "sensors.AERIAL_RGBI.gsd: expected this field, found none",
    ),
    (
      lambda c: c["sensors"][0].update(bands=["R", "R"]),
      "sensors.AERIAL_RGBI.bands: expected each name once, found 'R' twice",
    ),
    (
      lambda c: c["sensors"][0].update(mean=[1, 2, 3]),
      "sensors.AERIAL_RGBI.mean: expected 4 numbers for 4 bands, found 3",
    ),
    (
      lambda c: c["sensors"][0].update(std={"R": 0}),
      "sensors.AERIAL_RGBI.std.R: expected greater than 0, found 0",
    ),
    (
      lambda c: c["sensors"][0].update(speed=3),
      "sensors.AERIAL_RGBI.speed: expected no such field, found 3",
    ),
    (
      lambda c: c["sensors"][4].pop("dates"),
      "sensors.SENTINEL2_TS.dates: expected a file name, found none",
    ),
    (
      lambda c: c["tasks"][0]["classes"][3].update(colour="red"),
      "tasks.AERIAL_LABEL-COSIA.classes.impervious surface.colour: expected a"
      " colour as #rrggbb, found 'red'",
    ),
    (
      lambda c: c["tasks"][0]["classes"][3].update(values=[2]),
      "tasks.AERIAL_LABEL-COSIA.classes.impervious surface.values: expected"
      " values of no other class, found 2, which belongs to 'swimming pool'",
    ),
    (
      lambda c: c["tasks"][0].update(ignored=[18]),
      "tasks.AERIAL_LABEL-COSIA.classes.undefined.values: expected values of"
      " no other class, found 18, which belongs to 'ignored'",
    ),
    (
      lambda c: c["tasks"][3]["classes"][3].pop("parent"),
      "tasks.ALL_LABEL-LPIS-3.classes.spring wheat.parent: expected a class of"
      " the task's parent ALL_LABEL-LPIS-2, found None",
    ),
    (
      lambda c: c["tasks"][1].update(parent="ALL_LABEL-LPIS-3"),
      "tasks.ALL_LABEL-LPIS.classes.grasses.parent: expected a class of the"
      " task's parent ALL_LABEL-LPIS-3, found None",
    ),
    (
      lambda c: c["sensors"].append(c["sensors"][0]),
      "sensors: expected each name once, found 'AERIAL_RGBI' twice",
    ),
    (
      lambda c: c["tasks"][0].update(id="../maps"),
      "tasks.../maps.id: expected",
    ),
    (lambda c: c.pop("name"), "name: expected this field, found none"),
  ],
)
def test_a_faulty_schema_gets_one_line(change, line, tmp_path):
  given = content()
  change(given)
  path = tmp_path / "schema.json"
  path.write_text(json.dumps(given))
  with pytest.raises(InputErrors) as error:
    schema_file.load(path)
  assert len(error.value.problems) == 1
  assert error.value.problems[0].startswith(f"{path}, {line}")


@pytest.mark.parametrize(
  "text", [b"", b"[", b"\xff\xfe", b"name = 'a'\nname = 'b'", b"[[" * 10_000]
)
@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_file_that_is_no_schema_gets_one_line(text, suffix, tmp_path):
  path = tmp_path / f"schema.{suffix}"
  path.write_bytes(text)
  with pytest.raises(InputError) as error:
    schema_file.load(path)
  assert str(error.value).startswith(str(path))


def test_runs_and_data_of_other_bands_or_classes_contradict_each_other():
  given = content()
  given["sensors"][0]["bands"] = ["NIR", "R", "G", "B"]
  given["sensors"][2]["gsd"] = 0.205
  given["tasks"][0]["classes"][0]["name"] = "house"
  given["tasks"][0]["classes"][1]["colour"] = "#123456"
  other = schema_file.parse(given, where="")
  lines = schema_file.contradictions(
    FLAIR_HUB,
    other,
    sensors=("AERIAL_RGBI", "DEM_ELEV", "SPOT_RGBI"),
    tasks=("AERIAL_LABEL-COSIA",),
  )
  assert [line.split(":")[0] for line in lines] == [
    "sensor AERIAL_RGBI, bands",
    "sensor DEM_ELEV, gsd",
    "task AERIAL_LABEL-COSIA, classes",
    "task AERIAL_LABEL-COSIA, values of classes",
  ]
  assert "expected R, G, B, NIR, as the run has, found NIR, R, G, B" in lines[0]


def own_task():
  return LabelTask(
    id="LABEL",
    gsd=1.0,
    classes=tuple(
      LabelClass(name=name, colour=colour, is_scored=scored, values=values)
      for name, colour, scored, values in (
        ("water", "#0000ff", True, (10,)),
        ("forest", "#00ff00", True, (20, 21)),
        ("clouds", "#ffffff", False, (30,)),
        ("shadow", "#000000", False, (255,)),
      )
    ),
    ignored=(0,),
  )


def test_merged_classes_keep_their_values_colours_and_scores():
  merged = class_merge.merge_classes(
    own_task(),
    {"nature": ["water", "forest"], "nothing": ["clouds", "shadow"]},
    where="merge",
  )
  assert merged.class_names == ("nature", "nothing")
  assert merged.scored.tolist() == [True, False]
  assert merged.palette.tolist() == [[0, 0, 255], [255, 255, 255]]
  labels = merged.label_of_value[[0, 10, 20, 21, 30, 255, 40]]
  assert labels.tolist() == [255, 0, 0, 0, 1, 1, 254]
  assert class_merge.members(own_task(), merged).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
  ("groups", "line"),
  [
    ({"a": ["water", "sea"]}, "merge.a: expected any of water, forest, clouds"),
    ({"a": ["water"], "b": ["water"]}, "merge.b: expected 'water' once"),
    (
      {"a": ["water", "forest"]},
      "merge: expected every class once, found none",
    ),
    ({"a": []}, "merge.a: expected at least one class, found none"),
  ],
)
def test_a_merge_that_does_not_fit_gets_one_line(groups, line):
  with pytest.raises(InputError) as error:
    class_merge.merge_classes(own_task(), groups, where="merge")
  assert str(error.value).startswith(line)


def test_a_confusion_matrix_of_merged_classes_counts_every_pixel_once():
  confusion = np.arange(16).reshape(4, 4)
  merged = class_merge.merge_confusion(confusion, np.array([0, 0, 1, 1]), 2)
  assert merged.tolist() == [[10, 18], [42, 50]]


def test_label_values_above_255_have_a_table_of_16_bits():
  task = LabelTask(
    id="CORINE",
    gsd=1.0,
    classes=(
      LabelClass(name="urban", colour="#e6004d", values=(111,)),
      LabelClass(name="sea", colour="#e6f2ff", values=(523,)),
    ),
    ignored=(999,),
  )
  assert len(task.label_of_value) == 65536
  assert task.label_of_value[[111, 523, 999, 0]].tolist() == [0, 1, 255, 254]


def test_tasks_of_one_column_agree_on_its_file():
  with pytest.raises(ValueError, match="same num_bands and gsd"):
    Schema(
      name="own",
      sensors=tuple(FLAIR_HUB.sensors.values()),
      tasks=(
        own_task(),
        own_task().model_copy(
          update={"id": "B", "column": "LABEL", "gsd": 2.0}
        ),
      ),
    )
