"""Run every notebook in order and write its outputs in a form that can be committed.

The run has its own home and ports, apart from a sandbox that is already running. The outputs
are the same on every machine: without execution times, widgets and paths, with default ports.

Example: ``python -m tools.run_notebooks`` -> ``00_start_here.ipynb: 21 s`` and so on;
``--check`` writes nothing and reports cells whose output is of another kind than committed.
"""

import argparse
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

from prospect_lib import sandbox
from prospect_lib.errors import ProspectError, SettingsError
from prospect_lib.files import write_whole
from prospect_lib.settings import PREDICT_PORT, SANDBOX_PORT, SECRET_NAMES, Settings

REPRODUCIBLE = "nbval-check-output"  # tag of cells whose output does not depend on the day
TIMEOUT = 600  # seconds per cell
Say = Callable[[str], None]


class NotebookError(ProspectError):
    """A cell failed, or its output is of another kind than the committed one."""

    exit_code = 7


def run(folder: Path, *, check: bool = False, say: Say = print) -> list[str]:
    """Execute ``folder``'s notebooks and their solutions, in order, without secrets.

    Args:
        folder: the notebooks' folder.
        check: compare with the committed outputs, and write nothing.
        say: receives one line per notebook.
    Returns:
        With ``check``, one line per cell that differs.
    Raises:
        SettingsError: the folder has no notebooks.
        NotebookError: a cell failed; the message has the notebook and the end of the error.
    """
    paths = [*sorted(folder.glob("0*.ipynb")), *sorted(folder.glob("solutions/0*.ipynb"))]
    if not paths:
        raise SettingsError(f"{folder}: no notebooks. Run this in a checkout of the repository.")
    differing: list[str] = []
    with TemporaryDirectory() as home:
        settings = Settings(Path(home) / "home", _free_port(), _free_port())
        try:
            for path in paths:
                start = time.monotonic()
                old = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
                new = executed(path, settings)
                if check:
                    differing += [f"{path.name}, {line}" for line in different(old, new)]
                else:
                    write_whole(path, nbformat.writes(new) + "\n")  # type: ignore[no-untyped-call]
                say(f"{path.relative_to(folder)}: {time.monotonic() - start:.0f} s")
        finally:
            sandbox.stop(settings)
    return differing


def executed(path: Path, settings: Settings) -> Any:
    """Execute a notebook and return it with cleaned outputs.

    Raises:
        NotebookError: a cell failed.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    environment = {
        "PROSPECT_HOME": str(settings.home),
        "PROSPECT_PORT": str(settings.sandbox_port),
        "PREDICT_PORT": str(settings.predict_port),
    }
    client = NotebookClient(
        notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(path.parent)}}
    )
    try:
        client.execute(env={**_without_secrets(), **environment})
    except CellExecutionError as error:
        plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without colours
        end = "\n".join(plain.strip().splitlines()[-12:])
        raise NotebookError(f"{path.name} does not run:\n{end}") from None
    return cleaned(notebook, settings)


def cleaned(notebook: Any, settings: Settings) -> Any:
    """Remove what differs between runs or describes the machine; change and return the notebook."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = list(_merged(cell.outputs))
            for output in cell.outputs:
                _tidy(output, settings)
    return notebook


def _merged(outputs: Iterable[Any]) -> Iterable[Any]:
    """Join the pieces of a stream, and leave out progress bars."""
    last: Any = None
    for output in outputs:
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue
        streams = last is not None and last.output_type == output.output_type == "stream"
        if streams and last.name == output.name:
            last.text += output.text
            continue
        last = output
        yield output


def _tidy(output: Any, settings: Settings) -> None:
    replacements = {
        f"127.0.0.1:{settings.sandbox_port}": f"127.0.0.1:{SANDBOX_PORT}",
        f"127.0.0.1:{settings.predict_port}": f"127.0.0.1:{PREDICT_PORT}",
        str(settings.home): "PROSPECT_HOME",
    }
    for old, new in replacements.items():
        if output.output_type == "stream":
            output.text = output.text.replace(old, new)
        for kind, content in output.get("data", {}).items():
            if isinstance(content, str) and kind.startswith("text/"):
                output.data[kind] = content.replace(old, new)


def different(old: Any, new: Any) -> list[str]:
    """Return one line per cell whose outputs are of another kind, or not equal where tagged."""
    lines: list[str] = []
    for number, (was, now) in enumerate(zip(old.cells, new.cells, strict=True), start=1):
        if was.cell_type != "code":
            continue
        kinds = [_kinds(cell) for cell in (was, now)]
        if kinds[0] != kinds[1]:
            lines.append(f"cell {number}: {kinds[1]} instead of {kinds[0]}")
        elif REPRODUCIBLE in was.metadata.get("tags", []) and was.outputs != now.outputs:
            lines.append(
                f"cell {number}: another output, though its tag says that it does not change"
            )
    return lines


def _kinds(cell: Any) -> list[str]:
    return [
        ", ".join(sorted(output.get("data", {}))) or str(output.get("name", output.output_type))
        for output in cell.outputs
    ]


def _without_secrets() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SECRET_NAMES}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks of the checkout in the working folder, and write their outputs."""
    parser = argparse.ArgumentParser(prog="python -m tools.run_notebooks", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; report differences")
    try:
        differing = run(Path.cwd() / "notebooks", check=parser.parse_args(arguments).check)
    except ProspectError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(*differing, sep="\n", end="\n" if differing else "")
    return NotebookError.exit_code if differing else 0


if __name__ == "__main__":
    sys.exit(main())
