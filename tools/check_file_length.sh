#!/usr/bin/env bash
# Fails for files of more than 600 lines: one story per file.
status=0
for file in "$@"; do
  lines=$(wc -l <"$file")
  if [ "$lines" -gt 600 ]; then
    echo "$file: $lines lines, more than 600"
    status=1
  fi
done
exit $status
