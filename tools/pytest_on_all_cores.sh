#!/usr/bin/env bash
# pytest with a process for each core, which takes some more files when it is done with its own, and shows its output
# then.
#
#   tools/pytest_on_all_cores.sh COMMAND... -- FILE...     e.g. python -m pytest -m cuda -- tests/test_*.py
set -euo pipefail
command=()
while [[ $1 != -- ]]; do
  command+=("$1")
  shift
done
shift

# Exit status 5: none of the files has tests that the options select.
run='output=$("$@" 2>&1); status=$?; printf "%s\n" "$output"; exit $((status == 5 ? 0 : status))'
printf '%s\n' "$@" | xargs -r -P "$(nproc)" -n "${FILES_AT_ONCE:-4}" bash -c "$run" - "${command[@]}" -p no:cacheprovider
