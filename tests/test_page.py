"""The page of the report in a real browser: Debian's Chromium, driven by Playwright, asking nobody for anything."""

from __future__ import annotations

import http.server
import importlib.resources
import os
import re
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import page_data as p
import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Dialog
from playwright.sync_api import Page
from playwright.sync_api import expect
from playwright.sync_api import sync_playwright

from conntracker import html_report

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "</script><script>alert(1)</script>",
    "</style></title></table><h1>gone</h1>",
    "javascript:alert(1)",
    "' onfocus='alert(1)' autofocus='",
    '" onmouseover="alert(1)" x="',
    "<!-- &lt;b&gt; &amp;",
    "{alert(1)} ${alert(1)} `alert(1)`",
    "\u05e9\u05dc\u05d5\u05dd \\u202e",
    "url(//example.com/x)",
]

Opener = Callable[..., Page]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and notes what it was asked for."""

    asked: list[str]

    def __init__(self, asked: list[str], folder: Path, *args: Any) -> None:
        self.asked = asked
        super().__init__(*args, directory=str(folder))

    def log_message(self, format: str, *args: Any) -> None:
        self.asked.append(self.path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def asked() -> list[str]:
    """Give the paths that the browser asked the server for."""
    return []


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path, asked: list[str]) -> Iterator[Opener]:
    """Give a function that opens a report; at the end nothing but its file was asked for, and nothing went wrong."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, asked, tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wrong: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    def opened(data: dict[str, Any], **options: Any) -> Page:
        (tmp_path / "report.html").write_text(html_report(data), encoding="utf-8")
        address = f"http://127.0.0.1:{server.server_port}"
        page = browser.new_context(**options).new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", dismiss)
        page.on("request", lambda request: asked.append(request.url.replace(address, "")))
        page.goto(f"{address}/report.html")
        return page

    yield opened
    for context in browser.contexts:
        context.close()
    server.shutdown()
    server.server_close()
    assert wrong == []
    assert set(asked) == {"/report.html"}


def users(page: Page) -> list[str]:
    """Give the users in the rows that are shown, in their order."""
    found = page.evaluate(
        "[...document.querySelectorAll('#accounts tbody tr')].filter(row => row.checkVisibility())"
        ".map(row => row.querySelector('bdi').textContent)"
    )
    return list(found)


def head(page: Page, name: str) -> Any:
    return page.get_by_role("columnheader", name=name, exact=True)


# What it says


def test_everything_is_there_without_a_script(open_page: Opener) -> None:
    data = p.fleet()
    page = open_page(data, java_script_enabled=False)
    assert page.get_by_role("heading", level=1).inner_text() == data["sentence"]
    assert page.locator(".against li").all_inner_texts() == data["problems"]
    assert page.locator("#filters").is_hidden()
    assert page.get_by_role("button").count() == 0
    for server in data["servers"]:
        row = (
            page.get_by_role("row")
            .filter(has=page.get_by_role("rowheader").filter(has_text=server["version"]))
            .filter(has=page.locator("bdi", has_text=re.compile(f"^{server['name']}$")))
        )
        text = row.inner_text()
        for said in [server["replication"], *server["notes"], *(hole["reason"] for hole in server["holes"])]:
            assert said in text
        assert ("its database is missing" in text) == server["missing"]
        assert ("serves no clients" in text) == server["ignored"]
        assert ("its group's SQL runs here" in text) == (server["name"] in ("db1", "db3", "db4"))
    rows = page.locator("#accounts tbody tr")
    assert rows.count() == len(data["accounts"])
    for row, account in zip(rows.all(), data["accounts"]):
        row.scroll_into_view_if_needed()
        expect(row).to_contain_text(f"{account['user']}@{account['host']}", use_inner_text=True)
        text = row.inner_text()
        assert account["verdict"] in row.locator(".mark").inner_text()
        assert ("may go" in text) == account["removable"]
        assert ("\nrole" in text) == account["is_role"]
        for said in [account["stage"], account["group"], *account["evidence"], *account["client_hosts"]["newest"]]:
            assert said in text
        for said in [*account["reasons"], *account["keep_reasons"]]:
            assert said in (text if said not in data["problems"] else page.locator(".against").inner_text())


def test_last_use(open_page: Opener) -> None:
    hosts = {"count": 3, "newest": ["a", "b"]}
    page = open_page(
        p.report(
            [
                p.account("sure", client_hosts=hosts),
                p.account("perhaps", last_seen_certain=False),
                p.account("x", "never"),
            ]
        )
    )
    cells = page.locator("#accounts tbody tr td:nth-child(3)").all_inner_texts()
    assert cells[0].split("\n") == ["2026-11-28 05:12", "login from a, b and 1 more on db1; first 2026-10-29"]
    assert cells[1].startswith("perhaps 2026-11-28 05:12\n")
    assert cells[2] == "no use seen"


def test_what_holds_for_all_is_said_once(open_page: Opener) -> None:
    problem = "db1: watched for 12 of 90 days"
    accounts = [p.account("a", "unknown", reasons=[problem]), p.account("b", "unknown", reasons=[problem, "its own"])]
    page = open_page(p.report(accounts, problems=[problem]))
    assert page.locator("#accounts td:last-child").all_inner_texts() == [
        "what stands above",
        "its own; what stands above",
    ]
    assert page.get_by_text(problem).count() == 1


def test_problems_of_a_server(open_page: Opener) -> None:
    """Those that stand above, there with its name before them, are not said again."""
    page = open_page(p.report([], [p.server("db1", problems=["disk full", "no log"])], problems=["db1: no log"]))
    assert page.locator(".lines li").all_inner_texts() == ["disk full"]


def test_no_groups_no_column(open_page: Opener) -> None:
    page = open_page(p.report([p.account("a")]))
    assert page.locator("#accounts thead th").all_text_contents() == [
        "Account",
        "Verdict",
        "Last use",
        "Time line",
        "Reason",
    ]
    assert page.get_by_label("Group").count() == 0


def test_locked_without_a_stage(open_page: Opener) -> None:
    page = open_page(p.report([p.account("a", locked=True)]))
    assert page.get_by_role("rowheader", name="a@10.%").inner_text() == "a@10.%\nlocked"


def test_empty_report(open_page: Opener) -> None:
    page = open_page(p.report([], []))
    assert page.get_by_text("Nothing.").is_visible()
    head(page, "Account").get_by_role("button").click()
    page.get_by_label("Text").fill("x")
    assert users(page) == []


# The pictures


def bars(page: Page, css: str) -> list[tuple[str, float, float]]:
    """Give kind, left and width in percent of the rectangles that are drawn, in the order of drawing."""
    numbers = "[e.x, e.width].map(length => length.baseVal.valueInSpecifiedUnits)"
    found = page.locator(css).evaluate_all(f"all => all.map(e => [e.getAttribute('class'), ...{numbers}])")
    return [(kind, round(left, 1), round(width, 1)) for kind, left, width in found]


def test_coverage_strip(open_page: Opener) -> None:
    holes = [
        p.stretch(45, 36, reason="auditing was off", tolerated=False),
        p.stretch(27, 26.99, reason="disk full", tolerated=True),
    ]
    watched = [
        p.stretch(90, 72, proof="stated by the operator"),
        p.stretch(72, 45, proof="settings"),
        p.stretch(36, 0, proof="settings"),
    ]
    page = open_page(p.report([], [p.server("db1", watched=watched, holes=holes, watched_share=0.8999)]))
    strip = "td .strip"
    assert bars(page, f"{strip} rect") == [
        ("hole", 0, 100),
        ("stated", 0, 20),
        ("proven", 20, 30),
        ("proven", 60, 40),
        ("hole", 50, 10),
        ("tolerated", 70, 0.4),
    ]
    titles = page.locator(f"{strip} title").all_text_contents()
    assert titles[0] == "not watched"
    assert titles[1] == "2026-08-30 10:00 to 2026-09-17 10:00, 18 d, watched: stated by the operator"
    assert titles[4:] == page.locator(".lines li").all_inner_texts()
    assert titles[4] == "2026-10-14 10:00 to 2026-10-23 10:00, 9 d, not watched: auditing was off"
    assert titles[5] == "2026-11-01 10:00 to 2026-11-01 10:14, 14 min, not watched, tolerated: disk full"
    row = page.locator(".coverage tbody tr").inner_text()
    assert "watched: 18 d (stated by the operator), 63 d (settings)" in row
    assert "89.9 %" in row, "rounded down"


def gone(page: Page, row: int) -> list[tuple[float, float]]:
    """Give the stretches of a time line, in percent, that have the colour of what was not watched."""
    drawn = page.locator(f"tbody tr:nth-child({row}) .line").evaluate("e => getComputedStyle(e).backgroundImage")
    stops = [(colour, float(at)) for colour, at in re.findall(r"(rgba?\([^)]*\)) ([0-9.]+)(?:%|px)", drawn)]
    assert stops[0] == ("rgba(0, 0, 0, 0)", 33.3)
    ends = [at for _, at in stops]
    return [(ends[n - 1], ends[n + 1]) for n, (colour, at) in enumerate(stops) if at == 0 and "221, 154, 148" in colour]


def test_time_line(open_page: Opener) -> None:
    """The window is its right two thirds; where it goes, the holes of the account's servers are drawn."""
    servers = [
        p.server(
            "db1",
            watched=[p.stretch(90, 20, proof="settings"), p.stretch(10, 0, proof="settings")],
            holes=[p.stretch(20, 10, reason="x", tolerated=True)],
        ),
        p.server("db2", watched=[p.stretch(90, 45, proof="settings"), p.stretch(36, 0.1, proof="settings")]),
        p.server("db5", watched=[p.stretch(90, 30, proof="settings"), p.stretch(29.99, 0.1, proof="settings")]),
        p.server("db3", "other", missing=True, watched=[]),
    ]
    accounts = [
        p.account("mid", last_seen=p.at(45), first_seen=p.at(90)),
        p.account("one", servers=["db1"], last_seen=p.at(0), first_seen=None),
        p.account("old", last_seen=p.at(200), first_seen=p.at(300)),
        p.account("before", last_seen=p.at(100), first_seen=p.at(300)),
        p.account("no", "never", servers=["db5"]),
        p.account("lost", group="other", servers=["db4"]),
        p.account("odd", last_seen="99999999999999", first_seen="-99999999999999"),
    ]
    page = open_page(p.report(accounts, servers))
    lines = page.locator(".line")
    drawn = [bars(page, f"tbody tr:nth-child({n}) .line rect") for n in range(1, 8)]
    assert [line[0][1:] if line else None for line in drawn] == [
        (33.3, 33.4),
        (100, 0),
        None,
        (0, 25.9),
        None,
        (77.6, 22.3),
        (0, 100),
    ]
    assert lines.nth(2).locator("path").count() == 1, "an arrow to what is too long ago"
    assert lines.nth(4).locator("*").count() == 0
    assert [gone(page, n) for n in range(1, 8)] == [
        [(66.7, 73.3)],
        [],
        [(66.7, 73.3)],
        [(66.7, 73.3)],
        [(77.8, 78.8)],
        [(33.3, 100)],
        [(66.7, 73.3)],
    ]


def test_time_lines_are_small() -> None:
    text = html_report(p.many(200))
    lines = re.findall(r'<svg class="line .*?</svg>', text)
    assert len(lines) == 200
    assert max(map(len, lines)) < 300


# What it does


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ("Account", ["app2", "app10", "Zoe", "zz"]),
        ("Group", ["zz", "app10", "app2", "Zoe"]),
        ("Last use", ["Zoe", "app2", "zz", "app10"]),
        ("Reason", ["app10", "app2", "zz", "Zoe"]),
    ],
)
def test_sort(open_page: Opener, column: str, order: list[str]) -> None:
    accounts = [
        p.account("zz", "stale", group="g1", last_seen=p.at(100), reasons=["c"]),
        p.account("app10", group="g2", last_seen=p.at(9), reasons=["a"]),
        p.account("Zoe", "never", group="g10", reasons=["d"]),
        p.account("app2", group="g3", last_seen=p.at(110), reasons=["b"]),
    ]
    page = open_page(p.report(accounts))
    given = users(page)
    assert given == ["zz", "app10", "Zoe", "app2"]
    assert head(page, "Verdict").get_attribute("aria-sort") == "ascending"
    button = head(page, column).get_by_role("button")
    for direction, wanted in (("ascending", order), ("descending", order[::-1]), ("ascending", order)):
        button.click()
        assert users(page) == wanted
        assert head(page, column).get_attribute("aria-sort") == direction
        assert page.locator("[aria-sort]").count() == 1
    head(page, "Verdict").get_by_role("button").click()
    assert users(page) == given, "most actionable first, as given"


def test_filters(open_page: Opener) -> None:
    page = open_page(p.fleet())
    everyone, shown = users(page), page.get_by_role("status")
    text, verdict, group = page.get_by_label("Text"), page.get_by_label("Verdict"), page.get_by_label("Group")
    assert shown.text_content() == ""
    text.fill("10.20.3 SHOP")
    assert users(page) == ["shop"]
    assert shown.inner_text() == "1 of 13 accounts are shown."
    text.fill("")
    verdict.select_option("stale")
    assert users(page) == ["import", "crm_old", "jobs"]
    verdict.select_option("may go")
    assert users(page) == ["report_2019", "import", "crm_old"]
    verdict.select_option("unknown")
    group.select_option("billing")
    assert users(page) == ["ledger", "invoice"]
    text.fill("nobody")
    assert users(page) == []
    for control, value in ((text, ""), (verdict, "all"), (group, "all")):
        control.fill(value) if control is text else control.select_option(value)
    assert users(page) == everyone
    assert shown.text_content() == ""


def test_a_filter_outlives_a_sort(open_page: Opener) -> None:
    page = open_page(p.fleet())
    page.get_by_label("Verdict").select_option("stale")
    head(page, "Account").get_by_role("button").click()
    assert users(page) == ["crm_old", "import", "jobs"]


def test_keyboard(open_page: Opener) -> None:
    page = open_page(p.fleet())
    page.get_by_label("Text").focus()
    reached = []
    for _ in range(8):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Tab")
    assert reached == ["text", "verdict", "group", "Account", "Group", "Verdict", "Last use", "Reason"]
    head(page, "Account").get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert users(page)[0] == "auditors"
    page.keyboard.press("Space")
    assert users(page)[-1] == "auditors"


# What it must not do


def spoilt(value: Any, text: str) -> Any:
    """Put the text in place of every name and every text of a report, but for times and what is one of few words."""
    kept = (
        "generated_at",
        "window_start",
        "began",
        "ended",
        "last_seen",
        "first_seen",
        "verdict",
        "since",
        "until",
        "taken_at",
    )
    if isinstance(value, dict):
        return {key: item if key in kept else spoilt(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [spoilt(item, text) for item in value]
    return f"{text} {value}" if isinstance(value, str) else value


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("text", HOSTILE)
def test_names_are_inert(open_page: Opener, text: str, script: bool) -> None:
    """Hostile text shows as it is, everywhere, and makes the same elements and attributes as a harmless one."""
    shape = "[...document.querySelectorAll('*')].map(e => e.localName + [...e.attributes].map(a => ' ' + a.name))"
    texts = []
    shapes = []
    for name in (text, "harmless"):
        page = open_page(spoilt(p.fleet(), name), java_script_enabled=script)
        shapes.append(page.evaluate(shape))
        texts.append(page.evaluate("document.title + document.body.textContent").replace(name, "?"))
        if script:
            page.get_by_label("Group").select_option(index=1)
            page.get_by_label("Text").fill(name)
            head(page, "Account").get_by_role("button").click()
            assert len(users(page)) > 1
            page.mouse.move(300, 300)
    assert texts[0].count("?") > 100
    assert texts[0] == texts[1]
    assert shapes[0] == shapes[1]


def test_policy_lets_nothing_else_in(open_page: Opener, browser: Browser, asked: list[str], tmp_path: Path) -> None:
    """Suppose that a name were not inert: still nothing would run, look different, or be requested."""
    intruder = """<script>document.title = 'run'</script><img src="/x.png" onerror="document.title = 'run'">
        <style>* { color: red }</style><p style="color: red" id="p">p</p><link rel="stylesheet" href="/x.css">
        <script src="/x.js"></script><iframe src="/x.html"></iframe><object data="/x"></object><base href="/x/">
        <svg><image href="/x.svg"/></svg><video src="/x.mp4"></video><form action="/x" id="f"></form>"""
    text = html_report(p.fleet()).replace("</h1>", f"</h1>{intruder}")
    (tmp_path / "intruder.html").write_text(text, encoding="utf-8")
    page = open_page(p.fleet())
    assert page.locator("link[rel=icon]").get_attribute("href") == "data:,", "else browsers that have tabs ask for one"
    address = page.url.replace("report", "intruder")
    other = browser.new_context().new_page()
    said: list[str] = []
    other.on("console", lambda message: said.append(message.text))
    other.goto(address)
    assert other.evaluate("fetch('/fetched').catch(error => 'refused')") == "refused"
    assert other.title() != "run"
    assert other.evaluate("document.baseURI") == address
    assert other.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
    assert len(users(other)) == 13, "the page itself works"
    head(other, "Account").get_by_role("button").click()
    assert users(other)[0] == "auditors"
    other.evaluate("document.getElementById('f').submit()")
    other.wait_for_timeout(300)
    asked.remove("/intruder.html")
    assert len(said) > 10


# How it looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessibility(open_page: Opener, scheme: str, width: int) -> None:
    page = open_page(p.fleet(), color_scheme=scheme, viewport={"width": width, "height": 4000})
    page.get_by_label("Text").fill("o")
    page.evaluate(AXE)
    result = page.evaluate("axe.run()")
    assert len(result["passes"]) > 20
    assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in result["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"


def test_rows_are_a_table_to_assistive_technology(open_page: Opener) -> None:
    """They are laid out as grids, which must not take the table's meaning away."""
    page = open_page(p.fleet())
    table = page.get_by_role("table").nth(1)
    assert table.get_by_role("columnheader").count() == 6
    assert table.get_by_role("rowheader").count() == 13
    assert table.get_by_role("row").count() == 14
    assert table.get_by_role("cell").count() == 13 * 5
    assert table.locator("caption").count() == 1


def style(page: Page, css: str, name: str) -> str:
    return str(page.locator(css).first.evaluate(f"e => getComputedStyle(e).{name}"))


def test_dark_and_light(open_page: Opener) -> None:
    assert style(open_page(p.fleet(), color_scheme="light"), "body", "backgroundColor") == "rgb(255, 255, 255)"
    assert style(open_page(p.fleet(), color_scheme="dark"), "body", "backgroundColor") == "rgb(21, 24, 27)"


def test_print(open_page: Opener) -> None:
    """On paper: light, no controls but the word that some are left out, heads on each page, nothing folded."""
    data = p.fleet()
    data["servers"][1]["notes"] = ["n1", "n2", "n3", "folded on the screen"]
    page = open_page(data, color_scheme="dark")
    page.get_by_label("Verdict").select_option("stale")
    assert page.get_by_text("folded on the screen").is_hidden()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.get_by_text("folded on the screen").is_visible()
    assert style(page, "body", "color") == "rgb(28, 33, 38)"
    assert style(page, "#accounts thead", "display") == "table-header-group"
    assert style(page, "#accounts tbody tr:not([hidden])", "display") == "table-row"
    assert style(page, "#accounts button", "display") == "contents", "else Chromium leaves it out of the repeated heads"
    assert page.get_by_label("Text").is_hidden()
    assert page.get_by_text("3 of 13 accounts are shown.").is_visible()


# How large it may get


def test_ten_thousand_accounts(open_page: Opener, capsys: pytest.CaptureFixture[str]) -> None:
    data = p.many(10_000)
    size = len(html_report(data).encode())
    began = time.monotonic()
    page = open_page(data)
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    took = time.monotonic() - began
    assert len(users(page)) == 10_000
    page.get_by_label("Text").fill("app_0123")
    assert len(users(page)) == 10
    page.get_by_label("Text").fill("")
    head(page, "Account").get_by_role("button").click()
    assert users(page) == sorted(item["user"] for item in data["accounts"])
    last = page.locator("#accounts tbody tr:last-child")
    last.scroll_into_view_if_needed()
    expect(last).to_contain_text("app_09999@", use_inner_text=True)
    with capsys.disabled():
        print(f"\npage with 10,000 accounts: {size / 1e6:.1f} MB, open after {took:.2f} s")
