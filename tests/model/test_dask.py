"""Training on a cluster, here two processes on this machine."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.model.calibration import row_loss
from prospect_lib.model.dask import fit_on_cluster
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.rows import labels
from prospect_lib.model.training import Recipe
from tests.support.synthetic import training_table

RECIPE = Recipe(rounds=30)

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", scheduler_port=0
    ) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_trains_the_same_model_within_noise(address, tmp_path):
    table, test = training_table(visitors=1500), training_table(visitors=800, seed=9)
    for part in range(3):
        pq.write_table(table.slice(part * 4000, 4000), tmp_path / f"part-{part}.parquet")
    clustered = fit_on_cluster(tmp_path, address, recipe=RECIPE)
    alone = ProspectModel.fit(table, recipe=RECIPE, calibrate=False)
    assert clustered.manifest == alone.manifest
    label = labels(test)
    losses = [row_loss(label, model.predict(test)).mean() for model in (clustered, alone)]
    assert abs(losses[0] - losses[1]) < 0.003
    assert np.abs(clustered.predict(test) - alone.predict(test)).max() < 0.2


def test_a_missing_cluster_is_an_error_that_names_the_address(tmp_path):
    pq.write_table(training_table(visitors=300), tmp_path / "rows.parquet")
    with pytest.raises(ServiceError, match=r"no cluster answers at 'tcp://127.0.0.1:1'"):
        fit_on_cluster(tmp_path, "tcp://127.0.0.1:1", recipe=RECIPE)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="empty"):
        fit_on_cluster(tmp_path, "tcp://127.0.0.1:1")
