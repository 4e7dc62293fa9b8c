"""A trained network over the patches of a split: scores and maps."""

import contextlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from flairhub_jax import atomic, labels, mesh, metrics, processes
from flairhub_jax.data import geotiff, pipeline, records
from flairhub_jax.errors import InputError

PredictStep = Callable[[Any, Any], dict[str, dict[str, jax.Array]]]


def make_predict_step(model: Any, devices: jax.sharding.Mesh) -> PredictStep:
  """Returns the jitted `predict_step(variables, batch)`.

  It gives {"classes": {task: uint8 [b h w]}, "confusion": {task: int32 [k k]}};
  the latter for the tasks of which the batch has labels.
  """

  def predict_step(variables: Any, batch: Any):
    logits = model.apply(variables, batch, train=False)["logits"]
    classes = {
      task: jnp.argmax(values, -1).astype(jnp.uint8)
      for task, values in logits.items()
    }
    confusion = {
      task: metrics.confusion_matrix(
        truth,
        classes[task].astype(jnp.int32),
        batch["counted"],
        labels.TASKS[task].num_classes,
      )
      for task, truth in batch["labels"].items()
    }
    return {"classes": classes, "confusion": confusion}

  return jax.jit(
    predict_step,
    out_shardings={
      "classes": mesh.split_batch(devices),
      "confusion": mesh.replicated(devices),
    },
    compiler_options=mesh.compiler_options(model.deterministic),
  )


class PartialConfusion:
  """An unfinished evaluation on disk, so that a killed one continues."""

  SECONDS_BETWEEN = 30.0

  def __init__(self, path: pathlib.Path, origin: Mapping[str, Any]):
    """Names the file; what is in it counts only for the same `origin`."""
    self._path = path
    self._origin = dict(origin)
    self._saved = time.monotonic()

  def load(self) -> tuple[int, dict[str, np.ndarray]]:
    """Returns the number of batches done, and their matrices by task."""
    if not self._path.exists():
      return 0, {}
    content = json.loads(self._path.read_text(encoding="utf-8"))
    if content["origin"] != self._origin:
      return 0, {}
    matrices = content["confusion"].items()
    return content["batches"], {
      task: np.array(matrix, np.int64) for task, matrix in matrices
    }

  def save(self, batches: int, confusion: Mapping[str, np.ndarray]) -> None:
    """Writes the sum so far, unless it was written a moment ago."""
    if time.monotonic() - self._saved < self.SECONDS_BETWEEN:
      return
    content = {
      "origin": self._origin,
      "batches": batches,
      "confusion": {task: m.tolist() for task, m in confusion.items()},
    }
    self._path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(self._path, json.dumps(content))
    self._saved = time.monotonic()

  def remove(self) -> None:
    """Forgets it: the evaluation is done."""
    self._path.unlink(missing_ok=True)


class SplitRunner:
  """Runs a network over every patch of a split, once and in order."""

  def __init__(
    self,
    model: Any,
    dataset: records.Dataset,
    split: str,
    config: Any,
    *,
    with_labels: bool = True,
    devices: jax.sharding.Mesh | None = None,
  ):
    """Prepares reading; compilation happens at the first batch.

    Args:
      model: the network.
      dataset: converted data.
      split: which of its splits.
      config: of the run.
      with_labels: whether labels are read too.
      devices: of `mesh.build_mesh`; None: all, each with the whole network.

    Raises:
      InputError: the data lack what the network needs.
    """
    self._devices = devices or mesh.build_mesh()
    self._reading = pipeline.build_reading(config, with_labels=with_labels)
    self._reader = pipeline.PatchReader(dataset, split, self._reading)
    self._step = make_predict_step(model, self._devices)
    self.batch_size = _evaluation_batch_size(config.data.batch_size)
    self._num_workers = config.data.num_workers
    self._split = split

  def example_batch(self) -> dict[str, Any]:
    """One patch as a batch: for shapes."""
    return pipeline.example_batch(self._reader, self._reading)

  def run(
    self,
    variables: Any,
    *,
    patches: Sequence[int] | None = None,
    start_batch: int = 0,
    verb: str = "evaluate",
    step: PredictStep | None = None,
  ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields (host batch, device results) in order, with a progress bar.

    The device works on a batch while the caller handles the one before.
    `step`: another one than `make_predict_step`'s.
    """
    step = step or self._step
    patches = range(len(self._reader)) if patches is None else patches
    batches = pipeline.evaluation_batches(
      self._reader,
      self._reading,
      batch_size=mesh.local_batch_size(self.batch_size),
      patches=patches,
      start_batch=start_batch,
      num_workers=self._num_workers,
      process=(jax.process_index(), jax.process_count()),
    )
    progress = tqdm.tqdm(
      total=pipeline.num_evaluation_batches(len(patches), self.batch_size),
      initial=start_batch,
      desc=f"{verb} {self._split}",
      unit="batch",
      leave=False,
      disable=not processes.is_first(),
    )
    before = None
    with progress, contextlib.closing(batches):
      for batch in batches:
        results = step(variables, mesh.place_batch(batch, self._devices))
        if before is not None:
          yield before
          progress.update()
        before = batch, results
      if before is not None:
        yield before
        progress.update()

  def confusion(
    self,
    variables: Any,
    memory: PartialConfusion | None = None,
    *,
    step: PredictStep | None = None,
  ) -> dict[str, np.ndarray]:
    """Sums the confusion matrices over the split.

    Args:
      variables: weights of the network.
      memory: where a long evaluation is kept while it runs, to continue it.
      step: see `run`.

    Returns:
      Int64 [k k] by task, or by whatever `step` names them.
    """
    done, total = memory.load() if memory else (0, {})
    for _, results in self.run(variables, start_batch=done, step=step):
      for task, matrix in results["confusion"].items():
        total[task] = total.get(task, 0) + np.asarray(matrix, np.int64)
      done += 1
      if memory:
        memory.save(done, total)
    return total

  def maps(
    self, variables: Any, patches: Sequence[int]
  ) -> dict[int, dict[str, np.ndarray]]:
    """Predicts some patches: uint8 [h w] by patch number and task."""
    predicted = {}
    for batch, results in self.run(variables, patches=patches, verb="draw"):
      for row, index in enumerate(batch["patch"].tolist()):
        predicted[index] = {
          task: local_rows(values)[row]
          for task, values in results["classes"].items()
        }
    return predicted


def _evaluation_batch_size(batch_size: int) -> int:
  """The training batch size, rounded up to what the devices can share."""
  return -(-batch_size // jax.device_count()) * jax.device_count()


def score_tasks(
  confusion: Mapping[str, np.ndarray], config: Any
) -> dict[str, metrics.Scores]:
  """Scores each task; classes of weight 0 are left out."""
  return {
    task: metrics.score(matrix, scored_classes(config, task))
    for task, matrix in confusion.items()
  }


def scored_classes(config: Any, task: str) -> np.ndarray:
  """Bool [k]: classes with a weight in the loss."""
  return np.asarray(config.labels[task].class_weights) > 0


def prediction_path(
  out: pathlib.Path, task: str, patch_id: str
) -> pathlib.Path:
  """Names a map as the reference does: TASK/PRED_domain_TASK_rest.tif."""
  domain, _, rest = patch_id.partition("_")
  return out / task / f"PRED_{domain}_{task}_{rest}.tif"


def write_maps(
  runner: SplitRunner,
  variables: Any,
  *,
  dataset: records.Dataset,
  split: str,
  tasks: tuple[str, ...],
  out: pathlib.Path,
  origin: Mapping[str, Any],
) -> int:
  """Writes a georeferenced class map per patch and task; continues if killed.

  Args:
    runner: the network over the split.
    variables: its weights.
    dataset: converted data.
    split: which of its splits.
    tasks: label tasks of the network.
    out: folder of the maps.
    origin: what made them; a folder of another origin is refused.

  Returns:
    Number of patches.

  Raises:
    InputError: `out` holds maps of another origin.
  """
  _claim(out, origin)
  table = pipeline.PatchTable(dataset, split)
  num_patches = dataset.splits[split].num_patches
  for task in tasks:
    (out / task).mkdir(exist_ok=True)
  done = _num_written(table, num_patches, tasks, out)
  if done == num_patches:
    return num_patches
  start = done // runner.batch_size
  for batch, results in runner.run(
    variables, start_batch=start, verb="predict"
  ):
    local = {
      task: local_rows(values) for task, values in results["classes"].items()
    }
    for row, index in enumerate(batch["patch"]):
      if batch["counted"][row]:
        _write_patch(table[index], {t: local[t][row] for t in tasks}, out)
  return num_patches


def local_rows(values: jax.Array) -> np.ndarray:
  """The rows this process computed, in order."""
  shards = sorted(
    values.addressable_shards, key=lambda shard: shard.index[0].start or 0
  )
  return np.concatenate([np.asarray(shard.data) for shard in shards])


def _claim(out: pathlib.Path, origin: Mapping[str, Any]) -> None:
  marker = out / "origin.json"
  if marker.exists():
    found = json.loads(marker.read_text(encoding="utf-8"))
    if found != dict(origin):
      raise InputError(out, f"maps of {dict(origin)}", found)
    return
  if out.exists() and any(out.iterdir()):
    raise InputError(out, "an empty folder or maps of this run", "other files")
  out.mkdir(parents=True, exist_ok=True)
  atomic.write_text(marker, json.dumps(dict(origin), indent=2) + "\n")


def _num_written(
  table: pipeline.PatchTable,
  num_patches: int,
  tasks: tuple[str, ...],
  out: pathlib.Path,
) -> int:
  """Maps are written in order: counts those up to the first missing one."""
  for index in range(num_patches):
    patch_id = table[index]["patch_id"]
    if not all(prediction_path(out, t, patch_id).exists() for t in tasks):
      return index
  return num_patches


def _write_patch(
  patch: Mapping[str, Any], classes: Mapping[str, np.ndarray], out: pathlib.Path
) -> None:
  georeference = geotiff.Georeference(
    crs=patch["crs"],
    transform=tuple(patch["transform"]),
    height=patch["height"],
    width=patch["width"],
  )
  for task, values in classes.items():
    geotiff.write_raster(
      prediction_path(out, task, patch["patch_id"]),
      values,
      georeference,
      palette=labels.TASKS[task].palette,
      description=f"{labels.TASKS[task].short_name} of {patch['patch_id']}",
    )
