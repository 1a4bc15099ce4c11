#!/usr/bin/env bash
# build.sh extension SITE WORK   builds the extension and installs the package into the folder SITE
# build.sh tests WORK            builds fastnce_cuda_tests, where GoogleTest is installed
# Offline. CMAKE_ARGS is passed on; FASTNCE_CUDA_ARCH names the architecture (90a-real); FASTNCE_CUDA=OFF: no CUDA.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
DEFINITIONS=("CMAKE_BUILD_TYPE=Release" "FASTNCE_CUDA=${FASTNCE_CUDA:-ON}"
  "CMAKE_CUDA_ARCHITECTURES=${FASTNCE_CUDA_ARCH:-native}")
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
GENERATOR=()
if command -v ninja >/dev/null; then GENERATOR=(-G Ninja); fi

by_pip() { # the way that users build it
  "$PYTHON" -c 'import scikit_build_core, pybind11' || return 1
  # In SKBUILD_CMAKE_DEFINE one definition per entry, separated by semicolons, without -D.
  SKBUILD_CMAKE_DEFINE=$(IFS=';' && echo "${DEFINITIONS[*]}")
  export SKBUILD_CMAKE_DEFINE
  "$PYTHON" -m pip install -v --no-build-isolation --no-deps --no-index --upgrade --target "$1" \
    "--config-settings=build-dir=$2/extension" .
}

by_cmake() {
  local pybind
  pybind=$("$PYTHON" -m pybind11 --cmakedir) || pybind=
  # shellcheck disable=SC2086 # CMAKE_ARGS holds several words
  cmake -S . -B "$2/extension-cmake" "${GENERATOR[@]}" "${DEFINITIONS[@]/#/-D}" -DFASTNCE_PYTHON=ON \
    "-Dpybind11_DIR=$pybind" "-DPython_EXECUTABLE=$(command -v "$PYTHON")" ${CMAKE_ARGS:-}
  cmake --build "$2/extension-cmake"
  cmake --install "$2/extension-cmake" --prefix "$1"
  mkdir -p "$1/fastnce"
  cp -r python/fastnce/. "$1/fastnce/"
}

# CMake keeps the compilers of the first configuration.
fresh() { # WORK FOLDER...
  local tools
  tools="${CUDACXX:-} ${CXX:-} ${CUDAHOSTCXX:-} ${DEFINITIONS[*]} $PYTHON $("${CUDACXX:-nvcc}" --version 2>&1 || true)"
  for folder in "${@:2}"; do
    if [ "$tools" != "$(cat "$1/$folder.tools" 2>/dev/null)" ]; then rm -rf "${1:?}/$folder"; fi
    echo "$tools" >"$1/$folder.tools"
  done
}

case $1 in
extension)
  mkdir -p "$2" "$3"
  rm -rf "$2"/fastnce "$2"/fastnce-*.dist-info # if this build fails, no older one is tested in its place
  fresh "$3" extension extension-cmake
  if ! by_pip "$2" "$3"; then
    echo "build.sh: pip did not manage; plain CMake"
    by_cmake "$2" "$3"
  fi
  cd / # so that the package of that folder is imported
  PYTHONPATH=$2 "$PYTHON" -c 'import fastnce, sys
if not fastnce.__file__.startswith(sys.argv[1]): sys.exit(f"error: it is hidden by {fastnce.__file__}: uninstall that")
print("built:", fastnce.__file__, fastnce.config())' "$2"
  ;;
tests)
  fresh "$2" tests
  rm -f "$2/tests/tests/cpp/fastnce_cuda_tests"
  # shellcheck disable=SC2086
  cmake -S . -B "$2/tests" "${GENERATOR[@]}" "${DEFINITIONS[@]/#/-D}" -DFASTNCE_TESTS=ON ${CMAKE_ARGS:-}
  cmake --build "$2/tests" --target fastnce_cuda_tests
  ;;
*)
  echo "build.sh: extension or tests, not $1" >&2
  exit 2
  ;;
esac
