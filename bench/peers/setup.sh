#!/usr/bin/env bash
# Create or bring up to date the virtual environments of the peers: setup.sh [DIR], by default .venv-peers at the top of
# the repository. PYTHON chooses the interpreter. PyTorch publishes a much smaller build without CUDA on an index of its
# own, with the same CPU kernels: name that in PIP_EXTRA_INDEX_URL and pip prefers it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

venvs=${1:-"$root/.venv-peers"}

environment() {
    local name=$1
    shift
    # An interpreter that still runs is kept; pip leaves alone what is already satisfied.
    "$venvs/$name/bin/python" -c '' 2>/dev/null || "${PYTHON:-python3}" -m venv --clear "$venvs/$name"
    "$venvs/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

environment tensorflow tensorflow-cpu==2.21.0 numpy
environment pytorch torch==2.13.0 numpy
environment jax jax==0.10.2 jaxlib==0.10.2 numpy

# The front ends are measured in their frameworks' environments: one wheel for both, without CUDA.
cd "$root"
environment build "pip>=25.1"
"$venvs/build/bin/python" -m pip install --quiet --group build
wheel=$(mktemp -d)
trap 'rm -rf "$wheel"' EXIT
tools/build_extension.sh "$venvs/build/bin/python" build/ext-frameworks OFF --wheel "$wheel"
for name in pytorch jax; do
    "$venvs/$name/bin/python" -m pip uninstall --quiet --yes fastnce
    "$venvs/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"/fastnce-*.whl
done
