"""The release check refuses a tree whose parts do not agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from release import faults

GOOD = {
    "conntracker.py": '"""."""\n__version__ = "1.2.0"\n',
    "galaxy.yml": "name: mariadb\nversion: 1.2.0\n",
    "CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n## 1.2.0 - 2026-12-01\n\n- More.\n\n## 1.1.0 - 2026-11-01\n",
    "molecule/files/release-1.0.0.tgz": "",
}


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("conntracker.py", GOOD["conntracker.py"], ""),
        ("conntracker.py", '__version__ = "1.1.0"\n', "conntracker.py says 1.1.0, not 1.2.0"),
        ("galaxy.yml", "name: mariadb\n", "galaxy.yml says no version, not 1.2.0"),
        ("CHANGELOG.md", "## 1.2.0\n", "CHANGELOG.md has no line '## 1.2.0 - YYYY-MM-DD'"),
        ("CHANGELOG.md", "## Unreleased\n\n- New.\n\n## 1.2.0 - 2026-12-01\n", "CHANGELOG.md still has changes"),
        ("molecule/files/release-1.0.0.tgz", None, "molecule/files has no older release"),
    ],
)
def test_what_hinders_a_release_is_said(tmp_path: Path, name: str, text: str | None, fault: str) -> None:
    for path, content in {**GOOD, name: text}.items():
        if content is not None:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content, encoding="utf-8")
    found = list(faults("1.2.0", tmp_path))
    assert len(found) == bool(fault)
    assert "".join(found).startswith(fault)
