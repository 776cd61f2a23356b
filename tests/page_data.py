"""Data of a report, as `report --format json` gives them (schema 2), for the tests of the page."""

from __future__ import annotations

import random
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from typing import Any

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
START = NOW - timedelta(days=90)


def at(days_ago: float) -> str:
    """Write an instant as the report does."""
    return (NOW - timedelta(days=days_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def stretch(began: float, ended: float, **more: Any) -> dict[str, Any]:
    return {"began": at(began), "ended": at(ended), **more}


def server(name: str, group: str = "shop", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "group": group,
        "version": "10.11.19-MariaDB",
        "missing": False,
        "ignored": False,
        "replication": "",
        "watched": [stretch(90, 0, proof="every id has its record")],
        "holes": [],
        "watched_share": 1.0,
        "tracking": {"since": at(200), "until": at(0)},
        "inventory": {"taken_at": at(0.01), "error": ""},
        "problems": [],
        "notes": [],
        **changes,
    }


def account(user: str, verdict: str = "active", *, host: str = "10.%", **changes: Any) -> dict[str, Any]:
    used = {"active": 0.2, "stale": 130, "unknown": 40, "never": None}[verdict]
    return {
        "group": "shop",
        "user": user,
        "host": host,
        "verdict": verdict,
        "removable": verdict in ("never", "stale"),
        "last_seen": None if used is None else at(used),
        "last_seen_certain": True,
        "first_seen": None if used is None else at(used + 30),
        "last_server": None if used is None else "db1",
        "evidence": [] if used is None else ["login"],
        "client_hosts": {"count": 0, "newest": []}
        if used is None
        else {"count": 7, "newest": ["10.1.1.1", "10.1.1.2"]},
        "servers": ["db1", "db2"],
        "locked": False,
        "locked_since": None,
        "is_role": False,
        "stage": "",
        "keep_reasons": [],
        "reasons": ["not seen in the 90 days watched"] if verdict in ("never", "stale") else [],
        **changes,
    }


def report(
    accounts: list[dict[str, Any]], servers: list[dict[str, Any]] | None = None, **changes: Any
) -> dict[str, Any]:
    may_go = sum(item["removable"] for item in accounts)
    servers = [server("db1"), server("db2")] if servers is None else servers
    return {
        "schema": 2,
        "generated_at": at(0),
        "window_days": 90,
        "window_start": at(90),
        "sentence": f"{may_go} of {len(accounts)} accounts may go, on {len(servers)} servers, as of {NOW:%F %R} UTC.",
        "problems": [],
        "servers": servers,
        "accounts": accounts,
        **changes,
    }


def fleet() -> dict[str, Any]:
    """Give what a fleet of five servers may look like, with something of everything."""
    young = "db4: watched for 12 of 90 days; can be decided on 2027-02-14, or now by WatchedSince"
    servers = [
        server(
            "db1",
            replication="primary of db2",
            watched_share=0.996,
            watched=[
                stretch(90, 61, proof="stated by the operator"),
                stretch(61, 30.2, proof="every id has its record"),
                stretch(30, 0.01, proof="every id has its record"),
            ],
            holes=[stretch(30.2, 30, reason="the disk was full: records were not written", tolerated=True)],
            notes=["5 minutes of holes are tolerated (TolerateHoles)"],
        ),
        server(
            "db2",
            replication="replica of db1",
            watched_share=0.9312,
            watched=[
                stretch(90, 55, proof="every id has its record"),
                stretch(49, 20, proof="settings"),
                stretch(19.8, 0.01, proof="every id has its record"),
            ],
            holes=[
                stretch(55, 49, reason="auditing was off (server_audit_logging=OFF, set by SQL)", tolerated=False),
                stretch(20, 19.8, reason="a rotated log was lost: 4112 ids have no record", tolerated=False),
            ],
        ),
        server("db3", "crm", replication="primary of db3-delayed"),
        server("db3-delayed", "crm", ignored=True, replication="replica of db3, 24 h late"),
        server(
            "db4",
            "billing",
            version="11.8.3-MariaDB",
            watched_share=0.1333,
            watched=[stretch(12, 0.01, proof="every id has its record")],
            holes=[stretch(90, 12, reason="before the first heartbeat", tolerated=False)],
            problems=[young],
        ),
        server("db5", "billing", version="", missing=True, watched=[], watched_share=0.0, replication="replica of db4"),
    ]
    billing: dict[str, Any] = {"group": "billing", "servers": ["db4"], "last_server": "db4"}
    unused: dict[str, Any] = {"group": "crm", "servers": ["db3"]}
    crm = {**unused, "last_server": "db3"}
    missing = "db5: no database given, though db4 replicates to it: add it by --from, or name it in ReplicasIgnored"
    decided = "not seen in the 12 days watched, nor in the logs before, which reach back to 2026-08-01"
    accounts = [
        account("report_2019", "never", **unused),
        account("import", "stale", **crm, host="app%.example.com", locked=True,
                stage="locked 31 days, never asked for"),
        account("crm_old", "stale", **crm, host="192.168.7.0/255.255.255.0", last_seen=at(214), first_seen=at(260)),
        account("jobs", "stale", removable=False, keep_reasons=["definer of 2 views and 1 event"]),
        account("legacy", "never", removable=False, locked=True,
                stage="locked 12 days, asked for 2 times, last 2026-11-20 from app3",
                reasons=["refused with the right password (4151) 2026-11-20 08:12 from app3"]),
        account("shop_ro", "unknown", reasons=["db2 was not watched from 2026-10-04 to 2026-10-10"]),
        account("ledger", "unknown", **billing, reasons=[missing, young, decided],
                last_seen=at(30), first_seen=at(119)),
        account("invoice", "unknown", **billing, host="%", reasons=[missing, young],
                last_seen=at(60), last_seen_certain=False, evidence=["change user", "login"]),
        account("auditors", "unknown", **unused, host="", is_role=True, reasons=["a role cannot log in"],
                last_seen=None, first_seen=None, last_server=None, evidence=[],
                client_hosts={"count": 0, "newest": []}),
        account("shop", first_seen=at(200), evidence=["login", "open session"],
                client_hosts={"count": 41, "newest": ["10.20.3.11", "10.20.3.12", "10.20.3.13", "10.20.3.9"]}),
        account("shop_admin", host="localhost", last_seen=at(9), first_seen=at(88)),
        account("crm", **crm, last_seen=at(1.3), first_seen=at(3)),
        account("root", host="localhost", keep_reasons=["system account"], last_seen=at(2), first_seen=at(190)),
    ]  # fmt: skip
    problems = [
        missing,
        "db2: not watched for 6 d: turn server_audit_logging on in its option files: SET GLOBAL is lost at a restart",
        young,
    ]
    groups = [
        {"name": "shop", "servers": ["db1", "db2"], "missing": [], "run_on": "db1"},
        {"name": "crm", "servers": ["db3"], "missing": [], "run_on": "db3"},
        {"name": "billing", "servers": ["db4"], "missing": ["db5"], "run_on": "db4"},
    ]
    return report(accounts, servers, problems=problems, groups=groups)


def many(count: int = 10_000) -> dict[str, Any]:
    """Give a report of many accounts on thirty servers in ten groups."""
    chance = random.Random(16)
    servers = []
    for number in range(30):
        holes = [
            stretch(day, day - chance.random(), reason="a rotated log was lost", tolerated=chance.random() < 0.3)
            for day in sorted(chance.sample(range(2, 90), chance.randrange(7)), reverse=True)
        ]
        days = [at(90), *(item[end] for item in holes for end in ("began", "ended")), at(0)]
        watched = [
            {"began": began, "ended": ended, "proof": "every id has its record"}
            for began, ended in zip(days[::2], days[1::2])
        ]
        servers.append(server(f"db{number}", f"group{number // 3}", holes=holes, watched=watched, watched_share=0.97))
    accounts = []
    for number in range(count):
        verdict = chance.choices(["never", "stale", "unknown", "active"], [2, 3, 5, 10])[0]
        group = chance.randrange(10)
        used: dict[str, Any] = {}
        if verdict != "never":
            low, high = {"stale": (91, 250), "unknown": (1, 120), "active": (0, 90)}[verdict]
            last = chance.uniform(low, high)
            used = {"last_seen": at(last), "first_seen": at(last + chance.uniform(0, 200))}
        more: dict[str, Any] = {}
        if verdict in ("never", "stale") and chance.random() < 0.4:
            more = {"removable": False, "keep_reasons": ["definer of 2 views"]}
        elif verdict == "unknown":
            more = {"reasons": [f"db{group * 3} was not watched from 2026-10-04 to 2026-10-10"]}
        accounts.append(
            account(
                f"app_{number:05}",
                verdict,
                host=f"10.{number % 200}.%",
                **more,
                **used,
                group=f"group{group}",
                servers=[f"db{group * 3 + n}" for n in range(3)],
            )
        )
    order = ["never", "stale", "unknown", "active"]
    accounts.sort(key=lambda item: (not item["removable"], order.index(item["verdict"]), item["last_seen"] or ""))
    return report(accounts, servers)
