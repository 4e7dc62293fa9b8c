"""The report's numbers against hand-computed ones, and what it writes."""

import csv
import html.parser
import itertools
import json
import pathlib
import re
import types

import pandas as pd
import pytest

from flairhub_jax import __main__, figures
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.studies import (
  configurations,
  costs,
  report,
  runs,
  scores,
  tables,
)
from tests.studies import run_folders
from tests.studies.run_folders import CROPS, LAND_COVER, config, write_run

T_2 = 4.30265  # Student's t, two degrees of freedom, 97.5 %


@pytest.fixture(autouse=True)
def counted(monkeypatch):
  """Networks of known cost; returns the configurations that were counted."""
  calls = []

  def summarise(config):
    calls.append(config)
    parts = [types.SimpleNamespace(flops=flops) for flops in (2e9, 1e9)]
    return types.SimpleNamespace(
      num_parameters=2_000_000,
      num_parameters_without_fusion=1_500_000,
      flops=2e9,
      parts=parts,
    )

  monkeypatch.setattr(costs.summary, "summarise", summarise)
  return calls


def groups(folder):
  return configurations.group(runs.find_runs([str(folder / "*")], "test"))


def frames(folder):
  rows = groups(folder)
  actual = [run for row in rows for run in row.runs.values()]
  frame = scores.read(rows)
  return tables.compute(actual, rows, frame, folder / "networks.json")


def read_csv(path):
  with open(path, encoding="utf-8") as file:
    return list(csv.DictReader(file))


@pytest.fixture
def two(tmp_path):
  """Two configurations of three seeds, two of them common."""
  for seed, miou in ((1, 40.0), (2, 42.0), (3, 47.0)):
    write_run(tmp_path / "a" / f"{seed}", config(seed), miou)
  for seed, miou in ((2, 45.0), (3, 51.0), (4, 60.0)):
    row = config(seed, fusion__kind="mid_gated")
    write_run(
      tmp_path / "b" / f"{seed}", row, miou, overall_accuracy=70.0 + seed
    )
  return tmp_path


def test_scores_by_hand(two):
  table = tables.score_table(frames(two)["scores"], LAND_COVER)
  half = T_2 * (13 / 3) ** 0.5
  assert table.index.name == "configuration"
  first = table.loc["a"]
  assert first["runs"] == "3"
  assert first["mIoU %"] == "43.0"
  assert first["mIoU std"] == "3.6"
  assert first["mIoU 95 %"] == f"[{43 - half:.1f}, {43 + half:.1f}]"
  assert first["OA std"] == "0.0"
  # Beside the published score of aerial images and Sentinel-2.
  assert first["experiment"] == "LC-D"
  assert first["mIoU % published"] == "64.7"
  assert first["OA % published"] == "77.6"


def test_differences_by_hand(two):
  differences = frames(two)["differences"]
  table = tables.difference_table(differences, LAND_COVER)
  (row,) = table.itertuples(name=None)
  # Seeds 2 and 3: 3 and 4 points, so 3.5 ± 12.7062 * sqrt(0.5) / sqrt(2).
  half = 12.7062 * 0.5
  interval = f"[{3.5 - half:+.1f}, {3.5 + half:+.1f}]"
  assert row[:4] == ("b", "2", f"+3.5 {interval}", "undecided")
  assert row[4].startswith("+2.5 ")  # 72 and 73 against 70
  (miou, _) = differences.to_dict("records")
  assert (miou["configuration"], miou["minus"]) == ("b", "a")
  assert miou["mean"] == 3.5 and miou["runs"] == 2


def test_classes_that_do_not_occur_are_left_out(two):
  table = tables.class_table(
    frames(two)["classes"], FLAIR_HUB.tasks[LAND_COVER]
  )
  assert not {"brushwood", "clear cut"} & set(table.index)
  # The building's IoU is half the mIoU in these runs.
  half = T_2 * (13 / 3) ** 0.5 / 2
  assert table.loc["building"].iloc[0] == f"21.5 ± {half:.1f}"


def test_several_tasks_against_one_by_hand(tmp_path):
  both = (LAND_COVER, CROPS)
  for seed in (1, 2):
    write_run(tmp_path / "land" / f"{seed}", config(seed), 40.0 + seed)
    row = config(seed, data__tasks=both)
    scores = {LAND_COVER: 39.0 + 2 * seed, CROPS: 20.0}
    write_run(tmp_path / "both" / f"{seed}", row, scores)
  actual = frames(tmp_path)
  records = actual["tasks"].to_dict("records")
  miou = next(r for r in records if r["score"] == "miou")
  assert (miou["configuration"], miou["minus"]) == ("both", "land")
  assert miou["task"] == LAND_COVER and miou["mean"] == 0.5  # 0 and 1
  table = tables.task_table(actual["tasks"], actual["scores"], FLAIR_HUB.tasks)
  assert set(table["task"]) == {"land cover"}


def test_learned_weights_of_tasks_stand_beside_one_task_too(tmp_path):
  row = config(data__tasks=(LAND_COVER, CROPS), task_weighting="uncertainty")
  write_run(tmp_path / "learned" / "1", row, 41.0)
  write_run(tmp_path / "land" / "1", config(), 40.0)
  (miou, _) = frames(tmp_path)["tasks"].to_dict("records")
  assert (miou["configuration"], miou["minus"]) == ("learned", "land")


def test_sensors_of_equal_values_share_a_column(tmp_path):
  row = config()
  row.fusion.modality_dropout.update(AERIAL_RGBI=0.25, SENTINEL2_TS=0.25)
  write_run(tmp_path / "a" / "1", config(), 40.0)
  write_run(tmp_path / "b" / "1", row, 40.0)
  table = tables.field_table(groups(tmp_path))
  assert list(table) == ["fusion.modality_dropout.AERIAL_RGBI + SENTINEL2_TS"]
  assert list(table.itertuples(name=None)) == [("a", "0.0"), ("b", "0.25")]


def test_a_difference_of_nothing_has_no_sign_of_a_loss(tmp_path):
  write_run(tmp_path / "a" / "1", config(), 40.01)
  write_run(tmp_path / "b" / "1", config(fusion__kind="mid_mean"), 40.0)
  table = tables.difference_table(frames(tmp_path)["differences"], LAND_COVER)
  assert table.loc["b", "mIoU, points"] == "+0.0"


def test_costs_by_hand(two, tmp_path, counted):
  rows = groups(two)[:1]
  cache = tmp_path / "networks.json"
  actual = costs.count(rows, cache)
  cost = actual.loc["a"]
  # Nine steps of four patches, three passes of 3 GFLOP each.
  assert cost["training_pflop"] == 9 * 4 * 3 * 3e9 / 1e15
  assert cost["forward_gflop_per_patch"] == 2
  # Two patches a second in every record.
  assert cost["hours_mean"] == pytest.approx(9 * 4 / 2 / 3600)
  assert costs.count(rows, cache).equals(actual) and len(counted) == 1


def test_subsets_by_hand(tmp_path):
  for seed, miou in ((1, 40.0), (2, 42.0)):
    run = write_run(tmp_path / "a" / f"{seed}", config(seed), miou)
    run_folders.write_subsets(run, config(seed), miou)
  report.write(tmp_path / "out", *studied(tmp_path), "test")
  rows = [
    row
    for row in read_csv(tmp_path / "out" / "subsets.csv")
    if row["score"] == "miou"
  ]
  assert [(row["modalities"], float(row["mean"])) for row in rows] == [
    ("AERIAL_RGBI+SENTINEL2_TS", 41.0),
    ("AERIAL_RGBI", 31.0),
    ("SENTINEL2_TS", 31.0),
  ]
  assert (tmp_path / "out" / f"subsets_{LAND_COVER}.png").exists()


@pytest.mark.parametrize("num_names", [1, 6, 14])
def test_subsets_of_any_number_of_configurations_are_drawn(tmp_path, num_names):
  names = [f"configuration-{number}" for number in range(num_names)]
  sensors = "AERIAL_RGBI", "DEM_ELEV", "SPOT_RGBI", "SENTINEL2_TS"
  rows = [("+".join(sensors), name, 40.0, 1.0) for name in names]
  rows += [
    ("+".join(subset), names[0], 30.0, float("nan"))
    for size in (1, 2, 3)
    for subset in itertools.combinations(sensors, size)
  ]
  columns = ["modalities", "configuration", "mean", "half_width"]
  summary = pd.DataFrame(rows, columns=columns)
  path = tmp_path / "subsets.png"
  colours = figures.colours(names)
  figures.draw_subsets(path, "title", summary, colours, sensors)
  assert path.stat().st_size > 1000


def studied(folder):
  actual = runs.find_runs([str(folder / "*")], "test")
  return actual, configurations.group(actual)


class Page(html.parser.HTMLParser):
  """Collects tags, and what the page would fetch."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.fetched = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    if tag not in ("meta", "img", "link"):
      self.open.append(tag)
    self.fetched += [value for key, value in attrs if key in ("src", "href")]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def test_a_study_from_the_command_line(tmp_path, capsys):
  run_folders.write_study(tmp_path / "runs")
  out = tmp_path / "report"
  argv = ["report", "--runs", str(tmp_path / "runs" / "*"), "--out", str(out)]
  assert __main__.main([*argv, "--baseline", "mid_concat"]) == 0
  printed = capsys.readouterr().out.split("\n\n")[1].split()
  written = {path.name for path in out.iterdir()} - {"networks.json"}
  assert {pathlib.Path(line).name for line in printed} == written
  text = (out / "report.md").read_text(encoding="utf-8")
  assert "Not averaged: mid_gated/seed-9 (unfinished: step 4 of 9)" in text
  assert "Difference from mid_concat" in text
  for name in written:
    if name.endswith(".png"):
      assert f"]({name})" in text
  states = {row["run"]: row["state"] for row in read_csv(out / "runs.csv")}
  assert states["mid_gated/seed-9"] == "unfinished: step 4 of 9"
  lines = (out / "runs.jsonl").read_text(encoding="utf-8").splitlines()
  records = [json.loads(line) for line in lines]
  assert {r["run"]: r["state"] for r in records} == states
  first = next(r for r in records if r["state"] == "finished")
  scores = json.loads(
    (
      tmp_path / "runs" / first["run"] / "results/own/test/scores.json"
    ).read_text()
  )["tasks"]
  for task, actual in first["scores"].items():
    assert actual["miou"] == scores[task]["miou"]
    assert len(actual["iou"]) == len(scores[task]["classes"])
  scores = read_csv(out / "scores.csv")
  averaged = {r["configuration"]: r["runs"] for r in scores}
  assert averaged == dict.fromkeys(averaged, "3")


def test_the_page_needs_nothing_beside_it(tmp_path):
  run_folders.write_study(tmp_path / "runs")
  out = tmp_path / "report"
  report.write(out, *studied(tmp_path / "runs"), "test")
  page = Page((out / report.PAGE).read_text(encoding="utf-8"))
  assert not page.open
  assert "script" not in page.tags and "link" not in page.tags
  assert len(page.fetched) > 8
  for address in page.fetched:
    assert address.startswith(("data:image/png;base64,", "#"))
  assert "http" not in (out / report.PAGE).read_text(encoding="utf-8")


def test_one_seed_has_no_interval_and_says_so(tmp_path):
  write_run(tmp_path / "a" / "1", config(1), 40.0)
  write_run(tmp_path / "b" / "1", config(1, fusion__kind="mid_mean"), 41.0)
  out = tmp_path / "out"
  report.write(out, *studied(tmp_path), "test")
  text = (out / "report.md").read_text(encoding="utf-8")
  assert "One seed, hence no interval: a; b." in text
  text = re.sub(" +", " ", text)  # columns are padded
  assert "| a | 1 | 40.0 | – | – |" in text
  assert "| b | 1 | +1.0 | – |" in text
  row = read_csv(out / "scores.csv")[0]
  assert row["std"] == row["low"] == ""


def test_bad_input_is_one_line(tmp_path, capsys):
  argv = ["report", "--runs", str(tmp_path / "*"), "--out", str(tmp_path / "o")]
  write_run(tmp_path / "a", config(1), None)
  for _ in range(2):
    assert __main__.main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("flairhub report: ")
    assert not (tmp_path / "o").exists()
    (tmp_path / "a" / "config.json").unlink(missing_ok=True)
