#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one command and under ten minutes: the build, the tests marked gpu, the machine
# code's figures, the benchmarks, whose tables it writes into bench/RESULTS.md and docs/gpu.md. Needs no network.
usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh [--wheels DIR] [--out DIR] [--quick] [--keep-results] [--dry-run]

  --wheels DIR    Python packages to install from there first, without their dependencies: what the environment lacks,
                  such as nanobind and scikit-build-core (to build), segment_anything, onnxruntime-gpu. A wheel may come
                  in pieces, NAME.whl.00, NAME.whl.01 and so on. The variable GPU_CHECK_WHEELS does the same.
  --out DIR       what it leaves goes there (default: out/gpu in the checkout): summary.txt, logs.tar.gz,
                  bench_cuda.json, and RESULTS.md and gpu.md with this run's tables, each as soon as there is something
  --quick         short measurements, nothing compiled by torch; some four minutes
  --keep-results  leave both files of the checkout as they are
  --dry-run       without a GPU: the same steps on the emulated driver (tools/ptx_emulator), with a few of the tests and
                  tiny images; there are no times, and no tables are written

Needs a C++20 compiler, cmake, ninja or make, and in the Python that $PYTHON names (python3 unless set): numpy, scipy, pillow,
rich, typer, scikit-build-core, nanobind, numba-cuda, torch, pytest, hypothesis. OpenCV and segment-anything are used
where they are there. Nothing is installed into that environment.

Exit code: 0 all well; 1 something failed, named at the end; 2 it cannot run here.
TEXT
}
set -euo pipefail

given=("$@") wheels=${GPU_CHECK_WHEELS:-} out='' quick='' keep='' dry=''
while (($#)); do
  case $1 in
    --wheels) wheels=${2:?--wheels needs a folder}; shift ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --quick) quick=1 ;;
    --keep-results) keep=1 ;;
    --dry-run) dry=1 ;;
    -h | --help) usage; exit 0 ;;
    *) printf 'unknown option %s\n\n' "$1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

limit=580 # seconds in all
tests_until=300
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -n $dry && -z ${EMULATOR_CACHE:-} ]]; then
  exec "$repo/tools/ptx_emulator/run" "$repo/tools/gpu_check.sh" "${given[@]}"
fi
python=${PYTHON:-python3}
if [[ -n $wheels ]]; then wheels=$(cd "$wheels" && pwd); fi
mkdir -p "${out:=$repo/out/gpu}"
out=$(cd "$out" && pwd)
rm -f "$out"/{summary.txt,logs.tar.gz,bench_cuda.json,RESULTS.md,gpu.md}
work=$(mktemp -d)
logs=$work/logs site=$work/site
mkdir "$logs" "$site"
failed=() background=''

# What a run that is cut short leaves: the logs are packed after each step, and what was found stands in the summary.
pack() { tar -czf "$work/logs.tar.gz" -C "$logs" . && mv "$work/logs.tar.gz" "$out/"; }
finish() {
  if [[ -n $background ]]; then kill "$background" 2>/dev/null || true; fi
  pack
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
note() { printf '%s\n' "$@" | tee -a "$out/summary.txt"; }
say() { note "" "== $* ($SECONDS s so far)"; }
left() { echo $((limit - SECONDS > 20 ? limit - SECONDS : 20)); }
# step NAME SECONDS COMMAND...: runs it within its time, output to NAME.log; what fails is kept for the end.
step() {
  local name=$1 seconds=$2 code=0
  shift 2
  timeout --kill-after=5 "$seconds" "$@" 2>&1 | tee "$logs/$name.log" || code=$?
  if ((code)); then
    failed+=("$name: exit code $code$( ((code == 124)) && echo ", not done in $seconds s")")
    note "failed: ${failed[-1]}"
  fi
  pack
}

# The simulator, left over in the environment, would run for hours.
unset NUMBA_ENABLE_CUDASIM SDIE_FAST_CUDA_SIMULATOR
if [[ -z ${CUDA_HOME:-} && -d /usr/local/cuda ]]; then export CUDA_HOME=/usr/local/cuda; fi
export SDIE_FAST_KERNEL_CACHE=${SDIE_FAST_KERNEL_CACHE:-$work/kernels}
# Packages of ours come before the environment's; run from elsewhere, so that the checkout is not what is imported.
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
cd "$work"

if [[ -n $wheels ]]; then
  mkdir "$work/wheels"
  find "$wheels" -maxdepth 1 -name '*.whl' -exec ln -s {} "$work/wheels/" \;
  for piece in "$wheels"/*.whl.[0-9]*; do # in the order of their names
    if [[ -e $piece ]]; then cat "$piece" >>"$work/wheels/$(basename "${piece%.*}")"; fi
  done
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$work"/wheels/*.whl
fi

say "versions"
"$python" - <<'PY' 2>&1 | tee -a "$out/summary.txt"
import importlib.metadata as metadata, os, platform, re, subprocess, sys
print("Python", sys.version.split()[0], "on", platform.platform())
wanted = (
    "numpy|scipy|numba.*|llvmlite|cuda.*|nvidia.*|torch.*|triton|cupy.*|onnxruntime.*|tensorrt.*|segment.anything"
    "|nanobind|scikit.build.core|pytest|hypothesis|opencv.*"
)
found = {}  # of two of a name the one that is imported: the first
for d in metadata.distributions():
    if re.fullmatch(wanted, d.metadata["Name"] or ""):
        found.setdefault(d.metadata["Name"], d.version)
print(", ".join(f"{name} {version}" for name, version in sorted(found.items())))
query = "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader"
for command in (query, "nvcc --version", "cmake --version", "c++ --version"):
    try:
        lines = subprocess.run(command.split(), capture_output=True, text=True).stdout.strip().splitlines()
        print(f"{command.split()[0]}: {lines[-1 if 'nvcc' in command else 0] if lines else 'says nothing'}")
    except OSError as error:
        print(f"{command.split()[0]}: {error.strerror}")
print("CUDA_HOME:", os.environ.get("CUDA_HOME"))
PY

say "the GPU"
DRY=$dry "$python" - <<'PY' 2>&1 | tee -a "$out/summary.txt" || exit 2
import os, sys

def stop(reason, fix):
    sys.exit(f"this check needs an NVIDIA GPU: {reason}\nto fix: {fix}")

try:
    from numba import cuda
except ImportError as error:
    stop(f"numba-cuda does not load ({error})", 'pip install "numba-cuda[cu13]" ([cu12] for a driver of CUDA 12)')
try:
    found, why = cuda.is_available(), cuda.cuda_error() or "no libnvvm"
except Exception as error:  # what looks for libraries may raise
    found, why = False, error
if not found:
    stop(f"numba-cuda finds none ({why})", "nvidia-smi must list it; in a container pass it in (docker run --gpus all)")
try:
    import torch
except ImportError as error:
    stop(f"torch does not load ({error})", "pip install torch")
if os.environ["DRY"]:
    print("emulated")
elif not torch.cuda.is_available():
    stop(f"torch {torch.__version__} sees none", "install a build of torch for CUDA")
else:
    device = torch.cuda.get_device_properties(0)
    print(f"{device.name}, compute capability {device.major}.{device.minor}, {device.total_memory / 2**30:.0f} GiB")
PY

say "build"
if ! "$python" -m pip install -q --no-index --no-deps --no-build-isolation --upgrade --target "$site" \
  --config-settings=build-dir="$work/build" "$repo" >"$logs/build.log" 2>&1; then
  tail -30 "$logs/build.log"
  note "the build failed: is something missing? (scikit-build-core, nanobind, cmake, a C++20 compiler; --wheels brings packages)"
  exit 1
fi
"$python" -c 'import sdie_fast; print(sdie_fast.__version__, sdie_fast.__file__)'

# Beside the tests: it needs the CPU alone, and no driver.
env -u EMULATOR_CACHE timeout 280 "$python" "$repo/tools/cuda_ptx.py" ${dry:+--kernel 'wls_fast*'} >"$logs/cuda_ptx.log" 2>&1 &
background=$!

say "tests"
# Folder by folder, and only files with tests for a GPU: others may import what this environment has not.
run_tests() {
  local name=$1
  shift
  # 5: none was chosen, which only the kernels' own folder must not answer.
  step "tests-$name" $((SECONDS < tests_until - 20 ? tests_until - SECONDS : 20)) bash -c \
    '"$@" || { code=$?; [[ $code == 5 && $0 != cuda ]] || exit $code; }' "$name" \
    "$python" -m pytest -q -p no:cacheprovider -c "$repo/pyproject.toml" --rootdir "$repo" -m gpu "$@"
  note "tests, $name: $(tail -1 "$logs/tests-$name.log")"
}
if [[ -n $dry ]]; then
  run_tests cuda "$repo"/tests/cuda/test_{kernels,emulator,wls_fast}.py
else
  run_tests cuda "$repo/tests/cuda"
  for folder in "$repo"/tests "$repo"/tests/*/; do
    folder=${folder%/}
    if [[ $folder == "$repo/tests/cuda" ]]; then continue; fi
    # Those that use the fixture `backend` run on the GPU too.
    mapfile -t files < <(grep -lwE 'mark\.gpu|backend' "$folder"/test_*.py 2>/dev/null || true)
    if ((${#files[@]})); then run_tests "$(basename "$folder")" "${files[@]}"; fi
  done
fi

say "the machine code"
wait "$background" || { failed+=("cuda_ptx") && note "failed: cuda_ptx"; }
background=''
cat "$logs/cuda_ptx.log"
note "$(tail -1 "$logs/cuda_ptx.log")"
pack

say "the first call of a process, exact WLS: compiled, then from what was kept on disk"
for what in compiled kept; do
  SDIE_FAST_KERNEL_CACHE=$work/first step "first-call-$what" 120 "$python" - <<'PY'
import time
begin = time.perf_counter()
import numpy as np
import sdie_fast
image, weights = np.full((64, 64), 0.5, np.float32), np.eye(6, dtype=np.float32)[1]
imported = time.perf_counter()
sdie_fast.enhance(image, weights, params=sdie_fast.FilterParams(wls_solver="exact"), backend="cuda")
print(f"{time.perf_counter() - begin:.2f} s, of which importing NumPy and the package {imported - begin:.2f}")
PY
  note "$what: $(tail -1 "$logs/first-call-$what.log")"
done

say "benchmarks"
# Into copies: a run that is stopped leaves the checkout's files as they were, and here those of the cases that were done.
cp "$repo/bench/RESULTS.md" "$repo/docs/gpu.md" "$out"
options=(--json "$out/bench_cuda.json")
if [[ -n $dry ]]; then
  options+=(--dry-run)
else
  options+=(--seconds 8 --budget $(($(left) - 120)) --compile-limit 60 --write "$out/RESULTS.md" --write-targets "$out/gpu.md")
fi
if [[ -n $quick ]]; then options+=(--quick); fi
step bench "$(left)" "$python" "$repo/bench/gpu" "${options[@]}"
if [[ -z $keep && -z $dry ]] && ! cmp -s "$out/RESULTS.md" "$repo/bench/RESULTS.md"; then
  cp "$out/RESULTS.md" "$repo/bench/"
  cp "$out/gpu.md" "$repo/docs/"
  note "bench/RESULTS.md and docs/gpu.md have this run's tables"
fi

say "done; what it leaves is in $out"
if ((${#failed[@]})); then
  note "failed:" "${failed[@]}"
  exit 1
fi
note "all well"
