"""sgdsim: a million training runs at once, measured where they settle, held against theory."""

from typing import TYPE_CHECKING

from sgdsim._version import __version__ as __version__

if TYPE_CHECKING:
    from sgdsim._public import *
else:

    def __getattr__(name):
        """Load the library when a name of it is first asked for: who wants one room, or `--help`, need not wait."""
        if name == "__all__":
            return __dir__()
        if not name.startswith("_"):
            from sgdsim import _public

            if name in vars(_public):
                return globals().setdefault(name, getattr(_public, name))
        raise AttributeError(f"module 'sgdsim' has no attribute {name!r}")

    def __dir__():
        from sgdsim import _public

        return sorted(name for name in vars(_public) if not name.startswith("_"))
