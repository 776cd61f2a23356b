"""Compare the view Accounts with what the clients know of their logins: check_accounts.py DATABASE LOGINS [ANYTIME].

LOGINS is JSON: a list of lines `name@host`, a blank, epoch seconds, as the server told its clients.  ANYTIME is a comma
separated list of the accounts that must be there and have no such line.  The server cuts a second, so one is allowed.
"""

import json
import sqlite3
import sys
from contextlib import closing
from datetime import datetime

database, logins, anytime = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3].split(",")
wanted = {}
for line in logins:
    account, instant = line.rsplit(None, 1)
    wanted[account] = max(wanted.get(account, 0), float(instant))
with closing(sqlite3.connect("file:" + database + "?mode=ro", uri=True)) as connection:
    rows = connection.execute("SELECT name, host, last_seen FROM Accounts").fetchall()
seen = {"%s@%s" % row[:2]: datetime.fromisoformat(row[2]).timestamp() for row in rows}
faults = ["missing: " + account for account in sorted({*wanted, *anytime} - {*seen})]
faults += ["false: " + account for account in sorted({*seen} - {*wanted, *anytime})]
faults += [
    "wrong time: %s: %s, not %s" % (account, seen[account], instant)
    for account, instant in sorted(wanted.items())
    if account in seen and account not in anytime and abs(seen[account] - instant) > 1
]
print("\n".join(faults) or "all %d accounts, no other" % len(seen))
sys.exit(bool(faults))
