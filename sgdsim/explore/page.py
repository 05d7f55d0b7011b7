"""The page: sliders, what they ask for, and where the answers go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import Button, Column, CustomJSTickFormatter, Div, RadioButtonGroup, Slider

from sgdsim import _checks
from sgdsim.explore import model, table
from sgdsim.explore.figures import QUANTITIES, EllipsePanel, RatePanel
from sgdsim.explore.inputs import MAX_BATCH, RANGES, Inputs
from sgdsim.explore.lane import Lane
from sgdsim.plots.style import APPROXIMATIONS

_TEN = "return String(Number((10 ** tick).toPrecision(3)))"
_TWO = "return String(2 ** tick)"
_WIDTH = 270


class Page:
    """One browser tab.

    Args:
        document: what bokeh shows.
        chains: of each simulation.
        quick: one thread for predictions, shared by all tabs.
        slow: one thread for simulations, shared by all tabs.
    """

    def __init__(self, document: Document, chains: int, quick: Executor, slow: Executor):
        self._start = Inputs(chains=chains)
        self._unit, self._seed = "limit", 0
        self._following = False
        self._theory: model.Theory | None = None
        self._curves: model.Curves | None = None
        self._found: model.Simulated | None = None
        self._predicting = Lane(quick, document.add_next_tick_callback)
        self._simulating = Lane(slow, document.add_next_tick_callback)
        self._sliders = _sliders(self._start)
        self._ellipses, self._rates = EllipsePanel(), RatePanel()
        self._standing = Div(name="standing", width=1150, height=46)  # two lines: below it nothing moves
        self._run = Div(name="run", width=560, margin=(9, 5, 0, 15))
        self._table = Div(name="table", width=1150)
        self._quantity = RadioButtonGroup(labels=list(QUANTITIES.values()), active=0, name="quantity")
        looks = [APPROXIMATIONS[name].label for name in model.NAMES]
        self._against = RadioButtonGroup(labels=looks, active=0, name="against")
        self._again = Button(label="other random numbers", name="again", width=_WIDTH)
        self._connect()
        document.on_session_destroyed(lambda _: self._close())
        document.title = "sgdsim explore"
        document.add_root(self._layout())
        self._ask()

    def _layout(self) -> Column:
        left = column(*self._sliders.values(), self._again, _label("right panel"), self._quantity,
                      width=_WIDTH + 20)
        panels = row(left, self._ellipses.figure, self._rates.figure, spacing=15)
        below = column(row(_label("simulation held against"), self._against, self._run), self._table)
        return column(Div(text=table.heading(), width=1150), self._standing, panels, below, margin=(8, 16, 8, 16))

    def _connect(self) -> None:
        for name, slider in self._sliders.items():
            slider.on_change("value", lambda attr, old, new, name=name: self._moved(name))
        for choice in (self._quantity, self._against):
            choice.on_change("active", lambda attr, old, new: self._draw())
        self._again.on_click(self._other_seed)

    def _moved(self, name: str) -> None:
        """A slider has moved; of the two for the learning rate the one moved last is held, the other follows."""
        if self._following:
            return
        if name in ("fraction", "learning_rate"):
            self._unit = "limit" if name == "fraction" else "absolute"
        self._ask()

    def _other_seed(self) -> None:
        self._seed += 1
        self._ask()

    def _inputs(self) -> Inputs:
        at = {name: slider.value for name, slider in self._sliders.items()}
        return Inputs(
            eigenvalues=(_power(10, at["a1"]), _power(10, at["a2"])),
            label_noise=_power(10, at["label_noise"]),
            momentum=at["momentum"],
            batch_size=_whole(_power(2, at["batch_size"])),
            rate=_power(10, at["fraction" if self._unit == "limit" else "learning_rate"]),
            unit=self._unit,
            chains=self._start.chains,
            seed=self._seed,
        )

    def _ask(self) -> None:
        """Predict, then simulate; what is still under way for other inputs is dropped."""
        self._simulating.cancel()
        try:
            inputs = self._inputs()
        except ValueError as wrong:
            self._predicting.cancel()
            self._refused(wrong)
            return
        self._predicting.ask(lambda: (model.theory(inputs), model.curves(inputs)), partial(self._predicted, inputs))

    def _predicted(self, inputs: Inputs, answer: tuple[model.Theory, model.Curves] | Exception) -> None:
        if isinstance(answer, Exception):
            self._refused(answer)
            return
        self._theory, self._curves = known, _ = answer
        self._found = None
        self._follow(known)
        self._standing.text = table.standing(known)
        self._run.text = table.busy()
        self._ellipses.show_theory(known)
        self._draw()
        self._simulating.ask(lambda: model.measure(inputs, known), self._simulated)
        if not known.laws:
            self._predicting.ask(lambda: model.beyond(inputs, known.learning_rate), partial(self._beyond, known))

    def _beyond(self, known: model.Theory, answer: str | Exception) -> None:
        if isinstance(answer, Exception):
            self._refused(answer)
        else:
            self._standing.text = table.standing(known, answer)

    def _simulated(self, answer: model.Simulated | Exception) -> None:
        if isinstance(answer, Exception):
            self._refused(answer)
            return
        self._found = answer
        self._run.text = table.run(answer)
        self._draw()

    def _draw(self) -> None:
        """Show what is known; the table of other inputs stays, pale, until the new one is there."""
        if self._theory is None or self._curves is None:
            return
        quantity = _picked(list(QUANTITIES), self._quantity)
        self._rates.show_theory(self._theory, self._curves, quantity)
        if self._found is None:
            self._ellipses.clear_simulation()
            self._rates.clear_simulation()
            self._table.styles = {"opacity": "0.35"}
            return
        self._table.styles = {"opacity": "1"}
        self._ellipses.show_simulation(self._found, self._theory)
        self._rates.show_simulation(self._found, self._theory, quantity)
        self._table.text = table.comparison(self._found.rows.get(_picked(model.NAMES, self._against), []))

    def _follow(self, known: model.Theory) -> None:
        """Put the other learning-rate slider where the held one is, as far as it reaches."""
        name, value = ("learning_rate", known.learning_rate) if self._unit == "limit" else ("fraction", known.fraction)
        slider = self._sliders[name]
        self._following = True
        try:
            slider.value = min(max(math.log10(value), slider.start), slider.end)
        finally:
            self._following = False

    def _refused(self, wrong: Exception) -> None:
        self._theory = self._found = None
        self._standing.text = table.problem(str(wrong))
        self._run.text = self._table.text = ""
        self._ellipses.clear_simulation()
        self._rates.clear_simulation()

    def _close(self) -> None:
        self._predicting.cancel()
        self._simulating.cancel()


def _label(text: str) -> Div:
    return Div(text=table.label(text), margin=(9, 5, 0, 5))


def _power(base: float, exponent: float) -> float:
    """The value of a logarithmic slider; a browser may send anything, `Inputs` refuses what is out of range."""
    return base ** min(max(float(exponent), -300.0), 300.0)


def _whole(number: float) -> int:
    """The batch size that a slider in whole powers of two shows."""
    if not number.is_integer():
        raise _checks.error("batch_size", number, "a whole number", "move its slider")
    return int(number)


def _picked(names: Sequence[str], buttons: RadioButtonGroup) -> str:
    return names[(buttons.active or 0) % len(names)]


def _sliders(start: Inputs) -> dict[str, Slider]:
    a1, a2 = start.eigenvalues
    fraction = RANGES["fraction"]
    return {
        "fraction": _logarithmic("fraction", "learning rate / stability limit", fraction, start.rate),
        "learning_rate": _logarithmic("learning_rate", "learning rate", (1e-4, 100.0), 0.5),
        "momentum": Slider(name="momentum", title="momentum μ", start=RANGES["momentum"][0],
                           end=RANGES["momentum"][1], value=start.momentum, step=0.01, width=_WIDTH),
        "batch_size": Slider(name="batch_size", title="batch size b", start=0, end=int(math.log2(MAX_BATCH)),
                             value=math.log2(start.batch_size), step=1, width=_WIDTH,
                             format=CustomJSTickFormatter(code=_TWO)),
        "a1": _logarithmic("a1", "eigenvalue a₁", RANGES["eigenvalue"], a1),
        "a2": _logarithmic("a2", "eigenvalue a₂", RANGES["eigenvalue"], a2),
        "label_noise": _logarithmic("label_noise", "label noise σ", RANGES["label_noise"], start.label_noise),
    }


def _logarithmic(name: str, title: str, ends: tuple[float, float], value: float) -> Slider:
    low, high = (math.log10(end) for end in ends)
    return Slider(name=name, title=title, start=low, end=high, value=math.log10(value), step=(high - low) / 200,
                  format=CustomJSTickFormatter(code=_TEN), width=_WIDTH)
