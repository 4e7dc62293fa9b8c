"""Inference over the patches of a split: confusion matrices and class maps."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax import mesh, metrics, processes, terminal
from flairhub_jax.data import geotiff, pipeline, records
from flairhub_jax.schema import LabelTask

Output = Literal["classes", "probabilities"]
PredictStep = Callable[[Any, Any], dict[str, dict[str, jax.Array]]]


def make_predict_step(
  model: Any, devices: jax.sharding.Mesh, *, output: Output = "classes"
) -> jax.stages.Wrapped:
  """Returns the jitted `predict_step(variables, batch)`.

  Its result is that of `score_batch`.

  Args:
    model: the network.
    devices: from `mesh.build_mesh`.
    output: prediction per pixel: the class, or the probability of each class.
  """

  def predict_step(variables: Any, batch: Any):
    logits = model.apply(variables, batch, train=False)["logits"]
    return score_batch(logits, batch, output)

  return jax.jit(
    predict_step,
    out_shardings=score_shardings(devices, output),
    compiler_options=mesh.compiler_options(model.deterministic),
  )


def score_batch(
  logits: Any, batch: Any, output: Output = "classes"
) -> dict[str, dict[str, jax.Array]]:
  """Returns predictions and confusion matrices; for use in jitted functions.

  Args:
    logits: task -> [b h w k].
    batch: with `labels`, possibly of only some tasks, and `sample_mask`.
    output: see `make_predict_step`.

  Returns:
    {"classes": {task: uint8 [b h w]}} or {"probabilities": {task: float32
    [b h w k]}}, with "confusion": {task: int32 [k k]}.
  """
  classes = {
    task: jnp.argmax(values, -1).astype(jnp.uint8)
    for task, values in logits.items()
  }
  confusion = {
    task: metrics.confusion_matrix(
      truth,
      classes[task].astype(jnp.int32),
      batch["sample_mask"],
      logits[task].shape[-1],
    )
    for task, truth in batch["labels"].items()
  }
  predictions = classes
  if output == "probabilities":
    predictions = jax.tree.map(lambda x: jax.nn.softmax(x, -1), logits)
  return {output: predictions, "confusion": confusion}


def score_shardings(
  devices: jax.sharding.Mesh, output: Output = "classes"
) -> dict[str, Any]:
  """Shardings of the result of `score_batch`."""
  return {
    output: mesh.split_batch(devices),
    "confusion": mesh.replicated(devices),
  }


class SplitRunner:
  """Runs a network over every patch of a split, in order."""

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
    """Opens the split; compilation happens at the first batch.

    Args:
      model: the network.
      dataset: converted data.
      split: which of its splits.
      config: of the run.
      with_labels: whether to read labels.
      devices: from `mesh.build_mesh`; None: all, each with the whole network.

    Raises:
      InputError: the data lack an input of the network.
    """
    self.devices = devices or mesh.build_mesh()
    self._read_options = pipeline.build_read_options(
      config, with_labels=with_labels
    )
    self._reader = pipeline.PatchReader(dataset, split, self._read_options)
    self._step = make_predict_step(model, self.devices)
    self.batch_size = _evaluation_batch_size(config.data.batch_size)
    self._num_workers = config.data.num_workers
    self._split = split

  def __len__(self) -> int:
    """Number of patches."""
    return len(self._reader)

  def example_batch(self) -> dict[str, Any]:
    """Returns a batch of one patch, for shapes."""
    return pipeline.example_batch(self._reader)

  def run(
    self,
    variables: Any,
    *,
    patches: Sequence[int] | None = None,
    verb: str = "evaluate",
    step: PredictStep | None = None,
  ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields (host batch, device results) in order, with a progress bar.

    The device computes a batch while the caller processes the previous one.
    Each process yields its own rows of the host batch.

    Args:
      variables: weights of the network.
      patches: indices of the patches; None: all.
      verb: for the progress bar.
      step: None: that of `make_predict_step`.
    """
    step = step or self._step
    patches = range(len(self._reader)) if patches is None else patches
    batches = pipeline.evaluation_batches(
      self._reader,
      batch_size=mesh.local_batch_size(self.batch_size),
      patches=patches,
      num_workers=self._num_workers,
      process=(jax.process_index(), jax.process_count()),
    )
    progress = terminal.progress_bar(
      total=pipeline.num_evaluation_batches(len(patches), self.batch_size),
      desc=f"{verb} {self._split}",
      unit="batch",
      leave=False,
      disable=not processes.is_first(),
    )
    previous = None
    with progress, contextlib.closing(batches):
      for batch in batches:
        results = step(variables, mesh.place_batch(batch, self.devices))
        if previous is not None:
          yield previous
          progress.update()
        previous = batch, results
      if previous is not None:
        yield previous
        progress.update()

  def confusion(self, variables: Any) -> dict[str, np.ndarray]:
    """Sums the confusion matrices over the split: int64 [k k] by task."""
    total: dict[str, np.ndarray] = {}
    for _, results in self.run(variables):
      for task, matrix in results["confusion"].items():
        total[task] = total.get(task, 0) + np.asarray(matrix, np.int64)
    return total

  def predictions(
    self, variables: Any, patches: Sequence[int]
  ) -> dict[int, dict[str, np.ndarray]]:
    """Predicts some patches: uint8 [h w] by patch index and task."""
    selected = SelectedPatches(patches)
    for batch, results in self.run(variables, patches=patches, verb="draw"):
      selected.add(batch, results["classes"])
    return selected.gather()


class SelectedPatches:
  """Collects the results of some patches from all processes."""

  def __init__(self, patches: Sequence[int]):
    """Stores the indices of the patches."""
    self._rows = {number: row for row, number in enumerate(patches)}
    self._results: Any = None

  def add(self, batch: Mapping[str, Any], results: Any) -> None:
    """Copies the results of these patches from a batch.

    Args:
      batch: rows of the batch of this process, on the host.
      results: a tree of arrays [b …] on the devices.
    """
    if self._results is None:
      self._results = jax.tree.map(
        lambda x: np.zeros((len(self._rows), *x.shape[1:]), x.dtype), results
      )
    pairs = [
      (self._rows[number], row)
      for row, number in enumerate(batch["patch"].tolist())
      if number in self._rows and batch["sample_mask"][row]
    ]
    if not pairs:
      return
    targets, rows = zip(*pairs, strict=True)

    def copy(collected, values):
      collected[list(targets)] = local_rows(values)[list(rows)]

    jax.tree.map(copy, self._results, results)

  def gather(self) -> dict[int, Any]:
    """Returns the results by patch index; all processes must call it."""
    collected = processes.total(self._results)
    return {
      number: jax.tree.map(lambda x: x[row], collected)  # noqa: B023
      for number, row in self._rows.items()
    }


def _evaluation_batch_size(batch_size: int) -> int:
  """Rounds the training batch size up to a multiple of the devices."""
  return -(-batch_size // jax.device_count()) * jax.device_count()


def score_tasks(
  confusion: Mapping[str, np.ndarray], config: Any
) -> dict[str, metrics.Scores]:
  """Scores each task, without classes of weight 0."""
  return {
    task: metrics.score(matrix, scored_classes(config, task))
    for task, matrix in confusion.items()
  }


def scored_classes(config: Any, task: str) -> np.ndarray:
  """Bool [k]: classes with a nonzero weight in the loss."""
  return np.asarray(config.tasks[task].class_weights) > 0


def prediction_path(
  out: pathlib.Path, task: str, patch_id: str
) -> pathlib.Path:
  """Returns the reference's file name, TASK/PRED_domain_TASK_rest.tif.

  An id without a domain, that is without `_`, gives TASK/PRED_id_TASK.tif.
  """
  domain, underscore, rest = patch_id.partition("_")
  return out / task / f"PRED_{domain}_{task}{underscore}{rest}.tif"


def write_maps(
  runner: SplitRunner,
  variables: Any,
  *,
  dataset: records.Dataset,
  split: str,
  tasks: Mapping[str, LabelTask],
  out: pathlib.Path,
  notes: Mapping[str, str] | None = None,
) -> int:
  """Writes a georeferenced class map per patch and task.

  Existing maps of a killed prediction are skipped. Each process writes the maps
  of its own patches.

  Args:
    runner: the network over the split.
    variables: its weights.
    dataset: converted data.
    split: which of its splits.
    tasks: label tasks of the network by id.
    out: folder of the maps, assigned by `origin.claim`.
    notes: by task, added to the description of its maps.

  Returns:
    Number of patches.
  """
  table = pipeline.PatchTable(dataset, split)
  num_patches = dataset.splits[split].num_patches
  for task in tasks:
    (out / task).mkdir(exist_ok=True)
  start = _num_written(table, num_patches, tasks, out)
  processes.any_of(False)  # barrier: no process writes before all have counted
  if start == num_patches:
    return num_patches
  start -= start % runner.batch_size
  for batch, results in runner.run(
    variables, patches=range(start, num_patches), verb="predict"
  ):
    local = {
      task: local_rows(values) for task, values in results["classes"].items()
    }
    for row, index in enumerate(batch["patch"]):
      if batch["sample_mask"][row]:
        own = {name: local[name][row] for name in tasks}
        _write_patch(table[index], own, tasks, out, notes or {})
  return num_patches


def local_rows(values: jax.Array) -> np.ndarray:
  """Returns the rows of this process, in order."""
  shards = sorted(
    values.addressable_shards, key=lambda shard: shard.index[0].start or 0
  )
  return np.concatenate([np.asarray(shard.data) for shard in shards])


def _num_written(
  table: pipeline.PatchTable,
  num_patches: int,
  tasks: Mapping[str, LabelTask],
  out: pathlib.Path,
) -> int:
  """Counts the patches before the first missing map."""
  for index in range(num_patches):
    patch_id = table[index]["patch_id"]
    if not all(prediction_path(out, t, patch_id).exists() for t in tasks):
      return index
  return num_patches


def _write_patch(
  patch: Mapping[str, Any],
  classes: Mapping[str, np.ndarray],
  tasks: Mapping[str, LabelTask],
  out: pathlib.Path,
  notes: Mapping[str, str],
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
      georeference.on_grid(*values.shape),
      palette=tasks[task].palette,
      description=f"{tasks[task].short_name} of {patch['patch_id']}"
      + notes.get(task, ""),
    )
