"""Results of benchmarks, each with a hash of the code that it measures.

A benchmark depends on itself and on every module of this repository that it names or imports,
directly or through others. The hash covers their statements: not comments, docstrings, blank
lines and error messages, and not the modules in ``WORDS``, which only phrase or draw things.
A result whose hash differs from the one of today's code is *stale*: it says what an older
version did. ``tests/test_benchmarks.py`` refuses stale results; ``make bench`` renews them.
"""

import ast
import functools
import hashlib
import io
import json
import os
import re
import tokenize
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
WORDS = ("doctor", "errors", "plots", "reports", "secret_values", "settings", "version")
#: Load of the machine when the benchmark started: that of other programs.
LOAD_BEFORE = round(os.getloadavg()[0], 1)


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted({file.stem for file in HERE.glob("*.py")} - {"figures", "__main__"})


def save(name: str, results: dict[str, Any], write: bool = True) -> None:
    """Print the results of a benchmark and write them with the hash of what they depend on.

    Args:
        write: false for a run of another size, which is printed only.
    """
    head = {"code": code_hash(name), "cpus": os.cpu_count(), "load_before": LOAD_BEFORE}
    text = json.dumps({**head, **results}, indent=1)
    print(text)
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def saved(name: str) -> dict[str, Any]:
    """Return the last results of a benchmark; an empty dictionary if it has never run."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def stale() -> list[str]:
    """Return the benchmarks whose results are missing or older than the code they measure."""
    return [name for name in names() if saved(name).get("code") != code_hash(name)]


def code_hash(name: str) -> str:
    """Return the hash of the statements of all modules that a benchmark depends on."""
    digest = hashlib.sha256()
    for file in modules(HERE / f"{name}.py"):
        digest.update(f"{file.relative_to(ROOT).as_posix()}\n{statements(file)}\n".encode())
    return digest.hexdigest()[:16]


def modules(benchmark: Path) -> list[Path]:
    """Return a benchmark and all modules that it reaches, sorted by path."""
    reached, unread = {benchmark}, [benchmark]
    while unread:
        new = named_modules(unread.pop()) - reached
        reached |= new
        unread += new
    return sorted(reached)


@functools.cache
def named_modules(file: Path) -> frozenset[Path]:
    """Return the modules of this repository that a module imports, or names in a text."""
    text = statements(file)
    names = set(re.findall(r"\b(?:prospect_lib|tests)(?:\.\w+)+", text))
    for package, imported in re.findall(r"^\s*from ([\w.]+) import (\([^)]*\)|.*)$", text, re.M):
        names |= {f"{package}.{name}" for name in re.findall(r"\w+", imported)}
    if file.parent == HERE:  # modules beside it
        names |= {f"benchmarks.{name}" for name in re.findall(r"^from (\w+) import", text, re.M)}
    paths = (ROOT.joinpath(*name.split(".")) for name in names if "." in name)
    files = {file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py")}
    ignored = {HERE / "figures.py"} | {ROOT / "prospect_lib" / f"{name}.py" for name in WORDS}
    return frozenset(
        file
        for file in files - ignored
        if file.is_file() and file.relative_to(ROOT).parts[1] not in WORDS
    )


@functools.cache
def statements(file: Path) -> str:
    """Return the source of a module without docstrings, comments, blank lines and messages.

    It is text, not a dump of the syntax tree, so it is the same in every version of Python.
    """
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            blank(lines, node, "")
        elif isinstance(node, ast.Raise):
            blank(lines, node, "raise")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            blank(lines, node, "")
    return "\n".join(line.rstrip() for line in lines if line.strip())


def blank(lines: list[str], node: ast.stmt, instead: str) -> None:
    """Replace the lines of a statement."""
    lines[node.lineno - 1] = " " * node.col_offset + instead
    for row in range(node.lineno, node.end_lineno or node.lineno):
        lines[row] = ""
