"""Reports with empty pictures.

Drawing the pictures of a report takes longer than training a small model. The tests of plots
and reports draw them, and so does every command in a process of its own.
"""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def blank_pictures() -> Iterator[None]:
    """Draw no picture in this module; everything else of a page is as it would be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prospect_lib.plots.style.Picture.png", lambda *_: b"")
        yield
