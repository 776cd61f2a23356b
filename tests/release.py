"""Check that this tree can be released, and say what hinders: release.py VERSION.

The program, the collection and the changelog must name the same version, nothing may be left under "Unreleased", and
the scenario `upgrade` must have an older release to come from.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def faults(version: str, root: Path) -> Iterable[str]:
    """Give what hinders the release of `version` from the tree at `root`."""

    def read(name: str) -> str:
        return (root / name).read_text(encoding="utf-8")

    found = {
        "conntracker.py": re.search(r'^__version__ = "([^"]+)"', read("conntracker.py"), re.MULTILINE),
        "galaxy.yml": re.search(r"^version: (\S+)", read("galaxy.yml"), re.MULTILINE),
    }
    for name, match in found.items():
        if not match or match.group(1) != version:
            yield f"{name} says {match.group(1) if match else 'no version'}, not {version}"
    sections = re.split(r"^## ", read("CHANGELOG.md"), flags=re.MULTILINE)[1:]
    dated = {section.split()[0]: section.partition("\n")[0] for section in sections}
    if not re.fullmatch(re.escape(version) + r" - \d{4}-\d\d-\d\d", dated.get(version, "")):
        yield f"CHANGELOG.md has no line '## {version} - YYYY-MM-DD'"
    if any(section.startswith("Unreleased") and section.partition("\n")[2].strip() for section in sections):
        yield "CHANGELOG.md still has changes under Unreleased"
    if not any((root / "molecule" / "files").glob("release-*.tgz")):
        yield "molecule/files has no older release for the scenario upgrade"


def main() -> int:
    """Print what hinders; return 1 if anything does."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = list(faults(sys.argv[1], ROOT))
    print("\n".join(found) or f"{sys.argv[1]} can be released")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
