"""Write the repository's public address, set in pyproject.toml, into notebooks and README.

The badge and the install cell of every notebook, and the badges of the README, follow from
``[project.urls] Repository`` and the version. To publish at an address of your own, write it
there and run ``python -m tools.stamp_notebooks``; ``--check`` and a test report files that are
out of date.

Example: ``Address("https://github.com/a/b", "v0.1.0").badge("notebooks/00_x.ipynb")`` ->
``"[![Open in Colab](…)](https://colab.research.google.com/github/a/b/blob/v0.1.0/…)"``
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from prospect_lib import __version__
from prospect_lib.errors import SettingsError
from prospect_lib.files import write_whole

BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)|\*In Colab:[^*]*\*")
UPLOAD = (
    "*In Colab: upload this notebook and, with the folder symbol at the left, the file that "
    "`make bundle` writes.*"
)
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
PLACEHOLDER = "https://github.com/your_organisation/"
PUBLISHED = """\
    public = "{repository}"
    public += "/archive/refs/tags/{tag}.zip\""""
NOT_PUBLISHED = """\
    public = ""  # not published yet"""
REFUSAL = """
        assert source, (
            "Not published yet: run `make bundle` in a checkout, upload "
            "prospect-scoring.zip with the folder symbol at the left, and run this again."
        )"""
INSTALL = """\
# @title Install in Colab; elsewhere this does nothing, and need not be read
import importlib.util
import sys
from pathlib import Path

if "google.colab" in sys.modules:  # elsewhere, `make lab` has installed everything
    uploaded = Path("prospect-scoring.zip")  # from `make bundle`
    in_drive = Path("drive/MyDrive/prospect-scoring")  # a checkout
{public}
    source = next((path for path in (uploaded, in_drive) if path.exists()), public)
    if importlib.util.find_spec("prospect_lib") is None:{refusal}
        %pip install -q --no-deps {{source}}
    from prospect_lib import colab

    colab.prepare()"""


@dataclass(frozen=True)
class Address:
    """The public repository, and the tag that badges open and install cells install."""

    repository: str
    tag: str

    @classmethod
    def of(cls, root: Path) -> "Address":
        """Read the address from ``pyproject.toml`` in a checkout.

        Raises:
            SettingsError: the file is missing or has no GitHub address.
        """
        path = root / "pyproject.toml"
        try:
            urls = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["urls"]
            repository = str(urls["Repository"]).rstrip("/")
        except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
            raise SettingsError(
                f"{path}: no [project.urls] Repository ({type(error).__name__}). Run this in a "
                "checkout of the repository, and set the address in that file."
            ) from error
        if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository):
            raise SettingsError(
                f"{path}: Repository = {repository!r}, expected https://github.com/OWNER/NAME, "
                "which Colab can open."
            )
        return cls(repository, f"v{__version__}")

    def badge(self, notebook: str) -> str:
        """Return the Markdown of the badge that opens a notebook, by its path in the repository."""
        name = self.repository.removeprefix("https://github.com/")
        link = f"https://colab.research.google.com/github/{name}/blob/{self.tag}/{notebook}"
        return f"[![Open in Colab]({IMAGE})]({link})"

    def opening(self, notebook: str) -> str:
        """Return the first line of a notebook: its badge, or what to do before there is one."""
        return UPLOAD if self.is_placeholder else self.badge(notebook)

    @property
    def is_placeholder(self) -> bool:
        """Whether no public address is set yet."""
        return self.repository.startswith(PLACEHOLDER)

    def install(self) -> str:
        """Return the code of a notebook's install cell.

        It installs an uploaded ``prospect-scoring.zip``, else a checkout in a mounted Drive,
        else the tag's archive at the public address; before there is one, it says what to do.
        """
        if self.is_placeholder:
            return INSTALL.format(public=NOT_PUBLISHED, refusal=REFUSAL)
        public = PUBLISHED.format(repository=self.repository, tag=self.tag)
        return INSTALL.format(public=public, refusal="")


def stamp(root: Path, *, write: bool = True) -> list[str]:
    """Bring every badge and install cell up to date.

    Args:
        root: the root folder of a checkout.
        write: ``False`` changes no file.
    Returns:
        The files that were out of date, relative to ``root``.
    """
    address = Address.of(root)
    files = [*sorted((root / "notebooks").glob("**/*.ipynb")), root / "README.md"]
    changed = []
    for path in files:
        old = path.read_text(encoding="utf-8")
        name = path.relative_to(root).as_posix()
        new = _notebook(old, name, address) if path.suffix == ".ipynb" else _page(old, address)
        if new != old:
            changed.append(name)
            if write:
                write_whole(path, new)
    return changed


def _notebook(text: str, name: str, address: Address) -> str:
    notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    before = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = BADGE.sub(lambda _: address.opening(name), cell.source)
        elif "colab.prepare()" in cell.source:
            cell.source = address.install()
    if [cell.source for cell in notebook.cells] == before:
        return text
    return str(nbformat.writes(notebook)) + "\n"  # type: ignore[no-untyped-call]


def _page(text: str, address: Address) -> str:
    """Return the README's text with the badge of each table row for the notebook linked there."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        link = re.search(r"\]\((notebooks/\w+\.ipynb)\)", line)
        if link:
            lines[number] = BADGE.sub(address.badge(link[1]), line)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the public address into the checkout in the working folder."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.stamp_notebooks", description=main.__doc__
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; report files that are out of date"
    )
    check = parser.parse_args(arguments).check
    try:
        outdated = stamp(Path.cwd(), write=not check)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for name in outdated:
        print(f"{'out of date' if check else 'stamped'}: {name}")
    return 1 if outdated and check else 0


if __name__ == "__main__":
    sys.exit(main())
