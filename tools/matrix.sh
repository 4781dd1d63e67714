#!/usr/bin/env bash
# Runs the test suite as other machines would: versions of Python and of the libraries, instruction sets, threads.
#
#     tools/matrix.sh            every row, one after the other (hours on two cores)
#     tools/matrix.sh 1 2 3      some rows
#     tools/matrix.sh --list     what the rows are
#
# Prints a row of a table for each; logs and environments lie in .matrix/ (MATRIX_DIR). `oldest` are the oldest versions
# that pyproject.toml allows of the libraries that compute, `newest` what pip finds. An instruction set that is not named
# is the processor's own. With more than one thread, threads that wait sleep: the tests are three processes already.
set -u
cd "$(dirname "$0")/.."
DIR=${MATRIX_DIR:-.matrix}
OLDEST="--constraint tools/oldest.txt"

# python  libraries  ATEN_CPU_CAPABILITY  ONEDNN_MAX_CPU_ISA  threads: every value comes in the first three rows, every
# pair of two values in all of them
ROWS=(
  "3.11 newest -       -    1"
  "3.13 newest avx2    AVX2 2"
  "3.11 oldest default -    4"
  "3.11 oldest -       AVX2 2"
  "3.13 newest default AVX2 1"
  "3.13 newest -       -    4"
  "3.11 oldest avx2    -    1"
  "3.13 newest default -    2"
  "3.13 newest avx2    AVX2 4"
)

environment() { # python, libraries -> the folder of an environment, made if need be
  local folder="$DIR/$2-$1" pins=""
  if [ ! -x "$folder/bin/pytest" ]; then
    [ "$2" = oldest ] && pins=$OLDEST
    "python$1" -m venv "$folder" && "$folder/bin/pip" install --quiet --editable '.[dev]' $pins >&2 || return 1
  fi
  echo "$folder"
}

run() { # number of the row
  read -r python libraries aten onednn threads <<<"${ROWS[$1 - 1]}"
  local folder log="$DIR/row-$1.log" start
  folder=$(environment "$python" "$libraries") || { echo "| $1 | no environment for Python $python |"; return 1; }
  start=$SECONDS
  (
    [ "$aten" = - ] || export ATEN_CPU_CAPABILITY=$aten
    [ "$onednn" = - ] || export ONEDNN_MAX_CPU_ISA=$onednn
    [ "$threads" = 1 ] || export OMP_WAIT_POLICY=passive
    export OMP_NUM_THREADS=$threads
    "$folder/bin/python" -m pytest -n 3 --dist worksteal
  ) >"$log" 2>&1
  local status=$? torch
  torch=$("$folder/bin/python" -c "import torch; print(torch.__version__.partition('+')[0])")
  echo "| $1 | $python | $libraries (torch $torch) | $aten | $onednn | $threads |" \
    "$(tail -n 1 "$log" | grep -oE '[0-9]+ (passed|failed|skipped|errors?)' | paste -sd, | sed 's/,/, /g') |" \
    "$(((SECONDS - start + 30) / 60)) |"
  return $status
}

case "${1:-}" in -h|--help) sed -n "2,10s/^# \{0,1\}//p" "$0"; exit;; esac
[ "${1:-}" = --list ] && { printf '%s\n' "${ROWS[@]}" | cat -n; exit; }
mkdir -p "$DIR"
echo "| row | Python | libraries | ATEN_CPU_CAPABILITY | ONEDNN_MAX_CPU_ISA | threads | tests | minutes |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
[ $# -gt 0 ] || set -- $(seq ${#ROWS[@]})
red=0
for row; do run "$row" || red=1; done
exit $red
