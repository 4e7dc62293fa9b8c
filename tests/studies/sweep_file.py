"""A sweep of small runs, as a file and as flags of its command."""

FILE = """
from tests import tiny

def get_runs(names="a/seed-0,broken,b/seed-1"):
  runs = []
  for number, name in enumerate(names.split(",")):
    config = tiny.get_config().lock()
    config.seed = number
    config.data.modalities = ("SENTINEL2_TS",)
    config.data.tasks = ("ALL_LABEL-LPIS",)
    config.train.num_steps = 30
    config.train.validate_every = 30
    config.train.save_every = 4
    if name == "broken":
      config.train.init_from = "no_such_run"
    runs.append((name, config))
  return runs
"""


def flags(file, workdir, converted, *more):
  return [
    "sweep",
    f"--config={file}",
    f"--workdir={workdir}",
    f"--config.data.path={converted}",
    *more,
  ]
