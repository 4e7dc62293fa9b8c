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
  axes.set_yticks(list(places), names)
  axes.invert_yaxis()
  axes.set_xlabel("largest error of the logits / their standard deviation")
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.16), ncols=3)
  axes.legend_.get_frame().set_visible(False)
  for text in axes.legend_.get_texts():
    text.set_fontsize(8)
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


def main() -> None:
  """Writes `errors.png` and `tables.md`."""
  folder = pathlib.Path(sys.argv[1])
  records = sorted(read(folder / "records.jsonl"), key=lambda r: r["case"])
  forward = [r for r in records if r["kind"] == "forward"]
  train = [r for r in records if r["kind"] == "train"]
  draw(forward, folder / "errors.png")
  text = tabulate(forward, train, read(folder / "parameters.jsonl"))
  (folder / "tables.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main()
