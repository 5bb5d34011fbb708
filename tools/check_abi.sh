#!/usr/bin/env bash
# Whether libsdie_fast can take the place of the one before it: `tools/check_abi.sh [--update]`.
#
# It exports the functions of csrc/line/sdie_fast.map and nothing else; what programs were compiled against is as in
# csrc/line/sdie_fast.abi (functions and types, by libabigail) and csrc/line/sdie_fast.constants. Functions and constants
# that are added pass; a field after a struct's last, which may be added too, takes --update, which writes these files
# anew. It takes CMake, a compiler and Debian's abigail-tools.
set -euo pipefail
cd "$(dirname "$0")/.."
kept=csrc/line/sdie_fast
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0

# For one kind of processor: what is exported is the same for all, and this is the quickest to build.
cmake -S . -B "$work" -DSDIE_MODULE=OFF -DCMAKE_BUILD_TYPE=Debug -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=generic >"$work/log" 2>&1 &&
  cmake --build "$work" --parallel 2 --target sdie_fast >>"$work/log" 2>&1 || { tail -20 "$work/log"; exit 2; }
library=$work/libsdie_fast.so

nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$work/exported"
sed -nE 's/^ +(sdie_[a-z_0-9]+);$/\1/p' $kept.map | sort >"$work/wanted"
if ! diff "$work/wanted" "$work/exported" >"$work/diff"; then
  echo "exported (>) is not what sdie_fast.map names (<):"
  cat "$work/diff"
  wrong=1
fi

{
  echo '#include <stdio.h>'
  echo '#include "sdie_fast.h"'
  echo 'int main(void) {'
  grep -oE '^ +SDIE_[A-Z0-9_]+|^#define SDIE_MAX_[A-Z_]+' include/sdie_fast.h | sed -E 's/.* //' |
    sed -E 's/.*/  printf("%s %d\\n", "&", (int)&);/'
  echo '}'
} >"$work/constants.c"
${CC:-cc} -Iinclude "$work/constants.c" -o "$work/print_constants"
"$work/print_constants" >"$work/constants"
abidw --exported-interfaces-only --headers-dir include --drop-private-types --no-corpus-path --no-comp-dir-path \
  --no-show-locs --no-elf-needed --no-architecture --no-parameter-names "$library" | sed "s|$PWD/||" >"$work/abi"

if [ "${1:-}" = --update ]; then
  cp "$work/abi" $kept.abi
  cp "$work/constants" $kept.constants
  exit $wrong
fi
if gone=$(grep -Fvxf "$work/constants" $kept.constants); then
  echo "constants that are gone, or have another value:"
  echo "$gone"
  wrong=1
fi
if ! abidiff --no-added-syms $kept.abi "$work/abi"; then
  echo "where all of this is fields after a struct's last: tools/check_abi.sh --update"
  wrong=1
fi
[ $wrong = 0 ] && echo "libsdie_fast can take the place of the one before it"
exit $wrong
