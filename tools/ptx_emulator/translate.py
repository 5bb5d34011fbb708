"""Translates a kernel's PTX to C++, which is compiled and linked with `runtime.cpp`.

One instruction becomes one statement; registers become local variables, labels stay labels. Reads and writes of memory go
through the runtime, which checks them. What an instruction means is from NVIDIA's PTX ISA reference.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SIZES = {f"{kind}{bits}": bits // 8 for kind in "usbf" for bits in (8, 16, 32, 64)} | {"pred": 4}
SPECIAL = {
    f"%{name}.{axis}": f"{value}{place}"
    for name, value, places in (
        ("tid", "current->", ("tx", "ty", "tz")),
        ("ctaid", "current->block->", ("bx", "by", "bz")),
        ("ntid", "block_size", ("[0]", "[1]", "[2]")),
        ("nctaid", "grid_size", ("[0]", "[1]", "[2]")),
    )
    for axis, place in zip("xyz", places, strict=True)
}
ATOMICS = ("add", "exch", "max", "min")  # in the order of the runtime's
ROUND = {"rzi": "std::trunc", "rmi": "std::floor", "rpi": "std::ceil", "rni": "std::nearbyint"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
WIDER = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64", "s64": "__int128", "u64": "unsigned __int128"}
BINARY = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^"}
UNARY = {"ex2": "std::exp2({})", "lg2": "std::log2({})", "rcp": "1 / {}", "sqrt": "std::sqrt({})"} | {
    "rsqrt": "1 / std::sqrt({})"
}

# How many instructions a GPU executes for one of PTX's, by kind; estimates from what ptxas makes of them for 9.0.
KINDS = ("float", "integer", "special", "convert", "float64", "load", "store", "load_shared", "store_shared", "atomic")
KINDS += ("barrier", "fence", "jump", "move", "parameter")
_INTEGER = ("add", "sub", "neg", "abs", "min", "max", "and", "or", "xor", "not", "shl", "shr", "setp", "selp")

_SHARED = re.compile(r"(?:\.\w+ )?\.shared (?:\.align (\d+) )?\.(\w+) ([\w$]+)(?:\[(\d+)\])?;")
_GLOBAL = re.compile(
    r"(?:\.\w+ )?\.(?:global|const) (?:\.align \d+ )?\.(\w+) (\w+)(?:\[(\d+)\])?\s*(?:=\s*\{([^}]*)\})?;"
)
_PARAM = re.compile(r"\.param \.(\w+) (\S+?),?$")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;")
_LOCAL = re.compile(r"\.local \.align \d+ \.b8\s+(\S+)\[(\d+)\];")
_INSTRUCTION = re.compile(r"(?:@(!?)%(p\d+)\s+)?(\S+?)(?:\s+(.*))?;$")


def _type(name: str) -> str:
    """The C++ type of a PTX type: bits without a sign are unsigned."""
    return name.replace("b", "u") if name[0] == "b" else name


def cost(opcode: str) -> dict[str, float]:
    """How many instructions of which kinds an opcode stands for."""
    operation, *modifiers = opcode.split(".")
    kind = modifiers[-1] if modifiers else ""
    wide, approximate = kind.endswith("64"), "approx" in modifiers
    if operation in ("ld", "st"):
        name = "load" if operation == "ld" else "store"
        if "param" in modifiers:
            return {"parameter": 1}
        return {f"{name}_shared" if any(m.startswith("shared") for m in modifiers) else name: 1}
    if named := {"atom": "atomic", "red": "atomic", "bar": "barrier", "membar": "fence", "fence": "fence"}.get(
        operation
    ):
        return {named: 1}
    if operation in ("bra", "ret"):
        return {"jump": 1}
    if kind == "f64":
        return {"float64": 1}
    if kind == "f32" and operation in ("add", "sub", "mul", "fma", "min", "max"):
        return {"float": 1}
    if kind == "f32" and operation in ("abs", "neg"):
        return {}  # a flag of the instruction that takes the value
    if operation in UNARY:
        return {"special": 1} if approximate else {"special": 1, "float": 6}
    if operation == "div" and kind == "f32":
        return {"special": 1, "float": 1 if approximate else 9}
    if operation in ("div", "rem"):
        return {"integer": 70, "special": 2} if wide else {"integer": 16, "special": 1}
    if operation in ("mov", "cvta"):
        return {"move": 1}
    if operation == "cvt":
        if "f32" not in modifiers and "f64" not in modifiers:
            return {"integer": 0.5}
        return {"float": 1} if "sat" in modifiers else {"convert": 1}
    if operation in ("mul", "mad"):
        return {"integer": 1.5 if "wide" in modifiers else 4 if wide else 1}
    if kind == "pred" and operation in ("and", "or", "xor", "not"):
        return {"integer": 0.5}
    return {"integer": 2 if wide and operation in _INTEGER else 1}


class Kernel:
    """One entry of a PTX text, as C++; `counted`: what also counts how often it passes through each basic block."""

    def __init__(self, ptx: str, *, counted: bool = False) -> None:
        self.name = re.search(r"\.visible \.entry (\S+)\(", ptx)[1]
        self.shared: dict[str, int] = {}  # offsets
        self.shared_bytes = 0
        self.globals: dict[str, str] = {}  # definitions
        self.parameters: dict[str, int] = {}  # positions
        self.sizes: list[int] = []
        self.statements: list[str] = []
        self.atomics = "atom.global" in ptx
        self.counted = counted
        self.costs: list[collections.Counter[str]] = []  # of the basic blocks
        self._line = 0
        body = False
        for self._line, text in enumerate(re.sub(r"//[^\n]*", "", ptx).split("\n"), 1):
            line = text.strip()
            if line in "{}":
                body = line == "{" or (body and not line)
                if line == "{":
                    self._begin_basic_block()
            elif body:
                self._statement(line)
            else:
                self._declaration(line)

    def _declaration(self, line: str) -> None:
        if m := _SHARED.match(line):
            align, size = int(m[1] or SIZES[m[2]]), SIZES[m[2]] * int(m[4] or 1)
            self.shared[m[3]] = -(-self.shared_bytes // align) * align
            self.shared_bytes = self.shared[m[3]] + size
        elif m := _GLOBAL.match(line):
            values = f" = {{{m[4]}}}" if m[4] else ""
            self.globals[m[2]] = f"static {_type(m[1])} {self._global(m[2])}[{m[3] or 1}]{values};"
        elif m := _PARAM.match(line):
            self.parameters[m[2]] = len(self.sizes)
            self.sizes.append(SIZES[m[1]])

    def _statement(self, line: str) -> None:
        if _SHARED.match(line):
            self._declaration(line)
        elif m := _REGISTERS.match(line):
            names = ", ".join(f"r_{m[2]}{k}" for k in range(int(m[3])))
            self.statements.append(f"{'int' if m[1] == 'pred' else _type(m[1])} {names};")
        elif m := _LOCAL.match(line):
            self.statements.append(f"alignas(16) char {m[1]}[{m[2]}];")
        elif m := re.match(r"([$\w]+):$", line):
            self.statements.append(f"{self._label(m[1])}:;")
            self._begin_basic_block()
        elif not line.startswith("."):
            m = _INSTRUCTION.match(line)
            if not m:
                raise self._unknown(line)
            statement = self._instruction(m[3], m[4] or "")
            condition = f"if ({'!' if m[1] else ''}r_{m[2]}) " if m[2] else ""
            self.statements.append(f"{condition}{{ {statement} }}" if condition else statement)
            self.costs[-1].update(cost(m[3]))
            if condition and m[3].startswith(("bra", "ret")):
                self._begin_basic_block()

    def _begin_basic_block(self) -> None:
        if self.counted:
            self.statements.append(f"++visits[{len(self.costs)}];")
        self.costs.append(collections.Counter())

    def _unknown(self, what: str) -> ValueError:
        return ValueError(f"{self.name}, PTX line {self._line}: {what!r} is not known to the translator")

    @staticmethod
    def _label(name: str) -> str:
        return name.replace("$", "L")

    @staticmethod
    def _global(name: str) -> str:
        return "global_" + name.replace("$", "_")

    def _operand(self, text: str, kind: str) -> str:
        """A register, a number or the address of a variable."""
        text = text.strip()
        wide = SIZES[kind] == 8
        if text in SPECIAL:
            return SPECIAL[text]
        if text.startswith("%"):
            return "r_" + text[1:]
        if text.startswith("0f"):
            return f"bits<f32>((u32)0x{text[2:]}u)"
        if text.startswith("0d"):
            return f"bits<f64>((u64)0x{text[2:]}ull)"
        if re.match(r"-?\d", text):
            return f"({text}{('ll' if text[0] == '-' else 'ull') if wide else ''})"
        if text in self.shared:
            return f"((u64)(shared + {self.shared[text]}))"
        if text in self.globals:
            return f"((u64){self._global(text)})"
        if text.startswith("__local"):
            return f"((u64){text})"
        raise self._unknown(text)

    def _address(self, text: str) -> str:
        m = re.match(r"\[([%$\w]+?)(?:\+(-?\d+))?\]$", text.strip())
        return f"((u64){self._operand(m[1], 'b64')} + ({m[2] or 0}ll))"

    def _memory(self, operation: str, modifiers: list[str], arguments: list[str]) -> str:
        """Loads and stores: each element of a vector by itself, after one look at the whole's alignment."""
        kind = modifiers[-1]
        c, size = _type(kind), SIZES[kind]
        loads = operation == "ld"
        where, registers = arguments if not loads else arguments[::-1]
        if "param" in modifiers:
            return f"r_{registers[1:]} = *({c}*)arguments[{self.parameters[where[1:-1]]}];"
        address = self._address(where)
        space = next((s for s in ("shared", "local", "global") if any(m.startswith(s) for m in modifiers)), "generic")
        elements = [r.strip() for r in registers.strip("{}").split(",")]
        made = ["give_way();"] if "acquire" in modifiers else []  # others may run before it
        if len(elements) > 1 and space != "local":
            made.append(f"check_vector({address}, {len(elements) * size}, {self._line});")
        for k, element in enumerate(elements):
            at = f"{address} + {k * size}"
            if space == "local":
                place = f"*({c}*)({at})"
                made.append(
                    f"r_{element[1:]} = {place};" if loads else f"{place} = ({c}){self._operand(element, kind)};"
                )
            elif loads:
                made.append(
                    f"r_{element[1:]} = load_{'shared' if space == 'shared' else 'any'}<{c}>({at}, {self._line});"
                )
            else:
                value = f"({c}){self._operand(element, kind)}"
                made.append(f"store_{'shared' if space == 'shared' else 'any'}<{c}>({at}, {value}, {self._line});")
        return " ".join(made)

    def _instruction(self, opcode: str, argument_text: str) -> str:
        operation, *modifiers = opcode.split(".")
        a = [x.strip() for x in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,])+", argument_text)]
        if operation in ("ld", "st"):
            return self._memory(operation, modifiers, a)
        if operation == "ret":
            return "return;"
        if operation == "bra":
            return f"goto {self._label(a[0])};"
        if operation == "bar":
            return f"barrier({self._line});"
        if operation in ("membar", "fence"):
            return ";"
        if operation == "nanosleep":
            return "give_way();"
        kind = modifiers[-1]
        c = _type(kind)
        if operation in ("atom", "red"):
            which = ATOMICS.index(next(m for m in modifiers if m in ATOMICS))
            value = f"({c}){self._operand(a[-1], kind)}"
            call = f"atomic<{c}>({self._address(a[-2])}, {value}, {self._line}, {which}, {int(any(m.startswith('shared') for m in modifiers))});"
            return f"r_{a[0][1:]} = {call}" if operation == "atom" else call
        result = "r_" + a[0].split("|")[0][1:]
        value = self._value(operation, modifiers, kind, c, a)
        if value is None:
            raise self._unknown(f"{opcode} {argument_text}")
        if "ftz" in modifiers and kind == "f32" and operation in ("add", "sub", "mul", "fma", *UNARY):
            value = f"flush({value})"
        return f"{result} = {value};"

    def _value(self, operation: str, modifiers: list[str], kind: str, c: str, a: list[str]) -> str | None:
        """The value of an instruction that computes one, or None."""
        is_float, bits = kind[0] == "f", SIZES[kind] * 8

        def arg(k: int, other: str = "") -> str:
            return self._operand(a[k], other or kind)

        def typed(k: int) -> str:
            return f"({c}){arg(k)}"

        if operation == "mov":
            from_float = a[1].startswith(("%f", "0f", "0d"))
            if kind[0] != "b" or from_float == a[0].startswith("%f"):
                return arg(1) if kind[0] == "b" else typed(1)
            return f"bits<{c}>({arg(1)})" if from_float else f"bits<f{bits}>({typed(1)})"
        if operation == "cvta":
            return arg(1)
        if operation == "cvt":
            return self._conversion(modifiers, a)
        if operation in BINARY and len(a) == 3:
            return f"({c})({typed(1)} {BINARY[operation]} {typed(2)})"
        if operation in ("mul", "mad"):
            return self._product(operation, modifiers, kind, c, a)
        if operation == "fma":
            return f"__builtin_fma{'f' if kind == 'f32' else ''}({arg(1)}, {arg(2)}, {arg(3)})"
        if operation in ("div", "rem"):
            if is_float:
                return f"({c})({arg(1)} / {arg(2)})"
            return f"{'quotient' if operation == 'div' else 'remainder'}<{c}>({typed(1)}, {typed(2)}, {self._line})"
        if operation in ("min", "max"):
            return f"{'least' if operation == 'min' else 'most'}<{c}>({typed(1)}, {typed(2)})"
        if operation == "neg":
            return f"({c})(-{typed(1)})"
        if operation == "abs":
            return f"std::fabs({arg(1)})" if is_float else f"({c})({typed(1)} < 0 ? -{typed(1)} : {typed(1)})"
        if operation == "not":
            return f"!{arg(1)}" if kind == "pred" else f"({c})~{typed(1)}"
        if operation in ("shl", "shr"):
            return f"{'shift_left' if operation == 'shl' else 'shift_right'}<{c}>({typed(1)}, (u32){arg(2, 'u32')})"
        if operation == "selp":
            return f"{arg(3, 'pred')} ? {typed(1)} : {typed(2)}"
        if operation == "setp":
            return self._comparison(modifiers, kind, a)
        if operation in UNARY:
            return f"({c})({UNARY[operation].format(arg(1))})"
        if operation == "copysign":
            return f"std::copysign({arg(2)}, {arg(1)})"
        if operation == "bfi":
            return f"insert_bits({arg(1)}, {arg(2)}, {arg(3, 'u32')}, {arg(4, 'u32')})"
        if operation == "bfe":
            return f"extract_bits({arg(1)}, {arg(2, 'u32')}, {arg(3, 'u32')})"
        if operation == "testp":
            return f"std::isinf({arg(1)})" if modifiers[0] == "infinite" else None
        if operation == "prmt":
            return f"permute({arg(1)}, {arg(2)}, {arg(3, 'u32')})"
        return None

    def _conversion(self, modifiers: list[str], a: list[str]) -> str:
        to, source = modifiers[-2:]
        value = f"({_type(source)}){self._operand(a[1], source)}"
        rounding = next((ROUND[m] for m in modifiers if m in ROUND), "")
        if "sat" in modifiers and to == "f32":
            return f"saturate({value})"
        if to[0] in "us" and source[0] == "f":
            return f"to_integer<{_type(to)}>({rounding}((double)({value})))"
        if to[0] == "f" and source == to:
            return f"{rounding}({value})"
        return f"({_type(to)})({value})"

    def _product(self, operation: str, modifiers: list[str], kind: str, c: str, a: list[str]) -> str:
        one, other = (f"({c}){self._operand(a[k], kind)}" for k in (1, 2))
        if kind[0] == "f":
            return f"({c})({one} * {other})"
        if "wide" in modifiers:
            wide = WIDER[kind]
            more = f" + {self._operand(a[3], wide)}" if operation == "mad" else ""
            return f"({wide})(({wide})({one}) * ({wide})({other}){more})"
        more = f" + {self._operand(a[3], kind)}" if operation == "mad" else ""
        if "hi" in modifiers:
            wide = WIDER[kind]
            return f"({c})((({wide})({one}) * ({wide})({other})) >> {SIZES[kind] * 8}){more}"
        return f"({c})((u64)({one}) * (u64)({other}){more})"

    def _comparison(self, modifiers: list[str], kind: str, a: list[str]) -> str:
        x, y = (f"({_type(kind)}){self._operand(a[k], kind)}" for k in (1, 2))
        nan = f"(std::isnan({x}) || std::isnan({y}))"
        name = UNSIGNED.get(modifiers[0], modifiers[0])
        if name in ("nan", "num"):
            return nan if name == "nan" else f"!{nan}"
        value = f"({x} {COMPARE[name[:2]]} {y})"
        if kind[0] == "f" and name[2:] == "u":  # or one of them is no number
            value = f"({nan} || {value})"
        elif kind[0] == "f" and name == "ne":
            value = f"(!{nan} && {value})"
        joined = next((m for m in modifiers[1:-1] if m in ("and", "or", "xor")), "")
        return f"({value} {BINARY[joined]} {self._operand(a[3], 'pred')})" if joined else value

    def _costs(self) -> list[str]:
        """The basic blocks' costs by kind, where they are counted."""
        blocks = self.costs if self.counted else [{}]
        costs = ", ".join(str(block.get(kind, 0)) for block in blocks for kind in KINDS)
        names = ", ".join(f'"{kind}"' for kind in KINDS)
        return [f"static const float costs[] = {{{costs}}};", f"static const char* const kinds[] = {{{names}}};"]

    def source(self) -> str:
        """The C++ text, for `runtime.h`."""
        sizes = ", ".join(map(str, [len(self.sizes), *self.sizes]))
        lines = [
            '#include "runtime.h"',
            *self.globals.values(),
            "static void kernel_thread(void** arguments) {",
            "char* shared = current->block->shared; u32* visits = current->visits;",
            "(void)shared, (void)visits, (void)arguments;",
            *self.statements,
            "}",
            *self._costs(),
            "static const KernelInfo kernel = {",
            f'"{self.name}", {-(-self.shared_bytes // 4) * 4}, {int(self.atomics)}, kernel_thread,',
            f"{len(self.costs) if self.counted else 0}, costs, {len(KINDS)}, kinds}};",
            'extern "C" {',
            f"int parameter_sizes[] = {{{sizes}}};",
            "void launch_kernel(void** arguments, const unsigned* grid, const unsigned* block) {",
            "run_kernel(kernel, arguments, grid, block); }",
            "}",
        ]
        return "\n".join(lines)


def build(ptx: str) -> str:
    """Compile a PTX text, unless it was before; returns the path of the shared library."""
    source, cache = Kernel(ptx, counted="EMULATOR_COUNT" in os.environ).source(), Path(os.environ["EMULATOR_CACHE"])
    key = hashlib.sha1((source + (HERE / "runtime.h").read_text()).encode()).hexdigest()[:16]
    library = cache / "so" / f"{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        text = library.with_suffix(".cpp")
        text.write_text(source)
        made = library.with_suffix(f".{os.getpid()}")
        command = [os.environ.get("CXX", "g++"), "-std=c++17", "-w", "-O1" if len(source) < 1_500_000 else "-O0"]
        # Rounding as PTX says: products are fused where it says so, and nowhere else.
        command += ["-fwrapv", "-ffp-contract=off", "-mfma", "-shared", "-fPIC", f"-I{HERE}", f"-L{cache / 'lib'}"]
        command += ["-o", str(made), str(text), "-lptx_runtime"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{text} does not compile: {done.stderr[:3000]}")
        made.replace(library)
    return str(library)


if __name__ == "__main__":  # translate.py FILE...: whether PTX files can be translated
    for name in sys.argv[1:]:
        print(name, len(Kernel(Path(name).read_text()).source()))
