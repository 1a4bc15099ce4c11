#!/usr/bin/env bash
# emulated_python.sh PYTHON FILE...: the CUDA tests in these files on the emulated device, with the packages of PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
tools/emulated_build.sh _core

package=build/emulated/python
rm -rf "$package" && mkdir -p "$package"
cp -r python/fastnce "$package/"
cp build/emulated/csrc/bindings/_core*.so "$package/fastnce/"

# -S: without site, so that what is installed beside Python does not shadow this package.
PYTHONPATH="$package:$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
export PYTHONPATH FASTNCE_TEST_EMULATED_CUDA=1
"$python" -S -c 'import fastnce._core as core; assert "build/emulated" in core.__file__, core.__file__'
FILES_AT_ONCE=1 exec tools/pytest_on_all_cores.sh "$python" -S -m pytest -m cuda -- "$@"
