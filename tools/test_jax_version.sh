#!/usr/bin/env bash
# Tests the wheel in build/wheel with a version of jax, each installed after the other.
#
#   tools/test_jax_version.sh PYTHON VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
version=$2 environment=.venv-jax-versions/$2
wheel=$(echo build/wheel/fastnce-*.whl)

"$1" -m venv --clear "$environment"
python=$environment/bin/python
install() { "$python" -m pip install --quiet "$@"; }
check() { "$python" -c "import fastnce.jax, jax; assert jax.__version__ == '$version', jax.__version__"; }

install "$wheel"
install "jax==$version" "jaxlib==$version"
check
"$python" -m pip uninstall --quiet --yes fastnce
install "$wheel"
check
install pytest ml-dtypes tqdm
"$python" -m pytest -p no:cacheprovider tests/test_jax*.py
