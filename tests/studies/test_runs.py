"""Which runs are averaged, which belong together, and how they are called."""

import json

import pytest

from flairhub_jax import configuration
from flairhub_jax.errors import InputError
from flairhub_jax.studies import configurations, runs, scores
from tests import test_run_directory
from tests.studies import run_folders
from tests.studies.run_folders import CROPS, LAND_COVER, config, write_run


def find(folder, pattern="*"):
  return runs.find_runs([str(folder / pattern)], "test")


def miou_by_seed(row):
  frame = scores.averages(scores.read([row]))
  frame = frame[frame["score"] == "miou"]
  return dict(zip(frame["seed"], frame["value"], strict=True))


def states(folder):
  return {run.folder.name: run.state for run in find(folder)}


def test_only_finished_and_evaluated_runs_count(tmp_path):
  write_run(tmp_path / "done", config(1), 40.0)
  write_run(tmp_path / "halfway", config(2), 40.0, last_step=4)
  write_run(tmp_path / "started", config(3), None, last_step=0)
  write_run(tmp_path / "trained", config(4), None)
  (tmp_path / "notes.txt").write_text("no run")
  assert states(tmp_path) == {
    "done": "finished",
    "halfway": "unfinished: step 4 of 9",
    "started": "unfinished: step 0 of 9",
    "trained": "not evaluated on test",
  }
  (row,) = configurations.group(find(tmp_path))
  assert miou_by_seed(row) == {1: 40.0}


def test_scores_of_an_earlier_checkpoint_do_not_count(tmp_path):
  run = write_run(tmp_path / "run", config(), 40.0)
  own = json.loads((run / "results/own/test/scores.json").read_text())
  run_folders.write_results(run, "scores.json", 3, tasks=own["tasks"])
  expected = "evaluated at step 3, before its best step 9"
  assert states(tmp_path) == {"run": expected}


def test_imported_weights_need_no_training(tmp_path):
  run = write_run(tmp_path / "run", config(), 40.0, last_step=0)
  (run / "origin.json").write_text("{}")
  assert states(tmp_path) == {"run": "finished"}


def test_a_repeated_seed_counts_once(tmp_path):
  write_run(tmp_path / "a", config(), 40.0)
  write_run(tmp_path / "b", config(), 40.0)
  assert states(tmp_path)["b"] == f"repeats {tmp_path.name}/a"


def test_seeds_are_averaged_whatever_changes_nothing(tmp_path):
  """Each run with another value of each field that changes nothing."""
  write_run(tmp_path / "a" / "seed-1", config(1), 40.0)
  other = config(2)
  other.update_from_flattened_dict(test_run_directory.OTHER)
  write_run(tmp_path / "b" / "seed-2", other, 50.0)
  write_run(tmp_path / "c" / "seed-3", config(3, mesh__fsdp=2), 60.0)
  (row,) = configurations.group(find(tmp_path))
  assert miou_by_seed(row) == {1: 40.0, 2: 50.0, 3: 60.0}


def test_folders_of_runs_are_entered_in_order_of_numbers(tmp_path):
  for seed in (10, 2):
    write_run(tmp_path / "runs" / "a" / f"seed-{seed}", config(seed), 40.0)
  names = [run.folder.name for run in find(tmp_path)]
  assert names == ["seed-2", "seed-10"]
  assert [r.folder.name for r in find(tmp_path, "runs/*")] == names


def test_an_empty_pattern_is_refused(tmp_path):
  with pytest.raises(InputError, match="matches run directories"):
    find(tmp_path)


@pytest.mark.parametrize("where", ["training", "scores"])
def test_other_data_are_refused_with_both_runs(tmp_path, where):
  other = config(2)
  if where == "training":
    other.data.fingerprint = "ab" * 32
  write_run(tmp_path / "first", config(1), 40.0)
  data = run_folders.DATA if where == "training" else "ab" * 32
  write_run(tmp_path / "second", other, 40.0, data=data)
  with pytest.raises(InputError) as error:
    find(tmp_path)
  text = str(error.value)
  assert "/first" in text and "/second" in text and where in text
  assert "\n" not in text


@pytest.mark.parametrize(
  "name", ["config.json", "metrics.jsonl", "results/own/test/scores.json"]
)
@pytest.mark.parametrize(
  "text", ["{\n", "[1]\n", "null\n", '{"step": 3, "data": "", "tasks": {}}\n']
)
def test_files_that_are_not_a_runs_are_named(tmp_path, name, text):
  run = write_run(tmp_path / "run", config(), 40.0)
  (run / name).write_text(text)
  with pytest.raises(InputError) as error:
    find(tmp_path)
  lines = str(error.value).splitlines()
  assert lines and all(str(run / name) in line for line in lines)


def test_a_broken_record_is_named_unless_it_is_being_written(tmp_path):
  path = write_run(tmp_path / "run", config(), 40.0) / "metrics.jsonl"
  whole = path.read_text()
  path.write_text(whole + '{"kind": "tr')
  assert states(tmp_path) == {"run": "finished"}
  lines = whole.splitlines(keepends=True)
  path.write_text("".join([*lines[:3], "{oops\n", *lines[3:]]))
  with pytest.raises(InputError, match=r"metrics\.jsonl, line 4"):
    find(tmp_path)


def test_scores_without_a_task_of_the_run_are_named(tmp_path):
  run = write_run(tmp_path / "run", config(), 40.0)
  row = config(data__tasks=(LAND_COVER, CROPS))
  (run / "config.json").write_text(configuration.to_json(row))
  with pytest.raises(InputError, match=f"scores.json.* no '{CROPS}'"):
    find(tmp_path)


def test_subsets_of_another_checkpoint_do_not_count(tmp_path):
  run = write_run(tmp_path / "run", config(), 40.0)
  run_folders.write_subsets(run, config(), 40.0)
  assert states(tmp_path) == {"run": "finished"}
  run_folders.write_results(run, "subsets.json", 3, subsets=[])
  expected = "evaluated at step 9, on subsets at step 3"
  assert states(tmp_path) == {"run": expected}


def test_seeds_and_what_changes_nothing_do_not_part_runs(tmp_path):
  write_run(tmp_path / "a", config(1), 40.0)
  other = config(
    2,
    data__path="elsewhere",
    data__num_workers=3,
    train__log_every=5,
    inputs__DEM_ELEV__pixels=64,  # a sensor that it does not have
  )
  other.tasks[CROPS].weight = 2.0  # a task that it does not have
  write_run(tmp_path / "b", other, 42.0)
  (row,) = configurations.group(find(tmp_path))
  assert list(row.runs) == [1, 2]


def names(folder, pattern="*"):
  return [row.name for row in configurations.group(find(folder, pattern))]


def test_configurations_are_called_by_their_folders(tmp_path):
  run_folders.write_study(tmp_path, seeds=2)
  kinds = ["both-tasks", "late_mean", "mid_concat", "mid_gated"]
  assert names(tmp_path) == kinds


def test_in_one_folder_they_are_called_by_what_differs(tmp_path):
  write_run(tmp_path / "1", config(1), 40.0)
  write_run(tmp_path / "2", config(1, fusion__kind="mid_mean"), 40.0)
  write_run(tmp_path / "3", config(1, optim__learning_rate=0.5), 40.0)
  rate = config().optim.learning_rate
  assert names(tmp_path) == [
    f"fusion.kind=mid_concat, optim.learning_rate={rate}",
    f"fusion.kind=mid_mean, optim.learning_rate={rate}",
    "fusion.kind=mid_concat, optim.learning_rate=0.5",
  ]


def test_sensors_of_one_rate_are_called_by_it(tmp_path):
  drop = dict.fromkeys(config().data.modalities, 0.25)
  row = config(1)
  row.fusion.modality_dropout.update(drop)
  write_run(tmp_path / "1", config(1), 40.0)
  write_run(tmp_path / "2", row, 40.0)
  assert len(set(names(tmp_path))) == 2
  assert names(tmp_path)[1].endswith("=0.25")


def test_the_baseline_comes_first(tmp_path):
  run_folders.write_study(tmp_path, seeds=1)
  rows = configurations.group(find(tmp_path), "mid_gated")
  assert [row.name for row in rows] == [
    "mid_gated",
    "both-tasks",
    "late_mean",
    "mid_concat",
  ]
  with pytest.raises(InputError, match="one of both-tasks, late_mean"):
    configurations.group(find(tmp_path), "gated")


def test_without_a_finished_run_there_is_no_report(tmp_path):
  write_run(tmp_path / "a", config(), None)
  with pytest.raises(InputError, match="1 runs: 1 not evaluated on test"):
    configurations.group(find(tmp_path))


def test_the_single_task_of_several(tmp_path):
  run_folders.write_study(tmp_path, seeds=1)
  both, late, mid, gated = configurations.group(find(tmp_path))
  rows = [late, gated, mid, both]
  assert configurations.single_task_of(both, LAND_COVER, rows) is mid
  assert configurations.single_task_of(both, CROPS, rows) is None


@pytest.mark.parametrize("modalities", [[], ["no sensor"], None])
def test_subsets_of_unknown_modalities_are_named(tmp_path, modalities):
  run = write_run(tmp_path / "run", config(), 40.0)
  tasks = {
    LAND_COVER: run_folders.task_scores(config(), LAND_COVER, 40.0, 70.0)
  }
  rows = [{"modalities": modalities, "tasks": tasks}]
  run_folders.write_results(run, "subsets.json", 9, subsets=rows)
  with pytest.raises(InputError, match=r"subsets\.json: expected results"):
    find(tmp_path)
