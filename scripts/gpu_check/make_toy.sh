#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# make_toy.sh DATA MODEL: the quickstart's data and model, each unless it is there. The model takes a minute of one CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
data=$1 model=$2
[[ -f $data/test.parquet ]] || python scripts/toy/make_data.py --local_dir "$data"
[[ -f $model/config.json ]] && exit
rm -rf "$model.part"
python scripts/toy/make_model.py --data_dir "$data" --output_dir "$model.part"
mv -T "$model.part" "$model" # whole or not at all
