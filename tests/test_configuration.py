import pytest

from flairhub_jax import config_file, configuration, run_directory
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from tests import shipped

BASE = "configs/base.py"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
  monkeypatch.chdir(pytestconfig.rootpath)


def test_overrides_reach_their_field_published_ids_included():
  config = config_file.load_config_file(
    BASE,
    [
      "--config.optim.learning_rate=1e-3",
      "--config.data.modalities=('DEM_ELEV','SPOT_RGBI')",
      "--config.inputs.AERIAL-RLT_PAN.mean.PAN=3.5",
      "--config.tasks.ALL_LABEL-LPIS.weight=0.5",
      "--config.train.num_steps=7",
    ],
  )
  assert config.optim.learning_rate == 1e-3
  assert config.data.modalities == ("DEM_ELEV", "SPOT_RGBI")
  assert config.inputs["AERIAL-RLT_PAN"].mean.PAN == 3.5
  assert config.tasks["ALL_LABEL-LPIS"].weight == 0.5
  assert config.train.num_steps == 7


@pytest.mark.parametrize(
  ("path", "override", "message"),
  [
    (BASE, "--config.optim.learning_rat=1", "learning_rate"),
    (BASE, "--config.optim.learning_rate=abc", "abc"),
    (BASE, "--config.data.batch_size=2.5", "2.5"),
    (BASE, "surplus", "surplus"),
    ("configs/none.py", "--config.seed=1", "none.py"),
    ("configs/benchmark.py:LC-Z", "--config.seed=1", "LC-Z"),
  ],
)
def test_a_wrong_field_is_one_line_that_names_it(path, override, message):
  with pytest.raises(InputError, match=message) as caught:
    config_file.load_config_file(path, [override])
  assert "\n" not in str(caught.value)
  assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("config", shipped.CONFIGS)
def test_json_and_back_changes_nothing(config):
  again = configuration.from_json(configuration.to_json(config))
  assert configuration.differences(config, again) == []
  assert again.data.modalities == config.data.modalities


def test_a_run_directory_of_another_config_is_refused(tmp_path):
  config = base.get_config()
  run_directory.start_or_continue(tmp_path / "run", config)
  config.data.num_workers = 7  # may change
  run_directory.start_or_continue(tmp_path / "run", config)
  config.optim.learning_rate = 1.0
  with pytest.raises(InputError, match=r"optim.learning_rate: 5e-05 in the"):
    run_directory.start_or_continue(tmp_path / "run", config)


def test_a_folder_with_other_files_is_no_run(tmp_path):
  (tmp_path / "thesis.tex").write_text("")
  with pytest.raises(InputError, match="other files"):
    run_directory.start_or_continue(tmp_path, base.get_config())
  with pytest.raises(InputError, match=r"config\.json"):
    run_directory.open_run(tmp_path)


def test_an_unfinished_last_record_is_dropped(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"step": 2}\n{"st')
  assert run_directory.read_records(path) == [{"step": 1}, {"step": 2}]
