"""The numbers that pages print, made again.

`python docs/_numbers` lists where a page and the library differ, with NAME... only what those sources make,
and with `--write` it corrects the pages. Times and memory are not here: `make bench` makes those.
"""

from __future__ import annotations

import sys

import intervals
import runs
import theory
from printed import PAGES, SOURCES, corrected, differences

MODULES = (theory, runs, intervals)  # each fills SOURCES


def main(arguments: list[str]) -> int:
    """Compare, and correct the pages if asked to; 1 where something differs."""
    status = 0
    for name in [name for name in arguments if name != "--write"] or list(SOURCES):
        source = SOURCES[name]
        path = PAGES / source.page
        made = list(source.make())
        page = path.read_text(encoding="utf-8")
        for said in made:
            for printed, now in differences(page, said):
                status = 1
                print(f"{source.page}, {name}: {printed} is {now:.6g} in: {said.text}", flush=True)
        if "--write" in arguments:
            for said in made:
                page = corrected(page, said)
            path.write_text(page, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
