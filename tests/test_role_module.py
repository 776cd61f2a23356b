"""The arithmetic of the role's modules: what to write, to run and to say. No Ansible is needed."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import sys
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "plugins" / "modules"
ROLE = ROOT / "roles" / "conntracker"


def load(name: str) -> ModuleType:
    """Import a module of the collection by its file."""
    spec = importlib.util.spec_from_file_location(name, MODULES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


server = load("conntracker_server")
database = load("conntracker_database")

MARK = "Managed by the Ansible role conntracker. Changes made here are lost."
GROUPS = ("mysqld", "server", "mariadb", "mariadbd", "client-server", "galera")
SNIPPET = "/etc/mysql/mariadb.conf.d/zz-conntracker.cnf"
GRANTS = """\
CREATE USER IF NOT EXISTS conntracker@localhost IDENTIFIED VIA unix_socket;
GRANT PROCESS, SHOW VIEW, TRIGGER ON *.* TO conntracker@localhost;
GRANT SELECT (Host, User, Priv) ON mysql.global_priv TO conntracker@localhost;
GRANT SELECT ON mysql.proc TO conntracker@localhost;
"""
# A server as the packages leave it, and the same after the role.
FRESH = {"version": "10.11.19-MariaDB", "datadir": "/var/lib/mysql/", "plugin_rows": "0", "read_only": "OFF"}
AUDITED = {
    **FRESH,
    "plugin_rows": "1",
    "plugin_status": "ACTIVE",
    "server_audit_logging": "ON",
    "server_audit_events": "CONNECT",
    "server_audit_output_type": "file",
    "server_audit_file_path": "server_audit.log",
    "server_audit_file_rotate_size": "1000000",
    "server_audit_file_rotations": "9",
}
OURS = ["loose_server_audit_logging = ON", "loose_server_audit_events = CONNECT"]


def tree(files: dict[str, str]) -> Any:
    """Return these files as the module reads files."""
    return server.Files(
        files.get, lambda folder: [path.rpartition("/")[2] for path in files if path.rpartition("/")[0] == folder]
    )


def options(text: str) -> Any:
    """Return what one option file of this text says."""
    return server.read_option_files(["/etc/my.cnf"], GROUPS, tree({"/etc/my.cnf": text})).options


# --- option files ---------------------------------------------------------------------------------------------


def test_option_files_are_read_in_the_servers_order_with_their_includes() -> None:
    files = {
        "/etc/mysql/my.cnf": "[client-server]\nport = 3306\n!includedir /etc/mysql/conf.d/\n"
        "!includedir /etc/mysql/mariadb.conf.d\n!include /etc/site.cnf\n[mysqld]\nserver_audit_logging = OFF\n",
        "/etc/mysql/conf.d/a.cnf": "[mysqld]\nserver-audit-events = CONNECT # all\n",
        "/etc/mysql/conf.d/a.cnf.bak": "[mysqld]\nserver_audit_events = QUERY\n",
        "/etc/mysql/mariadb.conf.d/z.cnf": "[mariadb]\nloose-server_audit_events = 'CONNECT, QUERY'\n[client]\nx\n",
        "/etc/mysql/mariadb.conf.d/50.cnf": "; none\n[mariadbd]\nserver_audit_file_rotations=20\nskip-networking\n",
        "/etc/site.cnf": "[server]\nloose_server_audit_logging\n",
    }
    read = server.read_option_files(["/etc/my.cnf", "/etc/mysql/my.cnf"], GROUPS, tree(files))
    assert read.include_dirs == ("/etc/mysql/conf.d", "/etc/mysql/mariadb.conf.d")
    assert [(item.name, item.value, item.place) for item in read.options] == [
        ("port", "3306", "/etc/mysql/my.cnf:2"),
        ("server_audit_events", "CONNECT", "/etc/mysql/conf.d/a.cnf:2"),
        ("server_audit_file_rotations", "20", "/etc/mysql/mariadb.conf.d/50.cnf:3"),
        ("skip_networking", None, "/etc/mysql/mariadb.conf.d/50.cnf:4"),
        ("server_audit_events", "CONNECT, QUERY", "/etc/mysql/mariadb.conf.d/z.cnf:2"),
        ("server_audit_logging", None, "/etc/site.cnf:2"),
        ("server_audit_logging", "OFF", "/etc/mysql/my.cnf:7"),
    ]


def test_includes_that_go_round_in_a_circle_end() -> None:
    files = {"/etc/my.cnf": "!include /etc/my.cnf\n[mysqld]\nport = 1\n"}
    assert len(server.read_option_files(["/etc/my.cnf"], GROUPS, tree(files)).options) == 11


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("skip-server_audit", ("server_audit", "OFF")),
        ("loose-skip-server-audit-logging", ("server_audit_logging", "OFF")),
        ("enable_server_audit_logging", ("server_audit_logging", "ON")),
        ("server_audit = FORCE_PLUS_PERMANENT", ("server_audit", "FORCE_PLUS_PERMANENT")),
        ('server_audit_file_path = "/a b/#c.log" # comment', ("server_audit_file_path", "/a b/#c.log")),
        ("server_audit_events =", ("server_audit_events", "")),
        ("userstat # count", ("userstat", None)),
    ],
)
def test_an_option_is_read_in_the_servers_own_spelling(line: str, expected: tuple[str, str | None]) -> None:
    assert [(item.name, item.value) for item in options(f"[mariadb]\n{line}\n")] == [expected]


def test_the_servers_own_arguments_are_read_as_it_prints_them() -> None:
    printed = (
        "--plugin_load_add=server_audit --loose-server_audit_events=CONNECT, QUERY --server_audit_logging --port=3"
    )
    read = server.last_word(server.read_arguments(printed))
    assert read["server_audit_events"].value == "CONNECT, QUERY"
    assert read["server_audit_logging"].value is None
    assert server.loads_plugin(server.read_arguments(printed))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plugin_load_add = server_audit", True),
        ("plugin-load-add = server_audit.so", True),
        ("plugin_load = SERVER_AUDIT=server_audit.so;x=x.so", True),
        ("plugin_load_add = server_audit\nplugin_load = x.so", False),
        ("plugin_load = x.so\nplugin_load_add = server_audit", True),
        ("", False),
    ],
)
def test_whether_the_plugin_is_loaded(text: str, expected: bool) -> None:
    assert server.loads_plugin(options("[mysqld]\n" + text)) is expected


HELP = """\
Default options are read from the following files in the given order:
/etc/my.cnf /etc/mysql/my.cnf ~/.my.cnf
The following groups are read: mysqld server mysqld-10.11 mariadb mariadb-10.11 mariadbd client-server galera
"""


@pytest.mark.parametrize(
    ("arguments", "environment", "paths", "suffix"),
    [
        ((), {}, ("/etc/my.cnf", "/etc/mysql/my.cnf"), ""),
        ((), {"HOME": "/root"}, ("/etc/my.cnf", "/etc/mysql/my.cnf", "/root/.my.cnf"), ""),
        (("--defaults-file=/srv/two.cnf", "--port=3307"), {"HOME": "/root"}, ("/srv/two.cnf",), ""),
        (
            ("--defaults-extra-file=/e.cnf",),
            {"HOME": "/r"},
            ("/etc/my.cnf", "/etc/mysql/my.cnf", "/e.cnf", "/r/.my.cnf"),
            "",
        ),
        (("--defaults-group-suffix=.two",), {}, ("/etc/my.cnf", "/etc/mysql/my.cnf"), ".two"),
        (("--no-defaults",), {}, (), ""),
    ],
)
def test_which_files_a_server_reads_is_told_by_its_command_line(
    arguments: tuple[str, ...], environment: dict[str, str], paths: tuple[str, ...], suffix: str
) -> None:
    reading = server.parse_help(HELP, server.Process(1, "/usr/sbin/mariadbd", arguments, environment))
    assert (reading.paths, reading.suffix) == (paths, suffix)
    assert "mariadb-10.11" in reading.groups
    assert ("mariadb" + suffix) in reading.groups
    assert [item.name for item in reading.arguments] == (["port"] if len(arguments) > 1 else [])


def test_a_server_is_known_by_its_process(tmp_path: Path) -> None:
    for pid, name, command in (
        (7, "mariadbd", ("/usr/sbin/mariadbd", "--defaults-file=/srv/two.cnf", "--port=3307")),
        (8, "mariadbd-safe", ("/bin/sh", "/usr/bin/mariadbd-safe")),
        (9, "mysqld", ("mysqld",)),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(name + "\n", encoding="utf-8")
        (tmp_path / str(pid) / "cmdline").write_text("".join(word + "\0" for word in command), encoding="utf-8")
    (tmp_path / "7" / "environ").write_text("HOME=/root\0LANG=C\0", encoding="utf-8")
    (found,) = server.find_servers(str(tmp_path))
    assert (found.pid, found.program, found.chosen("defaults-file")) == (7, "/usr/sbin/mariadbd", "/srv/two.cnf")
    assert found.environment == {"HOME": "/root", "LANG": "C"}
    pid_file = tmp_path / "two.pid"
    pid_file.write_text("7\n", encoding="utf-8")
    other = found._replace(pid=8)
    assert server.own_process({"datadir": str(tmp_path), "pid_file": "two.pid"}, [other, found]) == found
    assert server.own_process({"datadir": "/", "pid_file": "/none"}, [other, found]) is None
    assert server.own_process({"datadir": "/", "pid_file": "/none"}, [other]) == other


def test_whether_a_group_can_read_is_told_by_every_folder_above(tmp_path: Path) -> None:
    log = tmp_path / "shut" / "server_audit.log"
    log.parent.mkdir(mode=0o700)
    log.write_text("", encoding="utf-8")
    log.chmod(0o640)
    gid = log.stat().st_gid
    assert not server.group_reads(str(log), gid)
    log.parent.chmod(0o750)
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    assert server.group_reads(str(log), gid)
    assert not server.group_reads(str(log), gid + 1)


# --- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "logging", "wanted"),
    [
        ("", False, "CONNECT"),
        ("", True, ""),
        ("QUERY", True, "CONNECT,QUERY"),
        ("query, table", False, "CONNECT,QUERY,TABLE"),
        ("CONNECT,QUERY", True, "CONNECT,QUERY"),
        ("QUERY_DDL,CONNECT", True, "QUERY_DDL,CONNECT"),
    ],
)
def test_which_events_are_audited(events: str, logging: bool, wanted: str) -> None:
    assert server.events_wanted(events, logging) == wanted


def test_a_fresh_server_with_its_plugin_gets_events_first_and_logging_last() -> None:
    loaded = {**FRESH, "plugin_status": "ACTIVE", "server_audit_events": "", "server_audit_logging": "OFF"}
    assert server.statements_lacking(loaded, server.Wishes(True, True, 500, None), False) == [
        "SET GLOBAL server_audit_events = 'CONNECT'",
        "SET GLOBAL server_audit_file_rotate_size = 500",
        "SET GLOBAL server_audit_logging = ON",
        "SET GLOBAL userstat = ON",
    ]


def test_a_server_that_does_all_of_it_is_left_alone() -> None:
    assert server.statements_lacking(AUDITED, server.Wishes(True, False, 1000000, 9), False) == []
    assert server.statements_lacking({**AUDITED, "userstat": "ON"}, server.Wishes(), False) == []


def test_user_statistics_that_the_role_switched_on_are_switched_off_again() -> None:
    assert server.statements_lacking({**AUDITED, "userstat": "ON"}, server.Wishes(), True) == [
        "SET GLOBAL userstat = OFF"
    ]


@pytest.mark.parametrize(
    ("state", "others", "wishes", "lines"),
    [
        (AUDITED, "", {}, OURS),
        ({**AUDITED, "plugin_rows": "0"}, "", {}, ["plugin_load_add = server_audit", *OURS]),
        # What others' files say already is not said again.
        (AUDITED, "server_audit_logging = 1\nserver_audit_events = connect,query", {}, []),
        (
            AUDITED,
            "server_audit_logging = 1\nserver_audit_events = connect, query",
            {},
            ["loose_server_audit_events = CONNECT,QUERY"],
        ),
        (AUDITED, "server_audit_logging\nserver_audit_events =", {}, []),
        ({**AUDITED, "plugin_rows": "0"}, "plugin_load = server_audit", {}, OURS),
        # What the administrator has changed since the server started is his word.
        (AUDITED, "server_audit_file_rotations = 20", {}, OURS),
        (AUDITED, "server_audit_output_type = syslog", {}, OURS),
        # What was set by hand, and what the role was asked for.
        ({**AUDITED, "server_audit_file_path": "/a.log"}, "", {}, [*OURS, "loose_server_audit_file_path = /a.log"]),
        ({**AUDITED, "server_audit_events": "CONNECT,QUERY"}, "", {}, [OURS[0], OURS[1] + ",QUERY"]),
        ({**AUDITED, "server_audit_events": ""}, "", {}, OURS[:1]),
        (
            AUDITED,
            "server_audit_file_rotations = 20",
            {"file_rotations": 30},
            [*OURS, "loose_server_audit_file_rotations = 30"],
        ),
        # What the role must override, or the tracker is blind.
        (AUDITED, "server_audit_logging = OFF", {}, OURS),
        (AUDITED, "server_audit_events = QUERY", {}, [OURS[0], "loose_server_audit_events = CONNECT,QUERY"]),
        (AUDITED, "", {"userstat": True}, [*OURS, "loose_userstat = ON"]),
        (AUDITED, "userstat = 1", {"audit": False, "userstat": True}, []),
        (AUDITED, "", {"audit": False}, []),
    ],
)
def test_the_settings_file_says_what_no_other_says(
    state: dict[str, str], others: str, wishes: dict[str, Any], lines: list[str]
) -> None:
    assert server.snippet_lines(state, options("[mysqld]\n" + others), server.Wishes(**wishes)) == lines


def test_what_the_settings_file_overrides_is_named_with_its_place() -> None:
    words = server.overridden(OURS, options("[mysqld]\nserver_audit_events = QUERY"), SNIPPET)
    assert len(words) == 1
    assert words[0].startswith(f"/etc/my.cnf:2 sets server_audit_events to QUERY; {SNIPPET} sets it to CONNECT")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server_audit_logging = ON\nserver_audit_events = CONNECT", []),
        ("loose_server_audit_logging = 1\nserver_audit_logging", []),
        (
            "server_audit_logging = ON\nserver_audit_logging = 0",
            ["auditing is off (/etc/my.cnf:3 sets server_audit_logging"],
        ),
        ("", ["auditing is off (no option file sets server_audit_logging)"]),
        ("server_audit_logging\nserver_audit_events = CONNECT, QUERY", ["all events are audited (/etc/my.cnf:3"]),
        ("server_audit_logging\nserver_audit_events = QUERY", ["connections are not audited (/etc/my.cnf:3"]),
        (
            "server_audit_logging\nskip_server_audit",
            ["the audit plugin is not loaded (/etc/my.cnf:3 sets server_audit to OFF"],
        ),
        ("server_audit_logging\nserver_audit_file_path = /b", ["the records go elsewhere than now (/etc/my.cnf:3"]),
    ],
)
def test_what_a_restart_would_change_is_said(text: str, words: list[str]) -> None:
    said = options("[mysqld]\n" + text)
    found = server.after_restart(said, said, AUDITED, server.Wishes())
    assert [line.startswith("After the server's next restart " + start) for line, start in zip(found, words)] == [
        True
    ] * len(words)
    assert len(found) == len(words)


def test_a_plugin_that_nothing_loads_is_said() -> None:
    said = options("[mysqld]\nserver_audit_logging")
    assert (
        "plugin is not loaded" in server.after_restart(said, said, {**AUDITED, "plugin_rows": "0"}, server.Wishes())[0]
    )


def test_the_role_need_not_read_its_own_file_to_know_what_the_others_say() -> None:
    files = tree({"/etc/my.cnf": "!includedir /d\n", "/d/a.cnf": "[mysqld]\nport = 1\n"})
    text = server.snippet_text(MARK, "mariadb", OURS)
    with_ours = server.read_option_files(["/etc/my.cnf"], GROUPS, files.replacing("/d/zz.cnf", text))
    assert [item.name for item in with_ours.options] == ["port", "server_audit_logging", "server_audit_events"]
    without = server.read_option_files(["/etc/my.cnf"], GROUPS, files.replacing("/d/a.cnf", None))
    assert without.options == ()


# --- the account ----------------------------------------------------------------------------------------------

SHOWN = [
    "GRANT PROCESS, SHOW VIEW, TRIGGER ON *.* TO `conntracker`@`localhost` IDENTIFIED VIA unix_socket",
    "GRANT SELECT (`Priv`, `User`, `Host`) ON `mysql`.`global_priv` TO `conntracker`@`localhost`",
    "GRANT SELECT ON `mysql`.`proc` TO `conntracker`@`localhost`",
]


def test_an_account_that_is_missing_gets_all_statements() -> None:
    plan = server.plan_account(GRANTS, False, [])
    assert [*plan.statements] == [line.rstrip(";") for line in GRANTS.splitlines()]
    assert plan.surplus == ()


@pytest.mark.parametrize("quote", ["`", '"', ""])
def test_an_account_that_has_all_gets_none(quote: str) -> None:
    assert server.plan_account(GRANTS, True, [line.replace("`", quote) for line in SHOWN]) == ((), ())


def test_only_what_is_lacking_is_granted() -> None:
    assert server.plan_account(GRANTS, True, SHOWN[:2]).statements == (
        "GRANT SELECT ON mysql.proc TO conntracker@localhost",
    )
    fewer = [SHOWN[0].replace(", TRIGGER", ""), *SHOWN[1:]]
    assert server.plan_account(GRANTS, True, fewer).statements == (
        "GRANT PROCESS, SHOW VIEW, TRIGGER ON *.* TO conntracker@localhost",
    )


@pytest.mark.parametrize("columns", ["", ", SELECT (`Priv`, `Host`, `User`)"])
def test_what_an_earlier_release_granted_too_much_is_taken_back_first(columns: str) -> None:
    shown = [SHOWN[0], f"GRANT SELECT{columns} ON `mysql`.`global_priv` TO `conntracker`@`localhost`", SHOWN[2]]
    assert server.plan_account(GRANTS, True, shown).statements == (
        "REVOKE SELECT ON mysql.global_priv FROM conntracker@localhost",
        "GRANT SELECT (Host, User, Priv) ON mysql.global_priv TO conntracker@localhost",
    )


def test_what_somebody_else_granted_is_named_and_stays() -> None:
    plan = server.plan_account(GRANTS, True, [*SHOWN, "GRANT INSERT ON `app`.* TO `conntracker`@`localhost`"])
    assert plan.statements == ()
    assert plan.surplus == ("REVOKE INSERT ON app.* FROM conntracker@localhost",)


def test_all_privileges_include_the_others() -> None:
    assert (
        server.plan_account(GRANTS, True, ["GRANT ALL PRIVILEGES ON *.* TO `conntracker`@`localhost`"]).statements == ()
    )


def test_create_user_never_fails_on_an_account_that_is_there() -> None:
    plan = server.plan_account("CREATE USER conntracker@localhost IDENTIFIED VIA unix_socket;", False, [])
    assert plan.statements == ("CREATE USER IF NOT EXISTS conntracker@localhost IDENTIFIED VIA unix_socket",)


# --- the log and the schedule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, "/var/lib/mysql/server_audit.log"),
        ({"server_audit_current_log": "server_audit.log"}, "/var/lib/mysql/server_audit.log"),
        ({"server_audit_current_log": "/log/connections.log"}, "/log/connections.log"),
        ({"server_audit_file_path": "/log/"}, "/log/server_audit.log"),
        ({"server_audit_output_type": "syslog", "server_audit_current_log": "[SYSLOG]"}, ""),
        ({"datadir": "/var/lib/mariadb/"}, "/var/lib/mariadb/server_audit.log"),
    ],
)
def test_where_the_log_is(state: dict[str, str], expected: str) -> None:
    assert server.log_file({**FRESH, **state}) == expected


@pytest.mark.parametrize(
    ("modified", "rotations", "short"),
    [
        ([0, 60, 120, 180], 3, True),
        ([0, 60, 120], 3, False),
        ([0, 6000, 12000, 18000], 3, False),
        ([-90000, 0, 60, 120, 180], 3, True),
        ([0, 60], 0, False),
        ([], 9, False),
    ],
)
def test_a_short_history_is_said(modified: list[float], rotations: int, short: bool) -> None:
    assert bool(server.history_words(modified, rotations, 15)) is short


CRON = "Id={}\nLoadState={}\nActiveState={}\nUnitFileState={}\n"


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([("cron.service", "loaded", "active", "enabled")], ""),
        ([("cron.service", "not-found", "inactive", ""), ("crond.service", "loaded", "active", "enabled")], ""),
        ([("cron.service", "not-found", "inactive", "")], "no cron that reads it"),
        ([("cron.service", "masked", "inactive", "masked")], "cron.service is there, but it does not run"),
        ([("cron.service", "loaded", "active", "disabled")], "not started at boot (loaded, disabled, active)"),
        ([("cron.service", "loaded", "failed", "enabled")], "systemctl enable --now cron.service"),
    ],
)
def test_cron_must_run(states: list[tuple[str, ...]], words: str) -> None:
    fault = server.cron_fault("\n".join(CRON.format(*state) for state in states), "or so.")
    assert words in fault
    assert bool(words) == bool(fault)


# --- the configuration ----------------------------------------------------------------------------------------


def test_notes_are_read_as_the_template_writes_them() -> None:
    text = f"# {MARK}\n# notes: {json.dumps({'datadir': '/var/lib/mysql/', 'link': ''})}\n[default]\n"
    assert server.read_notes(text)["datadir"] == "/var/lib/mysql/"
    assert server.read_notes("# notes: {broken}\n") == server.read_notes("") == {}


def test_settings_of_a_configuration_by_hand_are_named_one_by_one() -> None:
    text = '[default]\nAuditLogPath = /x\nTimeLocation = "Europe/Zurich"\nMaxWorkers = 4\nloglevel=DEBUG\n'
    ours = {"AuditLogPath": "/y", "TimeLocation": "", "MaxWorkers": 4, "LogLevel": "ERROR"}
    words = server.lost_settings(text, MARK, ours)
    assert [line.partition(", which")[0].rpartition("has ")[2] for line in words] == [
        "TimeLocation = Europe/Zurich",
        "loglevel = DEBUG",
    ]
    assert "set conntracker_time_location to it" in words[0]
    assert server.lost_settings(f"# {MARK}\n{text}", MARK, ours) == []


# --- the database ---------------------------------------------------------------------------------------------


def test_a_database_is_not_written_to_a_folder_of_somebody_else() -> None:
    own = "/var/lib/conntracker"
    assert database.places("/var/lib/mysql/audit.sqlite", own, "mysql") == (
        own + "/audit.sqlite",
        "/var/lib/mysql/audit.sqlite",
    )
    assert database.places("/srv/x.sqlite", own, None) == ("/srv/x.sqlite", "")
    assert database.places("/srv/x.sqlite", own, "conntracker") == ("/srv/x.sqlite", "")
    assert database.places(own + "/audit.sqlite", own, "root") == (own + "/audit.sqlite", "")


def test_the_database_with_the_latest_run_is_taken() -> None:
    old, new = database.Candidate("/old", 10.0), database.Candidate("/new", 20.0)
    go = database.Candidate("/go", 0.0)
    assert database.choose(old, [new]) == new
    assert database.choose(new, [old]) is None
    assert database.choose(None, [old, new]) == new
    assert database.choose(None, [go]) == go
    assert database.choose(None, []) is None


def test_when_a_database_was_last_used(tmp_path: Path) -> None:
    path = tmp_path / "audit.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value)")
    connection.execute("INSERT INTO meta VALUES ('last_run', 1790000000)")
    connection.commit()
    connection.close()
    assert database.last_run(str(path)) == 1790000000
    path.write_bytes(b"no database")
    assert database.last_run(str(path)) == database.last_run(str(tmp_path / "none")) == 0


def test_the_database_used_so_far_is_found_in_the_configuration() -> None:
    assert database.used_so_far('[default]\nSqlitePath = "/a b/c.sqlite"\n') == "/a b/c.sqlite"
    assert database.used_so_far("SqlitePath=/c.sqlite\n") == "/c.sqlite"
    assert database.used_so_far("") == ""
    assert database.linked_so_far('# notes: {"link": "/srv/l"}\n') == "/srv/l"
    assert database.linked_so_far("# notes: {}\n") == database.linked_so_far("") == ""


# --- the modules beside the role ------------------------------------------------------------------------------


def test_the_role_alone_has_the_modules_too() -> None:
    for path in MODULES.glob("*.py"):
        link = ROLE / "library" / path.name
        assert link.is_symlink()
        assert link.resolve() == path


@pytest.mark.parametrize("module", [server, database], ids=lambda module: module.__name__)
def test_the_documentation_names_the_options_that_the_module_has(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    taken: dict[str, Any] = {}

    class EnoughError(Exception):
        pass

    def fake(argument_spec: dict[str, Any], supports_check_mode: bool) -> None:
        taken.update(argument_spec)
        raise EnoughError

    monkeypatch.setitem(sys.modules, "ansible", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ansible.module_utils", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ansible.module_utils.basic", SimpleNamespace(AnsibleModule=fake))
    with pytest.raises(EnoughError):
        module.main()
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    for told in documented.values():
        told.pop("description")
    assert documented == taken


def test_the_tasks_give_every_option_of_the_modules() -> None:
    import yaml

    (task,) = yaml.safe_load((ROLE / "tasks" / "server.yml").read_text(encoding="utf-8"))
    assert set(task["conntracker_server"]) == set(yaml.safe_load(server.DOCUMENTATION)["options"])
