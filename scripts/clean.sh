#!/usr/bin/env bash
# Removes what runs have left: outputs, caches and state. Not parameters, not sources, not .venv,
# not what lies in a DVC remote.
set -euo pipefail
cd "$(dirname "$0")/.."

paths=(
  data/loaded data/preprocessed data/features
  models/assembled models/freeze_plan.json models/trained
  reports/freezing reports/history.csv reports/evaluation reports/metrics.json
  var .dvc/cache .dvc/tmp
  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
)
there=()
for path in "${paths[@]}"; do
  [[ -e $path || -L $path ]] && there+=("$path")
done
if (( ${#there[@]} == 0 )); then
  echo "clean: there is nothing to remove"
  exit 0
fi
echo "clean: this removes"
du -sh -- "${there[@]}" | sed 's/^/  /'
echo "var holds the histories of Prefect and MLflow, models included; .dvc/cache every output"
echo "that was not pushed to a DVC remote."
if [[ ${1:-} != --yes ]]; then
  if [[ ! -t 0 ]]; then
    echo "clean: nothing was removed; make clean YES=1 removes without asking" >&2
    exit 2
  fi
  read -r -p "Remove? [y/N] " answer
  [[ $answer == [yY]* ]] || { echo "clean: nothing was removed"; exit 0; }
fi
rm -rf -- "${there[@]}"
find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
echo "clean: done"
