"""Make the figures of docs/plots.md: `python docs/_gallery.py FOLDER`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).with_name("plots.md")
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def figures(page: Path = PAGE) -> Iterator[tuple[str, Any]]:
    """Run the blocks of a page in one namespace; the call that each draws with, and the figure."""
    import matplotlib.pyplot as plt

    namespace: dict[str, Any] = {}
    for i, code in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8"))):
        before = set(plt.get_fignums())
        exec(compile(code, f"{page.name}, block {i}", "exec"), namespace)
        name = f"{i:02d}_" + "_".join(dict.fromkeys(re.findall(r"^plots\.(\w+)\(", code, re.MULTILINE)))
        drawn = [plt.figure(number) for number in plt.get_fignums() if number not in before]
        # `panels` makes figures that pyplot does not keep.
        yield from ((name, figure) for figure in drawn or [namespace.pop("figure", None)] if figure is not None)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Luminance of an image (H, W, 4) of bytes."""
    return pixels[..., :3] @ np.array([0.2126, 0.7152, 0.0722])


def pixels_of(figure: Any) -> np.ndarray:
    """The figure as drawn, (H, W, 4) of bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def main(folder: Path) -> None:
    """Write every figure twice, in colour and in grey."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures():
        image = pixels_of(figure)
        plt.imsave(folder / f"{name}.png", image)
        plt.imsave(folder / f"{name}_grey.png", grey(image), cmap="gray", vmin=0, vmax=255)
        plt.close(figure)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
