# Stages of run.sh: each has a time limit, leaves a line in stages.jsonl, and none stops the others.
# Sourced. Needs BUDGET (seconds in all), WORK, LOG and the array LACKS (by group of stages: why they are left out).

say() { echo "$*" | tee -a "$LOG"; }

record() { # NAME STATUS SECONDS DETAIL
  local detail
  detail=$(printf '%s' "${4:-}" | tr -d '\000-\037"\\' | cut -c1-300)
  printf '{"name": "%s", "status": "%s", "seconds": %d, "detail": "%s"}\n' "$1" "$2" "$3" "$detail" \
    >>"$WORK/stages.jsonl"
  say "--- $1: $2 after $3 s. $detail"
}

limit_for() { # MOST RESERVE: seconds that a stage may take, leaving RESERVE (of 530) to those after it; 0: none left
  local left=$((BUDGET - SECONDS - $2 * BUDGET / 530))
  left=$((left < $1 ? left : $1))
  echo $((left > 0 ? left : 0))
}

status_of() { case $1 in 0) echo ok ;; 124 | 137) echo "out of time" ;; *) echo "FAILED ($1)" ;; esac; }

await() { # PID SECONDS: its status; 124 if it has not ended by then, as a process that hangs in the driver does not
  timeout "$2" tail -s 0.2 --pid="$1" -f /dev/null &
  wait $! || return 124
  wait "$1"
}

# start SECONDS COMMAND...: in the background, stopped after so long. With no time left it is not started: `timeout 0`
# would never stop it.
start() {
  if (($1 > 0)); then timeout -k 5 "$@" </dev/null & else return 124; fi
}

limited() { # SECONDS COMMAND...
  start "$@" || return
  await $! $(($1 + 10))
}

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
  limited "$limit" "$@" >>"$LOG" 2>&1
  code=$?
  detail=$(tail -c "+$((offset + 1))" "$LOG" | grep -aE "$pattern" | tail -n 1)
  if ((code != 0)); then tail -c "+$((offset + 1))" "$LOG" | tail -n 25 | cut -c1-300; fi
  record "$name" "$(status_of $code)" $((SECONDS - begin)) "$detail"
  return $code
}

lacks() { # GROUP NAME: whether something that this group of stages needs is missing; recorded under NAME
  if [ -z "${LACKS[$1]:-}" ]; then return 1; fi
  record "$2" "left out" 0 "${LACKS[$1]}"
}

end_jobs() { # before anything is timed, and at the end
  local running job
  running=$(jobs -pr)
  for job in $running; do kill -TERM "$job" 2>/dev/null; done
  for job in $running; do await "$job" 10 2>/dev/null; done
}
