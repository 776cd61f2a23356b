#!/usr/bin/python
# Copyright: the conntracker maintainers
# MIT License (see LICENSE)
"""Examine a MariaDB server for conntracker, and have it audit connections; the role's arithmetic is here."""

from __future__ import annotations

DOCUMENTATION = r"""
module: conntracker_server
short_description: Have a MariaDB server audit connections for conntracker
version_added: 1.1.0
description:
  - Looks at this host and at its MariaDB server, and fails with everything that hinders before anything is changed.
  - Has the server audit connections, makes that permanent in a file of its own, and gives the program its account.
  - Reads the option files as the running server was told to read them, and says what holds after a restart.
  - The role P(conntracker.mariadb.conntracker#role) is its only user; its options follow the role's variables.
author: The conntracker maintainers (@conntracker)
options:
  state:
    description:
      - V(examined) changes nothing.
      - V(present) changes the server's settings, the settings file and the account.
      - V(absent) drops the account and, with O(audit_state=absent), removes the settings file.
    type: str
    choices: [examined, present, absent]
    default: examined
  mark:
    description: First line of the files that the role writes.
    type: str
    required: true
  config:
    description: The program's configuration file; the role keeps its own notes in it.
    type: path
    required: true
  instance:
    description: Name of this instance. Empty for the only one.
    type: str
    default: ""
  defaults_file:
    description: Options file by which the role itself connects to the server.
    type: str
    default: ""
  include_dir:
    description: Folder for the settings file. Empty for the last one that the server includes.
    type: str
    default: ""
  audit_state:
    description: Whether the role looks after the audit settings.
    type: str
    choices: [present, absent]
    default: present
  file_rotate_size:
    description: Wanted server_audit_file_rotate_size.
    type: int
  file_rotations:
    description: Wanted server_audit_file_rotations.
    type: int
  userstat:
    description: Whether the server keeps user statistics.
    type: bool
    default: false
  inventory:
    description: Whether the program asks the server, and so needs its account.
    type: bool
    default: false
  inventory_defaults_file:
    description: The user's own options file for the program's questions.
    type: str
    default: ""
  grants:
    description: The account's statements as C(conntracker grants) prints them.
    type: str
    default: ""
  log_path:
    description: The logs, where the user names them.
    type: str
    default: ""
  log_name:
    description: The log's name, where the user gives one.
    type: str
    default: ""
  log_group:
    description: The group that may read the logs, where the user names one.
    type: str
    default: ""
  time_location:
    description: Time zone of the report.
    type: str
    default: ""
  time_location_audit:
    description: Time zone of the log.
    type: str
    default: ""
  python:
    description: The Python that runs the program.
    type: str
    default: /usr/bin/python3
  schedule:
    description: What runs the program.
    type: str
    choices: [cron, timer]
    default: cron
  interval_minutes:
    description: Minutes between two runs.
    type: int
    default: 15
  textfile_dir:
    description: Folder of node_exporter's textfile collector.
    type: str
    default: ""
  settings:
    description: Every option of the program with the value that the user gave it.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says what would be changed.
    support: full
  diff_mode:
    description: Shows statements and the settings file.
    support: full
"""

EXAMPLES = r"""
- name: Ensure this host can be served
  conntracker.mariadb.conntracker_server:
    mark: Managed by the Ansible role conntracker. Changes made here are lost.
    config: /etc/conntracker/conntracker.ini
"""

RETURN = r"""
server:
  description: The server's variables and status.
  returned: success
  type: dict
log:
  description: Path, name, file, group and time zone of the logs.
  returned: success
  type: dict
attention:
  description: What the administrator should know, one sentence or two each.
  returned: success
  type: list
  elements: str
statements:
  description: The statements that were run, or would be run in check mode.
  returned: success
  type: list
  elements: str
faults:
  description: What hinders, each with its remedy.
  returned: failure
  type: list
  elements: str
"""

import glob
import grp
import json
import os
import pwd
import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Callable
from typing import NamedTuple

USER = "conntracker"
ACCOUNT = "conntracker@localhost"
CLIENTS = ("/usr/bin/mariadb", "/usr/local/bin/mariadb", "/usr/bin/mysql", "/usr/local/bin/mysql")
PROGRAM = "/usr/local/bin/conntracker"
GO_PROGRAM = "/usr/bin/conntracker"
INTERVALS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)
ZONES = "/usr/share/zoneinfo"
FACTS_DIRS = ("/etc/ansible/facts.d", "/etc/ansible")
# Where an earlier release may have left its settings file, for a server that cannot be asked any more.
KNOWN_INCLUDE_DIRS = ("/etc/mysql/mariadb.conf.d", "/etc/mysql/conf.d", "/etc/my.cnf.d")
# What the plugin does when no option is given.
AUDIT_DEFAULTS = {
    "server_audit_logging": "OFF",
    "server_audit_events": "",
    "server_audit_output_type": "file",
    "server_audit_file_path": "server_audit.log",
    "server_audit_file_rotate_size": "1000000",
    "server_audit_file_rotations": "9",
}
# Privileges that release 1.0 granted and that are no longer needed: (privilege, column, object).
GRANTED_BEFORE = frozenset({("SELECT", "", "mysql.global_priv")})

LOAD_PLUGIN = "INSTALL PLUGIN IF NOT EXISTS server_audit SONAME 'server_audit'"
# mysql.plugin belongs to this server alone: the row must reach no replica, and no Galera node.
UNLOGGED = "SET SESSION sql_log_bin = 0; "
# The server's own sql_mode must not change what a statement means, or how a name is quoted in an answer.
PLAIN = "SET SESSION sql_mode = ''; "
SERVER_QUERY = """
SELECT LOWER(variable_name), variable_value FROM information_schema.global_variables
 WHERE variable_name IN ('VERSION', 'DATADIR', 'PLUGIN_DIR', 'READ_ONLY', 'SOCKET', 'PORT', 'PID_FILE', 'USERSTAT',
                         'WSREP_ON') OR LEFT(variable_name, 12) = 'SERVER_AUDIT'
UNION ALL SELECT LOWER(variable_name), variable_value FROM information_schema.global_status
 WHERE variable_name IN ('SERVER_AUDIT_CURRENT_LOG', 'SERVER_AUDIT_ACTIVE', 'SERVER_AUDIT_LAST_ERROR')
UNION ALL SELECT 'plugin_status', plugin_status FROM information_schema.plugins WHERE plugin_name = 'SERVER_AUDIT'
UNION ALL SELECT 'plugin_rows', COUNT(*) FROM mysql.plugin WHERE LEFT(dl, 12) = 'server_audit'
UNION ALL SELECT 'account_plugin', plugin FROM mysql.user WHERE user = 'conntracker' AND host = 'localhost';
SHOW ALL SLAVES STATUS
"""

Run = Callable[[Sequence[str]], "tuple[int, str, str]"]


# --- option files ---------------------------------------------------------------------------------------------


class Option(NamedTuple):
    """One option of an option file or of a command line; `value` is None where only the name is given."""

    name: str
    value: str | None
    place: str


class OptionFiles(NamedTuple):
    """What a server's option files say, in the order of reading, and the folders that they include."""

    options: tuple[Option, ...]
    include_dirs: tuple[str, ...]


class Files(NamedTuple):
    """How files are read and folders listed: the real ones, or real ones with some of them replaced."""

    read: Callable[[str], str | None]
    names: Callable[[str], Sequence[str]]

    def replacing(self, path: str, text: str | None) -> Files:
        """Return the same files, with the one at `path` holding `text`, or missing if that is None."""

        def read(asked: str) -> str | None:
            return text if asked == path else self.read(asked)

        def names(folder: str) -> Sequence[str]:
            listed = set(self.names(folder))
            if folder.rstrip("/") == os.path.dirname(path):
                listed = listed - {os.path.basename(path)} if text is None else listed | {os.path.basename(path)}
            return sorted(listed)

        return Files(read, names)


def option(name: str, value: str | None, place: str) -> Option:
    """Return the option in the server's own spelling: loose_ changes no meaning, skip_ switches off."""
    plain = re.sub(r"^loose_", "", name.strip().lower().replace("-", "_"))
    switched = re.match(r"(skip|disable|enable)_(server_audit.*|userstat)$", plain)
    if switched:
        return Option(switched.group(2), "ON" if switched.group(1) == "enable" else "OFF", place)
    return Option(plain, value, place)


def _value(text: str) -> str:
    """Return the value of an option line: quotes and a comment behind it are no part of it."""
    text = text.strip()
    quoted = re.match(r"(['\"])(.*?)\1\s*(?:#.*)?$", text)
    return quoted.group(2) if quoted else re.sub(r"\s*(?:^|\s)#.*$", "", text)


def read_option_files(paths: Iterable[str], groups: Iterable[str], files: Files) -> OptionFiles:
    """Return what the option files say to a server that reads these groups of them."""
    options: list[Option] = []
    folders: list[str] = []
    wanted = frozenset(groups)

    def read(path: str, depth: int) -> None:
        group = ""
        for number, raw in enumerate((files.read(path) or "").splitlines(), 1):
            line = raw.strip()
            included = re.match(r"!(includedir|include)\s+(.+)$", line)
            header = re.match(r"\[([^]]*)\]", line)
            if included and depth < 10:
                name = included.group(2).strip()
                if included.group(1) == "include":
                    read(name, depth + 1)
                    continue
                folder = name.rstrip("/") or "/"
                folders.append(folder)
                for entry in sorted(files.names(folder)):
                    if entry.endswith(".cnf"):
                        read(os.path.join(folder, entry), depth + 1)
            elif header:
                group = header.group(1).strip()
            elif line and line[0] not in "#;!" and group in wanted:
                name, equals, rest = line.partition("=")
                bare = re.sub(r"\s*#.*$", "", name) if not equals else name
                options.append(option(bare, _value(rest) if equals else None, f"{path}:{number}"))

    for path in paths:
        read(path, 0)
    return OptionFiles(tuple(options), tuple(dict.fromkeys(folders)))


def read_arguments(text: str) -> tuple[Option, ...]:
    """Return the options of a line of arguments, as `mariadbd --print-defaults` prints them."""
    options = []
    for argument in re.split(r"\s+(?=--)", " " + text.strip()):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            options.append(option(name, _value(value) if equals else None, "the server's arguments"))
    return tuple(options)


def last_word(options: Iterable[Option]) -> dict[str, Option]:
    """Return the options that hold: the last of each name."""
    return {item.name: item for item in options}


def switched_on(value: str | None) -> bool:
    """Return whether an option that is given with this value switches something on."""
    return value is None or value.strip().lower() in ("1", "on", "true", "")


def loads_plugin(options: Iterable[Option]) -> bool:
    """Return whether these options load the audit plugin; plugin_load forgets what plugin_load_add said before it."""
    loaded: list[str] = []
    for item in options:
        if item.name == "plugin_load":
            loaded = [item.value or ""]
        elif item.name == "plugin_load_add":
            loaded.append(item.value or "")
    return any("server_audit" in value for value in loaded)


# --- what the audit settings are to be --------------------------------------------------------------------------


class Wishes(NamedTuple):
    """What the role's user wants of the server's settings."""

    audit: bool = True
    userstat: bool = False
    file_rotate_size: int | None = None
    file_rotations: int | None = None

    def settings(self) -> dict[str, str]:
        """Return the settings that the user gave a value."""
        given = {
            "server_audit_file_rotate_size": self.file_rotate_size,
            "server_audit_file_rotations": self.file_rotations,
        }
        return {name: str(value) for name, value in given.items() if value is not None}


def has_connect(events: str) -> bool:
    """Return whether a list of audit events includes CONNECT; an empty one means all events."""
    return not events.strip() or "CONNECT" in events.upper().replace(" ", "").split(",")


def events_wanted(events: str, logging: bool) -> str:
    """Return the events to audit: those that are audited now, and CONNECT.

    CONNECT goes first, as the server shows it. No events chosen means all of them; where nothing has been audited so
    far, that would fill the log with every query.
    """
    events = events.upper().replace(" ", "")
    if not events:
        return "" if logging else "CONNECT"
    return events if has_connect(events) else "CONNECT," + events


def is_logging(server: Mapping[str, str]) -> bool:
    """Return whether the running server audits."""
    return server.get("server_audit_logging", "OFF").upper() in ("ON", "1")


def statements_lacking(server: Mapping[str, str], wishes: Wishes, own_userstat: bool) -> list[str]:
    """Return what to run so that the running server does what is wanted; `own_userstat`: the role switched it on."""
    statements = []
    if wishes.audit and server.get("plugin_status") == "ACTIVE":
        events = server.get("server_audit_events", "")
        wanted = events_wanted(events, is_logging(server))
        if wanted != events.upper().replace(" ", ""):
            statements.append(f"SET GLOBAL server_audit_events = '{wanted}'")
        for name, value in wishes.settings().items():
            if server.get(name) != value:
                statements.append(f"SET GLOBAL {name} = {value}")
        if not is_logging(server):
            statements.append("SET GLOBAL server_audit_logging = ON")
    userstat = server.get("userstat", "OFF").upper() in ("ON", "1")
    if wishes.userstat and not userstat:
        statements.append("SET GLOBAL userstat = ON")
    elif own_userstat and userstat and not wishes.userstat:
        statements.append("SET GLOBAL userstat = OFF")
    return statements


def snippet_lines(server: Mapping[str, str], others: Sequence[Option], wishes: Wishes) -> list[str]:
    """Return what the role's settings file has to say: only what holds by no other file.

    What others' files say of a setting is the administrator's word. The role overrides it only where it must (logging,
    the event CONNECT, the plugin) or was asked to (rotation, user statistics). What no file says is kept as it runs.
    """
    said = last_word(others)
    lines = []
    if wishes.audit:
        if server.get("plugin_rows", "0") == "0" and not loads_plugin(others):
            lines.append("plugin_load_add = server_audit")
        for name, value in _audit_settings(server, said, wishes):
            lines.append(f"loose_{name} = {value}")
    if wishes.userstat and not ("userstat" in said and switched_on(said["userstat"].value)):
        lines.append("loose_userstat = ON")
    return lines


def _audit_settings(server: Mapping[str, str], said: Mapping[str, Option], wishes: Wishes) -> Iterable[tuple[str, str]]:
    asked = wishes.settings()
    for name, default in AUDIT_DEFAULTS.items():
        here = said[name].value if name in said else default
        if name == "server_audit_logging":
            if name not in said or not switched_on(here):
                yield name, "ON"
            continue
        if name == "server_audit_events":
            running = events_wanted(server.get(name, ""), is_logging(server))
            wanted = events_wanted(here or "", True) if name in said else running
        else:
            wanted = asked.get(name) or (here if name in said else server.get(name, default)) or default
        # The server does not understand a list of events with a blank in it, so that is another value.
        if wanted.lower() != (here or "").lower():
            yield name, wanted


def snippet_text(mark: str, group: str, lines: Sequence[str]) -> str | None:
    """Return the role's settings file, or None if it has nothing to say."""
    if not lines:
        return None
    return (
        f"# {mark}\n"
        "# What the other option files do not say. loose_ makes an option that the server does not know a warning,\n"
        "# and a plugin that cannot be loaded is an error in its log: neither keeps a server from starting.\n"
        f"[{group}]\n" + "\n".join(lines) + "\n"
    )


def overridden(lines: Iterable[str], others: Sequence[Option], path: str) -> list[str]:
    """Return, in words, which settings of others' files the role's file overrides."""
    said = last_word(others)
    words = []
    for line in lines:
        name, _, value = line.partition(" = ")
        name = re.sub(r"^loose_", "", name)
        if name in said:
            words.append(
                f"{said[name].place} sets {name} to {said[name].value or 'ON'}; {path} sets it to {value}, which holds "
                "if that file is read later. Change the former, and the role takes its own line back."
            )
    return words


class Holding(NamedTuple):
    """What holds after a restart, and what the option files say, to name the place."""

    options: Sequence[Option]
    places: Sequence[Option]

    def value(self, name: str) -> str | None:
        """Return the value that holds; the plugin's own where nothing is said."""
        holds = last_word(self.options)
        return holds[name].value if name in holds else AUDIT_DEFAULTS.get(name, "OFF")

    def told(self, name: str) -> str:
        """Return, in words, who says so."""
        holds = last_word(self.options)
        if name not in holds:
            return f"no option file sets {name}"
        item = holds[name]
        found = {(said.name, said.value): said.place for said in self.places}
        return f"{found.get((name, item.value), item.place)} sets {name} to {item.value or 'ON'}"


def after_restart(
    options: Sequence[Option], places: Sequence[Option], server: Mapping[str, str], wishes: Wishes
) -> list[str]:
    """Return, in words, what a restart would change for the worse.

    `options` are what holds, `places` the same with the files that say so, as far as those were found.
    """
    holding = Holding(options, places)
    words = list(_audit_after_restart(holding, server)) if wishes.audit else []
    if wishes.audit:
        for name, value in wishes.settings().items():
            if holding.value(name) != value:
                words.append(f"{name} is not {value} ({holding.told(name)})")
    if wishes.userstat and not switched_on(holding.value("userstat")):
        words.append(f"user statistics are off ({holding.told('userstat')})")
    return ["After the server's next restart " + word + "." for word in words]


def _audit_after_restart(holding: Holding, server: Mapping[str, str]) -> Iterable[str]:
    if "server_audit" in last_word(holding.options) and (holding.value("server_audit") or "").upper() == "OFF":
        yield f"the audit plugin is not loaded ({holding.told('server_audit')})"
    elif server.get("plugin_rows", "0") == "0" and not loads_plugin(holding.options):
        yield "the audit plugin is not loaded"
    if not switched_on(holding.value("server_audit_logging")):
        yield f"auditing is off ({holding.told('server_audit_logging')})"
    events = holding.value("server_audit_events") or ""
    if " " in events:
        yield f"all events are audited ({holding.told('server_audit_events')}: a blank, so the server takes none of it)"
    elif not has_connect(events):
        yield f"connections are not audited ({holding.told('server_audit_events')})"
    if server.get("plugin_status") != "ACTIVE":
        return
    for name in ("server_audit_output_type", "server_audit_file_path"):
        default = AUDIT_DEFAULTS[name]
        running = server.get(name) or default
        if (holding.value(name) or default).lower() != running.lower():
            yield f"the records go elsewhere than now ({holding.told(name)}, it is {running})"


# --- the account ----------------------------------------------------------------------------------------------

Privilege = "tuple[str, str, str]"


def parse_grant(statement: str) -> frozenset[tuple[str, str, str]]:
    """Return what a GRANT grants, as (privilege, column or nothing, object); nothing for other statements."""
    found = re.match(r"\s*GRANT\s+(.+?)\s+ON\s+(\S+)\s+TO\s", statement, re.IGNORECASE | re.DOTALL)
    if not found:
        return frozenset()
    granted = set()
    place = re.sub(r"[`\"]", "", found.group(2)).lower()
    for privilege, columns in re.findall(r"([A-Za-z][A-Za-z ]*?)\s*(?:\(([^)]*)\))?\s*(?:,|$)", found.group(1)):
        for column in columns.split(",") if columns else [""]:
            granted.add((privilege.upper().strip(), re.sub(r"[`\" ]", "", column).lower(), place))
    return frozenset(granted) - {("USAGE", "", "*.*")}


def covers(held: Iterable[tuple[str, str, str]], wanted: tuple[str, str, str]) -> bool:
    """Return whether one of the privileges held includes the wanted one."""
    privilege, column, place = wanted
    wide = {place, "*.*", place.partition(".")[0] + ".*"}
    return any(
        has in (privilege, "ALL PRIVILEGES") and where in wide and part in ("", column) for has, part, where in held
    )


class AccountPlan(NamedTuple):
    """What to run for the account, and what it may do beyond its needs."""

    statements: tuple[str, ...]
    surplus: tuple[str, ...]


def _privilege_words(privileges: Iterable[tuple[str, str, str]]) -> list[str]:
    return sorted(f"REVOKE {name}{f' ({column})' if column else ''} ON {place}" for name, column, place in privileges)


def plan_account(wanted: str, exists: bool, shown: Iterable[str]) -> AccountPlan:
    """Return how to get from the account as SHOW GRANTS shows it to what the program's statements ask for."""
    statements = [line.strip().rstrip(";") for line in wanted.splitlines() if line.strip() and line[0] not in "-#"]
    needs = frozenset[tuple[str, str, str]]().union(*map(parse_grant, statements))
    has = frozenset[tuple[str, str, str]]().union(*map(parse_grant, shown))
    revoked = (has & GRANTED_BEFORE) - needs
    # To revoke a privilege on a table takes it from the columns as well.
    whole = {(privilege, place) for privilege, _, place in revoked}
    kept = {held for held in has if (held[0], held[2]) not in whole}
    run = [f"{words} FROM {ACCOUNT}" for words in _privilege_words(revoked)]
    for statement in statements:
        create = re.match(r"CREATE\s+USER\s+(?:IF\s+NOT\s+EXISTS\s+)?", statement, re.IGNORECASE)
        if create:
            if not exists:
                run.append("CREATE USER IF NOT EXISTS " + statement[create.end() :])
        elif not all(covers(kept, privilege) for privilege in parse_grant(statement)):
            run.append(statement)
    return AccountPlan(
        tuple(run), tuple(f"{words} FROM {ACCOUNT}" for words in _privilege_words(has - needs - revoked))
    )


# --- the log --------------------------------------------------------------------------------------------------


def log_file(server: Mapping[str, str]) -> str:
    """Return the file that the server audits to, or nothing if it audits to syslog."""
    if server.get("server_audit_output_type", "").lower() == "syslog":
        return ""
    path = server.get("server_audit_current_log") or server.get("server_audit_file_path") or "server_audit.log"
    path = os.path.join(path, "server_audit.log") if path.endswith("/") else path
    return os.path.normpath(os.path.join(server.get("datadir", "/var/lib/mysql"), path))


def history_words(modified: Sequence[float], rotations: int, interval: int) -> list[str]:
    """Return a warning if the logs that are kept reach back less than four intervals of the schedule.

    How far they reach is known once the oldest is about to be overwritten. Older files beside them (of a server that
    kept more of them once, or logrotate's) are not.
    """
    kept = sorted(sorted(modified, reverse=True)[: rotations + 1])
    if rotations <= 0 or len(kept) <= rotations or len(kept) < 2:
        return []
    minutes = int((kept[-1] - kept[0]) / 60)
    if minutes >= 4 * interval:
        return []
    return [
        f"The audit logs that are kept reach back {minutes} minutes only, and the program runs every {interval}: if a "
        "run or two are missed, logins are lost. Raise conntracker_audit_file_rotations or "
        "conntracker_audit_file_rotate_size, or lower conntracker_interval_minutes."
    ]


# --- notes in the configuration -------------------------------------------------------------------------------


def read_notes(text: str) -> dict[str, Any]:
    """Return what the role noted in the configuration that it wrote."""
    found = re.search(r"^# notes: (\{.*\})$", text, re.MULTILINE)
    try:
        notes = json.loads(found.group(1)) if found else {}
    except ValueError:
        return {}
    return notes if isinstance(notes, dict) else {}


def read_settings(text: str) -> dict[str, str]:
    """Return the keys of an ini file and their values, unquoted."""
    pairs = re.findall(r"(?m)^[ \t]*([A-Za-z]+)[ \t]*[=:][ \t]*(.*?)[ \t]*$", text)
    return {key: re.sub(r"^(['\"])(.*)\1$", r"\2", value) for key, value in pairs}


def lost_settings(text: str, mark: str, settings: Mapping[str, str]) -> list[str]:
    """Return, in words, which settings of a configuration that somebody wrote by hand the role would not keep."""
    if not text.strip() or mark in text:
        return []
    words = []
    for key, value in read_settings(text).items():
        ours = {name.lower(): (name, kept) for name, kept in settings.items()}.get(key.lower())
        if ours and str(ours[1]) != value and key.lower() not in ("auditlogpath", "auditlogname", "sqlitepath"):
            variable = "conntracker_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", ours[0]).lower()
            words.append(
                f"The configuration that was here by hand has {key} = {value}, which is not kept: set {variable} to "
                "it. The file is kept beside the new one."
            )
    return words


# --- the host -------------------------------------------------------------------------------------------------


def read_file(path: str) -> str | None:
    """Return a file's text, or None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def list_names(folder: str) -> Sequence[str]:
    """Return the names in a folder, or none if it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


REAL_FILES = Files(read_file, list_names)


class Process(NamedTuple):
    """A running server: its program, its arguments and its environment."""

    pid: int
    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    def choices(self) -> list[str]:
        """Return the arguments that choose the option files."""
        return [item for item in self.arguments if re.match(r"--(no-defaults$|defaults-)", item)]

    def chosen(self, name: str) -> str:
        """Return the value of one of those arguments, or nothing."""
        values = [item.partition("=")[2] for item in self.choices() if item.startswith(f"--{name}=")]
        return values[-1] if values else ""


def read_process(pid: int, proc: str = "/proc") -> Process | None:
    """Return the process if it is a MariaDB server."""
    if (read_file(f"{proc}/{pid}/comm") or "").strip() not in ("mariadbd", "mysqld"):
        return None
    command = (read_file(f"{proc}/{pid}/cmdline") or "").split("\0")[:-1]
    try:
        program = re.sub(r" \(deleted\)$", "", os.readlink(f"{proc}/{pid}/exe"))
    except OSError:
        # In a container root may lack the right to look (CAP_SYS_PTRACE).
        program = command[0] if command else ""
    if not os.path.isabs(program):
        return None
    arguments = command[1:]
    variables = (read_file(f"{proc}/{pid}/environ") or "").split("\0")
    environment = dict(item.partition("=")[::2] for item in variables if "=" in item)
    return Process(pid, program, tuple(arguments), environment)


def find_servers(proc: str = "/proc") -> list[Process]:
    """Return all MariaDB servers that run on this host."""
    found = [read_process(int(name), proc) for name in list_names(proc) if name.isdigit()]
    return [process for process in found if process is not None]


def own_process(server: Mapping[str, str], servers: Sequence[Process]) -> Process | None:
    """Return the process of the server that answered."""
    pid_file = os.path.join(server.get("datadir", "/"), server.get("pid_file", "none"))
    pid = (read_file(pid_file) or "").strip()
    for process in servers:
        if str(process.pid) == pid:
            return process
    return servers[0] if len(servers) == 1 else None


class Reading(NamedTuple):
    """How a server reads its option files."""

    paths: tuple[str, ...]
    groups: tuple[str, ...]
    suffix: str
    arguments: tuple[Option, ...]


def parse_help(text: str, process: Process) -> Reading:
    """Return how the server reads its option files, from its own `--help --verbose` and its command line."""
    files = re.search(r"Default options are read from the following files[^\n]*\n([^\n]*)", text)
    groups = re.search(r"The following groups are read: ([^\n]*)", text)
    home = process.environment.get("HOME", "")
    paths = [
        re.sub(r"^~(?=/)", home, path)
        for path in (files.group(1).split() if files else ["/etc/my.cnf", "/etc/mysql/my.cnf"])
        if home or not path.startswith("~")
    ]
    if process.chosen("defaults-extra-file"):
        at = next((place for place, path in enumerate(paths) if path.endswith("/.my.cnf")), len(paths))
        paths.insert(at, process.chosen("defaults-extra-file"))
    if process.chosen("defaults-file"):
        paths = [process.chosen("defaults-file")]
    if "--no-defaults" in process.arguments:
        paths = []
    names = (
        groups.group(1).split() if groups else ["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"]
    )
    suffix = process.chosen("defaults-group-suffix") or process.environment.get("MYSQL_GROUP_SUFFIX", "")
    return Reading(
        tuple(dict.fromkeys(os.path.normpath(path) for path in paths)),
        tuple(names + [name + suffix for name in names if suffix]),
        suffix,
        read_arguments(" ".join(item for item in process.arguments if item not in process.choices())),
    )


def group_reads(path: str, gid: int) -> bool:
    """Return whether members of the group can read the file or folder: by its mode and by that of each folder above."""
    needed = 4
    while True:
        found = os.stat(path)
        mode = found.st_mode >> 3 if found.st_gid == gid else found.st_mode
        if mode & needed != needed:
            return False
        if path == "/":
            return True
        path, needed = os.path.dirname(path), 1


def scheduler_fault(schedule: str, run: Run) -> str:
    """Return why the schedule would not run, or nothing."""
    if schedule == "timer":
        return (
            ""
            if os.path.isdir("/run/systemd/system")
            else "Systemd does not run here: set conntracker_schedule to cron."
        )
    remedy = "or set conntracker_schedule to timer."
    if not os.path.isdir("/etc/cron.d"):
        return f"There is no /etc/cron.d. Install cron (Debian) or cronie (RHEL), {remedy}"
    if not os.path.isdir("/run/systemd/system"):
        names = [(read_file(f"/proc/{pid}/comm") or "").strip() for pid in list_names("/proc") if pid.isdigit()]
        return "" if {"cron", "crond"} & set(names) else f"No cron daemon runs here: start it, {remedy}"
    units = ["cron.service", "crond.service", "cronie.service", "cron.target"]
    shown = run(["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *units])[1]
    return cron_fault(shown, remedy)


def cron_fault(shown: str, remedy: str) -> str:
    """Return what is wrong with cron by `systemctl show` of the units that it may be, or nothing."""
    states = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    there = [state for state in states if state.get("LoadState") not in (None, "", "not-found")]
    if not there:
        return f"/etc/cron.d is here, but no cron that reads it. Install cron (Debian) or cronie (RHEL), {remedy}"
    for state in there:
        if state.get("ActiveState") == "active" and not state.get("UnitFileState", "").startswith(
            ("masked", "disabled")
        ):
            return ""
    state = there[0]
    seen = ", ".join(filter(None, (state.get("LoadState"), state.get("UnitFileState"), state.get("ActiveState"))))
    unit = state.get("Id", "cron.service")
    why = f"{unit} is there, but it does not run or is not started at boot ({seen})"
    return f"{why}: systemctl enable --now {unit}, {remedy}"


# --- the module -----------------------------------------------------------------------------------------------


class Host:
    """A host and its server, as far as the module has looked at them."""

    def __init__(self, options: Mapping[str, Any], run: Run) -> None:
        self.options = options
        self.run = run
        self.client = next((path for path in CLIENTS if os.path.exists(path)), "")
        self.server: dict[str, str] = {}
        self.sources: list[str] = []
        self.answer = ""
        self.servers: list[Process] = []
        self.process: Process | None = None
        self.reading: Reading | None = None
        self.config_text = read_file(options["config"]) or ""
        self.notes = read_notes(self.config_text) if options["mark"] in self.config_text else {}
        self.wishes = Wishes(
            options["audit_state"] == "present",
            options["userstat"],
            options["file_rotate_size"],
            options["file_rotations"],
        )

    # The server.

    def sql(self, statement: str) -> tuple[int, str, str]:
        """Run SQL by the client, as the role connects."""
        chosen = self.options["defaults_file"]
        first = [f"--defaults-file={chosen}"] if chosen else []
        options = [*first, "--batch", "--skip-column-names", "--connect-timeout=10"]
        return self.run([self.client, *options, "--execute=" + PLAIN + statement])

    def ask(self) -> bool:
        """Ask the server for its settings; False if it does not answer."""
        code, output, error = self.sql(SERVER_QUERY)
        if code:
            self.answer = " ".join(error.split())
            return False
        rows = [line.split("\t") for line in output.splitlines()]
        self.server = {row[0]: row[1] for row in rows if len(row) == 2}
        self.sources = [row[3] for row in rows if len(row) > 10]
        return True

    def look_at_process(self) -> None:
        """Find the server's process and how it reads its option files."""
        self.servers = find_servers()
        self.process = own_process(self.server, self.servers)
        if self.process:
            told = self.run([self.process.program, "--no-defaults", "--help", "--verbose"])[1]
            self.reading = parse_help(told, self.process)

    @property
    def loaded(self) -> bool:
        """Whether the audit plugin runs."""
        return self.server.get("plugin_status") == "ACTIVE"

    @property
    def read_only(self) -> bool:
        """Whether the server is read only."""
        return self.server.get("read_only", "OFF").upper() not in ("OFF", "0")

    @property
    def follows(self) -> str:
        """Why nothing of the role may be written to the binary log here, or nothing."""
        if self.sources:
            return "This server is a replica of " + ", ".join(self.sources)
        return "This server is read only" if self.read_only else ""

    @property
    def galera(self) -> bool:
        """Whether the server is a node of a Galera cluster."""
        return self.server.get("wsrep_on", "OFF").upper() in ("ON", "1")

    # The settings file.

    @property
    def snippet_name(self) -> str:
        """The name of the role's settings file."""
        return "-".join(filter(None, ("zz-conntracker", self.options["instance"]))) + ".cnf"

    def include_dirs(self) -> tuple[str, ...]:
        """Return the folders that the server includes, in the order of reading."""
        if not self.reading:
            return ()
        return read_option_files(self.reading.paths, self.reading.groups, REAL_FILES).include_dirs

    def snippet(self) -> str:
        """Return the path of the role's settings file, or nothing."""
        folders = [folder for folder in self.include_dirs() if os.path.isdir(folder)]
        folder = self.options["include_dir"].rstrip("/") or (folders[-1] if folders else "")
        return os.path.join(folder, self.snippet_name) if folder else ""

    def others(self, path: str) -> tuple[Option, ...]:
        """Return what all option files but the role's own say."""
        return self.said(path, None)

    def said(self, path: str, text: str | None) -> tuple[Option, ...]:
        """Return what the option files say with `text` as the role's own."""
        if not self.reading:
            return ()
        files = REAL_FILES.replacing(path, text) if path else REAL_FILES
        read = read_option_files(self.reading.paths, self.reading.groups, files)
        return read.options + self.reading.arguments

    def holding(self) -> tuple[Option, ...]:
        """Return what holds at the next start, by the server's own reading."""
        if not self.process or not self.reading:
            return ()
        code, output, _ = self.run([self.process.program, *self.process.choices(), "--print-defaults"])
        if code:
            return self.said("", None)
        return read_arguments(output.partition("\n")[2].replace("\n", " ")) + self.reading.arguments

    # The log.

    def log(self) -> dict[str, str]:
        """Return where the program finds the logs, who may read them, and the zone of their stamps."""
        given = self.options["log_path"]
        file = log_file(self.server)
        path = given or (os.path.dirname(file) if file else "journal:")
        name = self.options["log_name"] or ("server_audit.log" if given or not file else os.path.basename(file))
        return {"path": path, "name": name, "file": file, "zone": self.log_zone(), "group": self.log_group(path, file)}

    def log_group(self, path: str, file: str) -> str:
        """Return the group that may read the logs."""
        if self.options["log_group"]:
            return str(self.options["log_group"])
        if path == "journal:":
            return "systemd-journal"
        found = self.log_place(path, file)
        if not found:
            return ""
        gid = os.stat(found).st_gid
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return ""

    def log_place(self, path: str, file: str) -> str:
        """Return the log, or the folder in which it is going to be, or nothing."""
        asked = self.options["log_path"] or file or path
        matching = sorted(glob.glob(asked))
        return next((place for place in (*matching, os.path.dirname(asked)) if place and os.path.exists(place)), "")

    def log_zone(self) -> str:
        """Return the log's time zone where it is not the report's: the server writes in the zone of its host."""
        given = self.options["time_location_audit"]
        if given or not self.options["time_location"]:
            return str(given)
        real = os.path.realpath("/etc/localtime") if os.path.exists("/etc/localtime") else ZONES + "/UTC"
        zone = real.partition("/zoneinfo/")[2]
        return "" if zone == self.options["time_location"] else zone

    # What hinders.

    def faults(self) -> list[str]:
        """Return all that hinders, each with its remedy."""
        faults = list(self.host_faults())
        if not self.client:
            return [
                *faults,
                "There is no MariaDB client here (" + ", ".join(CLIENTS) + "). Install MariaDB's server "
                "and client, or take the host out of the play.",
            ]
        if not self.ask():
            return [
                *faults,
                f"The MariaDB server does not answer {self.client}: {self.answer} Is it running? The role "
                "connects as root by the unix socket; for another way name an options file (user, password, "
                "socket) by conntracker_mariadb_defaults_file. Its user needs SUPER.",
            ]
        if "mariadb" not in self.server.get("version", "").lower():
            return [
                *faults,
                f"This server is not MariaDB ({self.server.get('version')}): its audit log is another one.",
            ]
        self.look_at_process()
        return [*faults, *self.instance_faults(), *self.server_faults(), *self.log_faults()]

    def host_faults(self) -> Iterable[str]:
        """Give what hinders on the host."""
        options = self.options
        if os.geteuid() != 0:
            yield "The role needs root on the host. Run the play with become."
        code, output, error = self.run(
            [options["python"], "-I", "-c", "import sqlite3, sys; print('%d.%d' % sys.version_info[:2])"]
        )
        if code or [int(part) for part in output.strip().split(".")] < [3, 9]:
            yield (
                f"The program needs Python 3.9 or newer with its sqlite3 module; {options['python']} said "
                f'"{(output or error).strip() or "no such command"}". Install one and name it by conntracker_python.'
            )
        if options["interval_minutes"] not in INTERVALS:
            choices = ", ".join(map(str, INTERVALS))
            yield f"conntracker_interval_minutes must divide an hour, that is be one of {choices}."
        yield from self.value_faults()
        fault = scheduler_fault(options["schedule"], self.run)
        if fault:
            yield fault

    def value_faults(self) -> Iterable[str]:
        """Give which values of the user's cannot be right on this host."""
        options = self.options
        for key, value in options["settings"].items():
            if re.search(r"[\"\n]", str(value)):
                yield f"{key} holds a double quote or a line break, which cannot be written to the configuration."
        for zone in filter(None, (options["time_location"], options["time_location_audit"])):
            if not os.path.isfile(os.path.join(ZONES, zone)):
                yield f"The host does not know the time zone {zone}. Correct the name, or install the package tzdata."
        given = options["inventory_defaults_file"]
        if options["inventory"] and given and not os.path.isfile(given):
            yield f"There is no {given}, which conntracker_inventory_defaults_file names."
        folder = options["textfile_dir"]
        if folder and not os.path.isdir(folder) and not os.path.isdir(os.path.dirname(folder.rstrip("/"))):
            yield f"There is no folder for {folder}, which conntracker_textfile_dir names."
        elif folder and os.path.isdir(folder) and not self.user_writes(folder):
            yield (
                f"The user {USER} cannot write to {folder}, which conntracker_textfile_dir names. Let its group write "
                f"(groupadd --system --force {USER}; chgrp {USER} {folder}; chmod g+w {folder}), or name a folder that "
                "is not there, which the role makes."
            )

    def user_writes(self, folder: str) -> bool:
        """Return whether the user of the program may write to a folder, or will when the role has made him."""
        try:
            pwd.getpwnam(USER)
        except KeyError:
            status = os.stat(folder)
            try:
                group = grp.getgrnam(USER).gr_gid
            except KeyError:
                group = -1
            return bool(status.st_mode & (0o022 if status.st_gid == group else 0o002))
        return self.run(["runuser", "-u", USER, "--", "test", "-w", folder])[0] == 0

    def instance_faults(self) -> Iterable[str]:
        """Give what hinders where a host has several servers."""
        before, now = self.notes.get("datadir"), self.server.get("datadir")
        if before and before != now and len(self.servers) > 1:
            yield (
                f"{self.options['config']} serves the server with its data in {before}, and the one that answered has "
                f"them in {now}. A second server of this host needs a name of its own: set conntracker_instance."
            )

    def server_faults(self) -> Iterable[str]:
        """Give what hinders on the server."""
        plugin = os.path.join(self.server.get("plugin_dir", ""), "server_audit.so")
        if not self.loaded and not os.path.exists(plugin):
            yield (
                f"The server's audit plugin is missing: there is no {plugin}. It comes with the package of the server "
                "(mariadb-server; MariaDB-server from MariaDB's own repository)."
            )
        if self.wishes.audit or self.wishes.userstat:
            yield from self.include_faults()
        if self.options["inventory"] and self.needs_account():
            plugin = self.server.get("account_plugin", "unix_socket")
            if plugin != "unix_socket":
                yield (
                    f"The server has an account {ACCOUNT} that logs in by {plugin}: it is not the role's. Rename it, "
                    "or name an account of yours by conntracker_inventory_defaults_file."
                )

    def include_faults(self) -> Iterable[str]:
        """Give what hinders making the settings permanent."""
        if not self.reading:
            return
        folders = self.include_dirs()
        asked = self.options["include_dir"].rstrip("/")
        listed = ", ".join(folders) or "no folder"
        if asked and asked not in folders:
            yield (
                f"The server does not read {asked}, which conntracker_mariadb_include_dir names: its option files "
                f"({', '.join(self.reading.paths) or 'none'}) include {listed}."
            )
        elif asked and not os.path.isdir(asked):
            yield f"There is no folder {asked}, which conntracker_mariadb_include_dir names."
        elif not any(map(os.path.isdir, folders)):
            yield (
                f"The server's option files ({', '.join(self.reading.paths) or 'none'}) include {listed}, so its audit "
                "settings cannot be made permanent. Add an !includedir, or set conntracker_audit_state to absent and "
                "see to the settings yourself."
            )

    def log_faults(self) -> Iterable[str]:
        """Give what hinders reading the logs."""
        log = self.log()
        if log["path"] == "journal:":
            if not os.path.isdir("/run/systemd/journal"):
                yield (
                    "The server sends its audit records to syslog (server_audit_output_type), and there is no journal "
                    "here. Name the file that syslog writes them to by conntracker_audit_log_path."
                )
            return
        place = self.log_place(log["path"], log["file"])
        asked = self.options["log_path"] or log["file"]
        if not place:
            yield f"There is no {asked}, nor a folder for it: see conntracker_audit_log_path."
            return
        try:
            gid = grp.getgrnam(log["group"]).gr_gid if log["group"] else 0
        except KeyError:
            yield f"There is no group {log['group']}, which conntracker_log_group names."
            return
        if gid == 0:
            what = (
                f"The audit log {place}"
                if os.path.isfile(place)
                else f"The audit log is not there yet, and its folder {place}"
            )
            yield (
                f"{what} belongs to the group {log['group'] or 'of a number without a name'}, which the user "
                "conntracker must not be in. Give it a group of its own, or name the group that may read it by "
                "conntracker_log_group."
            )
        elif not self.options["log_group"] and not group_reads(os.path.realpath(place), gid):
            yield (
                f"The group {log['group']} cannot read {place}: see the modes of it and of the folders above it. Give "
                "the log a folder of its own, or name the group that may read it by conntracker_log_group."
            )

    # The account.

    def needs_account(self) -> bool:
        """Return whether the program uses the role's account and not one of the user's own."""
        given = self.options["inventory_defaults_file"]
        if not given:
            return True
        groups = ("client", "client-server", "client-mariadb", "mariadb-client", "mysql", "mariadb")
        user = last_word(read_option_files([given], groups, REAL_FILES).options).get("user")
        return user is None or user.value == USER

    def account_plan(self) -> AccountPlan:
        """Return what to run for the account."""
        if not self.options["inventory"] or not self.needs_account():
            return AccountPlan((), ())
        exists = "account_plugin" in self.server
        shown = self.sql(f"SHOW GRANTS FOR {ACCOUNT}")[1].splitlines() if exists else []
        return plan_account(self.options["grants"], exists, shown)

    # What is worth knowing.

    def attention(self, plan: AccountPlan, snippet: str, text: str | None, predicted: bool) -> list[str]:
        """Return what the administrator should know after the run."""
        words = [*self.server_words(snippet), *self.account_words(plan)]
        if self.wishes.audit or self.wishes.userstat:
            words += self.permanence_words(snippet, text, predicted)
        words += self.host_words()
        return words

    def server_words(self, snippet: str) -> Iterable[str]:
        """Give what the server's state means."""
        events = self.server.get("server_audit_events", "")
        if self.wishes.audit and self.read_only and not self.loaded:
            yield (
                "This server is read only and has no audit plugin, and the role does not write to it (INSTALL PLUGIN "
                f"writes to mysql.plugin). {snippet} loads the plugin at the server's next restart. To have it at "
                f"once, run {LOAD_PLUGIN} as an administrator, and then the play again."
            )
        if not self.wishes.audit and not (is_logging(self.server) and has_connect(events)):
            yield (
                "The server does not audit connections (server_audit_logging, server_audit_events), and "
                "conntracker_audit_state is absent: there is nothing to read."
            )
        if is_logging(self.server) and self.server.get("server_audit_active", "ON") != "ON":
            error = self.server.get("server_audit_last_error")
            yield f'Auditing is switched on but not active. The server says "{error}"'
        if self.server.get("server_audit_output_type", "").lower() == "syslog":
            yield (
                f"The audit records come through syslog ({self.log()['path']}): the rotation there decides how long "
                "they are kept."
            )
        if not self.process:
            yield "The server's process was not found, so it is not known which option files it reads."
        sharing = [
            process.chosen("defaults-group-suffix")
            for process in self.servers
            if self.reading
            and process != self.process
            and not self.reading.suffix
            and process.chosen("defaults-file") == (self.process.chosen("defaults-file") if self.process else "")
        ]
        if sharing and self.wishes.audit:
            names = ", ".join(sharing)
            yield f"Other servers of this host read {snippet} as well ({names}): they audit from their next restart on."

    def account_words(self, plan: AccountPlan) -> Iterable[str]:
        """Give what there is to do for the account."""
        if plan.statements and self.follows:
            yield (
                f"{self.follows}, so the account comes by replication and is not made here. Until it is there, no "
                f"verdict is proven. Run on the primary: {'; '.join(plan.statements)}"
            )
        if plan.surplus:
            yield f"{ACCOUNT} may do more than the program needs. To take it back: {'; '.join(plan.surplus)}"

    def permanence_words(self, snippet: str, text: str | None, predicted: bool) -> list[str]:
        """Return what a restart would change, and whose settings are overridden."""
        if not self.reading:
            return []
        said = self.said(snippet, text)
        server = (
            {**self.server, "plugin_rows": "1"} if predicted and not self.loaded and not self.read_only else self.server
        )
        holds = said if predicted else self.holding()
        lines = [line for line in (text or "").splitlines() if " = " in line]
        return after_restart(holds, said, server, self.wishes) + overridden(lines, self.others(snippet), snippet)

    def host_words(self) -> list[str]:
        """Return what the host's state means."""
        words = []
        log = self.log()
        if log["file"]:
            times = []
            for path in glob.glob(glob.escape(log["file"]) + "*"):
                try:
                    times.append(os.stat(path).st_mtime)
                except OSError:
                    continue
            rotations = int(self.server.get("server_audit_file_rotations", "0"))
            words += history_words(times, rotations, self.options["interval_minutes"])
        words += lost_settings(self.config_text, self.options["mark"], self.options["settings"])
        crontab = self.run(["crontab", "-l", "-u", "root"])[1] if os.path.exists("/usr/bin/crontab") else ""
        if os.path.exists(GO_PROGRAM) or re.search(r"(?m)^[^#\n]*conntracker", crontab):
            words.append(
                f"The Go program is still here ({GO_PROGRAM}, or a line in root's crontab). Take it out of the crontab "
                "and remove it: this one has taken over its work."
            )
        return words


def other_instances(config: str, mark: str) -> dict[str, str]:
    """Return the other instances of this host: their configurations, and the groups that they read their logs by."""
    texts = {path: read_file(path) or "" for path in glob.glob(os.path.join(os.path.dirname(config), "*.ini"))}
    return {path: read_notes(text).get("group", "") for path, text in texts.items() if path != config and mark in text}


def write_snippet(module: Any, path: str, text: str | None) -> tuple[bool, dict[str, str]]:
    """Make the role's settings file say `text`, or remove it; return whether that changed it, and the difference."""
    before = read_file(path)
    difference = {"before_header": path, "after_header": path, "before": before or "", "after": text or ""}
    if text is None:
        if before is not None and not module.check_mode:
            os.unlink(path)
        return before is not None, difference
    changed = before != text
    if changed and not module.check_mode:
        new = os.path.join(module.tmpdir, "conntracker.cnf")
        with open(new, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        module.atomic_move(new, path)
    if os.path.exists(path):
        changed = module.set_mode_if_different(path, "0644", changed)
        changed = module.set_owner_if_different(path, "root", changed)
        changed = module.set_group_if_different(path, "root", changed)
    return changed, difference


def own_snippets(host: Host) -> list[str]:
    """Return the role's settings files for this instance, wherever they are."""
    folders = [*host.include_dirs(), host.options["include_dir"], *KNOWN_INCLUDE_DIRS]
    paths = [host.notes.get("snippet", ""), *(os.path.join(folder, host.snippet_name) for folder in folders if folder)]
    return [path for path in dict.fromkeys(paths) if path and host.options["mark"] in (read_file(path) or "")]


class Changes:
    """What was changed, or would be in check mode."""

    def __init__(self, module: Any, host: Host) -> None:
        self.module = module
        self.host = host
        self.statements: list[str] = []
        self.files: list[dict[str, str]] = []
        self.changed = False

    def run(self, statement: str, prefix: str = "") -> None:
        """Run a statement; the module fails if the server refuses it."""
        self.statements.append(statement)
        if self.module.check_mode:
            return
        code, _, error = self.host.sql(prefix + statement)
        if code:
            words = f"The server refused {statement}: {' '.join(error.split())}"
            self.module.fail_json(msg=words, statements=self.statements)

    def write(self, path: str, text: str | None) -> None:
        """Make the role's settings file say `text`, or remove it."""
        changed, difference = write_snippet(self.module, path, text)
        self.changed = self.changed or changed
        self.files.append(difference)

    def result(self) -> dict[str, Any]:
        """Return the module's result as far as it is known."""
        difference = list(self.files)
        if self.statements:
            lines = "".join(line + ";\n" for line in self.statements)
            difference.append({"before_header": "server", "after_header": "server", "before": "", "after": lines})
        return {
            "changed": self.changed or bool(self.statements),
            "statements": self.statements,
            "diff": difference,
        }


def ensure_running(changes: Changes, snippet: str) -> dict[str, str]:
    """Have the running server audit; return what it says of itself then, or would say in check mode."""
    host, predicted = changes.host, {}
    if host.wishes.audit and not host.loaded and not host.read_only:
        changes.run(LOAD_PLUGIN, UNLOGGED)
        if changes.module.check_mode:
            predicted = {"plugin_status": "ACTIVE", "plugin_rows": "1"}
        else:
            host.ask()
    own_userstat = "userstat" in (read_file(snippet) or "") if snippet else False
    for statement in statements_lacking({**host.server, **predicted}, host.wishes, own_userstat):
        changes.run(statement)
    if changes.statements and not changes.module.check_mode:
        host.ask()
    return {**host.server, **predicted}


def ensure_permanent(changes: Changes, snippet: str, server: Mapping[str, str]) -> str | None:
    """Have the role's settings file say what no other says; return its text."""
    host = changes.host
    if not snippet or not host.reading:
        return None
    lines = snippet_lines(server, host.others(snippet), host.wishes)
    text = snippet_text(host.options["mark"], "mariadb" + host.reading.suffix, lines)
    changes.write(snippet, text)
    for path in own_snippets(host):
        if path != snippet:
            changes.write(path, None)
    return text


def ensure_present(module: Any, host: Host) -> dict[str, Any]:
    """Change what differs; return the module's result."""
    changes = Changes(module, host)
    snippet = host.snippet()
    server = ensure_running(changes, snippet)
    text = ensure_permanent(changes, snippet, server)
    plan = host.account_plan()
    for statement in plan.statements if not host.follows else ():
        changes.run(statement)
    left = [] if host.options["inventory"] else ensure_no_account(changes)
    ensure_no_old_metrics(changes, metrics_file(host.options["textfile_dir"], host.options["instance"]))
    return {
        **changes.result(),
        "attention": host.attention(plan, snippet, text, module.check_mode) + left,
        "snippet": snippet if text else "",
        "account_awaited": bool(plan.statements and host.follows),
    }


def metrics_file(folder: str, instance: str) -> str:
    """Return the file of an instance's metrics, or nothing where there are none."""
    return os.path.join(folder, "-".join(filter(None, (USER, instance))) + ".prom") if folder else ""


def ensure_no_old_metrics(changes: Changes, wanted: str) -> None:
    """Remove the metrics that the role had written elsewhere, and the folder that it made for them."""
    before = changes.host.notes.get("metrics", "")
    if not before or before == wanted or not os.path.exists(before):
        return
    changes.changed = True
    changes.files.append({"before_header": before, "after_header": before, "before": "metrics\n", "after": ""})
    if changes.module.check_mode:
        return
    os.unlink(before)
    folder = os.path.dirname(before)
    try:
        own = pwd.getpwnam(USER).pw_uid == os.stat(folder).st_uid
    except KeyError:
        own = False
    if own and not os.listdir(folder):
        os.rmdir(folder)


def ensure_no_account(changes: Changes) -> list[str]:
    """Drop the account where it is the role's; return what is left to do."""
    host = changes.host
    if host.server.get("account_plugin") != "unix_socket":
        return []
    drop = f"DROP USER IF EXISTS {ACCOUNT}"
    if host.follows or host.galera:
        why = host.follows or "This server is a Galera node"
        return [f"{why}, so the account stays. Once no server that shares it has the role, run on the primary: {drop}"]
    changes.run(drop)
    return []


def ensure_absent(module: Any, host: Host) -> dict[str, Any]:
    """Take the account and the settings file back, also on a host that has lost its server."""
    changes = Changes(module, host)
    left: list[str] = []
    answers = bool(host.client) and host.ask()
    if answers:
        host.look_at_process()
        left = ensure_no_account(changes)
    elif host.notes:
        left = [f"The server does not answer. If it comes back: DROP USER IF EXISTS {ACCOUNT}"]
    for path in [] if host.wishes.audit else own_snippets(host):
        if answers and "userstat" in (read_file(path) or "") and host.server.get("userstat") == "ON":
            changes.run("SET GLOBAL userstat = OFF")
        changes.write(path, None)
    ensure_no_old_metrics(changes, "")
    return {**changes.result(), "attention": left}


def main() -> None:
    """Run as a module of Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["examined", "present", "absent"], "default": "examined"},
            "mark": {"type": "str", "required": True},
            "config": {"type": "path", "required": True},
            "instance": {"type": "str", "default": ""},
            "defaults_file": {"type": "str", "default": ""},
            "include_dir": {"type": "str", "default": ""},
            "audit_state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "file_rotate_size": {"type": "int"},
            "file_rotations": {"type": "int"},
            "userstat": {"type": "bool", "default": False},
            "inventory": {"type": "bool", "default": False},
            "inventory_defaults_file": {"type": "str", "default": ""},
            "grants": {"type": "str", "default": ""},
            "log_path": {"type": "str", "default": ""},
            "log_name": {"type": "str", "default": ""},
            "log_group": {"type": "str", "default": ""},
            "time_location": {"type": "str", "default": ""},
            "time_location_audit": {"type": "str", "default": ""},
            "python": {"type": "str", "default": "/usr/bin/python3"},
            "schedule": {"type": "str", "choices": ["cron", "timer"], "default": "cron"},
            "interval_minutes": {"type": "int", "default": 15},
            "textfile_dir": {"type": "str", "default": ""},
            "settings": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        code, output, error = module.run_command(list(command), handle_exceptions=False)
        return code, output, error

    def safely(command: Sequence[str]) -> tuple[int, str, str]:
        try:
            return run(command)
        except OSError as error:
            return 127, "", str(error)

    host = Host(module.params, safely)
    others = other_instances(module.params["config"], module.params["mark"])
    if module.params["state"] == "absent":
        folders = [path for path in (os.path.dirname(host.options["config"]), *FACTS_DIRS) if os.path.isdir(path)]
        groups = sorted(filter(None, set(others.values())))
        module.exit_json(**ensure_absent(module, host), others=sorted(others), groups=groups, folders=folders)
    faults = host.faults()
    if faults:
        words = (
            faults[0] if len(faults) == 1 else " ".join(f"({place}) {fault}" for place, fault in enumerate(faults, 1))
        )
        module.fail_json(msg=words, faults=faults)
    result: dict[str, Any] = {"changed": False}
    if module.params["state"] == "present":
        result = ensure_present(module, host)
    log = host.log()
    place = host.log_place(log["path"], log["file"])
    module.exit_json(
        **result,
        client=host.client,
        server=host.server,
        follows=host.follows,
        log=log,
        log_exists=log["path"] == "journal:"
        or (bool(place) and (os.path.isfile(place) or bool(module.params["log_path"]))),
        groups=sorted(filter(None, {log["group"], *others.values()})),
        others=sorted(others),
        notes={
            "datadir": host.server["datadir"],
            "group": log["group"],
            "snippet": result.get("snippet", ""),
            "metrics": metrics_file(module.params["textfile_dir"], module.params["instance"]),
        },
        foreign_config=bool(host.config_text.strip()) and module.params["mark"] not in host.config_text,
        installed=os.path.exists(PROGRAM),
        facts_dir_exists=os.path.isdir(FACTS_DIRS[0]),
        textfile_dir_exists=os.path.isdir(module.params["textfile_dir"] or "/"),
    )


if __name__ == "__main__":
    main()
