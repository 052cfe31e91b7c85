#!/usr/bin/env bash
# fuzz.sh TARGET CORPUS: runs a libFuzzer target for WINNOW_FUZZ_SECONDS (60) from a copy of the committed corpus, so that
# the tree stays as it is. Fails on a crash, a leak, a hang of 25 s or more than 2 GB.
set -euo pipefail
target=$1 corpus=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
cp "$corpus"/* "$work/corpus/"
"$target" "$work/corpus" -max_total_time="${WINNOW_FUZZ_SECONDS:-60}" -timeout=25 -rss_limit_mb=2048 -max_len=65536 -seed=1 \
  -artifact_prefix="${WINNOW_FUZZ_ARTIFACTS:-$work/}" -print_final_stats=1 -close_fd_mask=1 2>&1 | tail -n 40
