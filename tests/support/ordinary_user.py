"""Run commands as a user whom the permissions of files hold, also where the tests run as root."""

import contextlib
import ctypes
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from prospect_lib import cli

DROP_CAPABILITY = 24  # PR_CAPBSET_DROP of prctl(2)


class Attempt(NamedTuple):
    """A command, tried while a folder has other permissions."""

    folder: str
    mode: int
    command: str


class Result(NamedTuple):
    """The exit code of a command, and what it wrote to standard error."""

    code: int
    error: str


def results_of(attempts: list[Attempt], **environment: str) -> list[Result]:
    """Run commands one after the other, in one process."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.ordinary_user", json.dumps(attempts)],
        env={**os.environ, **environment},
        preexec_fn=_drop_capabilities,
        check=True,
        timeout=300,
        capture_output=True,
        text=True,
    )
    return [Result(*each) for each in json.loads(process.stdout.splitlines()[-1])]


def _drop_capabilities() -> None:
    """Let the program that is run next open what the modes of files allow, as root too."""
    for capability in range(64):
        ctypes.CDLL(None).prctl(DROP_CAPABILITY, capability, 0, 0, 0)


def _result(attempt: Attempt) -> Result:
    error, folder = io.StringIO(), Path(attempt.folder)
    folder.chmod(attempt.mode)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        code = cli.main(attempt.command.split())
    folder.chmod(0o700)
    return Result(code, error.getvalue())


if __name__ == "__main__":
    print(json.dumps([_result(Attempt(*each)) for each in json.loads(sys.argv[1])]))
