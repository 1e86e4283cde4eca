"""The command ``train``: windows, provenance, exit codes, a second run."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from prospect_lib import cli as command_line
from prospect_lib.aggregation.fold import group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.jobs import retrain
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promoted_version
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse

pytestmark = pytest.mark.usefixtures("blank_pictures")
END = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with sixty days of 3,000 simulated visitors."""
    folder = tmp_path_factory.mktemp("weekly")
    history.write(folder, visitors=3000, days=60, end=END)
    return folder


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROSPECT_HOME", str(home))
    for name in Settings.load().values:
        monkeypatch.delenv(name, raising=False)
    return home


def train(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, dict[str, object]]:
    """Return the exit code, the printed text, and the values of its last line."""
    code = command_line.main(["train", *arguments])
    printed = capsys.readouterr().out
    return code, printed, json.loads(printed.splitlines()[-1])


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("at_home")
def test_two_windows_and_each_of_them_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = ["--backend", "sandbox", "--since", "2026-01-02", "--until", "2026-02-15T00:00Z"]
    code, printed, first = train(capsys, *window, "--out", str(tmp_path))
    assert code == 0 and first["promoted"] and not first["repeated"]
    assert "no model was promoted before" in printed and "report.html" in printed
    before = files(tmp_path)
    code, printed, again = train(capsys, *window, "--out", str(tmp_path))
    assert code == 0 and again == {**first, "repeated": True}
    assert "same data gave the same bytes" in printed
    assert files(tmp_path) == before

    code, printed, second = train(capsys, "--out", str(tmp_path))
    assert code == second["exit_code"] and code in (0, 10)
    promoted = second if code == 0 else first
    assert promoted_version(tmp_path) == promoted["version"]
    page = (tmp_path / str(second["version"]) / "comparison.html").read_text()
    assert str(first["version"]) in page and str(second["version"]) in page
    assert "2026-02-" in page and "the champion beyond noise" in page and "comparison" in printed


@pytest.mark.usefixtures("at_home")
def test_a_bundle_records_the_rows_it_was_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = ["--since", "2026-01-20", "--until", "2026-02-20"]
    _, _, result = train(capsys, *window, "--capacity", "5", "--out", str(tmp_path))
    model = ProspectModel.load(tmp_path / str(result["version"]))
    about = model.manifest["training_set"]
    assert about["group"]["hash"] == group_hash(prospect_group) == model.manifest["group"]["hash"]
    assert "2026-01-20" <= about["since"] < about["until"] < "2026-02-20"
    anchors = str(about["anchors"])
    assert "2026-01-20" in anchors or "(2026, 1, 20" in anchors
    assert model.manifest["threshold"]["per_day"] == pytest.approx(5, rel=0.2)
    table = retrain.Job(
        since=datetime(2026, 1, 20, tzinfo=UTC), until=datetime(2026, 2, 20, tzinfo=UTC)
    ).training_set(Settings.load())
    assert table.manifest == about
    rebuilt = DuckDBWarehouse.over_home(Settings.load().home)
    assert rebuilt.query(about["sql"]).num_rows == about["rows"]
    rebuilt.close()


def test_a_process_ends_with_the_exit_code(at_home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prospect_lib", "train", "--promote", "never"]
    window = ["--since", "2026-01-10", "--out", str(tmp_path)]
    run = subprocess.run(
        [*command, *window], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 10, run.stderr
    assert promoted_version(tmp_path) is None
    assert str(at_home) not in (next(tmp_path.glob("*/manifest.json"))).read_text()


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--since", "yesterday"], 2, "--since 'yesterday': expected a date"),
        (["--since", "2026-02-01", "--until", "2026-01-01"], 2, "nothing is between"),
        (["--since", "2031-01-01"], 4, "no training row from 2031-01-01"),
        (["--since", "2026-02-28T12:00"], 11, "Take a longer period of events (--since"),
        (["--data", "events.csv", "--backend", "sandbox"], 2, "exclude each other"),
        (["--backend", "snowflake"], 2, "not set: SF_ACNT"),
    ],
)
def test_data_that_cannot_train_a_model_end_in_one_message_and_an_exit_code(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command_line.main(["train", *arguments, "--out", str(tmp_path / "models")]) == code
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err
    assert not (tmp_path / "models").exists()


@pytest.mark.usefixtures("at_home")
def test_the_backend_is_the_requested_one_else_chosen_by_the_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings.load()
    assert retrain.Job().source(settings) == "sandbox"
    assert retrain.Job(backend="sample").models(settings).name == "models-sample"
    monkeypatch.setenv("SF_ACNT", "account")
    assert retrain.Job().source(Settings.load()) == "snowflake"
    assert retrain.Job(backend="sandbox").source(Settings.load()) == "sandbox"


@pytest.mark.usefixtures("at_home")
def test_notebook_03_has_the_same_parameters_in_its_tagged_cell() -> None:
    """Papermill adds a cell with its values after the one with this tag."""
    path = Path(__file__).parents[2] / "notebooks" / "03_train_model.ipynb"
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    (place,) = (n for n, c in enumerate(code) if "parameters" in c["metadata"].get("tags", []))
    names: dict[str, object] = {}
    exec("".join(code[place]["source"]), names)
    assert {"SINCE", "UNTIL", "BACKEND", "OUT", "PROMOTE", "VALUE", "COST"} <= set(names)
    for name in ("SINCE", "UNTIL", "BACKEND", "OUT", "PROMOTE", "VALUE", "COST"):
        assert any(name in "".join(cell["source"]) for cell in code[place + 1 :])
