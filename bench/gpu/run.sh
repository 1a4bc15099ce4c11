#!/usr/bin/env bash
# bench/gpu/run.sh OUTDIR [--device cpu] [--quick]: build, test, sanitize and measure on this machine's GPU, offline.
# See bench/gpu/README.md. Every stage has a time limit, and none stops the others.
set -uo pipefail
OUTDIR=${1:?usage: bench/gpu/run.sh OUTDIR [--device cpu] [--quick]}
shift
MODE=("$@")
mkdir -p "$OUTDIR"
OUTDIR=$(cd "$OUTDIR" && pwd)
cd "$(dirname "$0")/../.." || exit 1
HERE=$PWD/bench/gpu
LOG=$OUTDIR/log.txt
: >"$LOG"

BUDGET=${FASTNCE_BUDGET:-530}                                       # seconds in all
SHAPES=${FASTNCE_SHAPES:-lm,w2v,recsys,big,batch,multi,sgns,w2v_big} # in this order, as far as the time goes
STAGES=${FASTNCE_STAGES:-machine build compile tests sanitize sampling measure}
WORK=${FASTNCE_WORK:-${TMPDIR:-/tmp}/fastnce-gpu}
SITE=${FASTNCE_SITE:-$WORK/site}
export PYTHON=${PYTHON:-python3} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
mkdir -p "$WORK"
rm -f "$WORK"/{machine,sampling,supervise,progress}.json "$WORK"/{stages,shapes}.jsonl

# nvcc and cmake, wherever they are.
for folder in "${CUDA_HOME:-}/bin" /usr/local/cuda/bin /usr/local/cuda-13*/bin /opt/cuda/bin; do
  if [ -z "${CUDACXX:-}" ] && ! command -v nvcc >/dev/null && [ -x "$folder/nvcc" ]; then PATH=$folder:$PATH; fi
done
if [ -z "${CUDACXX:-}" ] && command -v nvcc >/dev/null; then export CUDACXX=$(command -v nvcc); fi
PATH=$PATH:$(dirname "$(command -v "$PYTHON")")
export PATH
# The architecture's own instructions (the "a" of 90a) come with no other name.
CAPABILITY=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
case $CAPABILITY in
'') ARCH=native ;;
90 | 1*) ARCH=${CAPABILITY}a-real ;;
*) ARCH=$CAPABILITY-real ;;
esac
export FASTNCE_CUDA_ARCH=${FASTNCE_CUDA_ARCH:-$ARCH}
export TORCHINDUCTOR_CACHE_DIR=$WORK/inductor TORCHINDUCTOR_FX_GRAPH_CACHE=1 TORCHINDUCTOR_AUTOGRAD_CACHE=1

wanted() { case " $STAGES " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

say() { echo "$*" | tee -a "$LOG"; }

record() { # NAME STATUS SECONDS DETAIL
  local detail
  detail=$(printf '%s' "${4:-}" | tr -d '\000-\037"\\' | cut -c1-200)
  printf '{"name": "%s", "status": "%s", "seconds": %d, "detail": "%s"}\n' "$1" "$2" "$3" "$detail" >>"$WORK/stages.jsonl"
  say "--- $1: $2 after $3 s. $detail"
}

limit_for() { # MOST RESERVE: seconds that a stage may take, leaving RESERVE (of 530) to those after it
  local left=$((BUDGET - SECONDS - $2 * BUDGET / 530))
  echo $((left < $1 ? left : $1))
}

status_of() { case $1 in 0) echo ok ;; 124 | 137) echo "out of time" ;; *) echo "FAILED ($1)" ;; esac; }

# stage NAME MOST RESERVE PATTERN COMMAND...: the last line of its output that matches PATTERN is its detail.
stage() {
  local name=$1 limit begin offset code detail pattern=$4
  limit=$(limit_for "$2" "$3")
  shift 4
  if ((limit < 5)); then
    record "$name" "no time" 0
    return 1
  fi
  say "=== $name, at most $limit s: $*"
  begin=$SECONDS
  offset=$(stat -c %s "$LOG")
  timeout -k 5 "$limit" "$@" >>"$LOG" 2>&1 </dev/null
  code=$?
  detail=$(tail -c "+$((offset + 1))" "$LOG" | grep -aE "$pattern" | tail -n 1)
  if ((code != 0)); then tail -c "+$((offset + 1))" "$LOG" | tail -n 25 | cut -c1-300; fi
  record "$name" "$(status_of $code)" $((SECONDS - begin)) "$detail"
  return $code
}

JOBS=()
background() { # LIMIT LOGFILE COMMAND...: ended at the latest before anything is timed
  timeout -k 5 "$1" "${@:3}" >"$2" 2>&1 </dev/null &
  JOBS+=($!)
}

end_background() {
  local job file
  for job in "${JOBS[@]}"; do kill -TERM "$job" 2>/dev/null; done
  for job in "${JOBS[@]}"; do wait "$job" 2>/dev/null; done
  JOBS=()
  for file in "$WORK"/compile-*.log; do
    if [ -f "$file" ]; then { echo "=== ${file##*/}"; cat "$file"; } >>"$LOG"; fi
  done
  rm -f "$WORK"/compile-*.log
}
trap end_background EXIT

sanitizer() { # TOOL
  stage "$1" 60 190 'ERROR SUMMARY|RACECHECK SUMMARY|sanitize:|not supported' \
    env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "PYTHONPATH=$SITE" compute-sanitizer --tool "$1" --error-exitcode 9 \
    --print-limit 20 "$(command -v "$PYTHON")" "$HERE/sanitize.py" --seconds 35
}

say "fastnce on a GPU: $(date -u +%FT%TZ), stages $STAGES, shapes $SHAPES, arch $FASTNCE_CUDA_ARCH, work $WORK"
{ nvidia-smi; "${CUDACXX:-nvcc}" --version; g++ --version; cmake --version; ninja --version; } >>"$LOG" 2>&1

if wanted machine; then
  stage machine 60 380 'tflops' "$PYTHON" "$HERE/ceilings.py" "${MODE[@]}" --output "$WORK/machine.json"
fi

if wanted compile; then # into the compiler's cache, while the processor would wait for nvcc anyway
  number=0
  IFS=, read -ra list <<<"$SHAPES"
  for ((i = 0; i < ${#list[@]}; i += 2)); do
    background 240 "$WORK/compile-$((number++)).log" env "PYTHONPATH=$SITE" TORCHINDUCTOR_COMPILE_THREADS=2 \
      "$PYTHON" "$HERE/measure.py" "${MODE[@]}" --compile-only --shapes "$(IFS=,; echo "${list[*]:i:2}")"
  done
fi

CPP_JOB=
if wanted build; then
  for folder in /usr/include /usr/local/include "${GTEST_ROOT:-/nowhere}/include"; do
    if [ -z "$CPP_JOB" ] && [ -f "$folder/gtest/gtest.h" ]; then
      timeout -k 5 "$(limit_for 230 200)" "$HERE/build.sh" tests "$WORK" >"$WORK/tests-build.log" 2>&1 </dev/null &
      CPP_JOB=$!
    fi
  done
  stage build 230 200 'fastnce' "$HERE/build.sh" extension "$SITE" "$WORK"
  if [ -n "$CPP_JOB" ]; then
    wait "$CPP_JOB"
    code=$?
    cat "$WORK/tests-build.log" >>"$LOG"
    record cpp-build "$(status_of $code)" "$SECONDS" "$(tail -n 1 "$WORK/tests-build.log")"
  else
    record cpp-build "left out" 0 "no GoogleTest here"
  fi
fi

if wanted tests; then
  stage pytest 90 190 'passed|failed|error|deselected|No module' env "PYTHONPATH=$SITE" \
    "$PYTHON" -m pytest -m cuda -q --durations=5 -p no:cacheprovider
  program=$(find "$WORK/tests" -name fastnce_cuda_tests -type f -perm -u+x 2>/dev/null | head -n 1)
  if [ -n "$program" ]; then stage cpp-tests 60 190 'PASSED|FAILED' "$program" --gtest_brief=1; fi
fi

if wanted sanitize; then
  if command -v compute-sanitizer >/dev/null; then
    sanitizer memcheck
    sanitizer racecheck
  else
    record sanitize "left out" 0 "no compute-sanitizer here"
  fi
fi

end_background
if wanted sampling; then
  stage sampling 40 150 '^[a-z].*: ' env "PYTHONPATH=$SITE" "$PYTHON" "$HERE/sampling.py" "${MODE[@]}" \
    --output "$WORK/sampling.json"
fi
if wanted measure; then
  budget=$(limit_for 480 15)
  stage measure $((budget + 5)) 8 'supervise: |rounds' env "PYTHONPATH=$SITE" "$PYTHON" "$HERE/supervise.py" \
    --work "$WORK" --budget "$budget" --shapes "$SHAPES" "${MODE[@]}"
fi

"$PYTHON" "$HERE/report.py" --work "$WORK" --output "$OUTDIR" 2>&1 | tee -a "$LOG"
