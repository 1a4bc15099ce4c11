#!/usr/bin/env bash
# Builds the extension in an environment that has the build tools, showing the compiler's progress: installs it there, or
# writes a wheel for others.
#
#   tools/build_extension.sh PYTHON BUILD_DIR CUDA [--editable | --wheel DIR]     CUDA: AUTO, ON or OFF
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 build=$2 cuda=$3
shift 3
if [[ ${1-} == --wheel ]]; then
  command=wheel options=(--no-deps --wheel-dir "$2")
else
  command=install options=("$@")
fi

mkdir -p "$build"
log=$build/build.log
echo "compiling fastnce into $build"
if ! "$python" -m pip "$command" --verbose --no-build-isolation --config-settings=build-dir="$build" \
  --config-settings=cmake.define.FASTNCE_CUDA="$cuda" "${options[@]}" . 2>&1 | tee "$log" |
  { grep --line-buffered -oE '(\[[0-9]+/[0-9]+\] (Building|Linking).*|fastnce: .*)' || true; }; then
  cat "$log"
  exit 1
fi
