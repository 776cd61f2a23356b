"""The role's contract: its argument specs, its defaults, the program's options and the README agree.

`python3 tests/test_role.py` writes the table of the README anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles" / "conntracker"
BEGIN, END = "<!-- variables: begin -->\n", "<!-- variables: end -->\n"

sys.path.insert(0, str(ROOT))
import conntracker  # noqa: E402

# Where a variable is not simply conntracker_ and the key in snake case with the program's own default: the role asks
# the server for the log, has a place of its own for the database, and makes a yes or no of the inventory's client.
OTHER_DEFAULTS: dict[str, Any] = {
    "AuditLogPath": "",
    "AuditLogName": "",
    "SqlitePath": "/var/lib/conntracker/audit.sqlite",
    "Inventory": False,
    "Exclude": [],
}
# Variables of the role that the program has no option for.
OF_THE_ROLE = {
    "conntracker_audit_file_rotate_size",
    "conntracker_audit_file_rotations",
    "conntracker_audit_state",
    "conntracker_interval_minutes",
    "conntracker_log_group",
    "conntracker_mailto",
    "conntracker_mariadb_defaults_file",
    "conntracker_mariadb_include_dir",
    "conntracker_purge",
    "conntracker_python",
    "conntracker_schedule",
    "conntracker_state",
}


def load(path: str) -> Any:
    """Return what a YAML file of the role says."""
    return yaml.safe_load((ROLE / path).read_text(encoding="utf-8"))


SPECS: dict[str, dict[str, Any]] = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
DEFAULTS: dict[str, Any] = load("defaults/main.yml")
WRITTEN: dict[str, str] = {item["key"]: item["default"] for item in load("vars/main.yml")["__conntracker_ini"]}


def variable(key: str) -> str:
    """Return the name of the role's variable for a key of the ini file: TimeFormatDB, conntracker_time_format_db."""
    return "conntracker_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()


def table() -> str:
    """Return the README's table of variables."""
    lines = ["| Variable | Default | |\n|---|---|---|\n"]
    for name in DEFAULTS:
        spec = SPECS[name]
        text = re.sub(r"\b[OV]\(([^)]*)\)", r"`\1`", spec["description"])
        kind = " or ".join(f"`{choice}`" for choice in spec["choices"]) + ". " if "choices" in spec else ""
        default = spec.get("default", None)
        shown = {None: "not set", "": "empty", True: "true", False: "false"}.get(default) if default != [] else "empty"
        lines.append(f"| `{name}` | {f'`{default}`' if shown is None else shown} | {kind}{text} |\n")
    return "".join(lines)


def test_specs_and_defaults_name_the_same_variables() -> None:
    assert list(SPECS) == list(DEFAULTS)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_spec_has_a_description_a_type_and_the_default(name: str) -> None:
    assert SPECS[name]["description"]
    assert SPECS[name]["type"]
    assert SPECS[name].get("default") == DEFAULTS[name]


def test_every_variable_is_an_option_of_the_program_or_the_roles_own() -> None:
    options = {variable(option.key) for option in conntracker.OPTIONS}
    assert sorted(options - set(SPECS)) == []
    assert sorted(set(SPECS) - options) == sorted(OF_THE_ROLE)


@pytest.mark.parametrize("option", conntracker.OPTIONS, ids=lambda option: option.key)
def test_an_option_of_the_program_is_a_variable_with_its_default(option: conntracker.Option) -> None:
    assert WRITTEN[option.key] == str(option.default)
    assert str(DEFAULTS[variable(option.key)]) == str(OTHER_DEFAULTS.get(option.key, option.default))


def test_the_role_writes_no_key_that_the_program_does_not_know() -> None:
    assert sorted(WRITTEN) == sorted(option.key for option in conntracker.OPTIONS)


def test_the_role_installs_the_one_program() -> None:
    link = ROLE / "files" / "conntracker.py"
    assert link.is_symlink()
    assert str(link.readlink()) == "../../../conntracker.py"


def test_the_readme_has_the_table_of_variables() -> None:
    readme = (ROLE / "README.md").read_text(encoding="utf-8")
    assert readme.count(BEGIN) == readme.count(END) == 1
    assert readme.partition(BEGIN)[2].partition(END)[0] == table()


def test_the_role_uses_the_modules_of_ansible_core_only() -> None:
    modules = set()
    for path in sorted(ROLE.glob("[th]a*/*.yml")):
        modules |= set(re.findall(r"^\s+([a-z_]+\.[a-z_]+\.[a-z_]+):", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert modules
    assert {module for module in modules if not module.startswith("ansible.builtin.")} == set()


if __name__ == "__main__":
    README = ROLE / "README.md"
    head, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(head + begin + table() + END + rest.partition(END)[2], encoding="utf-8")
