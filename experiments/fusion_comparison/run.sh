#!/usr/bin/env bash
# The whole study. Usage, from the root of the repository, in its environment:
#   experiments/fusion_comparison/run.sh OUT
# OUT: folder for data, runs and reports; after an interruption the same command
# continues.
set -euo pipefail
out=$1 here=experiments/fusion_comparison
sensors="AERIAL_RGBI DEM_ELEV SENTINEL2_TS SENTINEL1-ASC_TS"

flairhub simulate --out "$out/raw" --patches 800 --pixels 64 --modalities $sensors
csv="$out/raw/csv/FLAIR-HUB_SIMULATED"
flairhub convert --out "$out/records" \
  --train "${csv}_TRAIN.csv" --valid "${csv}_VALID.csv" --test "${csv}_TEST.csv"

for part in strategies sensors; do
  flairhub sweep --config="$here/sweep.py:$part" --workdir="$out/$part" \
    --config.data.path="$out/records" --subsets all --jobs 2
done

flairhub report --baseline mid_concat --out "$out/report_strategies" \
  --runs "$out/strategies/runs/*"
flairhub report --baseline mid_concat --out "$out/report_sensors" \
  --runs "$out/strategies/runs/mid_concat" "$out/sensors/runs/*"
