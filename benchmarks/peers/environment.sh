#!/usr/bin/env bash
# environment.sh PACKAGE...: makes the peers' Python environment in .deps/peers, installs what is missing there and prints
# its python. It shares the LibTorch of .deps/python, so that both sides run the same kernels.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
home=.deps/peers
if [ ! -x $home/bin/python ]; then
  python3 -m venv $home >&2
  echo "$PWD/$(echo .deps/python/lib/python3*/site-packages)" >"$(echo $home/lib/python3*/site-packages)/shared_torch.pth"
fi
for package in "$@"; do
  stamp=$home/.installed-${package//[^A-Za-z0-9.]/_}
  if [ ! -f "$stamp" ]; then
    $home/bin/pip install -q --disable-pip-version-check "$package" >&2
    touch "$stamp"
  fi
done
echo "$PWD/$home/bin/python"
