"""Make a database as the Go program leaves it: go_database.py PATH."""

import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE Accounts (name TEXT, host TEXT, last_seen TIMESTAMP, PRIMARY KEY (name, host))")
connection.executemany(
    "INSERT INTO Accounts VALUES (?, ?, ?)",
    [
        ("mysql", "localhost", "2024-10-14 13:22:57+02:00"),
        ("root", "localhost", "2024-10-14 13:23:57+02:00"),
        ("veteran", "app1.example.com", "2024-10-13 09:11:57+02:00"),
    ],
)
connection.commit()
connection.close()
