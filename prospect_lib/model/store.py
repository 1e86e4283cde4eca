"""The files of a model on disk, and every reason to refuse them."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from snowplow_signals import StreamAttributeGroup

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.errors import ModelError
from prospect_lib.features import Feature, features_of
from prospect_lib.model.encoding import Column, Encoder

FORMAT = 2
MODEL, MANIFEST = "model.ubj", "manifest.json"
_ABOUT_FILES = ("version", "model_sha256")
_PACKAGES = ("numpy", "pandas", "prospect_lib", "pyarrow", "scikit-learn", "snowplow-signals")


def write_bundle(folder: Path, raw: bytes, manifest: Mapping[str, Any], version: str) -> None:
    """Write both files; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    about = dict(zip(_ABOUT_FILES, (version, hashlib.sha256(raw).hexdigest()), strict=True))
    replace_file(folder / MODEL, raw)
    replace_file(folder / MANIFEST, (json.dumps({**about, **manifest}, indent=2) + "\n").encode())


def read_bundle(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The manifest and the booster's bytes.

    Raises:
        ModelError: a file is missing or damaged, or of a format that is not known.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        raw = (folder / MODEL).read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read a model from {folder}: {error}. Train one: python -m prospect_lib train."
        ) from error
    if manifest.get("format") != FORMAT:
        raise ModelError(
            f"{folder}: format {manifest.get('format')!r}, expected {FORMAT}. Train the model "
            "again: python -m prospect_lib train."
        )
    if manifest.pop("model_sha256", None) != hashlib.sha256(raw).hexdigest():
        raise ModelError(f"{folder}: {MODEL} is not the file {MANIFEST} was written for.")
    manifest.pop("version", None)
    return manifest, raw


def group_entry(group: StreamAttributeGroup) -> dict[str, Any]:
    """Name, version and content hash of an attribute group."""
    return {"name": group.name, "version": group.version, "hash": group_hash(group)}


def check_group(manifest: Mapping[str, Any], group: StreamAttributeGroup) -> None:
    """Refuse a model that was trained on other attributes than those in use."""
    for key, now in group_entry(group).items():
        if manifest["group"][key] != now:
            raise ModelError(
                f"the model was trained for attribute group {key} {manifest['group'][key]!r}, "
                f"in use is {now!r}: the definitions differ. Train the model again."
            )


def check_features(manifest: Mapping[str, Any], group: StreamAttributeGroup) -> tuple[Feature, ...]:
    """The group's features in the model's order; refuse where one is gone or changed."""
    known = {feature.name: feature for feature in features_of(group)}
    for saved in manifest["features"]:
        now = known.get(saved["name"])
        if now is None or (now.kind, now.attribute) != (saved["kind"], saved["attribute"]):
            raise ModelError(
                f"feature {saved['name']!r} was a {saved['kind']} of {saved['attribute']!r} in "
                f"training, now it is {now!r}. Train the model again."
            )
    return tuple(known[saved["name"]] for saved in manifest["features"])


def check_columns(inside: str | None, encoder: Encoder) -> None:
    """Refuse a manifest that disagrees with the columns kept inside the booster."""
    trained = Encoder.from_json(json.loads(inside or "[]"))
    if trained.names != encoder.names:
        raise ModelError(
            f"the order of features differs: {MODEL} has {trained.names}, "
            f"{MANIFEST} has {encoder.names}. Train the model again."
        )
    for one, other in zip(trained.columns, encoder.columns, strict=True):
        if one != other:
            raise ModelError(
                f"feature {one.name!r}: {_difference(one, other)}. Train the model again."
            )


def package_versions() -> dict[str, str]:
    """Versions of what the model was trained with."""
    found = {"python": platform.python_version()}
    for name in (*_PACKAGES, "xgboost", "xgboost-cpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # xgboost comes under one of two names
    return found


def canonical(values: Any) -> bytes:
    """JSON as bytes that depend on the content alone."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _difference(one: Column, other: Column) -> str:
    names: Sequence[str] = ("kind", "attribute", "categories", "monotone")
    name = next(n for n in names if getattr(one, n) != getattr(other, n))
    inside, beside = getattr(one, name), getattr(other, name)
    return f"{name} differ: {MODEL} has {inside!r}, {MANIFEST} has {beside!r}"


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_bytes(content)
    os.replace(new, path)  # noqa: PTH105 - the atomic one
