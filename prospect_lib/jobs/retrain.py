"""The weekly job: train a challenger, let it meet the champion, promote it or not.

A folder of models has one folder a version and a file ``current`` that names the
promoted one. Versions come from content, so running the job twice changes nothing.

Exit codes for a scheduler: 0 promoted, or already the promoted one; 10 the champion
stays, as the challenger is not better beyond noise; 11 the challenger is worse than the
champion, or than no model at all, beyond noise. Errors have the codes of ``errors``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from snowplow_signals import StreamAttributeGroup

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError, ModelError
from prospect_lib.evaluation.comparison import compare
from prospect_lib.evaluation.evaluate import MODEL, PRIOR, Evaluation, evaluate
from prospect_lib.evaluation.metrics import Interval, visitor_draws
from prospect_lib.evaluation.threshold import Threshold, choose
from prospect_lib.features import features_of
from prospect_lib.files import write_whole
from prospect_lib.model import store
from prospect_lib.model.prospect_model import GOAL, ProspectModel
from prospect_lib.model.search import search
from prospect_lib.model.splits import HORIZON, Split, honest_split
from prospect_lib.model.store import MANIFEST_FILE, bundle_path, promoted_version
from prospect_lib.model.training import Recipe
from prospect_lib.reports.model_report import comparison_html, report_html

Promote = Literal["if better", "always", "never"]
PROMOTED, KEPT, WORSE = 0, 10, 11
REPORT, COMPARISON = "report.html", "comparison.html"


@dataclass(frozen=True)
class Candidate:
    """A model fresh from training, and what is known of it."""

    model: ProspectModel
    found: Evaluation
    chosen: Threshold
    split: Split


@dataclass(frozen=True)
class Outcome:
    """What a retraining came to.

    Attributes:
        version: of the challenger; its bundle is in ``folder``.
        promoted: whether ``current`` names it now.
        because: the reason in words.
        exit_code: for a scheduler, see the module.
        differences: challenger minus champion, by metric; empty where there was none.
        repeated: an earlier run on the same data left the same bytes.
    """

    version: str
    folder: Path
    promoted: bool
    because: str
    exit_code: int
    differences: Mapping[str, Interval]
    found: Evaluation
    repeated: bool


def retrain(
    table: pa.Table,
    models: Path,
    *,
    promote: Promote = "if better",
    group: StreamAttributeGroup = prospect_group,
    **options: Any,
) -> Outcome:
    """Train on a table, write the bundle with its report, and decide on promotion.

    Args:
        table: a training set, training and test period together.
        models: the folder of models, made if need be.
        promote: ``always`` and ``never`` decide whatever the comparison says.
        options: for ``train``.
    Raises:
        DataError: the rows cannot train or judge a model.
    """
    new = train(table, group=group, **options)
    folder = bundle_path(models, new.model.version)
    repeated = (folder / MANIFEST_FILE).is_file()  # a version names its content
    new.model.save(folder)
    write_whole(folder / REPORT, report_html(new.model, new.found, new.split, new.chosen))
    differences, code, because = _decide(new, table, models, folder, group)
    if promote == "always" and code != PROMOTED:
        code, because = PROMOTED, f"promoted because it was asked for, though {because}"
    if promote == "never" and code == PROMOTED and promoted_version(models) != new.model.version:
        code, because = KEPT, f"not promoted because it was asked for, though {because}"
    if code == PROMOTED:
        store.promote(models, new.model.version)
    return Outcome(
        version=new.model.version,
        folder=folder,
        promoted=code == PROMOTED,
        because=because,
        exit_code=code,
        differences=differences,
        found=new.found,
        repeated=repeated,
    )


def train(
    table: pa.Table,
    *,
    group: StreamAttributeGroup = prospect_group,
    cut: datetime | None = None,
    horizon: timedelta = HORIZON,
    tries: int = 0,
    seconds: float = 120.0,
    value: float | None = None,
    cost: float | None = None,
    capacity: float | None = None,
    seed: int = 0,
    resamples: int = 300,
    **fit_options: Any,
) -> Candidate:
    """Split honestly, search if asked, fit, judge, choose the threshold.

    Args:
        cut: start of the test period; by default the last quarter of the rows.
        tries: recipes to try (0: the default recipe), for at most ``seconds``.
        value: and ``cost`` or ``capacity``: for the threshold, see ``decision.choose``.
    """
    split = honest_split(table, cut=cut, horizon=horizon)
    recipe = fit_options.pop("recipe", None) or Recipe(seed=seed)
    if tries:
        features = fit_options.get("features") or features_of(group)
        recipe, _ = search(split.train, features, recipe=recipe, tries=tries, seconds=seconds)
    fit_options.setdefault("goal", {**GOAL, "horizon_seconds": int(horizon.total_seconds())})
    model, found = evaluate(split, group=group, recipe=recipe, resamples=resamples, **fit_options)
    chosen = choose(found, value=value, cost=cost, capacity=capacity)
    model.manifest["threshold"] = chosen.to_json()
    return Candidate(model, found, chosen, split)


def _decide(
    new: Candidate, table: pa.Table, models: Path, folder: Path, group: StreamAttributeGroup
) -> tuple[Mapping[str, Interval], int, str]:
    """Differences, exit code and reason, before what the caller wants is heard."""
    current = promoted_version(models)
    if current == new.model.version:
        return {}, PROMOTED, "it is the promoted model already: same data, same recipe"
    if not _beats_prior(new):
        return {}, WORSE, "it does not beat the base rate beyond noise: check the data"
    if current is None:
        return {}, PROMOTED, "there is no champion yet"
    try:
        champion = ProspectModel.load(bundle_path(models, current), group=group)
    except ModelError as error:
        return {}, PROMOTED, f"the champion cannot be used any more: {error}"
    try:
        found = compare(champion, new.model, table, new.split.horizon)
    except DataError as error:
        return {}, KEPT, f"no comparison is possible: {error}"
    code, because = verdict(found.differences["log_loss"])
    write_whole(folder / COMPARISON, comparison_html(champion, new.model, found, because))
    return found.differences, code, because


def verdict(log_loss: Interval) -> tuple[int, str]:
    """Exit code and reason from the difference in log loss, challenger minus champion."""
    figures = f"log loss differs by {log_loss}"
    if log_loss.high < 0:
        return PROMOTED, f"it is better than the champion beyond noise: {figures}"
    if log_loss.low > 0:
        return WORSE, f"it is worse than the champion beyond noise: {figures}"
    return KEPT, f"it is not better than the champion beyond noise: {figures}"


def _beats_prior(new: Candidate) -> bool:
    draws = visitor_draws(new.split.test["domain_userid"])
    return draws.difference("log_loss", new.found.rows[MODEL], new.found.rows[PRIOR]).high < 0
