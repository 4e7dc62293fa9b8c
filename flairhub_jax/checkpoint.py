"""Checkpoints of a run: the latest and the best, written atomically."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import sys
from typing import Any

import jax
import orbax.checkpoint as ocp

from flairhub_jax import mesh, processes
from flairhub_jax.errors import InputError, RunError

_policies = ocp.checkpoint_managers
# Name of the validation score that is stored with a checkpoint.
_BEST = "best_metric"


class Checkpoints:
  """The checkpoints of a run directory, written in the background."""

  def __init__(
    self,
    folder: str | os.PathLike,
    *,
    read_only: bool = False,
    keep_latest: int = 1,
    keep_best: int = 1,
  ):
    """Opens `folder`, and creates it unless `read_only`.

    Args:
      folder: of the checkpoints.
      read_only: whether nothing may be written.
      keep_latest: number of latest checkpoints that are not deleted.
      keep_best: number of best checkpoints that are not deleted.

    Raises:
      InputError: it is `read_only`, and the score of one cannot be read.
    """
    self._folder = os.path.abspath(folder)
    self._hook = sys.unraisablehook
    if not read_only:
      sys.unraisablehook = self._unraisable
    self._warnings = processes.main_process_first(
      lambda: _drop_broken_scores(self._folder, read_only)
    )
    latest = _policies.LatestN(keep_latest)
    best = _policies.BestN(
      get_metric_fn=lambda metrics: metrics[_BEST],
      n=keep_best,
      keep_checkpoints_without_metrics=False,
    )
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        best_fn=lambda metrics: metrics[_BEST],
        best_mode="max",
        preservation_policy=_policies.AnyPreservationPolicy([latest, best]),
        create=not read_only,
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
        async_options=ocp.AsyncOptions(barrier_sync_fn=_meet_unless_failed),
      ),
    )

  def save(self, state: Any, step: int, best_metric: float | None) -> None:
    """Saves `state`, with its validation score if known.

    Its leaves are arrays of JAX or of NumPy.

    Raises:
      RunError: this checkpoint, or the one before, cannot be written; older
        ones are intact.
    """
    if step in self._manager.all_steps():
      return
    need = sum(x.nbytes for x in jax.tree.leaves(state))
    free = shutil.disk_usage(self._folder).free
    if need > free:
      raise self._cannot_write(
        f"step {step} takes {need / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
      )
    state = jax.tree.map(_one_copy, state)
    with self._writing():
      self._manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
        metrics=None if best_metric is None else {_BEST: best_metric},
        force=True,
      )

  @contextlib.contextmanager
  def _writing(self):
    """Replaces the errors of Orbax and its threads by one line."""
    try:
      yield
    except Exception as error:
      # The cause comes last in these messages.
      reason = (str(error).splitlines() or [type(error).__name__])[0][-200:]
      raise self._cannot_write(reason) from error

  def _cannot_write(self, reason):
    return RunError(
      f"{self._folder}: a checkpoint cannot be written ({reason}); earlier ones"
      " are intact"
    )

  def latest_step(self) -> int | None:
    """Step of the latest checkpoint, or None."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """Step of the best checkpoint; without scores of the latest."""
    best = self._manager.best_step()
    return self.latest_step() if best is None else best

  def restore(self, step: int, abstract_state: Any, shardings: Any) -> Any:
    """Restores a state.

    Args:
      step: of the checkpoint.
      abstract_state: shapes and dtypes of the state.
      shardings: of its arrays; may differ from those it was saved with.

    Raises:
      InputError: the checkpoint has another tree.
    """
    target = jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding
      ),
      abstract_state,
      shardings,
    )
    with _reading(self._folder, step):
      return self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
      ).state

  def restore_latest(self, state: Any, shardings: Any) -> tuple[Any, list[str]]:
    """Restores the latest state that can be read.

    Later checkpoints are moved to `<folder>_broken/<step>`; the run repeats
    their steps.

    Args:
      state: the initial state, returned if there is no checkpoint.
      shardings: of its arrays.

    Returns:
      The state, and a line for each checkpoint that was moved or lost its
      score.

    Raises:
      InputError: no checkpoint can be read, or only some processes can read
        one.
    """
    faults = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state = self.restore(step, state, shardings)
        break
      except InputError as error:
        faults[step] = error
      # Each process reads its own shards; the barrier fails if some succeed.
      if not processes.wait_for_all(f"{self._folder}/{step} is broken", 60):
        raise faults[step]
    else:
      if faults:
        raise next(iter(faults.values()))
      return mesh.place_state(state, shardings), self._warnings
    if faults:
      processes.main_process_first(lambda: self._set_aside(faults))
      self._manager.reload()
    return state, self._warnings + [
      f"{error}; set aside, continuing from step {step}"
      for error in faults.values()
    ]

  def _set_aside(self, steps):
    """Moves checkpoints away, unless another process has done so."""
    aside = f"{self._folder}_broken"
    os.makedirs(aside, exist_ok=True)
    for step in steps:
      if os.path.isdir(f"{self._folder}/{step}"):
        os.replace(f"{self._folder}/{step}", _free_name(f"{aside}/{step}"))

  def close(self) -> None:
    """Waits until all checkpoints are on disk.

    Raises:
      RunError: one cannot be written.
    """
    with self._writing():
      self._manager.close()
    if sys.unraisablehook == self._unraisable:
      sys.unraisablehook = self._hook

  def _unraisable(self, fault) -> None:
    """Ignores errors of concurrent writes after another write has failed."""
    if "Event loop is closed" not in str(fault.exc_value):
      self._hook(fault)


def restore_variables(
  folder: str | os.PathLike,
  sharding: jax.sharding.Sharding,
  *,
  averaged: bool = False,
) -> tuple[Any, int]:
  """Restores the network's variables of the best checkpoint, as stored.

  Args:
    folder: the run's checkpoints.
    sharding: of all arrays.
    averaged: whether to restore the moving average of the parameters.

  Returns:
    {"params": …, "batch_stats": …}, and the step of the checkpoint.

  Raises:
    InputError: there is no checkpoint, or one without such variables.
  """
  if not os.path.isdir(folder):
    raise InputError(folder, "a checkpoint", "none yet")
  checkpoints = Checkpoints(folder, read_only=True)
  step = checkpoints.best_step()
  checkpoints.close()
  if step is None:
    raise InputError(folder, "a checkpoint", "none yet")
  state = os.path.join(os.path.abspath(folder), str(step), "state")
  params = "ema" if averaged else "params"
  with ocp.PyTreeCheckpointer() as checkpointer, _reading(folder, step):
    described = checkpointer.metadata(state).item_metadata
    stored = {} if described is None else described.tree
    if not stored.get(params):
      raise _other_network(folder, step, f"no {params}")
    target = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding
      ),
      {name: stored.get(name) or {} for name in (params, "batch_stats")},
    )
    variables = checkpointer.restore(
      state,
      args=ocp.args.PyTreeRestore(
        item=target,
        restore_args=ocp.checkpoint_utils.construct_restore_args(target),
        partial_restore=True,
      ),
    )
  return {
    "params": variables[params],
    "batch_stats": variables["batch_stats"],
  }, step


@contextlib.contextmanager
def _reading(folder: str | os.PathLike, step: int):
  """Replaces the errors of Orbax and its threads by one line.

  If one array fails, unraisable errors of concurrent reads are ignored.
  """
  hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
  try:
    yield
  except (InputError, RunError, OSError):
    raise
  except Exception as error:
    # Orbax raises the bare class where an array cannot be read.
    raise _other_network(folder, step, error) from error
  finally:
    sys.unraisablehook = hook


def _drop_broken_scores(folder: str, read_only: bool) -> list[str]:
  """Removes scores that cannot be read: Orbax would not open the folder."""
  warnings = []
  for path in pathlib.Path(folder).glob("*/metrics/metrics"):
    if not path.parts[-3].isdigit():
      continue  # It is being written.
    try:
      float(json.loads(path.read_text(encoding="utf-8"))[_BEST])
    except FileNotFoundError:
      continue  # A concurrent training run has deleted it.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
      fault = InputError(path, f"JSON with a number {_BEST}", "none")
      if read_only:
        raise fault from error
      shutil.rmtree(path.parent)
      warnings.append(f"{fault}; the checkpoint has no score now")
  return warnings


def _meet_unless_failed(*, key: str, timeout_ms: int) -> None:
  """A barrier that a failed save skips.

  Orbax would wait here although this process could not write and the others
  wait elsewhere for its files.
  """
  if (error := sys.exc_info()[1]) is not None:
    raise error
  ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


def _free_name(path: str) -> str:
  names = itertools.chain([path], (f"{path}-{n}" for n in itertools.count(2)))
  return next(name for name in names if not os.path.exists(name))


def _one_copy(leaf):
  """The copy of one device of a replicated array.

  Orbax would slice every array on each device, however small: one compilation
  per shape, and seconds at each save.
  """
  if not isinstance(leaf, jax.Array) or jax.process_count() > 1:
    return leaf
  return leaf.addressable_data(0) if leaf.is_fully_replicated else leaf


def _other_network(
  folder: str | os.PathLike, step: int, reason: object
) -> InputError:
  # Orbax appends the whole tree to its messages.
  text = str(reason).splitlines()[0][:300]
  return InputError(f"{folder}/{step}", "a checkpoint of this network", text)
