"""The examples in docs/ for Prometheus and Grafana use metrics that the program writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import conntracker

DOCS = Path(__file__).resolve().parent.parent / "docs"


def written() -> set[str]:
    """Give the names of the metrics in `report --format prometheus`, of a tracker that knows everything."""
    knowledge = conntracker.Knowledge(tracking_since=1, last_record=2, last_run=3, inventory_at=4)
    text = conntracker.prometheus_report(conntracker.assess(knowledge, 1_800_000_000))
    return set(re.findall(r"^# TYPE (\w+) gauge$", text, re.MULTILINE))


def alerts() -> list[str]:
    """Give the expressions of the alert rules."""
    groups = yaml.safe_load((DOCS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def panels() -> list[str]:
    """Give the expressions of the dashboard."""
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text(encoding="utf-8"))
    queries = [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    return queries + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expressions", [alerts(), panels()], ids=["alerts", "panels"])
def test_metrics_are_written(expressions: list[str]) -> None:
    names = [set(re.findall(r"conntracker_\w+", expression)) for expression in expressions]
    assert all(names), "an expression without a metric"
    assert set().union(*names) <= written()
