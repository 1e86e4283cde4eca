"""Run benchmarks one after the other: those that are named, otherwise those that are stale.

Usage: ``python benchmarks [name ...]``. Exit code 1 names those that failed; the others go on.
"""

import subprocess
import sys
import time

from figures import HERE, names, stale


def main() -> int:
    """Run the benchmarks, each in a process of its own; return 1 if one failed."""
    chosen, failed = sys.argv[1:] or stale(), []
    if unknown := set(chosen) - set(names()):
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}")
        return 2
    for position, name in enumerate(chosen, start=1):
        print(f"[{position} of {len(chosen)}] {name}", flush=True)
        start = time.monotonic()
        if subprocess.run([sys.executable, HERE / f"{name}.py"], check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "every result is of this code")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
