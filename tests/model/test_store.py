"""A folder of models, and which of them is promoted."""

import pytest

from prospect_lib.errors import ModelError
from prospect_lib.model.store import (
    MANIFEST_FILE,
    MODEL_FILE,
    bundle_path,
    bundle_state,
    discard_unfinished,
    promote,
    promoted_at,
    promoted_path,
    promoted_version,
    read_bundle,
    write_bundle,
)


@pytest.fixture
def models(tmp_path):
    for version in ("first", "second"):
        write_bundle(bundle_path(tmp_path, version), b"booster", {}, version)
    return tmp_path


def test_before_a_promotion_no_version_is_named(models):
    assert promoted_version(models) is promoted_at(models) is None
    assert bundle_state(models) == ()
    assert promoted_version(models / "no such folder") is None
    with pytest.raises(ModelError, match=r"no model is promoted in .*prospect_lib train"):
        promoted_path(models)


def test_the_promoted_version_is_the_last_one_promoted(models):
    for version in ("first", "second"):
        promote(models, version)
        assert promoted_version(models) == version
        assert promoted_path(models) == bundle_path(models, version)
    assert sorted(p.name for p in models.iterdir()) == ["current", "first", "second"]


def test_a_version_without_a_bundle_cannot_be_promoted(models):
    promote(models, "first")
    with pytest.raises(ModelError, match="has no model 'third'"):
        promote(models, "third")
    assert promoted_version(models) == "first"


def test_a_promoted_bundle_that_is_gone_is_named(models):
    (models / "current").write_text("third")
    with pytest.raises(ModelError, match=r"promoted model third is missing.*train"):
        promoted_path(models)
    assert bundle_state(models) == ()


@pytest.mark.parametrize("unreadable", ["folder", "bytes"])
def test_a_pointer_that_cannot_be_read_is_named(models, unreadable):
    pointer = models / "current"
    pointer.mkdir() if unreadable == "folder" else pointer.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"cannot read which model is promoted.*current"):
        promoted_version(models)
    assert bundle_state(models) == ()


def test_the_state_changes_with_the_promotion_and_with_each_file(models):
    states = []
    promote(models, "first")
    states.append(bundle_state(models))
    assert bundle_state(models) == states[0]
    for name in (MODEL_FILE, MANIFEST_FILE):
        (models / "first" / name).write_bytes(b"changed " + name.encode())
        states.append(bundle_state(models))
    promote(models, "second")
    states.append(bundle_state(models))
    assert len(set(states)) == 4


def test_what_an_interrupted_training_left_is_removed_and_nothing_else(models):
    promote(models, "first")
    (bundle_path(models, "second") / MANIFEST_FILE).unlink()
    (models / "notes").mkdir()
    (models / "notes" / "mine.txt").write_text("kept")
    discard_unfinished(models)
    assert sorted(path.name for path in models.iterdir()) == ["current", "first", "notes"]


@pytest.mark.parametrize("content", [b"5", b"[]", b"{}", b'{"format": 2}', b'{"format"', b"\xff"])
def test_a_damaged_manifest_is_one_line(models, content):
    (models / "first" / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"first.*prospect_lib train\.$"):
        read_bundle(models / "first")


@pytest.mark.parametrize("version", ["x" * 5000, "../../nowhere", "a\0b"])
def test_a_pointer_to_no_bundle_is_one_short_line(models, version):
    (models / "current").write_text(version)
    with pytest.raises(ModelError, match=r"is missing") as error:
        promoted_path(models)
    assert len(str(error.value)) < 600
