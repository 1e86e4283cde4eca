"""The promoted model, followed while it changes, without dropping a request.

``models/current`` names the promoted version, whose bundle is ``models/<version>/``.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prospect_lib.errors import ModelError
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import bundle_state, promoted_path
from prospect_lib.server.predictor import Loaded

log = logging.getLogger(__name__)


class Promoted:
    """Gives the promoted model; picks up another one, or the same one's new files.

    A request never waits for a model: a new one is loaded in a thread of its own and
    then put in place of the old one. One that cannot be used is refused and logged,
    and the old one goes on.

    Args:
        models: the folder of bundles and of ``current``.
        accept: looks a model over, raising ModelError where it does not fit.
        every: seconds between looks at the files.
    Raises:
        ModelError: there is no promoted model, or it cannot be used.
    """

    def __init__(
        self,
        models: Path,
        accept: Callable[[ProspectModel], Loaded],
        *,
        every: float = 1.0,
    ) -> None:
        self._models, self._accept, self._every = models, accept, every
        self._looking = threading.Lock()
        self._next_look = 0.0
        self.refused: str | None = None
        self._seen = bundle_state(self._models)
        self._loaded = self._load()

    def __call__(self) -> Loaded:
        """The model in use."""
        if time.monotonic() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._next_look = time.monotonic() + self._every
                seen = bundle_state(self._models)
                if seen != self._seen:
                    self._seen = seen
                    threading.Thread(target=self._replace, name="load-model", daemon=True).start()
            finally:
                self._looking.release()
        return self._loaded

    def _replace(self) -> None:
        try:
            self._loaded = self._load()
            self.refused = None
            log.info("now serving model %s", self._loaded.version)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the old one goes on
            self.refused = str(error) if isinstance(error, ModelError) else type(error).__name__
            log.error("a new model is refused, %s goes on: %s", self._loaded.version, self.refused)

    def _load(self) -> Loaded:
        return self._accept(ProspectModel.load(promoted_path(self._models)))
