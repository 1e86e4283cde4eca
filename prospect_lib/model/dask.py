"""Training on a Dask cluster, with ``xgboost.dask``.

Each worker reads its part of the Parquet files, so no machine holds all rows. The manifest
is the same; the model's figures are the same within noise, because the quantile sketches of
the parts are merged. Needs ``dask`` and ``distributed`` (``pip install dask distributed``)
here, and this package on the workers.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from snowplow_signals import AttributeGroup

from prospect_lib.errors import ServiceError
from prospect_lib.model.calibration import Calibration
from prospect_lib.model.dataset import parquet_files, summarize
from prospect_lib.model.encoding import Encoder
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.rows import labels, row_weights
from prospect_lib.model.training import Recipe
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem

DEFAULT_ROUNDS = 250


def fit_on_cluster(
    rows: Path,
    address: str,
    *,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    recipe: Recipe | None = None,
) -> ProspectModel:
    """Train on a folder of Parquet files that the workers can read as well.

    Args:
        rows: a training set in one or more Parquet files; a worker reads whole files.
        address: of the scheduler, such as ``tcp://10.0.0.5:8786``.
        problem: the scoring problem, or an attribute group.
        recipe: with ``rounds``; choose them on a sample that fits one machine. By default
                ``DEFAULT_ROUNDS`` trees.
    Raises:
        ServiceError: the cluster does not answer, or dask is not installed.
        DataError: the rows cannot train a model.
    """
    problem = problem_of(problem)
    recipe = (recipe or Recipe()).for_problem(problem)
    rounds = recipe.rounds or DEFAULT_ROUNDS
    summary = summarize(rows, problem.features, problem.key)
    encoder = Encoder.fit(summary.categories, summary.features, recipe.never_lower or ())
    with _client(address) as client, client.as_current():
        params = recipe.booster_params(encoder, summary.rows)
        booster = _train(client, parquet_files(rows), encoder, params, rounds)
    return ProspectModel.assemble(booster, encoder, Calibration(), problem, recipe, summary)


def _client(address: str) -> Any:
    """Connect to the cluster; the client is a context manager that closes itself."""
    client = _optional("distributed").Client
    try:
        return client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"no cluster answers at {address!r}: {error}. Start one with `dask scheduler` and "
            "`dask worker`, and give its tcp:// address."
        ) from error


def _optional(name: str) -> Any:
    """Import a module of Dask, which only this way of training needs."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ServiceError(
            f"training on a cluster needs {name}: pip install dask distributed."
        ) from error


def _train(
    client: Any, files: list[str], encoder: Encoder, params: dict[str, Any], rounds: int
) -> Any:
    da, dxgb = _optional("dask.array"), _optional("xgboost.dask")
    parts = [_optional("dask").delayed(_part)(file, encoder, pure=True) for file in files]
    width = len(encoder.names) + 2
    blocks = [da.from_delayed(part, (np.nan, width), np.float32) for part in parts]
    values = da.concatenate(blocks, allow_unknown_chunksizes=True)
    matrix = dxgb.DaskQuantileDMatrix(
        client,
        values[:, 2:],
        label=values[:, 0],
        weight=values[:, 1],
        feature_names=encoder.names,
        feature_types=encoder.types,
    )
    return dxgb.train(client, params, matrix, rounds)["booster"]


def _part(file: str, encoder: Encoder) -> Any:
    """Return label, weight and features of one file, on a worker."""
    table: pa.Table = ds.dataset(file, format="parquet").to_table()
    label_and_weight = np.column_stack([labels(table), row_weights(table)]).astype(np.float32)
    return np.hstack([label_and_weight, encoder.matrix(table)])
