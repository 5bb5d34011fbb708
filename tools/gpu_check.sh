#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one command and under ten minutes: the build, the kernels' PTX and registers,
# the tests marked gpu, the benchmarks, whose tables it writes into bench/RESULTS.md and docs/gpu.md. Needs no network.
usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh [--wheels DIR] [--out DIR] [--quick] [--keep-results]

  --wheels DIR    Python packages to install from there first, without their dependencies: what the environment lacks,
                  such as nanobind (to build), segment_anything (for the encoder), hypothesis (for the tests).
                  The variable GPU_CHECK_WHEELS does the same.
  --out DIR       logs, bench_cuda.json and copies of both files go there (default: out/gpu in the checkout)
  --quick         short measurements, nothing compiled by torch; some four minutes
  --keep-results  leave both files as they are; the copies in --out still have the tables

Needs a C++20 compiler, cmake, ninja or make, and in the Python that $PYTHON names (python3 unless set): numpy, scipy, pillow,
rich, typer, scikit-build-core, nanobind, numba-cuda, torch, pytest, hypothesis. OpenCV and segment-anything are used
where they are there. Nothing is installed into that environment.

Exit code: 0 all well; 1 something failed, named at the end; 2 it cannot run here.
TEXT
}
set -euo pipefail

wheels=${GPU_CHECK_WHEELS:-} out='' quick='' keep=''
while (($#)); do
  case $1 in
    --wheels) wheels=${2:?--wheels needs a folder}; shift ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --quick) quick=1 ;;
    --keep-results) keep=1 ;;
    -h | --help) usage; exit 0 ;;
    *) printf 'unknown option %s\n\n' "$1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

limit=585 # seconds in all
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
if [[ -n $wheels ]]; then wheels=$(cd "$wheels" && pwd); fi
mkdir -p "${out:=$repo/out/gpu}"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()
say() { printf '\n== %s (%d s so far)\n' "$*" "$SECONDS"; }
left() { echo $((limit - SECONDS > 20 ? limit - SECONDS : 20)); }

# The simulator, left over in the environment, would run for hours.
unset NUMBA_ENABLE_CUDASIM SDIE_FAST_CUDA_SIMULATOR
# Packages of ours come before the environment's; run from elsewhere, so that the checkout is not what is imported.
site=$work/site
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
mkdir "$site"
cd "$work"

say "the GPU"
"$python" - <<'PY' || exit 2
import sys

def stop(reason, fix):
    sys.exit(f"this check needs an NVIDIA GPU: {reason}\nto fix: {fix}")

try:
    from numba import cuda
except ImportError as error:
    stop(f"numba-cuda does not load ({error})", 'pip install "numba-cuda[cu13]" ([cu12] for a driver of CUDA 12)')
if not cuda.is_available():
    stop(
        f"numba-cuda finds none ({cuda.cuda_error() or 'no libnvvm'})",
        "nvidia-smi must list it; in a container pass it in (docker run --gpus all)",
    )
try:
    import torch
except ImportError as error:
    stop(f"torch does not load ({error})", "pip install torch")
if not torch.cuda.is_available():
    stop(f"torch {torch.__version__} sees none", "install a build of torch for CUDA")
device = torch.cuda.get_device_properties(0)
print(f"{device.name}, compute capability {device.major}.{device.minor}, {device.total_memory / 2**30:.0f} GiB")
PY

if [[ -n $wheels ]]; then
  say "packages from $wheels"
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
fi

say "build"
if ! "$python" -m pip install -q --no-index --no-deps --no-build-isolation --upgrade --target "$site" \
  --config-settings=build-dir="$work/build" "$repo" >"$out/build.log" 2>&1; then
  tail -30 "$out/build.log"
  echo "the build failed: is something missing? (scikit-build-core, nanobind, cmake, a C++20 compiler; --wheels brings packages)"
  exit 1
fi
"$python" -c 'import sdie_fast; print(sdie_fast.__version__, sdie_fast.__file__)'

say "kernels to PTX, in the background"
timeout 280 "$python" "$repo/tools/cuda_ptx.py" >"$out/cuda_ptx.log" 2>&1 &
ptx=$!

say "tests"
# In the first five minutes. Folder by folder, and only files with tests for a GPU: others may import what this environment has not.
run_tests() {
  local name=$1 code=0
  shift
  timeout $((SECONDS < 280 ? 300 - SECONDS : 20)) "$python" -m pytest -q -p no:cacheprovider \
    -c "$repo/pyproject.toml" --rootdir "$repo" -m gpu "$@" 2>&1 | tee "$out/tests-$name.log" || code=$?
  # 5: no such test, which only the kernels' own folder must not answer.
  if ((code == 5)) && [[ $name != cuda ]]; then code=0; fi
  if ((code)); then failed+=("tests, $name (tests-$name.log)"); fi
}
run_tests cuda "$repo/tests/cuda"
for folder in "$repo"/tests "$repo"/tests/*/; do
  folder=${folder%/}
  if [[ $folder == "$repo/tests/cuda" ]]; then continue; fi
  # Those that use the fixture `backend` run on the GPU too.
  mapfile -t files < <(grep -lwE 'mark\.gpu|backend' "$folder"/test_*.py 2>/dev/null || true)
  if ((${#files[@]})); then run_tests "$(basename "$folder")" "${files[@]}"; fi
done

wait "$ptx" || failed+=("kernels to PTX (cuda_ptx.log)")
cat "$out/cuda_ptx.log"

say "benchmarks"
# Into a copy first: a run that is stopped leaves the checkout's file as it was.
cp "$repo/bench/RESULTS.md" "$repo/docs/gpu.md" "$out"
options=(--seconds 8 --budget $(($(left) - 140)) --compile-limit 60)
if [[ -n $quick ]]; then options+=(--quick); fi
if timeout "$(left)" "$python" "$repo/bench/gpu" "${options[@]}" --json "$out/bench_cuda.json" \
  --write "$out/RESULTS.md" --write-targets "$out/gpu.md" 2>&1 | tee "$out/bench.log"; then :; else failed+=("benchmarks (bench.log)"); fi
if [[ -z $keep ]] && ! cmp -s "$out/RESULTS.md" "$repo/bench/RESULTS.md"; then
  cp "$out/RESULTS.md" "$repo/bench/"
  cp "$out/gpu.md" "$repo/docs/"
  echo "bench/RESULTS.md and docs/gpu.md have this run's tables"
fi

say "done; logs in $out"
if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
echo "all well"
