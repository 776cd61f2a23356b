#!/usr/bin/env python3
"""Keep each MariaDB account's latest connection, read from the audit plugin's logs."""
