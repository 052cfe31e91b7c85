#!/usr/bin/env bash
# Fetches data sets and pretrained weights by package name into data/NAME: ./dev data NAME...
#   ./dev data list      what there is, and what is already here
#   ./dev data all       everything
# scripts/data.tsv says what belongs to a name. Nothing is installed and root is not needed: packages are downloaded, unpacked
# aside, checked by SHA-256 and then moved into place in one step. What is already here is checked and left alone (no network).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
table=$here/scripts/data.tsv
root=${WINNOW_DATA:-$here/data}
work=$root/.incoming

die() { echo "data: $*" >&2; exit 1; }
usage() {
  echo "usage: ./dev data NAME... | list | all" >&2
  echo "names: $(rows | cut -f1 | tr '\n' ' ')" >&2
  exit 2
}
rows() { grep -v '^#' "$table"; }

# The row of a name, its seven columns in the globals below (empty columns stay empty).
load_row() {
  local row
  row=$(rows | awk -F'\t' -v n="$1" '$1 == n') || true
  [ -n "$row" ] || { echo "data: there is no data set \"$1\"; './dev data list' prints them" >&2; exit 2; }
  megabytes=$(cut -f2 <<<"$row"); sources=$(cut -f3 <<<"$row"); folder=$(cut -f4 <<<"$row")
  checks=$(cut -f5 <<<"$row"); licence=$(cut -f6 <<<"$row"); content=$(cut -f7 <<<"$row")
}

sum_of() { sha256sum "$1" | cut -d' ' -f1; }

# Prints the first file under $1 that is missing or differs from the table; nothing if all is well.
first_fault() {
  local entry file
  for entry in $checks; do
    file=${entry%%=*}
    case $file in pkg:*) continue ;; esac
    [ -f "$1/$file" ] || { echo "$file is missing"; return; }
    [ "$(sum_of "$1/$file")" = "${entry#*=}" ] || { echo "$file has another checksum than scripts/data.tsv"; return; }
  done
}

python() {
  local candidate
  for candidate in "$here/.deps/python/bin/python" python3; do
    if "$candidate" -m pip --version >/dev/null 2>&1; then echo "$candidate"; return; fi
  done
  die "needs pip for $1: install python3-pip or python3-venv, or run ./dev build once"
}

# Downloads one deb:PACKAGE or pip:PACKAGE==VERSION into $2; a package that is there whole is not fetched again.
download() {
  local source=$1 into=$2 kind=${1%%:*} package=${1#*:} part tool wanted
  local name=${package%%==*}
  [ -e "$into/$name.done" ] && return
  part=$into/part
  rm -rf "$part"; mkdir -p "$part"
  case $kind in
    deb)
      command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "needs apt-get and dpkg-deb (Debian or Ubuntu) for the package $package"
      if ! (cd "$part" && apt-get download -q "$package" >"$part/log" 2>&1); then
        # A fresh system has no package lists yet; only root may fetch them.
        if [ "$(id -u)" = 0 ] && apt-get update -q >/dev/null 2>&1 && (cd "$part" && apt-get download -q "$package" >"$part/log" 2>&1); then :; else
          die "could not download the Debian package $package: $(grep -m1 '^E:' "$part/log" || tail -n1 "$part/log"). Is there a network, and has 'apt-get update' been run?"
        fi
      fi ;;
    pip)
      tool=$(python "$package")
      "$tool" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$part" "$package" >"$part/log" 2>&1 ||
        die "could not download the Python package $package: $(grep -i "^ERROR" "$part/log" | tail -n1 | grep . || tail -n1 "$part/log"). Is there a network?" ;;
    *) die "scripts/data.tsv: unknown source $source" ;;
  esac
  rm -f "$part/log"
  for wanted in $checks; do
    if [ "${wanted%%=*}" = "pkg:$name" ]; then
      [ "$(sum_of "$part"/*)" = "${wanted#*=}" ] || die "package $name has another checksum than scripts/data.tsv; nothing was kept"
    fi
  done
  mv "$part"/* "$into/"
  rmdir "$part"
  touch "$into/$name.done"
}

unpack_all() {
  local file
  for file in "$1"/*.deb; do [ -e "$file" ] && dpkg-deb -x "$file" "$2"; done
  for file in "$1"/*.whl; do [ -e "$file" ] && python3 -m zipfile -e "$file" "$2"; done
  return 0
}

# What has to be made from the unpacked files, by name: make_NAME FOLDER writes into FOLDER.
make_austen() {  # six R character vectors inside one package file: records of (length, zlib stream of R's XDR format)
  python3 - "$1" <<'P'
import struct, sys, zlib
from pathlib import Path
folder = Path(sys.argv[1])
packed = (folder / 'usr/lib/R/site-library/janeaustenr/data/Rdata.rdb').read_bytes()
records = [(1334779, 266556), (1063742, 271037), (352043, 351373), (0, 352043), (703416, 175196), (878612, 185130)]
with open(folder / 'austen.txt', 'wb') as text:
    for start, length in records:
        data = zlib.decompress(packed[start + 4:start + length])
        version = struct.unpack('>I', data[2:6])[0]
        at = 14 if version < 3 else 18 + struct.unpack('>I', data[14:18])[0]
        count = struct.unpack('>I', data[at + 4:at + 8])[0]
        at += 8
        for _ in range(count):
            size = max(struct.unpack('>i', data[at + 4:at + 8])[0], 0)
            at += 8
            text.write(data[at:at + size] + b'\n')
            at += size
P
  find "$1" -mindepth 1 -maxdepth 1 ! -name austen.txt -exec rm -rf {} +
}
make_kjv() {  # by the package's own reader, run where it was unpacked
  "$1/usr/bin/bible" -p "$1/usr/lib" -f 'Gen1:1-Rev22:21' >"$1/kjv.txt" 2>"$1/log" ||
    die "kjv: the package's reader failed: $(tail -n1 "$1/log"). It needs the package libreadline8"
  rm -rf "$1/usr" "$1/log"
}
make_gcide() { gzip -dc <"$1/usr/share/dictd/gcide.dict.dz" >"$1/gcide.dict"; rm -rf "$1/usr"; }
make_wordnet() { gzip -dc <"$1/usr/share/dictd/wn.dict.dz" >"$1/wn.dict"; rm -rf "$1/usr"; }

fetch() {
  local name=$1 target=$root/$1 fault source unpacked
  load_row "$name"
  if [ -d "$target" ]; then
    fault=$(first_fault "$target")
    if [ -z "$fault" ]; then echo "data: $name is in $target (checked). Licence: $licence"; return; fi
    echo "data: $target: $fault; fetching it again"
  fi
  echo "data: fetching $name, about $megabytes MB: $content"
  mkdir -p "$work/$name"
  for source in $sources; do download "$source" "$work/$name"; done
  unpacked=$work/$name/unpacked
  rm -rf "$unpacked"; mkdir -p "$unpacked"
  unpack_all "$work/$name" "$unpacked"
  if declare -F "make_${name//-/_}" >/dev/null; then "make_${name//-/_}" "$unpacked"; fi
  [ -d "$unpacked/$folder" ] || { rm -rf "${work:?}/$name"; die "$name: the packages hold no folder $folder"; }
  fault=$(first_fault "$unpacked/$folder")
  if [ -n "$fault" ]; then rm -rf "${work:?}/$name"; die "$name: $fault; nothing was changed"; fi
  chmod -R u+w "$unpacked"
  if [ -e "$target" ]; then mv "$target" "$work/$name/old"; fi
  if [ "$folder" = . ]; then mv "$unpacked" "$target"; else mv "$unpacked/$folder" "$target"; fi
  rm -rf "${work:?}/$name"
  rmdir "$work" 2>/dev/null || true
  echo "data: $name is in $target. Licence: $licence"
}

list() {
  local name state
  printf '%-14s %-5s %6s  %s\n' name here MB 'content [licence]'
  while IFS= read -r name; do
    load_row "$name"
    state=-; [ -d "$root/$name" ] && state=yes
    printf '%-14s %-5s %6s  %s [%s]\n' "$name" "$state" "$megabytes" "$content" "$licence"
  done < <(rows | cut -f1)
}

[ $# -ge 1 ] || usage
case $1 in
  list) list; exit 0 ;;
  -h|--help|help) usage ;;
  all) mapfile -t names < <(rows | cut -f1) ;;
  *) names=("$@") ;;
esac
for name in "${names[@]}"; do load_row "$name"; done  # a wrong name stops before the first download
mkdir -p "$root"
exec 8>"$root/.lock"
flock 8
for name in "${names[@]}"; do fetch "$name"; done
