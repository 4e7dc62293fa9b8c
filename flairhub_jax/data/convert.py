"""From GeoTIFFs and split files to a data set of records.

All files are checked and all faults are reported together, one per line. An
interrupted conversion resumes when it is run again. The result does not depend
on the number of workers.
"""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flairhub_jax import atomic, schema_file, terminal
from flairhub_jax.data import (
  convert_shard,
  convert_sources,
  convert_summary,
  label_values,
  patch_files,
  records,
  series_lengths,
  shard_files,
  time_series,
  workers,
)
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Schema, Sensor

_PROGRESS = ".progress"
# Digests, per shard, of the sizes and times of the converted files.
_SOURCES_FILE = "sources.json"


def convert(
  splits: Mapping[str, pathlib.Path],
  out: pathlib.Path,
  *,
  schema: Schema = FLAIR_HUB,
  metadata: pathlib.Path | None = None,
  cloud_filter: time_series.CloudFilter | None = None,
  num_workers: int,
  progress: bool = True,
) -> records.Dataset:
  """Converts GeoTIFFs to records; continues an interrupted conversion.

  Args:
    splits: `train`, `valid`, `test` -> CSV; at least one of them.
    out: output folder; new, empty, or from an earlier run of this conversion.
    schema: sensors and label tasks of the files.
    metadata: folder of the files with the dates. None looks for
      `GLOBAL_ALL_MTD` beside each CSV and in the two folders above.
    cloud_filter: filter with which the clear dates of each patch are counted;
      training with a different filter counts them again.
    num_workers: number of worker processes; 0 uses the current process.
    progress: whether to show a progress bar on stderr.

  Raises:
    InputError: a CSV or file of dates is invalid, or `out` has other content.
    InputErrors: files are missing or invalid, one line each.
  """
  sources = convert_sources.read_splits(splits, schema)
  _check_arguments(splits, sources, schema)
  if progress:
    for line in convert_sources.find_shared_patches(sources):
      print(f"warning: {line}", file=sys.stderr)
  convert_sources.check_files(sources)
  shapes = convert_sources.find_shapes(sources, schema)
  with _claim(out) as progress_folder:
    for source in sources:
      source.read_dates(metadata, cache=progress_folder)
    done = _load_if_done(out, sources, schema)
    if done is None:
      summaries = _write_shards(
        out,
        sources,
        schema,
        shapes,
        cloud_filter,
        num_workers=num_workers,
        progress=progress,
      )
      done = _save(out, sources, schema, shapes, cloud_filter, summaries)
      if progress:
        for line in convert_sources.describe_lacking(shapes, schema):
          print(f"warning: {line}", file=sys.stderr)
        convert_summary.print_notes(summaries.values())
    elif progress:
      print(f"{out}: already converted", file=sys.stderr)
  return done


def _check_arguments(
  splits: Mapping[str, pathlib.Path],
  sources: Sequence[convert_sources.SplitSource],
  schema: Schema,
) -> None:
  if not sources or len(sources) != len(splits):
    raise InputError(
      "convert", f"CSVs of some of {records.SPLITS}", sorted(splits)
    )
  for mask, sensor in schema.quality_masks.items():
    masked = {}
    for source in sources:
      cells = source.split.cells
      if any(cells.get(sensor.id, ())):
        masked[mask in cells] = source.split.path
    if len(masked) == 2:
      raise InputError(
        masked[False], f"a column {mask}, as {masked[True]} has", "none"
      )


@contextlib.contextmanager
def _claim(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Locks `out` for this process and yields the folder for progress files."""
  folder = out / _PROGRESS
  if out.exists() and not out.is_dir():
    raise InputError(out, "a folder", "a file")
  is_ours = folder.is_dir() or (out / records.DATASET_FILE).is_file()
  if out.is_dir() and not is_ours and any(out.iterdir()):
    raise InputError(out, "a new or empty folder", "one with other files")
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / "lock", "w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise InputError(
        out, "no other conversion into it", "one that is running"
      ) from error
    try:
      yield folder
    finally:
      if (out / records.DATASET_FILE).is_file():
        shutil.rmtree(folder)


def _load_if_done(
  out: pathlib.Path,
  sources: Sequence[convert_sources.SplitSource],
  schema: Schema,
) -> records.Dataset | None:
  if not (out / records.DATASET_FILE).is_file():
    return None
  dataset = records.load_dataset(out)
  if dataset.schema != schema:
    raise InputError(
      out,
      f"a new folder, or records of this schema {schema.name}",
      f"records of another schema, {dataset.schema.name}",
    )
  held = {name: info.source_sha256 for name, info in dataset.splits.items()}
  if held != {source.name: source.digest() for source in sources}:
    raise InputError(
      out,
      "a new folder, or records of these very files",
      "records of other files: "
      + ", ".join(f"{k} {v.source}" for k, v in dataset.splits.items()),
    )
  try:
    since = (out / _SOURCES_FILE).stat().st_mtime_ns
    digests = json.loads((out / _SOURCES_FILE).read_bytes())
    changes = [
      source.describe_change(digests[source.name], since) for source in sources
    ]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise InputError(
      out, f"a whole {_SOURCES_FILE} of the conversion", error
    ) from error
  if any(changes):
    raise InputError(
      out,
      "a new folder, or records of these very files",
      "; ".join(filter(None, changes)),
    )
  return dataset


def _job(
  out: pathlib.Path,
  sources: Sequence[convert_sources.SplitSource],
  schema: Schema,
  shapes: convert_sources.Shapes,
  cloud_filter: time_series.CloudFilter | None,
  source: convert_sources.SplitSource,
  shard: int,
) -> convert_shard.ShardJob:
  """Returns the job that writes a shard of `source`."""
  rows = source.rows(shard)
  streams = [name for name in source.columns() if name in shapes]
  has_train = any(each.name == "train" for each in sources)
  job = convert_shard.ShardJob(
    folder=out,
    summary_file=_summary_file(out, source, shard),
    key="",
    split=source.name,
    index=shard,
    num_shards=source.num_shards,
    streams=(*streams, records.PATCH),
    schema=schema,
    shapes=shapes,
    with_statistics=source.name == "train" or not has_train,
    cloud_filter=cloud_filter,
    patches=tuple(map(source.patch, rows)),
  )
  key = [
    records.SCHEMA_VERSION,
    [job.split, job.index, job.num_shards, job.streams],
    [schema_file.to_json(schema), shapes, job.with_statistics],
    cloud_filter and dataclasses.asdict(cloud_filter),
    [
      [patch.patch_id, *map(os.path.basename, patch.files.values())]
      for patch in job.patches
    ],
    source.statuses[shard],
    source.digest_dates(rows).hex(),
  ]
  digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
  return dataclasses.replace(job, key=digest)


def _summary_file(
  out: pathlib.Path, source: convert_sources.SplitSource, shard: int
) -> pathlib.Path:
  return out / _PROGRESS / f"{source.name}-{shard:05d}.json"


def _write_shards(
  out: pathlib.Path,
  sources: Sequence[convert_sources.SplitSource],
  schema: Schema,
  shapes: convert_sources.Shapes,
  cloud_filter: time_series.CloudFilter | None,
  *,
  num_workers: int,
  progress: bool,
) -> dict[tuple[str, int], dict[str, Any]]:
  """Writes the shards that are missing.

  Returns:
    (split, shard) -> summary.

  Raises:
    InputErrors: the problems of all files, in patch order.
  """
  for source in sources:
    (out / source.name).mkdir(exist_ok=True)
  _remove_shards(out, lambda file: "/." in file)
  shards = [(each, i) for each in sources for i in range(each.num_shards)]
  summaries, num_done = {}, 0
  faults: dict[tuple[str, int], convert_shard.Faults] = {}
  for source, shard in shards:
    if _summary_file(out, source, shard).is_file():
      job = _job(out, sources, schema, shapes, cloud_filter, source, shard)
      summary = convert_shard.read_summary(job)
      if summary is not None:
        summaries[source.name, shard] = summary
        num_done += len(job.patches)
  jobs = (
    _job(out, sources, schema, shapes, cloud_filter, source, shard)
    for source, shard in shards
    if (source.name, shard) not in summaries
  )
  with terminal.progress_bar(
    total=sum(len(source.split) for source in sources),
    initial=num_done,
    desc="convert",
    unit="patch",
    disable=not progress,
  ) as bar:
    for job, job_faults in workers.run_jobs(
      convert_shard.write_shard, jobs, num_workers, bar.update
    ):
      if job_faults:
        faults[job.split, job.index] = job_faults
        number = sum(map(len, faults.values()))
        bar.set_postfix(problems=number, refresh=False)
      else:
        summaries[job.split, job.index] = convert_shard.read_summary(job)
  if faults:
    total = convert_shard.Faults()
    for source, shard in shards:
      if (source.name, shard) in faults:
        total.add(faults[source.name, shard])
    raise InputErrors(_lines(total, schema))
  return summaries


def _lines(faults: convert_shard.Faults, schema: Schema) -> list[str]:
  lines = list(faults.problems)
  for column, tasks in schema.label_columns.items():
    unknown = faults.unknown.get(column, {})
    lines += label_values.describe_unknown(column, tasks, unknown)
  return lines


def _save(
  out: pathlib.Path,
  sources: Sequence[convert_sources.SplitSource],
  schema: Schema,
  shapes: convert_sources.Shapes,
  cloud_filter: time_series.CloudFilter | None,
  summaries: Mapping[tuple[str, int], Mapping[str, Any]],
) -> records.Dataset:
  """Merges the summaries and writes the description of the data set."""
  total = convert_summary.Summary(with_statistics=True)
  splits = {}
  for source in sources:
    own = convert_summary.Summary(with_statistics=False)
    streams, counts = collections.defaultdict(list), []
    for shard in range(source.num_shards):
      summary = summaries[source.name, shard]
      own.add_json({**summary, "statistics": {}})
      total.add_json(summary)
      counts.append(summary["counts_of_dates"])
      for stream, fields in summary["streams"].items():
        streams[stream].append(shard_files.Shard(**fields))
    splits[source.name] = records.SplitInfo(
      num_patches=len(source.split),
      source=source.split.path.name,
      source_sha256=source.digest(),
      streams={name: tuple(shards) for name, shards in streams.items()},
      absent={
        name: own.absent.get(name, 0)
        for name in streams
        if name in schema.sensors
      },
      class_counts={
        task: tuple(pixels.tolist())
        for task, pixels in own.class_counts.items()
      },
      num_dates=series_lengths.save(out, source.name, counts, cloud_filter),
    )
  listed = {
    shard.file
    for info in splits.values()
    for shards in info.streams.values()
    for shard in shards
  }
  _remove_shards(out, lambda file: file not in listed)
  digests = {source.name: source.digest_statuses() for source in sources}
  atomic.write_text(out / _SOURCES_FILE, json.dumps(digests))
  return records.save_dataset(
    out,
    {
      name: _describe(schema.sensors[name], shape, total, sources)
      for name, shape in shapes.items()
      if name in schema.sensors
    },
    records.task_infos(schema, shapes),
    output_size=patch_files.output_size(shapes, schema),
    splits=splits,
    schema=schema,
  )


def _describe(
  sensor: Sensor,
  shape: patch_files.Shape,
  total: convert_summary.Summary,
  sources: Sequence[convert_sources.SplitSource],
) -> records.ModalityInfo:
  fewest, most = (
    total.num_dates[sensor.id] if sensor.is_series else (None, None)
  )
  mask = sensor.quality_mask
  return records.ModalityInfo(
    shape=(None, *shape) if sensor.is_series else shape,
    dtype=sensor.dtype,
    min_dates=fewest,
    max_dates=most,
    has_quality_mask=mask is not None
    and any(mask.id in source.split.cells for source in sources),
    statistics=total.band_statistics(sensor.id, sensor.bands),
    gsd=total.gsd(sensor.id),
  )


def _remove_shards(out: pathlib.Path, chosen: Callable[[str], bool]) -> None:
  """Removes shards of an interrupted conversion, chosen by path below `out`."""
  for split in records.SPLITS:
    for path in (out / split).glob("*.array_record"):
      if chosen(f"{split}/{path.name}"):
        path.unlink()
