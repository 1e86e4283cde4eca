"""Colours and style of every picture of the project.

Blue is the model, orange is the test data or the other model, grey is the background. The
colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which colour-blind people can
tell apart. Every picture has a light background of its own, so it reads the same in a light
and in a dark notebook.
"""

import base64
import html
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

BLUE, ORANGE, GREEN, RED, SKY, PURPLE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
)
INK, GREY, PALE, PAPER = "#22262B", "#7A828C", "#DDE1E5", "#FCFBF8"
_STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "font.size": 9.5,
    "grid.color": PALE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Picture(Figure):
    """A figure that a notebook displays, without pyplot's global state.

    Attributes:
        alt: what it shows, in words, for readers who do not see it; every function of this
            package sets it.
    """

    alt = ""

    def png(self, dpi: int = 120) -> bytes:
        """Return the picture as the content of a PNG file, ``dpi`` pixels per inch."""
        with mpl.rc_context(_STYLE):
            self.savefig(out := io.BytesIO(), format="png", dpi=dpi)
        return out.getvalue()

    def small_png(self) -> bytes:
        """Return a PNG in 128 colours: a third of the bytes, without a visible difference."""
        full = Image.open(io.BytesIO(self.png(dpi=100))).convert("RGB")
        few = full.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(out := io.BytesIO(), "PNG", optimize=True)
        return out.getvalue()

    def _repr_html_(self) -> str:
        """Return an ``img`` element: the PNG of a notebook's output has no alternative text."""
        data = base64.b64encode(self.small_png()).decode()
        alt = html.escape(self.alt)
        return f'<img alt="{alt}" style="max-width: 100%" src="data:image/png;base64,{data}">'


@contextmanager
def picture(width: float = 7.2, height: float = 3.6, **grid: Any) -> Iterator[tuple[Picture, Any]]:
    """Yield a new picture in the project's style, and its axes.

    Args:
        width: in inches.
        height: in inches.
        grid: for ``Figure.subplots``, such as ``ncols``.

    Example::

        with picture(height=2.0) as (figure, axes):
            axes.plot([1, 2, 3])
    """
    with mpl.rc_context(_STYLE):
        figure = Picture(figsize=(width, height))
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        yield figure, figure.subplots(**grid)


def dates(axes: Any) -> None:
    """Write short dates on the x axis."""
    locator: Any = mdates.AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def percent(*sides: Any) -> None:
    """Write shares as percentages on these axes."""
    for side in sides:
        side.set_major_formatter(PercentFormatter(1, decimals=None))
