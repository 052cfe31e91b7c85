#!/usr/bin/env bash
# gpu_bundle.sh BUILD DIR: the test and benchmark programs of a CUDA build, stripped, with the shared libraries that they need
# beside LibTorch, CUDA and glibc, the golden files, and run.sh. At most 64 MiB.
set -euo pipefail
build=$1 out=$2
grep -q 'WINNOW_CUDA:STRING=OFF' "$build/CMakeCache.txt" && { echo "gpu_bundle: $build was configured with WINNOW_CUDA=OFF" >&2; exit 1; }
mkdir -p "$out/bin" "$out/lib"
programs=()
while IFS= read -r program; do programs+=("$program"); done < <(find "$build/tests" "$build/bin" -maxdepth 2 -type f -perm -u+x \( -name 'winnow_*_test' -o -name '*_bench' \))
for program in "${programs[@]}"; do
  if nm -D --undefined-only "$program" | grep -q cudaLaunchKernel || [[ $program = *_bench ]]; then
    strip -o "$out/bin/$(basename "$program")" "$program"
    ldd "$program" | awk '$3 ~ /^\// {print $3}' | grep -vE '/(torch|nvidia|cuda[^/]*)/|/(libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s|ld-linux[^/]*)\.so' |
      xargs -r -I{} cp -nL {} "$out/lib/"
  fi
done
cp -r tests/golden "$out/golden"
cat >"$out/run.sh" <<'RUN'
#!/usr/bin/env bash
# Runs the cuda tests (or `run.sh bench`: the benchmarks) with the LibTorch of the python in reach.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
torch=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
export LD_LIBRARY_PATH="$here/lib:$torch/lib:$(echo "$torch"/../nvidia/*/lib | tr ' ' ':'):${LD_LIBRARY_PATH:-}"
export WINNOW_GOLDEN_DIR="$here/golden"
failed=0
if [ "${1:-test}" = bench ]; then
  for program in "$here"/bin/*_bench; do "$program" || failed=1; done
else
  for program in "$here"/bin/winnow_*_test; do "$program" --gtest_filter='*Cuda*' --gtest_brief=1 || failed=1; done
fi
exit $failed
RUN
chmod +x "$out/run.sh"
size=$(du -sm "$out" | cut -f1)
echo "gpu_bundle: $out, $size MiB"
[ "$size" -le 64 ] || { echo "gpu_bundle: $size MiB is over the limit of 64 MiB" >&2; exit 1; }
