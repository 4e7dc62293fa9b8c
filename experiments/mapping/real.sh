#!/usr/bin/env bash
# Maps of real rasters. Usage, from the root of the repository:
#   experiments/mapping/real.sh ZONAL RGB_RUN S2_RUN OUT
# ZONAL: folder of the rasters; RGB_RUN: the run of three bands and six classes
# of `experiments/own_data/run.sh … chesapeake`; S2_RUN: a run of Sentinel-2 on
# simulated patches.
set -euo pipefail
zonal=$1 rgb=$2 sentinel=$3 out=$4
mkdir -p "$out"

map() {  # RUN NAME INPUT [FLAG …]
  local run=$1 name=$2 input=$3
  shift 3
  echo "== $name"
  flairhub zonal --run "$run" --out "$out/$name.tif" --input "$input" "$@"
}

map "$rgb" netherlands "$zonal/netherlands_rgb25cm/AERIAL_RGB.tif" --resolution 1
map "$rgb" yellowstone "$zonal/neon_yellowstone_us/AERIAL_RGB_nogeo.tif"
map "$rgb" montpellier "$zonal/ign_montpellier_fr/AERIAL_RGBI.tif" \
  --bands 1,2,3 --resolution 1
for year in 20120731 20180716; do
  map "$rgb" "north_dakota_$year" \
    "$zonal/naip_north_dakota_us/AERIAL_RGBI_$year.tif" \
    --bands 1,2,3 --assume-gsd ORTHO_RGB
done
map "$rgb" rotterdam "$zonal/rotterdam_a_nl/SPOTLIKE_RGBI.tif" \
  --bands 1,2,3 --scale 0.2
map "$sentinel" bouconne "$zonal/bouconne_fr/SENTINEL2_TS.tif" \
  --dates "SENTINEL2_TS=$zonal/bouconne_fr/dates_SENTINEL2.txt"
