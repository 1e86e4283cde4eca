"""Write a file whole or not at all, whoever else writes or reads it at the same time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Replace ``path`` by a file with ``content``; readers see the old file or the new one.

    The folder is created if it is missing. The content is on disk when this returns.

    Args:
        path: the file to write.
        content: bytes, or text that is encoded as UTF-8.
        mode: the permission bits of the file; ``0o600`` for a secret.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is unchanged.
    """
    raw = content.encode() if isinstance(content, str) else content
    with draft_of(path) as draft:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(raw)


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Yield the path of a draft that takes the place of ``path`` when the block ends.

    The draft's name is unique, so two writers of one path never write into one draft. If the
    block raises, the draft is removed and ``path`` stays as it was.

    Example::

        with draft_of(folder / "events.parquet") as draft:
            pq.write_table(table, draft)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.{uuid4().hex}.draft"
    try:
        yield draft
        sync(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
