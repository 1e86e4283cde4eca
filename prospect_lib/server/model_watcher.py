"""The promoted model, replaced when another one is promoted, without dropping a request."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prospect_lib.errors import ModelError
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import bundle_state, promoted_path
from prospect_lib.problem import ScoringProblem
from prospect_lib.server.predictor import Loaded

_log = logging.getLogger(__name__)


class PromotedModel:
    """Returns the promoted model when called; follows promotions and changed files.

    No request waits for a model: a new one is loaded in another thread and then replaces the
    old one. A model that cannot be used is refused and logged, and the old one stays in use.

    Args:
        models: the folder of bundles, and of the file that names the promoted one.
        accept: checks a model, and raises ModelError if it does not fit.
        problem: the scoring problem that the models are for; by default the catalogue's.
        every: seconds between checks of the files.
    Attributes:
        refused: why the promoted model is not in use; ``None`` if it is.
    Raises:
        ModelError: there is no promoted model, or it cannot be used.
    """

    def __init__(
        self,
        models: Path,
        accept: Callable[[ProspectModel], Loaded],
        problem: ScoringProblem | None = None,
        *,
        every: float = 1.0,
    ) -> None:
        self._models, self._accept, self._problem = models, accept, problem
        self._every = every
        self._checking = threading.Lock()
        self._next_check = 0.0
        self.refused: str | None = None
        self._state = bundle_state(self._models)
        self._loaded = self._load()
        _log.info("serving model %s", self._loaded.version)

    def __call__(self) -> Loaded:
        """Return the model in use."""
        if time.monotonic() >= self._next_check and self._checking.acquire(blocking=False):
            try:
                self._next_check = time.monotonic() + self._every
                state = bundle_state(self._models)
                if state != self._state:
                    self._state = state
                    threading.Thread(target=self._replace, name="load-model", daemon=True).start()
            finally:
                self._checking.release()
        return self._loaded

    def _replace(self) -> None:
        try:
            self._loaded = self._load()
            self.refused = None
            _log.info("now serving model %s", self._loaded.version)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the old model stays
            self.refused = str(error) if isinstance(error, ModelError) else type(error).__name__
            _log.error("model refused, %s stays in use: %s", self._loaded.version, self.refused)

    def _load(self) -> Loaded:
        return self._accept(ProspectModel.load(promoted_path(self._models), problem=self._problem))
