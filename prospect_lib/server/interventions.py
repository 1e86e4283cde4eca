"""What follows from a score, outside the request that asked for it.

``Background`` runs small jobs one after the other and never makes a request wait;
``Inviter`` pushes an intervention once a session when the decision is to act; ``Board``
shows each score on the local sandbox's board.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import requests
from snowplow_signals import AttributeGroup, AttributeKeyIdentifiers, InterventionInstance

from prospect_lib.server.invitations import SESSION, Invitations
from prospect_lib.server.schemas import PredictResponse
from prospect_lib.settings import Settings
from prospect_lib.signals import connect, local_token

log = logging.getLogger(__name__)
#: Told a visitor and what the intervention says; answers "success", or why not.
Push = Callable[[str, Mapping[str, str]], str]
KEPT = 10_000  # sessions remembered as invited


class Background:
    """One thread that runs jobs in order. A job that fails is logged; when too many wait,
    new ones are dropped: whatever happens here, scores go out."""

    def __init__(self, waiting: int = 1000) -> None:
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue(waiting)
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], object]) -> None:
        """Run a job soon."""
        self._ensure_thread()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            log.warning("too many jobs wait; one was dropped")

    def wait(self) -> None:
        """Return when every job submitted so far is done."""
        self._ensure_thread()
        done = threading.Event()
        self._jobs.put(done.set)
        done.wait()

    def close(self, patience: float = 2.0) -> None:
        """Let the jobs that wait be done, for so many seconds; another job starts anew."""
        with self._start:
            thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._jobs.put(None, timeout=patience)
            thread.join(patience)

    def _ensure_thread(self) -> None:
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="acting", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - a failed job must not end the thread
                # the kind only: a message may hold an address with a visitor's id
                log.warning("a background job failed: %s", type(error).__name__)


class Inviter:
    """Pushes an intervention to a visitor when the decision is to act, once a session.

    A session is known by the newest ``domain_sessionid`` among the attributes, where the
    group has one; otherwise by half an hour without a score.

    Args:
        push: delivers; called in the background. Anything but "success" (nobody listens
            yet, Signals fails) is tried again at the visitor's next score.
        group: where to find the session among the attributes.
        shared: asked before each push, where other processes serve the same visitors.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        push: Push,
        background: Background,
        group: AttributeGroup,
        *,
        shared: Invitations | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._push, self._background, self._clock = push, background, clock
        self._shared = shared
        self._session = _session_attribute(group)
        self._lock = threading.Lock()
        self._invited: OrderedDict[tuple[str, str], float] = OrderedDict()

    def consider(self, visitor: str, answer: PredictResponse) -> None:
        """Push if the decision is to act and this session has had no intervention yet."""
        sessions = (answer.signals or {}).get(self._session or "") or [""]
        key = (visitor, str(sessions[-1] if isinstance(sessions, list) else sessions))
        if self._first(key, answer.decision.act):
            self._background.submit(lambda: self._deliver(key, answer))

    def _first(self, key: tuple[str, str], act: bool) -> bool:
        now = self._clock()
        with self._lock:
            recent = now - self._invited.get(key, -SESSION) < SESSION
            if recent or act:
                self._invited[key] = now
                self._invited.move_to_end(key)
            if len(self._invited) > KEPT:
                self._invited.popitem(last=False)
        return act and not recent

    def _deliver(self, key: tuple[str, str], answer: PredictResponse) -> None:
        if self._shared is not None and not self._shared.claim(*key):
            return
        says = {
            "decision": answer.decision.name,
            "score": f"{answer.score:.4f}",
            "model_version": answer.model_version,
        }
        status = "failure"
        try:
            status = self._push(key[0], says)
        finally:
            if status != "success":
                with self._lock:
                    self._invited.pop(key, None)
                if self._shared is not None:
                    self._shared.release(*key)


def pusher(settings: Settings, name: str) -> Push:
    """Push interventions of one name through the Signals in use, with the SDK."""

    def push(visitor: str, says: Mapping[str, str]) -> str:
        targets = AttributeKeyIdentifiers(root={"domain_userid": [visitor]})
        intervention = InterventionInstance(name=name, version=1, attributes=dict(says))
        return str(connect(settings).push_intervention(targets, intervention))

    return push


class Board:
    """Reports each score to the local sandbox, which shows them; failures never matter."""

    def __init__(self, settings: Settings, background: Background) -> None:
        self._settings, self._background = settings, background
        self._session = requests.Session()
        self._session.trust_env = False

    def report(self, body: bytes) -> None:
        """Send one served record (JSON) in the background."""
        self._background.submit(lambda: self._send(body))

    def _send(self, body: bytes) -> None:
        self._session.post(
            f"{self._settings.sandbox_url}/sandbox/scores",
            data=body,
            headers={
                "Authorization": f"Bearer {local_token(self._settings)}",
                "Content-Type": "application/json",
            },
            timeout=1,
        )


def _session_attribute(group: AttributeGroup) -> str | None:
    """Name of the attribute whose value is, or ends with, the current session's id."""
    for attribute in group.attributes or []:
        of = getattr(attribute.property, "name", None)
        if of == "domain_sessionid" and attribute.aggregation in ("unique_list", "last"):
            return str(attribute.name)
    return None
