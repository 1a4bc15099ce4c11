#!/usr/bin/env bash
# bench/gpu/run.sh OUTDIR [--device cpu] [--quick]: build, test, sanitize and measure on this machine's GPU, offline.
# See bench/gpu/README.md. Every stage has a time limit, and none stops the others: stages.sh.
set -uo pipefail
OUTDIR=${1:?usage: bench/gpu/run.sh OUTDIR [--device cpu] [--quick]}
shift
MODE=("$@")
mkdir -p "$OUTDIR" || exit 1
OUTDIR=$(cd "$OUTDIR" && pwd)
cd "$(dirname "$0")/../.." || exit 1
HERE=$PWD/bench/gpu
LOG=$OUTDIR/log.txt
: >"$LOG" || exit 1

BUDGET=${FASTNCE_BUDGET:-530}                                       # seconds in all
SHAPES=${FASTNCE_SHAPES:-lm,w2v,recsys,big,batch,multi,sgns,w2v_big} # in this order, as far as the time goes
STAGES=${FASTNCE_STAGES:-machine build compile tests sanitize sampling measure}
WORK=${FASTNCE_WORK:-${TMPDIR:-/tmp}/fastnce-gpu}
SITE=${FASTNCE_SITE:-$WORK/site}
export PYTHON=${PYTHON:-python3} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
mkdir -p "$WORK" "$SITE" || exit 1
WORK=$(cd "$WORK" && pwd) SITE=$(cd "$SITE" && pwd)
rm -f "$WORK"/{machine,sampling,supervise,progress}.json "$WORK"/{stages,shapes}.jsonl "$WORK"/compile-*.log
declare -A LACKS=()
. "$HERE/stages.sh"
trap end_jobs EXIT
trap 'exit 130' INT TERM

if ! answer=$(limited 20 "$PYTHON" -c 'import sys; print(sys.version); assert sys.version_info >= (3, 11)' 2>&1); then
  say "missing: Python 3.11 or later: PYTHON=$PYTHON: $(head -n 1 <<<"${answer:-no answer}")"
  exit 1
fi
# cmake and ninja of the Python's own environment come before those of the system.
PATH=$(dirname "$(command -v "$PYTHON")"):$PATH
export PATH PYTHONPATH=$SITE${PYTHONPATH:+:$PYTHONPATH}
export TORCHINDUCTOR_CACHE_DIR=$WORK/inductor TORCHINDUCTOR_FX_GRAPH_CACHE=1 TORCHINDUCTOR_AUTOGRAD_CACHE=1

wanted() { case " $STAGES " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

say "fastnce on a GPU: $(date -u +%FT%TZ), stages $STAGES, shapes $SHAPES, work $WORK"
stage requirements 100 380 '^missing' "$PYTHON" "$HERE/requirements.py" "${MODE[@]}" --output "$WORK/requirements.sh" &&
  . "$WORK/requirements.sh"
grep -aE '^(missing|note): ' "$LOG"
export CUDACXX=${CUDACXX:-} FASTNCE_CUDA_ARCH=${FASTNCE_CUDA_ARCH:-${ARCH:-native}}
if [ -z "$CUDACXX" ]; then unset CUDACXX; fi
case " ${MODE[*]} " in *" --device cpu "*) export FASTNCE_CUDA=OFF ;; esac
if [ -n "${LACKS[compile]:-}" ]; then COMPILED=(--no-compile); else COMPILED=(); fi
{
  for program in nvidia-smi "${CUDACXX:-nvcc} --version" "g++ --version" "cmake --version" "ninja --version"; do
    limited 10 $program
  done
} >>"$LOG" 2>&1

if wanted machine && ! lacks machine machine; then
  stage machine 60 380 'tflops' "$PYTHON" "$HERE/ceilings.py" "${MODE[@]}" --output "$WORK/machine.json"
fi

# Into the compiler's cache, while the processor would wait for nvcc anyway.
if wanted compile && ! lacks compile compile; then
  number=0
  IFS=, read -ra list <<<"$SHAPES"
  for ((i = 0; i < ${#list[@]}; i += 2)); do
    start "$(limit_for 240 200)" env TORCHINDUCTOR_COMPILE_THREADS=2 "$PYTHON" "$HERE/measure.py" "${MODE[@]}" \
      --compile-only --shapes "$(IFS=,; echo "${list[*]:i:2}")" >"$WORK/compile-$((number++)).log" 2>&1
  done
fi

if wanted build; then
  CPP_JOB=
  if ! lacks cpp cpp-build; then
    cpp_begin=$SECONDS
    start "$(limit_for 230 200)" "$HERE/build.sh" tests "$WORK" >"$WORK/tests-build.log" 2>&1 && CPP_JOB=$!
  fi
  if ! lacks build build; then
    stage build 230 200 'built: |but .*nvcc|[Ee]rror' "$HERE/build.sh" extension "$SITE" "$WORK" ||
      UNBUILT="fastnce, whose build failed"
  fi
  if [ -n "$CPP_JOB" ]; then
    await "$CPP_JOB" "$(($(limit_for 230 200) + 10))"
    code=$?
    cat "$WORK/tests-build.log" >>"$LOG"
    record cpp-build "$(status_of $code)" $((SECONDS - cpp_begin)) "$(tail -n 1 "$WORK/tests-build.log")"
  fi
fi

# Only PyTorch's side can be measured without the package.
(cd / && limited 60 "$PYTHON" -c 'import fastnce') 2>/dev/null || UNBUILT=${UNBUILT:-"fastnce, which is not installed"}
if [ -n "${UNBUILT:-}" ]; then
  for group in tests sanitize sampling; do LACKS[$group]=${LACKS[$group]:-$UNBUILT}; done
fi

if wanted tests; then
  if ! lacks tests pytest; then
    stage pytest 90 190 'passed|failed|error|skipped|deselected|No module' "$PYTHON" -m pytest -m cuda -q \
      --durations=5 -p no:cacheprovider --continue-on-collection-errors
  fi
  program=$(find "$WORK/tests" -name fastnce_cuda_tests -type f -perm -u+x 2>/dev/null | head -n 1)
  if [ -n "$program" ]; then stage cpp-tests 60 190 'PASSED|FAILED' "$program" --gtest_brief=1; fi
fi

if wanted sanitize && ! lacks sanitize sanitize; then
  for tool in memcheck racecheck; do
    stage $tool 60 190 'ERROR SUMMARY|RACECHECK SUMMARY|sanitize:|not supported' \
      env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "${SANITIZER:-compute-sanitizer}" --tool $tool --error-exitcode 9 \
      --print-limit 20 "$(command -v "$PYTHON")" "$HERE/sanitize.py" --seconds 35
  done
fi

end_jobs
for file in "$WORK"/compile-*.log; do
  if [ -f "$file" ]; then { echo "=== ${file##*/}"; cat "$file"; } >>"$LOG"; fi
done

if wanted sampling && ! lacks sampling sampling; then
  stage sampling 40 150 '^[a-z].*: ' "$PYTHON" "$HERE/sampling.py" "${MODE[@]}" --output "$WORK/sampling.json"
fi
if wanted measure && ! lacks measure measure; then
  budget=$(limit_for 480 15)
  stage measure $((budget + 5)) 8 'supervise: |rounds' "$PYTHON" "$HERE/supervise.py" --work "$WORK" \
    --budget "$budget" --shapes "$SHAPES" "${MODE[@]}" "${COMPILED[@]}"
fi

limited 15 "$PYTHON" "$HERE/report.py" --work "$WORK" --output "$OUTDIR" 2>&1 | tee -a "$LOG"
# Success: something was done besides looking, and nothing failed.
! grep -q '"status": "FAILED' "$WORK/stages.jsonl" && (($(grep -c '"status": "ok"' "$WORK/stages.jsonl") > 1))
