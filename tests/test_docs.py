"""The README and the requirements agree with the code."""

import re
from pathlib import Path

from prospect_lib.settings import SECRETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_secrets_and_links_of_the_readme_exist() -> None:
    for name in re.findall(r"`((?:SP|SF|NGROK)_\w+|ATOMIC_TABLE)`", README):
        assert name in SECRETS
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_requirements_are_pinned() -> None:
    lines = (ROOT / "prospect_lib" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins and all(re.match(r"[\w-]+==[\w.]+(; .+)?$", line) for line in pins)
