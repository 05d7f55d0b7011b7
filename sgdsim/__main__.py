"""`python -m sgdsim` and the `sgdsim` command."""

from __future__ import annotations

import importlib.util
import io
import os
import sys

from sgdsim.cli.kept_programs import keep_programs


def main() -> None:
    """Run the command line, or say in one line what it needs."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"sgdsim: error: the command line needs {' and '.join(missing)}; pip install 'sgdsim[cli]'", file=sys.stderr
        )
        raise SystemExit(2)
    if sys.stdout is None:
        print("sgdsim: error: standard output is closed; redirect it to a file or to /dev/null", file=sys.stderr)
        raise SystemExit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sign that a terminal cannot show is no reason to lose a table
    try:
        keep_programs()  # before JAX starts
        from sgdsim.cli.app import app

        try:
            app(prog_name="sgdsim")
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:  # while it was being imported: every command answers for itself
        print("sgdsim: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as gone:  # whoever read standard output has left, or the disk is full
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  Python flushes it once more at exit
        print(f"sgdsim: error: standard output: {gone.strerror}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
