#!/usr/bin/env bash
# Map of a simulated region of 4 x 4 km. Usage, from the root of the repository:
#   experiments/mapping/region.sh OUT [PATCHES]
# OUT: folder to write; PATCHES: along a side of the region (default 40).
set -euo pipefail
out=$1 patches=${2:-40}
here=experiments/mapping
sensors="('AERIAL_RGBI','DEM_ELEV','SPOT_RGBI','SENTINEL2_TS','SENTINEL1-ASC_TS')"

# Training patches of other regions: those of the quickstart.
flairhub simulate --out "$out/train/raw" --patches 250 --pixels 128
flairhub convert --out "$out/train/records" \
  --train "$out/train/raw/csv/FLAIR-HUB_SIMULATED_TRAIN.csv" \
  --valid "$out/train/raw/csv/FLAIR-HUB_SIMULATED_VALID.csv"
flairhub train --config=quickstart --workdir="$out/run" \
  --config.data.path="$out/train/records" --config.data.modalities="$sensors"

python $here/simulate_region.py "$out/region" --patches "$patches"
rasters=$out/region/rasters
map() {  # OUT.tif [FLAG …]
  flairhub zonal --run "$out/run" --out "$@" \
    --input AERIAL_RGBI="$rasters/AERIAL_RGBI" \
    --input DEM_ELEV="$rasters/DEM_ELEV.tif" \
    --input SPOT_RGBI="$rasters/SPOT_RGBI.tif" \
    --input SENTINEL2_TS="$rasters/SENTINEL2_TS.tif" \
    --dates SENTINEL2_TS="$rasters/SENTINEL2_TS.txt" \
    --mask SENTINEL2_TS="$rasters/SENTINEL2_MSK-SC.tif" \
    --input SENTINEL1-ASC_TS="$rasters/SENTINEL1-ASC_TS.tif" \
    --dates SENTINEL1-ASC_TS="$rasters/SENTINEL1-ASC_TS.txt"
}
mkdir -p "$out/blended" "$out/cut"
map "$out/blended/map.tif"
map "$out/cut/map.tif" --margin 0  # windows side by side, as patches

# The same ground as patches.
flairhub convert --out "$out/region/records" \
  --test "$out/region/raw/csv/FLAIR-HUB_SIMULATED_TEST.csv"
flairhub predict --run "$out/run" --data "$out/region/records" --out "$out/patches"
python $here/compare.py "$out"
