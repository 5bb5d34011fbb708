"""tools/cuda_ptx.py: what it reads from PTX and from nvJitLink, and that it fails where it should."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sdie_fast

TOOL = Path(__file__).resolve().parents[1] / "tools" / "cuda_ptx.py"

PTX = """
.version 9.0
.target sm_90
.visible .entry k(
	.param .u64 k_param_0
)
{
	.local .align 16 .b8 	__local_depot0[48];
	.reg .pred 	%p<3>;
	.reg .f64 	%fd<3>;
	ld.param.u64 	%rd1, [k_param_0];
	// begin .f64 of a comment
	mul.f64 	%fd2, %fd1, 0d3FB999999999999A;
	@%p1 bra 	$L__BB0_2;
	@!%p2 cvt.rn.ftz.f32.f64 	%f5, %fd2;
	ld.shared::cta.f32 	%f4, [%rd28];
$L__BB0_2:
	ret;
}
"""

PTXAS = """INFO: NVVM70 LTOIR Container created (374208 bytes)
ptxas info    : 8 bytes gmem
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
ptxas         .     48 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 72 registers, used 1 barriers, 48 bytes cumulative stack size, 36648 bytes smem
ptxas info    : Compile time = 40.303 ms
"""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("cuda_ptx", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reads_ptx(tool):
    found = ["ld.param.u64", "mul.f64", "bra", "cvt.rn.ftz.f32.f64", "ld.shared::cta.f32", "ret"]
    assert list(tool.opcodes(PTX)) == found
    assert tool.count_float64(PTX) == 2
    assert tool.local_bytes(PTX) == 48


def test_reads_what_the_linker_says(tool):
    figures = tool.parse_ptxas(PTXAS)
    # 28 warps: 65536 registers, 72 in each of 32 threads
    assert figures == {"registers": 72, "warps": 28, "stack": 48, "spilled": 40, "shared": 36648}
    assert tool.row("k", {"PTX": 6, **figures}, 3).split() == ["k", "6", "72", "28", "48", "40", "36648"]
    assert len(tool.row("k", figures, 9)) == len(tool.row("kernel", {}, 9))


def test_a_linker_that_says_nothing_is_no_success(tool):
    with pytest.raises(ValueError, match="nothing is said of registers: 'warning'"):
        tool.parse_ptxas("warning\n")


def test_allowance(tool):
    table = (("sums: *", 20), ("*: last", 5))
    assert [tool.allowance(n, table) for n in ("sums: last", "mix: last", "mix: first")] == [20, 5, 0]


def test_faults(tool, monkeypatch):
    monkeypatch.setattr(tool, "FLOAT64", (("sums", 20),))
    monkeypatch.setattr(tool, "STACK", (("sums", 8),))
    figures = {"float64": 20, "local": 0, "stack": 8}
    assert list(tool.faults("sums", figures)) == []
    found = list(tool.faults("other", figures | {"local": 16}))
    assert [fault.split(":")[0] for fault in found] == [
        "20 float64 instructions, 0 allowed",
        "16 bytes of local memory",
        "8 bytes of stack, 0 allowed",
    ]


@pytest.mark.parametrize("text", ["sm_90", "90", "9.0"])
def test_arch(tool, text):
    assert tool.parse_arch(text) == (9, 0)
    assert tool.parse_arch("sm_120") == (12, 0)


def run(*command):
    pytest.importorskip("numba_cuda")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    environment["PYTHONPATH"] = str(Path(sdie_fast.__file__).parents[1])
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


def test_compiles_a_kernel(tmp_path):
    done = run(TOOL, "--kernel", "wls_fast: to_intensity", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 kernels for sm_90, 0 failed" in done.stdout
    (ptx,) = tmp_path.glob("*.ptx")
    assert ".target sm_90" in ptx.read_text()


def test_no_such_kernel():
    done = run(TOOL, "--kernel", "unsharp")
    assert done.returncode == 2
    assert "none is called 'unsharp'" in done.stderr


def test_tells_of_the_machine_code_that_is_launched(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(TOOL.parent)!r})
import cuda_ptx
from numba import cuda, float32, int32

@cuda.jit
def scale(a):
    a[0] = a[0] * 0.1  # a power of two would be narrowed

def sort(a):
    kept = cuda.local.array(8, float32)
    for k in range(8):
        kept[k] = a[k]
    a[0] = kept[int(a[8])]

def many(a):
    i = cuda.threadIdx.x
    {"; ".join(f"v{k} = a[i + {k}]" for k in range(64))}
    cuda.syncthreads()
    a[i] = {" + ".join(f"v{k} * v{63 - k} * a[i + v{k}]" for k in range(64))}

few = cuda.jit(launch_bounds=(1024, 2))
floats, integers = float32[::1], int32[::1]
for kernel, types in ((scale, floats), (cuda.jit(sort), floats), (cuda.jit(many), integers), (few(many), integers)):
    figures, ptx, wrong = cuda_ptx.examine("kernel", kernel, (types,), (9, 0))
    print(figures["float64"] > 0, figures["local"], figures["registers"] > 32, figures["spilled"] > 0, wrong)
"""
    )
    done = run(script)
    scale, sort, many, few = done.stdout.splitlines()
    assert scale.startswith("True 0 False False"), done.stderr
    assert "0 allowed" in scale
    assert sort.startswith("False 32 False False 32 bytes of local memory")
    assert many == "False 0 True False "
    assert few.startswith("False 0 False True")  # the bounds on threads and blocks hold it to 32 registers
    assert "of stack, 0 allowed" in few
