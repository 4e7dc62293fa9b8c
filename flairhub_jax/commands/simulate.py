"""Write a data set in the published layout."""

import argparse

from flairhub_jax.data import simulate
from flairhub_jax.modalities import MODALITIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument("--out", required=True, metavar="DIR")
  parser.add_argument(
    "--patches", type=int, default=250, help="over all splits; default: 250"
  )
  parser.add_argument(
    "--pixels",
    type=int,
    default=512,
    help="side of an aerial patch; default: 512, the real size",
  )
  parser.add_argument("--seed", type=int, default=0, help="default: 0")
  parser.add_argument(
    "--modalities",
    nargs="+",
    metavar="ID",
    help=f"default: all of {', '.join(MODALITIES)}",
  )
  parser.add_argument(
    "--workers", type=int, help="processes; default: as many as cores"
  )


def run(args: argparse.Namespace) -> int:
  """Simulates and says where the splits are."""
  modalities = args.modalities and [
    name for words in args.modalities for name in words.split(",") if name
  ]
  counts = simulate.simulate(
    args.out,
    num_patches=args.patches,
    pixels=args.pixels,
    modalities=modalities,
    seed=args.seed,
    num_workers=args.workers,
  )
  for split, count in counts.items():
    name = f"FLAIR-HUB_SIMULATED_{split.upper()}.csv"
    print(f"{split:6} {count:6} patches  {args.out}/csv/{name}")
  return 0
