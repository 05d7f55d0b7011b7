"""`python -m sgdsim` and the `sgdsim` command."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line, or say in one line what it needs."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"sgdsim: error: the command line needs {' and '.join(missing)}; pip install 'sgdsim[cli]'", file=sys.stderr
        )
        raise SystemExit(2)
    try:
        from sgdsim.cli import app

        app(prog_name="sgdsim")
    except KeyboardInterrupt:  # while it was being imported: every command answers for itself
        print("sgdsim: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
