"""Models on disk: bundles, the checks before one is used, and which one is promoted.

A folder of models holds one bundle per version, and the file ``current`` with the version
of the promoted one. A bundle is a folder with ``model.ubj`` (XGBoost's own format) and
``manifest.json`` (everything needed to use it, and to refuse to use it wrongly). Its folder
``judged``, if there is one, is the bundle of the fit that was judged in its place.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from snowplow_signals import StreamAttributeGroup

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.errors import ModelError, one_line
from prospect_lib.features import Feature
from prospect_lib.files import not_readable, write_whole
from prospect_lib.model.encoding import Column, Encoder

FORMAT = 2
MODEL_FILE, MANIFEST_FILE = "model.ubj", "manifest.json"
_POINTER = "current"
_BUNDLE_FILES = (MODEL_FILE, MANIFEST_FILE)
_PACKAGES = ("numpy", "pandas", "prospect_lib", "pyarrow", "scikit-learn", "snowplow-signals")


def bundle_path(models: Path | str, version: str) -> Path:
    """Return the folder of a version's bundle, whether it exists or not."""
    return Path(models) / version


def promoted_version(models: Path | str) -> str | None:
    """Return the version that is promoted in a folder of models, ``None`` if there is none.

    Raises:
        ModelError: the file that names it is damaged.
        SettingsError: this user may not read it.
    """
    pointer = Path(models) / _POINTER
    try:
        return pointer.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise not_readable(pointer, error) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read which model is promoted: {pointer}: {error}. Delete {_POINTER!r} "
            "there, then train: python -m prospect_lib train."
        ) from error


def promoted_path(models: Path | str) -> Path:
    """Return the folder of the promoted bundle.

    Raises:
        ModelError: no model is promoted, or its bundle is missing.
    """
    models = Path(models)
    version = promoted_version(models)
    if version is None and (models / MANIFEST_FILE).is_file():
        raise ModelError(
            f"{models} is one model, expected a folder of models. Load it: "
            "ProspectModel.load(path), or give the folder that it is in."
        )
    if version is None:
        raise ModelError(
            f"no model is promoted in {models}. Train one: python -m prospect_lib train."
        )
    folder = bundle_path(models, version)
    if len(version) > 255 or not folder.is_dir():
        raise ModelError(
            f"the promoted model {one_line(version, 60)} is missing: {one_line(folder)} is no "
            "folder. Train one: python -m prospect_lib train."
        )
    return folder


def promoted_at(models: Path | str) -> float | None:
    """Return when a model was last promoted (seconds since 1970), ``None`` if never."""
    try:
        return (Path(models) / _POINTER).stat().st_mtime
    except FileNotFoundError:
        return None


def promote(models: Path | str, version: str) -> None:
    """Make a version the promoted one; a running server picks it up.

    Raises:
        ModelError: the folder of models has no bundle of that version.
    """
    if not (bundle_path(models, version) / MANIFEST_FILE).is_file():
        raise ModelError(f"{models} has no model {version!r}. Save it there first.")
    write_whole(Path(models) / _POINTER, f"{version}\n")


def bundle_state(models: Path | str) -> tuple[str | int, ...]:
    """Return a value that changes when another bundle is promoted or its files are replaced.

    Empty if no model is promoted or a file of it is missing.
    """
    try:
        folder = promoted_path(models)
        stats = [(folder / name).stat() for name in _BUNDLE_FILES]
    except (ModelError, OSError, ValueError):
        return ()
    return (folder.name, *(n for s in stats for n in (s.st_mtime_ns, s.st_size, s.st_ino)))


def write_bundle(folder: Path, raw: bytes, manifest: Mapping[str, Any], version: str) -> None:
    """Write the two files of a bundle into a folder, each whole or not at all."""
    about = {"version": version, "model_sha256": hashlib.sha256(raw).hexdigest()}
    write_whole(folder / MODEL_FILE, raw)
    write_whole(folder / MANIFEST_FILE, json.dumps({**about, **manifest}, indent=2) + "\n")


def discard_unfinished(models: Path) -> None:
    """Remove what an interrupted training left: folders with files of a bundle and no manifest."""
    for folder in models.glob("*/"):
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        names = {path.name for path in files if not path.name.endswith(".draft")}
        if files and names <= {*_BUNDLE_FILES} and not (folder / MANIFEST_FILE).exists():
            shutil.rmtree(folder, ignore_errors=True)


def read_bundle(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return the manifest and the booster's bytes.

    Raises:
        ModelError: a file is missing or damaged, or the format is unknown.
    """
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        raw = (folder / MODEL_FILE).read_bytes()
    except PermissionError as error:
        raise not_readable(folder, error) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read a model from {folder}: {error}. Train one: python -m prospect_lib train."
        ) from error
    if not isinstance(manifest, dict):
        raise ModelError(
            f"{folder / MANIFEST_FILE} is no JSON object. Train one: python -m prospect_lib train."
        )
    if manifest.get("format") != FORMAT:
        raise ModelError(
            f"{folder}: format {manifest.get('format')!r}, expected {FORMAT}. Train a new model: "
            "python -m prospect_lib train."
        )
    if manifest.pop("model_sha256", None) != hashlib.sha256(raw).hexdigest():
        raise ModelError(
            f"{folder}: {MODEL_FILE} is not the file that {MANIFEST_FILE} was written for. Train "
            "the model again: python -m prospect_lib train."
        )
    manifest.pop("version", None)
    return manifest, raw


def group_entry(group: StreamAttributeGroup) -> dict[str, Any]:
    """Return name, version and content hash of an attribute group."""
    return {"name": group.name, "version": group.version, "hash": group_hash(group)}


def check_group(manifest: Mapping[str, Any], group: StreamAttributeGroup) -> None:
    """Refuse a model that was trained on another attribute group than the one in use."""
    for key, now in group_entry(group).items():
        if manifest["group"][key] != now:
            raise ModelError(
                f"the model was trained for attribute group {key} {manifest['group'][key]!r}, "
                f"but {now!r} is in use: the definitions differ. Train the model again."
            )


def check_features(manifest: Mapping[str, Any], features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Return the problem's features in the model's order.

    Raises:
        ModelError: a feature is missing or has changed.
    """
    known = {feature.name: feature for feature in features}
    for saved in manifest["features"]:
        now = known.get(saved["name"])
        if now is None or (now.kind, now.attribute) != (saved["kind"], saved["attribute"]):
            raise ModelError(
                f"feature {saved['name']!r} was a {saved['kind']} of {saved['attribute']!r} in "
                f"training, but {_described(now)} is in use. Train the model again."
            )
    return tuple(known[saved["name"]] for saved in manifest["features"])


def check_columns(inside: str | None, encoder: Encoder) -> None:
    """Refuse a manifest that differs from the columns saved inside the booster.

    Args:
        inside: the booster's ``columns`` attribute, JSON.
        encoder: the manifest's columns.
    """
    trained = Encoder.from_json(json.loads(inside or "[]"))
    if trained.names != encoder.names:
        raise ModelError(
            f"the order of features differs: {MODEL_FILE} has {trained.names}, "
            f"{MANIFEST_FILE} has {encoder.names}. Train the model again."
        )
    for in_model, in_manifest in zip(trained.columns, encoder.columns, strict=True):
        if in_model != in_manifest:
            raise ModelError(
                f"feature {in_model.name!r}: {_difference(in_model, in_manifest)}. "
                "Train the model again."
            )


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that training uses."""
    versions = {"python": platform.python_version()}
    for name in (*_PACKAGES, "xgboost", "xgboost-cpu"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # XGBoost is installed under one of two names
    return versions


def canonical(values: Any) -> bytes:
    """Return JSON bytes that depend on the content alone, not on the order of keys."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _described(feature: Feature | None) -> str:
    return f"a {feature.kind} of {feature.attribute!r}" if feature else "no feature of that name"


def _difference(in_model: Column, in_manifest: Column) -> str:
    names = ("kind", "attribute", "categories", "monotone")
    name = next(n for n in names if getattr(in_model, n) != getattr(in_manifest, n))
    return (
        f"{name} differ: {MODEL_FILE} has {getattr(in_model, name)!r}, "
        f"{MANIFEST_FILE} has {getattr(in_manifest, name)!r}"
    )
