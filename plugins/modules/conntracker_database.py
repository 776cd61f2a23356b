#!/usr/bin/python
# Copyright: the conntracker maintainers
# MIT License (see LICENSE)
"""Keep conntracker's database where it is asked for: take over an earlier one, own it, link to it, remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: conntracker_database
short_description: Keep conntracker's database in its place
version_added: 1.1.0
description:
  - Takes over the database that was used so far (or the Go program's), if it is newer than the one in its place.
  - A folder that belongs to somebody else is not written to. The database then lies in the program's own folder, and
    the path asked for is a link to it.
  - The role P(conntracker.mariadb.conntracker#role) is its only user.
author: The conntracker maintainers (@conntracker)
options:
  state:
    description: V(absent) leaves the database to root, or removes it with O(purge=true).
    type: str
    choices: [present, absent]
    default: present
  path:
    description: Where the database is asked for.
    type: path
    required: true
  folder:
    description: The program's own folder.
    type: path
    required: true
  config:
    description: The program's configuration, which may name the database used so far.
    type: path
    required: true
  mark:
    description: First line of the files that the role writes.
    type: str
    required: true
  earlier:
    description: Where else an earlier database may be.
    type: list
    elements: path
    default: []
  purge:
    description: With O(state=absent), remove the database.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would be changed.
    support: full
  diff_mode:
    description: Shows where the database is taken from.
    support: full
"""

EXAMPLES = r"""
- name: Ensure the database is in its place
  conntracker.mariadb.conntracker_database:
    path: /var/lib/conntracker/audit.sqlite
    folder: /var/lib/conntracker
    config: /etc/conntracker/conntracker.ini
    mark: Managed by the Ansible role conntracker. Changes made here are lost.
"""

RETURN = r"""
database:
  description: Where the database really is.
  returned: success
  type: str
link:
  description: The link to it, or nothing.
  returned: success
  type: str
existed:
  description: Whether there was a database in its place before.
  returned: success
  type: bool
attention:
  description: What the administrator should know.
  returned: success
  type: list
  elements: str
"""

import json
import os
import pwd
import re
import shutil
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

USER = "conntracker"
SIDE_FILES = ("-journal", "-wal", "-shm")


class Places(NamedTuple):
    """Where the database is, and the link to it if the path asked for is not the program's to write to."""

    database: str
    link: str


def places(path: str, own_folder: str, owner: str | None) -> Places:
    """Return where the database is to be; `owner` is that of the folder asked for, None if there is no such folder."""
    if owner is None or owner == USER or os.path.dirname(path) == own_folder:
        return Places(path, "")
    return Places(os.path.join(own_folder, "audit.sqlite"), path)


def used_so_far(config: str) -> str:
    """Return the database that a configuration names, or nothing."""
    found = re.search(r"(?mi)^\s*SqlitePath\s*[=:]\s*(['\"]?)(.+?)\1\s*$", config)
    return found.group(2) if found else ""


def linked_so_far(config: str) -> str:
    """Return the link to the database that the role noted in its configuration, or nothing."""
    found = re.search(r"^# notes: (\{.*\})$", config, re.MULTILINE)
    try:
        return str(json.loads(found.group(1)).get("link", "")) if found else ""
    except (ValueError, AttributeError):
        return ""


def last_run(path: str) -> float:
    """Return when the program last kept something in this database; the file's time if it does not say."""
    import sqlite3

    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT value FROM meta WHERE key = 'last_run'").fetchall()
        finally:
            connection.close()
        return float(rows[0][0])
    except (sqlite3.Error, IndexError, TypeError, ValueError):
        return 0.0


class Candidate(NamedTuple):
    """A database that may be taken over."""

    path: str
    last_run: float


def choose(current: Candidate | None, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the database to take over, or None to keep the current one.

    Where there is none yet, the first candidate is taken: they stand in the order of their likelihood. Where there is
    one, only a database with a later run is better.
    """
    if current is None:
        return max(candidates, key=lambda candidate: candidate.last_run, default=None)
    newer = [candidate for candidate in candidates if candidate.last_run > current.last_run]
    return max(newer, key=lambda candidate: candidate.last_run, default=None)


def owner_of(path: str) -> str | None:
    """Return the name of a path's owner ('' if it has none), or None if there is no such path."""
    try:
        return pwd.getpwuid(os.stat(path).st_uid).pw_name
    except KeyError:
        return ""
    except OSError:
        return None


def read_file(path: str) -> str:
    """Return a file's text, or nothing if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


class Work:
    """The changes, each made only where it is lacking, and not in check mode."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.changed = False
        self.attention: list[str] = []
        self.before: list[str] = []
        self.after: list[str] = []

    def change(self, words: str) -> bool:
        """Note a change; return whether to make it."""
        self.changed = True
        self.after.append(words)
        return not self.module.check_mode

    def own(self, path: str, user: str, mode: str | None) -> None:
        """Give the path to the user and his group."""
        if not os.path.lexists(path) or (self.module.check_mode and not user_exists(user)):
            return
        changed = self.module.set_owner_if_different(path, user, False)
        changed = self.module.set_group_if_different(path, user, changed)
        if mode:
            changed = self.module.set_mode_if_different(path, mode, changed)
        if changed:
            self.change(f"{path}: owner {user}")

    def folder(self, path: str) -> None:
        """Make the folder."""
        if not os.path.isdir(path) and self.change(f"{path}: made"):
            os.makedirs(path, 0o755, exist_ok=True)

    def copy(self, source: str, target: str) -> None:
        """Copy a database, whole or not at all."""
        if any(os.path.exists(source + suffix) and os.path.getsize(source + suffix) for suffix in SIDE_FILES[:2]):
            self.module.fail_json(
                msg=f"Another program is writing to {source}, which is to be taken over. Stop it (a line in a "
                "crontab?) and run the play again."
            )
        if self.change(f"{target}: taken from {source}"):
            new = target + ".new"
            shutil.copyfile(source, new)
            os.chmod(new, 0o640)
            os.rename(new, target)

    def leave(self, path: str, own_folder: str) -> None:
        """Remove a database of the program's own that has been taken over, and its folder if nothing is left in it."""
        for suffix in ("", *SIDE_FILES):
            self.remove(path + suffix)
        folder = os.path.dirname(path)
        left = set(os.listdir(folder)) - {os.path.basename(path)}
        if folder != own_folder and owner_of(folder) == USER and not left and self.change(f"{folder}: removed"):
            os.rmdir(folder)

    def lead(self, link: str, target: str) -> None:
        """Make the link lead to the target."""
        if os.path.islink(link) and os.readlink(link) == target:
            return
        if self.change(f"{link}: a link to {target}"):
            os.symlink(target, link + ".new")
            os.replace(link + ".new", link)

    def remove(self, path: str) -> None:
        """Remove a file or link that is there."""
        if os.path.lexists(path) and self.change(f"{path}: removed"):
            os.unlink(path)


def user_exists(name: str) -> bool:
    """Return whether the host knows this user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def ensure_present(module: Any, work: Work) -> dict[str, Any]:
    """Have the database in its place; return the module's result."""
    options = module.params
    config = read_file(options["config"])
    place = places(options["path"], options["folder"], owner_of(os.path.dirname(options["path"])))
    work.folder(os.path.dirname(place.database))
    work.own(os.path.dirname(place.database), USER, "0750")
    existed = os.path.isfile(place.database)
    current = Candidate(place.database, last_run(place.database)) if existed else None
    used = used_so_far(config)
    asked = [options["path"], used, *options["earlier"]] if not existed else [used]
    found = [path for path in dict.fromkeys(asked) if path and is_other_database(path, place.database)]
    chosen = choose(current, [Candidate(path, last_run(path)) for path in found])
    if chosen:
        work.before.append(f"{chosen.path}: the latest database")
        if current:
            kept = place.database + ".older"
            work.attention.append(
                f"{place.database} was older than {chosen.path}, which was used last: that one is taken over, and the "
                f"older one is kept as {kept}."
            )
            if not module.check_mode:
                os.replace(place.database, kept)
        work.copy(chosen.path, place.database)
        if owner_of(chosen.path) == USER:
            work.leave(chosen.path, options["folder"])
    work.own(place.database, USER, "0640")
    before = linked_so_far(config)
    if before and before != place.link and os.path.islink(before):
        work.remove(before)
    if place.link:
        work.attention.append(
            f"{os.path.dirname(place.link)} is not the role's to write to: the database is {place.database}, and "
            f"{place.link} is a link to it."
        )
        work.lead(place.link, place.database)
    return {"database": place.database, "link": place.link, "existed": existed, "attention": work.attention}


def is_other_database(path: str, database: str) -> bool:
    """Return whether there is a file at this path which is not the database itself."""
    return os.path.isfile(path) and os.path.realpath(path) != os.path.realpath(database)


def ensure_absent(module: Any, work: Work) -> dict[str, Any]:
    """Leave the database to root, or remove it; return the module's result."""
    options = module.params
    config = read_file(options["config"])
    noted = config if options["mark"] in config else ""
    own = os.path.join(options["folder"], "audit.sqlite")
    shared = other_instances(options["config"], options["mark"])
    databases = [path for path in dict.fromkeys([used_so_far(noted), options["path"], own]) if path]
    databases = [path for path in databases if not os.path.islink(path) and belongs(path, options["folder"])]
    links = [path for path in dict.fromkeys([linked_so_far(noted), options["path"]]) if path and os.path.islink(path)]
    if not options["purge"]:
        for path in databases:
            work.own(path, "root", None)
            if not shared:
                work.own(os.path.dirname(path), "root", None)
        return {"database": ", ".join(databases), "link": ", ".join(links), "existed": bool(databases), "attention": []}
    for path in links:
        if os.readlink(path) in (own, *databases):
            work.remove(path)
    for path in databases:
        for name in (path, path + ".older", *(path + suffix for suffix in SIDE_FILES)):
            work.remove(name)
        if os.path.dirname(path) != options["folder"]:
            empty_folder(work, os.path.dirname(path), options["folder"])
    if not shared or options["folder"] != "/var/lib/" + USER:
        empty_folder(work, options["folder"], options["folder"])
    return {"database": "", "link": "", "existed": bool(databases), "attention": work.attention}


def belongs(path: str, folder: str) -> bool:
    """Return whether a file is the program's: by its owner or its folder's, or by being in the program's folder."""
    return os.path.isfile(path) and (
        USER in (owner_of(path), owner_of(os.path.dirname(path))) or os.path.dirname(path) == folder
    )


def other_instances(config: str, mark: str) -> bool:
    """Return whether the host has another instance of the program, which uses the same folders."""
    folder = os.path.dirname(config)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, name) for name in names if name.endswith(".ini")]
    return any(path != config and mark in read_file(path) for path in paths)


def empty_folder(work: Work, path: str, own: str) -> None:
    """Remove the program's folder; one that is mounted, or that others use, stays and is named."""
    if not os.path.isdir(path) or (path != own and owner_of(path) != USER):
        return
    removed = {words.partition(": removed")[0] for words in work.after}
    left = [name for name in os.listdir(path) if os.path.join(path, name) not in removed and name != "lost+found"]
    if os.path.ismount(path):
        work.own(path, "root", None)
        work.attention.append(f"{path} is a mount point and stays; what the role had in it is gone.")
    elif left:
        work.own(path, "root", None)
        work.attention.append(f"{path} stays, as it holds more than the role's files: {', '.join(sorted(left)[:5])}")
    elif work.change(f"{path}: removed"):
        os.rmdir(path)


def main() -> None:
    """Run as a module of Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "required": True},
            "folder": {"type": "path", "required": True},
            "config": {"type": "path", "required": True},
            "mark": {"type": "str", "required": True},
            "earlier": {"type": "list", "elements": "path", "default": []},
            "purge": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    work = Work(module)
    try:
        result = (ensure_present if module.params["state"] == "present" else ensure_absent)(module, work)
    except OSError as error:
        module.fail_json(msg=str(error))
    after = "".join(line + "\n" for line in work.after)
    module.exit_json(
        changed=work.changed, diff={"before": "".join(line + "\n" for line in work.before), "after": after}, **result
    )


if __name__ == "__main__":
    main()
