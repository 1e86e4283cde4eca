"""How simulated visitors behave: a Markov chain whose steps depend on a hidden intent.

A visitor has an intent, which may change from one session to the next. Every step of a session
depends on the intent and on the open page alone:

1. The session begins on a page (``ENTRIES``, or the landing page of a campaign).
2. On a page, the visitor reads on for another ten seconds, again and again (``READS_ON``). In the
   videos they may watch the film (``WATCHES``); in the demo form they may enter a field, then
   fill it in, then send the form (``FOCUSES``, ``CHANGES``, ``SENDS``), and both take their time.
3. They go to the next page or leave (:func:`next_pages`), and later may come back (``RETURNS``).

A sent form ends the intent: it becomes *asked*, for good. Two habits have nothing to do with the
intent: some keep pages open (``KEEPS_OPEN``), and some watch the film again and again (``FANS``).
They make those visitors recognisable, which flatters a model where rows are split at random.

:mod:`~.walk` draws visitors from these tables; :mod:`~.best_observable` computes from the events
what anybody could know of the intent.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

INTENTS = ("browses", "compares", "decides", "asked", "robot")
ASKED, ROBOT = 3, 4
PAGES = (
    "home", "product", "pricing", "customers", "blog", "videos", "demo",
    "docs", "landing", "thank-you",
)  # fmt: skip
PRICING, CUSTOMERS, VIDEOS, DEMO, LANDING, THANKS = 2, 3, 5, 6, 8, 9
LEAVE = len(PAGES)  # stands after the pages where a next page is chosen
MAX_VIEWS, MAX_PINGS = 20, 14  # of a session and of a page view: a session ends within an hour
#: How far a visitor comes with the form in one page view.
NOTHING, FOCUSED, CHANGED, SENT = range(4)

# each row or value belongs to one intent
FIRST_INTENTS = np.array([0.725, 0.19, 0.055, 0.0, 0.03])  # share of first sessions
BETWEEN = np.array(  # intent in this session -> in the next one
    [
        [0.90, 0.08, 0.02, 0, 0],
        [0.08, 0.74, 0.18, 0, 0],
        [0.02, 0.08, 0.90, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
)
RETURNS = np.array([0.40, 0.58, 0.62, 0.45, 0.50])
LEAVES = np.array([0.45, 0.30, 0.10, 0.50, 0.05])  # after a page view
READS_ON = np.array([0.52, 0.58, 0.62, 0.50, 0.0])
KEEPS_OPEN = np.array([0.90, 0.90, 0.90, 0.90, 0.0])  # of those who keep pages open
#: Shares of the visitors who keep pages open, and who watch the film again and again.
OPENERS, FANS = 0.25, 0.1
WATCHES = np.array([0.22, 0.60, 0.90, 0.25, 0.0])
FOCUSES = np.array([0.10, 0.30, 0.82, 0.10, 0.0])
CHANGES = np.array([0.35, 0.60, 0.95, 0.30, 0.0])
SENDS = np.array([0.25, 0.55, 0.95, 0.0, 0.0])
#: Where a session begins, and how attractive each page is from the others.
#    home  prod  pric  cust  blog  vids  demo  docs  landing, thank-you
ENTRIES = np.array(
    [
        [0.42, 0.20, 0.03, 0.06, 0.20, 0.02, 0.00, 0.07, 0, 0],
        [0.42, 0.19, 0.10, 0.06, 0.14, 0.04, 0.00, 0.05, 0, 0],
        [0.42, 0.16, 0.20, 0.06, 0.08, 0.05, 0.00, 0.03, 0, 0],
        [0.25, 0.10, 0.03, 0.03, 0.19, 0.02, 0.00, 0.38, 0, 0],
        [0.13, 0.13, 0.13, 0.13, 0.12, 0.12, 0.12, 0.12, 0, 0],
    ]
)
ATTRACTION = np.array(
    [
        [0.60, 1.00, 0.10, 0.22, 0.70, 0.10, 0.03, 0.20, 0, 0],
        [0.55, 0.90, 0.70, 0.50, 0.60, 0.50, 0.12, 0.20, 0, 0],
        [0.50, 0.80, 2.80, 1.10, 0.50, 1.30, 1.20, 0.20, 0, 0],
        [0.50, 0.50, 0.15, 0.20, 0.80, 0.15, 0.03, 1.50, 0, 0],
        [1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 0, 0],
    ]
)
#: Shares of the devices and of the first session's channels of :mod:`~.rows`.
DEVICES = np.array(
    [[0.47, 0.47, 0.06, 0], [0.60, 0.36, 0.04, 0], [0.75, 0.23, 0.02, 0], [1, 0, 0, 0],
     [0, 0, 0, 1]]
)  # fmt: skip
FIRST_CHANNELS = np.array(
    [
        [0.18, 0.25, 0.14, 0.12, 0.06, 0.08, 0.04, 0.13],
        [0.22, 0.24, 0.08, 0.08, 0.12, 0.09, 0.10, 0.07],
        [0.25, 0.18, 0.03, 0.05, 0.18, 0.12, 0.16, 0.03],
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0.90, 0.00, 0.00, 0.10, 0.00, 0.00, 0.00, 0.00],
    ]
)
LATER_CHANNELS = np.array([0.55, 0.25, 0.02, 0.03, 0.03, 0.02, 0.08, 0.02])


def next_pages() -> FloatArray:
    """Return the probabilities of what follows a page: P[intent, page, next page or LEAVE].

    Customers and videos lead to the demo form twice as often as other pages do, and pricing four
    times.
    """
    weight = np.repeat(ATTRACTION[:, None, :], len(PAGES), axis=1)
    weight[:, [PRICING, CUSTOMERS, VIDEOS], DEMO] *= np.array([4, 2, 2])
    pages = np.arange(len(PAGES))
    weight[:, pages, pages] *= 0.2
    stays = 1 - np.repeat(LEAVES[:, None], len(PAGES), axis=1)
    stays[:, THANKS] = 0
    result = np.zeros((len(INTENTS), len(PAGES), LEAVE + 1))
    result[:, :, :LEAVE] = weight / weight.sum(axis=2, keepdims=True) * stays[:, :, None]
    result[:, :, LEAVE] = 1 - stays
    return result


def chances() -> tuple[FloatArray, FloatArray]:
    """Return the probabilities of a sent form in the rest of a session.

    Returns:
        ``(on_page, after_page)``, both with the axes intent, number of page views that are still
        possible after this one, page: at the beginning of the page view, and if the form is not
        sent on it.
    """
    following = next_pages()[:, :, :LEAVE]
    sends = np.zeros((len(INTENTS), len(PAGES)))
    sends[:, DEMO] = FOCUSES * CHANGES * SENDS
    after = np.zeros((len(INTENTS), MAX_VIEWS, len(PAGES)))
    on = np.repeat(sends[:, None, :], MAX_VIEWS, axis=1)
    for left in range(1, MAX_VIEWS):
        after[:, left] = np.einsum("ipn,in->ip", following, on[:, left - 1])
        on[:, left] = sends + (1 - sends) * after[:, left]
    return on, after
