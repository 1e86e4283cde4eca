"""The template for a website of one's own: it trains as it is, and lists the events of a file."""

from pathlib import Path

import pytest

from prospect_lib import cli
from prospect_lib.problem import load_problem
from prospect_lib.settings import Settings

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSPECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_the_template_is_a_problem_named_after_its_file(tmp_path: Path) -> None:
    assert cli.main(["new", "acme_shop.py"]) == 0
    problem = load_problem("acme_shop.py")
    assert (problem.name, problem.group.name) == ("acme_shop", "acme_shop")
    assert problem.service.name == "acme_shop_service"
    text = (tmp_path / "acme_shop.py").read_text()
    assert "my_site" not in text and "THIS_FILE" not in text and "EVENTS IN" not in text


def test_the_template_trains_on_the_published_sample_and_lists_its_events(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["new", "acme.py", "--data", str(sample)]) == 0
    text = (tmp_path / "acme.py").read_text()
    assert '#     4,968  Event(name="page_view", vendor="com.snowplowanalytics.snowplow"' in text
    assert f"train --data {sample} --problem acme.py" in text
    code = cli.main(["train", "--data", str(sample), "--problem", "acme.py"])
    assert code == 0, capsys.readouterr()
    out = capsys.readouterr().out
    assert "first_mkt_medium_l30d is left out" in out
    assert (tmp_path / "home" / "models-acme" / "current").is_file()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("exists.py", "exists.py exists already. Choose another name"),
        ("my-site.py", "my-site.py: expected a name such as my_site.py"),
        ("site.txt", "site.txt: expected a name such as my_site.py"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(
    file: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("exists.py").write_text("kept")
    assert cli.main(["new", file]) == 2
    assert message in capsys.readouterr().err
    assert Path("exists.py").read_text() == "kept"


def test_settings_name_the_problem_of_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROSPECT_PROBLEM", "nowhere.py")
    assert Settings.load().problem == "nowhere.py"
    for command in (["train"], ["publish"], ["demo", "--data", "x.csv"]):
        assert cli.main(command) == 2
        assert "there is no file nowhere.py" in capsys.readouterr().err
