#!/usr/bin/env bash
# Data of other sensors and classes. Usage, from the root of the repository:
#   experiments/own_data/run.sh REAL OUT [PART …]
# REAL: folder with chesapeake_lc, flair2_readme_patch and treesatai_ts; parts:
# chesapeake flair2 treesatai classes levels (default: all).
set -euo pipefail
real=$1 out=$2
here=experiments/own_data
shift 2

chesapeake() {  # three bands and six classes of somebody's own
  local own=$out/chesapeake
  python $here/chesapeake.py "$real/chesapeake_lc" "$own"
  flairhub schema --from-csv "$own/train.csv" --out "$own/derived.toml"
  # chesapeake.toml is derived.toml with edited names of classes.
  flairhub convert --schema $here/chesapeake.toml --out "$own/records" \
    --train "$own/train.csv" --valid "$own/valid.csv"
  flairhub train --config=own_data --workdir="$own/run" \
    --config.data.path="$own/records" --config.data.augment="('symmetry',)"
  flairhub evaluate --run "$own/run" --split valid
  flairhub predict --run "$own/run" --split valid --out "$own/maps"
}

flair2() {  # a patch of FLAIR#2 by the shipped schema
  python $here/flair2.py "$real/flair2_readme_patch" "$out/flair2"
}

treesatai() {  # image and series of an own schema, trained on drawn values
  local own=$out/treesatai
  flairhub convert --schema $here/treesatai.toml --out "$own/records" \
    --test "$real/treesatai_ts/csv/TREESATAI.csv"
  flairhub simulate --schema $here/treesatai.toml --out "$own/simulated" --patches 40
  flairhub convert --schema $here/treesatai.toml --out "$own/simulated_records" \
    --train "$own"/simulated/csv/*TRAIN.csv --valid "$own"/simulated/csv/*VALID.csv
  flairhub train --config=own_data --workdir="$own/run" \
    --config.data.path="$own/simulated_records" --config.train.num_steps=30 \
    --config.train.validate_every=30 \
    --config.data.modalities="('AERIAL_RGBI','SENTINEL2_TS','SENTINEL1-ASC_TS')"
  flairhub predict --run "$own/run" --data "$own/records" --out "$own/maps"
}

simulated() {
  [ -e "$out/simulated/dataset.json" ] && return
  flairhub simulate --out "$out/raw" --patches 250 --pixels 128
  flairhub convert --out "$out/simulated" \
    --train "$out/raw/csv/FLAIR-HUB_SIMULATED_TRAIN.csv" \
    --valid "$out/raw/csv/FLAIR-HUB_SIMULATED_VALID.csv" \
    --test "$out/raw/csv/FLAIR-HUB_SIMULATED_TEST.csv"
}

classes() {  # 19 classes merged to six, fine-tuned against trained from scratch
  simulated
  local task=AERIAL_LABEL-COSIA merge
  local data=(--config=own_data --config.data.path="$out/simulated")
  merge=$(tr -d '\n' < $here/classes_6.json)
  flairhub train "${data[@]}" --workdir="$out/classes/all_19"
  flairhub evaluate --run "$out/classes/all_19" --merge $task=$here/classes_6.json
  for seed in 0 1 2; do
    for start in scratch tuned; do
      local from=""
      [ $start = tuned ] && from=$out/classes/all_19
      flairhub train "${data[@]}" --workdir="$out/classes/$start-$seed" \
        --config.seed=$seed --config.train.init_from="$from" \
        --config.train.num_steps=50 --config.train.validate_every=50 \
        --config.tasks.$task.merge="$merge"
      flairhub evaluate --run "$out/classes/$start-$seed"
    done
  done
}

levels() {  # crops of level 3, scored on levels 2 and 1 as well
  simulated
  flairhub train --config=own_data --workdir="$out/levels" \
    --config.data.path="$out/simulated" \
    --config.data.modalities="('AERIAL_RGBI','SENTINEL2_TS')" \
    --config.data.tasks="('ALL_LABEL-LPIS-3',)"
  flairhub evaluate --run "$out/levels"
}

for part in "${@:-chesapeake flair2 treesatai classes levels}"; do
  for name in $part; do $name; done
done
