"""Names and words of the package: a name has one meaning, the text is plain English."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

import prospect_lib

PACKAGE = Path(prospect_lib.__file__).parent
#: Names that say nothing of what they hold; a variable is named for its content.
EMPTY_NAMES = {"found", "mine", "theirs", "given", "wanted", "said", "told"}
#: Phrases that have a plain, modern equivalent.
PHRASES = (
    "if need be",  # if needed
    "afresh",  # again
    "anew",  # again
    "shall",  # must
    "can be had",  # is available
    "in place of",  # instead of
    "beside the",  # with the, next to the
    "what came of it",  # the result
    "as ever",  # as usual
    "hence",  # so
    "lest",  # so that ... not
    "upon",  # on
    "whence",  # where ... from
    "whilst",  # while
    "he",  # they: a visitor
    "him",  # them
    "his",  # their
    "births",  # lifetime starts
    "canvas",  # figure
    "lane",  # path, counter
    "mortal",  # expiring
    "protagonist",  # followed visitor
)
MODULES = {
    path.relative_to(PACKAGE.parent).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
    if "node_modules" not in path.parts and path.name != "site_template.py"  # copied, not imported
}
NOTEBOOKS = {
    f"{path.stem} {cell.id}": cell
    for path in sorted((PACKAGE.parent / "notebooks").rglob("*.ipynb"))
    for cell in nbformat.read(path, as_version=4).cells
}


NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)


def public_names(module: ast.Module) -> Iterator[str]:
    """Yield the public names that a module defines at its top level, without its imports."""
    for node in module.body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [part for target in targets for part in ast.walk(target)]
            names = [part.id for part in parts if isinstance(part, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def identifiers(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of each variable, parameter, attribute, function and class."""
    for node in ast.walk(module):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, NAMED) and node.name:
            yield node.lineno, node.name


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each comment and docstring."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.lineno, " ".join(str(first.value.value).split())


def test_no_public_name_is_defined_in_two_modules() -> None:
    modules_of = defaultdict(set)
    for name, source in MODULES.items():
        for public in public_names(ast.parse(source)):
            modules_of[public].add(name)
    duplicates = {public: sorted(in_) for public, in_ in modules_of.items() if len(in_) > 1}
    assert not duplicates, f"give two things two names, or import the one: {duplicates}"


def test_identifiers_name_what_they_hold() -> None:
    plain = TransformerManager().transform_cell  # without magics
    cells = {n: plain(c.source) for n, c in NOTEBOOKS.items() if c.cell_type == "code"}
    empty_names = [
        f"{name}:{line}: {identifier}"
        for name, source in (MODULES | cells).items()
        for line, identifier in identifiers(ast.parse(source))
        if identifier.strip("_") in EMPTY_NAMES
    ]
    assert not empty_names, "name it for the thing that it holds:\n" + "\n".join(empty_names)


def test_comments_and_docstrings_are_in_plain_english() -> None:
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, PHRASES))})\b", re.IGNORECASE)
    texts = [(n, line, t) for n, source in MODULES.items() for line, t in prose(source)]
    texts += [(n, 1, c.source) for n, c in NOTEBOOKS.items() if c.cell_type == "markdown"]
    phrases = [
        f"{name}:{line}: {match.group()}"
        for name, line, text in texts
        for match in pattern.finditer(text)
    ]
    assert not phrases, "write it in plain, modern English:\n" + "\n".join(phrases)
