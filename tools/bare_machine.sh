#!/usr/bin/env bash
# The README's commands as a newcomer meets them: in a fresh clone, with an empty environment and home, without nvcc,
# GoogleTest and Google Benchmark, and with no downloads but Python packages. CI runs it, so that nothing that happens to
# be installed where CI runs can hide a missing step.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet . "$work/fastnce"

# All programs but CUDA's, the first of each name.
mkdir "$work/bin" "$work/home"
IFS=: read -ra folders <<<"$PATH"
for folder in "${folders[@]}"; do
  [[ $folder == "$PWD"/* ]] && continue
  for program in "$folder"/*; do
    name=${program##*/}
    [[ $name == nvcc* || -e $work/bin/$name ]] || ln -s "$program" "$work/bin/$name"
  done
done

# CMake also searches /usr/local/bin and the like for nvcc, whatever the PATH is.
environment=(PATH="$work/bin" HOME="$work/home" LANG=C.UTF-8 FASTNCE_OFFLINE=1 CUDACXX="$work/no-nvcc")
environment+=(CMAKE_FLAGS="-DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON -DCMAKE_DISABLE_FIND_PACKAGE_benchmark=ON")
while IFS= read -r variable; do # how Python packages are reached here
  [[ $variable =~ ^(PIP_|SSL_|REQUESTS_|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|TMPDIR|CI=) ]] && environment+=("$variable")
done < <(env)

run() {
  echo
  echo "bare machine: $*"
  local start=$SECONDS
  (cd "$work/fastnce" && env -i "${environment[@]}" "$@") 2>&1 | tee "$work/output"
  echo "bare machine: $*: $((SECONDS - start)) s"
}

# Fails unless the output of the last command ends with a line that matches.
ends_with() {
  tail -n 1 "$work/output" | grep -qE "$1" || { echo "bare machine: expected a last line with: $1"; exit 1; }
}

run python3 -m venv "$work/home/venv"
run "$work/home/venv/bin/python" -m pip install --quiet .
run "$work/home/venv/bin/python" -c "import fastnce; print(fastnce.cuda.unavailable_reason())"
ends_with '^fastnce was built without CUDA'
run make demo
ends_with '^map of these words: .*\.png$'
# What a machine can change: of the rest CI has just run every test.
machine=(import devices examples snippets links cuda_memory)
run make test TESTS="$(printf 'tests/test_%s.py ' "${machine[@]}")"
ends_with '^SKIPPED: the C\+\+ tests'
