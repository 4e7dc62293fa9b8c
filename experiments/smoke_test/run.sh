#!/usr/bin/env bash
# Smoke test on real imagery. Usage, from the root of the repository:
#   experiments/smoke_test/run.sh REAL PARITY OUT
# REAL: folder with chesapeake_lc and treesatai_ts; PARITY: folder with minidata.
set -euo pipefail
real=$1 parity=$2 out=$3

# Real NAIP images with real labels: train, score on two unseen patches.
flairhub convert --train "$real/chesapeake_lc/csv/TRAIN.csv" \
  --valid "$real/chesapeake_lc/csv/VALID.csv" --out "$out/chesapeake"
flairhub train --config=configs/smoke_test.py:chesapeake \
  --workdir="$out/run_chesapeake" --config.data.path="$out/chesapeake"
flairhub evaluate --run "$out/run_chesapeake" --split valid

# Real aerial images and Sentinel series without labels: a network trained on
# simulated data for a few minutes draws maps; they show that the commands run on such files.
flairhub convert --test "$real/treesatai_ts/csv/TREESATAI.csv" --out "$out/treesatai"
flairhub simulate --out "$out/simulated" --patches 100 --pixels 256 \
  --modalities AERIAL_RGBI SENTINEL2_TS SENTINEL1-ASC_TS SENTINEL1-DESC_TS
flairhub convert --out "$out/simulated_records" \
  --train "$out/simulated/csv/FLAIR-HUB_SIMULATED_TRAIN.csv" \
  --valid "$out/simulated/csv/FLAIR-HUB_SIMULATED_VALID.csv"
flairhub train --config=configs/smoke_test.py:treesatai \
  --workdir="$out/run_treesatai" --config.data.path="$out/simulated_records"
flairhub predict --run "$out/run_treesatai" --data "$out/treesatai" --out "$out/maps_treesatai"

# All seven modalities and both labels in the published layout.
flairhub convert --test "$parity/minidata/patches.csv" --out "$out/minidata"
