"""Write a file whole or not at all, whoever else writes or reads it at the same time."""

import contextlib
import fcntl
import glob
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from prospect_lib.errors import SettingsError

#: At least 16 characters that a header ``Authorization: Bearer`` may have (RFC 6750).
_SECRET = re.compile(rb"[A-Za-z0-9._~+/-]{16,4096}=*")


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
    with draft_of(path, mode=mode) as draft:
        draft.write_bytes(raw)


def ensure_secret(path: Path) -> str:
    """Return the secret in a file; on first use, create it, readable by its owner only.

    The file is created whole or not at all, and processes that start at the same time get the
    same secret.

    Raises:
        SettingsError: the file is empty, holds something else, or every user can read it.
        OSError: it cannot be read, or its folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(path.parent):
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(24), mode=0o600)
    with path.open("rb") as file:
        mode, content = os.fstat(file.fileno()).st_mode, file.read(8192).strip()
    if not _SECRET.fullmatch(content):
        what = "holds no secret" if content else "is empty"
        raise SettingsError(
            f"{path} {what}: expected one line of 16 characters or more from A-Z a-z 0-9 . _ ~ + "
            "/ -. Delete the file, and the next start creates one."
        )
    if stat.S_IMODE(mode) & stat.S_IRWXO:
        raise SettingsError(
            f"{path} holds a secret, but every user of this machine may open it (mode "
            f"{stat.S_IMODE(mode):04o}). Run `chmod 600 {path}`, or delete it for a new one."
        )
    return content.decode()


def nearest_existing(folder: Path) -> Path:
    """Return a folder if it exists, else the nearest of its parents that does."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def writable_folder(folder: Path) -> Path:
    """Return a folder in which a file can be made: in itself, or in the part of it that exists.

    Raises:
        SettingsError: it cannot be created, or nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(folder)):
            return folder
    except OSError as error:
        raise not_writable(folder, error) from error


def not_writable(path: Path, error: OSError) -> SettingsError:
    """Return the error for a file or a folder that cannot be written."""
    return SettingsError(
        f"{path} cannot be written ({error.strerror}). Name another folder, or set PROSPECT_HOME "
        "to one of yours."
    )


def not_readable(path: Path, error: OSError) -> SettingsError:
    """Return the error for a file or a folder that this user may not read."""
    return SettingsError(f"{path} cannot be read ({error.strerror}). Run this as its owner.")


@contextlib.contextmanager
def draft_of(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield the path of a draft that takes the place of ``path`` when the block ends.

    The draft's name is unique, so two writers of one path never write into one draft. If the
    block raises, the draft is removed and ``path`` stays as it was. A draft that a killed process
    left behind is removed by the next writer of its path.

    Example::

        with draft_of(folder / "events.parquet") as draft:
            pq.write_table(table, draft)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.draft"):
        _remove_unless_in_use(other)
    draft, handle = _create_in_use(path, mode)
    try:
        yield draft
        sync(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    sync(path.parent)


def _create_in_use(path: Path, mode: int) -> tuple[Path, int]:
    """Create a draft, locked until its handle is closed or the process ends."""
    while True:
        draft = path.parent / f".{path.name}.{uuid4().hex}.draft"
        handle = os.open(draft, os.O_RDONLY | os.O_CREAT | os.O_EXCL, mode)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        if os.fstat(handle).st_nlink:
            return draft, handle
        os.close(handle)  # another writer removed it before it was locked


def _remove_unless_in_use(draft: Path) -> None:
    with contextlib.suppress(OSError):  # another process has removed it, or writes it
        handle = os.open(draft, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which ends with the process; others wait for it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def hold(path: Path) -> TextIO:
    """Return a file with the number of this process, locked until it is closed.

    The lock ends with the process, however it ends. A number that a crash left behind, which
    another program may have by now, is therefore never mistaken for a holder.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be written.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder_of(path: Path) -> int | None:
    """Return the number of the process that holds a file; ``None`` without one."""
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except (OSError, ValueError):
        pass
    return None


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
