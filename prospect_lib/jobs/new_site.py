"""``python -m prospect_lib new my_site.py``: write a commented file with a scoring problem."""

import re
from pathlib import Path

from prospect_lib.errors import SettingsError
from prospect_lib.files import write_whole
from prospect_lib.settings import Settings
from prospect_lib.warehouse import open_warehouse

_TEMPLATE = Path(__file__).parent / "site_template.py"
_MARK = "# EVENTS IN THE DATA\n\n"
_EVENT_KINDS = """
SELECT event_name, event_vendor, event_version, COUNT(*) AS events
FROM {events} GROUP BY ALL ORDER BY events DESC, event_name, event_vendor, event_version LIMIT 40
"""


def write_problem(settings: Settings, file: Path, data: Path | None = None) -> str:
    """Write a template for a scoring problem of one's own; return what to do next.

    Args:
        file: a Python file that does not exist yet; its name becomes the problem's.
        data: a file of events, whose kinds of events the template then lists.
    Raises:
        SettingsError: the file exists, or its name is no name of a Python module.
        DataError: the events cannot be read.
    """
    name = file.stem.lower()
    if file.suffix != ".py" or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SettingsError(
            f"{file}: expected a name such as my_site.py: letters, digits and _, then .py."
        )
    if file.exists():
        raise SettingsError(f"{file} exists already. Choose another name, or delete it first.")
    text = _TEMPLATE.read_text(encoding="utf-8").replace("THIS_FILE", file.name)
    text = text.replace("my_site", name).replace(_MARK, _kinds(settings, data) if data else "")
    events = data or "events.parquet"
    write_whole(file, text.replace("events.parquet", str(events)))
    return (
        f"Wrote {file}. Change its attributes and its goal, then train: "
        f"python -m prospect_lib train --data {events} --problem {file}"
    )


def _kinds(settings: Settings, data: Path) -> str:
    """Return the kinds of events in a file, as comment lines."""
    warehouse = open_warehouse(settings, data)
    try:
        rows = warehouse.query(_EVENT_KINDS.format(events=warehouse.events)).to_pylist()
    finally:
        warehouse.close()
    kinds = [
        f'# {row["events"]:>9,}  Event(name="{row["event_name"]}", '
        f'vendor="{row["event_vendor"]}", version="{row["event_version"]}")'
        for row in rows
    ]
    return "\n".join([f"# Events in {data.name}:", *kinds]) + "\n\n"
