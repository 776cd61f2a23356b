"""The fixtures that most tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from site_kit import Pen
from site_kit import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return an empty host."""
    return Site(tmp_path)


@pytest.fixture
def pen() -> Pen:
    """Return the server's pen."""
    return Pen()
