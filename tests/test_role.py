"""The role's contract: its argument specs, its defaults, the program's options and the README agree.

`python3 tests/test_role.py` writes the table of the README anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
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
    "Inventory": True,
    "Exclude": [],
    "ReplicasIgnored": [],
}
# Variables of the role that the program has no option for.
OF_THE_ROLE = {
    "conntracker_audit_file_rotate_size",
    "conntracker_audit_file_rotations",
    "conntracker_audit_state",
    "conntracker_groups",
    "conntracker_instance",
    "conntracker_interval_minutes",
    "conntracker_log_group",
    "conntracker_mailto",
    "conntracker_mariadb_defaults_file",
    "conntracker_mariadb_include_dir",
    "conntracker_purge",
    "conntracker_python",
    "conntracker_schedule",
    "conntracker_state",
    "conntracker_textfile_dir",
    "conntracker_userstat",
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
        text = re.sub(r"\b[OVC]\(([^)]*)\)", r"`\1`", spec["description"])
        kind = " or ".join(f"`{choice}`" for choice in spec["choices"]) + ". " if "choices" in spec else ""
        default = spec.get("default", None)
        plain = {"None": "not set", "": "empty", "[]": "empty", "True": "true", "False": "false"}
        lines.append(f"| `{name}` | {plain.get(str(default), f'`{default}`')} | {kind}{text} |\n")
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
    assert set(WRITTEN) == {option.key for option in conntracker.OPTIONS}


def test_the_scenario_alternative_has_another_value_for_every_option() -> None:
    others = yaml.safe_load((ROOT / "molecule/alternative/group_vars/molecule.yml").read_text(encoding="utf-8"))
    same = [name for name in map(variable, WRITTEN) if others.get(name, DEFAULTS[name]) == DEFAULTS[name]]
    # Without an inventory the other scenarios would prove nothing.
    assert sorted(same) == ["conntracker_inventory", "conntracker_inventory_defaults_file"]


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


def test_no_task_reads_a_fact_by_its_short_name() -> None:
    found = [
        f"{path.name}: {name}"
        for path in sorted(ROLE.rglob("*.[yj]*"))
        for name in re.findall(r"\bansible_(?:distribution|os_family|hostname|service_mgr|python)\w*", path.read_text())
    ]
    assert found == []


# --- with ansible itself; tests/run-role installs it ---------------------------------------------------------

TOOLS = Path(sys.executable).parent
with_ansible = pytest.mark.skipif(not (TOOLS / "ansible-playbook").exists(), reason="no ansible: see tests/run-role")


def ansible(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs away from the project's ansible.cfg."""
    lean = {"HOME": str(cwd), "PATH": f"{TOOLS}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        [str(TOOLS / command[0]), *command[1:]],
        cwd=cwd,
        env={**lean, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@with_ansible
def test_the_collection_is_built_and_its_role_is_whole_when_installed(tmp_path: Path) -> None:
    built = ansible("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(ROOT), cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    (artifact,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(artifact) as archive:
        tops = {name.partition("/")[0] for name in archive.getnames()}
    known = {"CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "SECURITY.md"}
    assert tops == known | {"conntracker.ini-dist", "conntracker.py", "docs", "meta", "playbooks", "plugins", "roles"}

    place = tmp_path / "collections"
    install = ("ansible-galaxy", "collection", "install", "--offline", "-p", str(place), str(artifact))
    done = ansible(*install, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    role = place / "ansible_collections" / "conntracker" / "mariadb" / "roles" / "conntracker"
    assert (role / "files" / "conntracker.py").read_bytes() == (ROOT / "conntracker.py").read_bytes()

    where = {"ANSIBLE_COLLECTIONS_PATH": str(place)}
    told = ansible("ansible-doc", "--json", "-t", "role", "conntracker.mariadb.conntracker", cwd=tmp_path, **where)
    assert told.returncode == 0, told.stderr
    entry = json.loads(told.stdout)["conntracker.mariadb.conntracker"]["entry_points"]["main"]
    assert sorted(entry["options"]) == sorted(SPECS)
    (tmp_path / "hosts").write_text("[mariadb]\ndb1\n", encoding="utf-8")
    play = ("ansible-playbook", "-i", "hosts", "--syntax-check", "conntracker.mariadb.rollout")
    checked = ansible(*play, cwd=tmp_path, **where)
    assert checked.returncode == 0, checked.stderr


@with_ansible
def test_the_rollout_goes_on_past_hosts_that_fail_and_names_them_at_the_end(tmp_path: Path) -> None:
    tasks = tmp_path / "roles" / "conntracker" / "tasks" / "main.yml"
    tasks.parent.mkdir(parents=True)
    tasks.write_text(
        """
- ansible.builtin.assert: {that: "'broken' not in inventory_hostname", fail_msg: There is no MariaDB.}
- ansible.builtin.lineinfile: {path: "{{ served }}", line: "{{ inventory_hostname }}", create: true}
""",
        encoding="utf-8",
    )
    # As sudo does where it wants a password: the module does not even start.
    interpreter = tmp_path / "interpreter"
    interpreter.write_text("#!/bin/sh\necho sudo: a password is required >&2\nexit 1\n", encoding="utf-8")
    interpreter.chmod(0o755)
    away = "ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1"
    hosts = [
        "broken1",
        f"away1 {away}",
        "broken2",
        *(f"db{number}" for number in range(1, 6)),
        f"crash1 ansible_python_interpreter={interpreter}",
        f"away2 {away}",
    ]
    settings = f"ansible_connection=local\nansible_become=false\nansible_python_interpreter={sys.executable}"
    served = tmp_path / "served"
    (tmp_path / "hosts").write_text(
        "[mariadb]\n" + "\n".join(hosts) + f"\n[mariadb:vars]\nserved={served}\n{settings}\n", encoding="utf-8"
    )

    play = ("ansible-playbook", "-i", "hosts", "--forks", "1", str(ROOT / "playbooks" / "rollout.yml"))
    done = ansible(*play, cwd=tmp_path, ANSIBLE_ROLES_PATH=str(tmp_path / "roles"))

    assert served.read_text(encoding="utf-8").split() == ["db1", "db2", "db3", "db4", "db5"], done.stdout
    assert done.returncode != 0
    end = done.stdout.partition("Name the hosts that failed")[2] + done.stderr
    for host in ("broken1", "broken2", "crash1", "away1", "away2"):
        assert f"fatal: [{host}]" in end
    assert end.count("There is no MariaDB.") >= 2
    assert "sudo: a password is required" in end
    assert end.count("The host was not reached.") >= 2
    # Of ten hosts one goes first, then a fifth at a time: 1 + 2 + 2 + 2 + 2 + 1.
    assert done.stdout.count("PLAY [Have conntracker run") == 6


if __name__ == "__main__":
    README = ROLE / "README.md"
    head, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(head + begin + table() + END + rest.partition(END)[2], encoding="utf-8")
