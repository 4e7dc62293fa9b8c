"""Draws and tabulates what `measure` and `parameters` recorded.

python -m experiments.fidelity.report FOLDER
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

BOUND = 1e-4
# Overall accuracy and mIoU in per cent, README and model cards of IGN; None:
# not published.
SCORES = {
  "LC-A_swinbase-upernet": (77.5, 64.1),
  "LC-A_convnextv2tiny-upernet": (76.4, 62.7),
  "LC-A_convnextv2base-upernet": (77.0, 63.8),
  "LC-A_resnet50-unet": (72.6, 51.5),
  "LC-B_swinbase-upernet": (78.1, 65.1),
  "LC-C_swinbase-upernet": (78.2, 65.2),
  "LC-D_swinbase-upernet": (77.6, 64.7),
  "LC-E_swinbase-upernet": (77.7, 64.5),
  "LC-F_swinbase-upernet": (77.7, 64.9),
  "LC-G_utae": (57.8, 34.2),
  "LC-H_utae": (54.5, 28.2),
  "LC-I_swinbase-upernet": (64.1, 43.5),
  "LC-J_swinbase-upernet": (67.4, 51.2),
  "LC-K_swinbase-upernet": (77.6, 64.3),
  "LC-L_swinbase-upernet": (78.2, 65.8),
  "LC-ALL_swinbase-upernet": (78.2, 65.6),
  "LPIS-A_swinbase-upernet": (86.6, 24.4),
  "LPIS-B_swinbase-upernet": (87.1, 26.1),
  "LPIS-C_swinbase-upernet": (87.5, 29.8),
  "LPIS-D_swinbase-upernet": (88.0, 36.1),
  "LPIS-E_swinbase-upernet": (87.6, 30.3),
  "LPIS-F_utae": (85.3, 23.8),
  "LPIS-G_utae": (84.5, 18.1),
  "LPIS-H_utae": (84.9, 23.8),
  "LPIS-I_swinbase-upernet": (87.2, 39.2),
  "LPIS-J_swinbase-upernet": (88.0, 35.4),
  "LPIS-K_swinbase-upernet": (84.5, 15.1),
}


def read(path: pathlib.Path) -> list[dict]:
  """Records of a file of JSON lines."""
  return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def draw(forward: list[dict], path: pathlib.Path) -> None:
  """Largest error of each case beside the reference's own rounding."""
  names = [record["case"] for record in forward]
  places = range(len(names))
  figure, axes = plt.subplots(figsize=(8, 0.32 * len(names) + 1.4))
  axes.barh(
    [p + 0.2 for p in places],
    [record["logits"] for record in forward],
    height=0.38,
    color="#1553ae",
    label="flairhub_jax against the reference",
  )
  axes.barh(
    [p - 0.2 for p in places],
    [record["reference_noise"] for record in forward],
    height=0.38,
    color="#c5c5c5",
    label="the reference in float32 against float64",
  )
  axes.axvline(BOUND, color="#f80c00", linestyle="--", label="what is asked")
  axes.set_xscale("log")
  axes.set_xlim(1e-6, 2e-4)
  axes.set_yticks(list(places), names)
  axes.invert_yaxis()
  axes.set_xlabel("largest error of the logits / their standard deviation")
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(
    loc="lower left",
    bbox_to_anchor=(0.0, 1.0),
    ncols=3,
    frameon=False,
    fontsize=8,
  )
  figure.savefig(path, dpi=120, bbox_inches="tight")


def tabulate(
  forward: list[dict], train: list[dict], counted: list[dict]
) -> str:
  """The three tables, as Markdown."""

  def cell(value):
    return "" if value is None else f"{value:.1e}"

  lines = [
    "### Outputs",
    "",
    "Largest error over the standard deviation of the reference's values.",
    "",
    "| case | network | parameters, M | logits | auxiliary | maps between |"
    " reference's own noise |",
    "|---|---|---|---|---|---|---|",
  ]
  for r in forward:
    lines.append(
      f"| `{r['case']}` | {r['arch']} | {r['parameters'] / 1e6:.1f} |"
      f" {cell(r['logits'])} | {cell(r['auxiliary'])} | {cell(r['blocks'])}"
      f" (`{r['worst_block']}`) | {cell(r['reference_noise'])} |"
    )
  lines += [
    "",
    "### First training step",
    "",
    "Relative errors; gradient norms above 1e-4 of the total, then all of them"
    " as a share of the total; running statistics absolute.",
    "",
    "| case | network | loss | gradient norms | of the total |"
    " running statistics |",
    "|---|---|---|---|---|---|",
  ]
  for r in train:
    lines.append(
      f"| `{r['case']}` | {r['arch']} | {cell(r['loss'])} |"
      f" {cell(r['gradient_norms'])} | {cell(r['gradient_norms_of_total'])} |"
      f" {cell(r['running_statistics'])} |"
    )
  lines += [
    "",
    "### Parameters of the published networks",
    "",
    "Millions. Published: as the reference prints them, without fusion.",
    "",
    "| experiment | published | counted | in a file |",
    "|---|---|---|---|",
  ]
  for r in counted:
    lines.append(
      f"| {r['experiment']} | {r['published_millions']} |"
      f" {r['without_fusion'] / 1e6:.3f} | {r['in_file'] / 1e6:.3f} |"
    )
  return "\n".join(lines) + "\n"


def list_networks(released: list[dict]) -> str:
  """The model zoo, as Markdown."""
  lines = [
    "| network | encoder | decoder | parameters, M | parity error |"
    " equal pixels | published OA | published mIoU |",
    "|---|---|---|---|---|---|---|---|",
  ]
  for r in sorted(released, key=lambda r: _order(r["network"])):
    name = r["network"]
    is_series = name.endswith("_utae")
    encoder = "U-TAE" if is_series else f"`{r['encoder']}`"
    decoder = "" if is_series else r["decoder"]
    accuracy, miou = SCORES.get(name, ("", ""))
    lines.append(
      f"| {name} | {encoder} | {decoder} | {r['parameters'] / 1e6:.1f} |"
      f" {r['error']:.0e} | {100 * r['equal_classes']:.4g} % |"
      f" {accuracy} | {miou} |"
    )
  return "\n".join(lines) + "\n"


def _order(name):
  """As in the published tables, with the others of an experiment after."""
  names = list(SCORES)
  experiment = name.partition("_")[0]
  group = [n for n in names if n.partition("_")[0] == experiment]
  return names.index(group[0]), name != group[0], name


def main() -> None:
  """Writes `errors.png`, `tables.md` and `networks.md`."""
  folder = pathlib.Path(sys.argv[1])
  records = sorted(read(folder / "records.jsonl"), key=lambda r: r["case"])
  forward = [r for r in records if r["kind"] == "forward"]
  train = [r for r in records if r["kind"] == "train"]
  draw(forward, folder / "errors.png")
  text = tabulate(forward, train, read(folder / "parameters.jsonl"))
  (folder / "tables.md").write_text(text, encoding="utf-8")
  text = list_networks(read(folder / "released.jsonl"))
  (folder / "networks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main()
