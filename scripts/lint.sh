#!/usr/bin/env bash
# Formatting by the pinned formatter, then the checks of lint.py.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs -r clang-format-19 --dry-run --Werror
python3 scripts/lint.py
