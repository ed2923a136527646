"""Nobody but the person's own browser gets in, and nothing but the project's pictures gets out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import bglora
from bglora.review.routes import Page, make_app
from bglora.review.safety import LARGEST
from tests.review.conftest import ADDRESS, ASKING, PORT, TOKEN, Asked, three_lines

SECRET = "the secret of this machine"


@pytest.fixture(scope="module")
def stranger(looking: Asked) -> TestClient:
    """Somebody without the token, at the same page."""
    return TestClient(make_app(looking.page, TOKEN, PORT), base_url=ADDRESS)


def test_the_token_lets_in_once_and_leaves_the_address(stranger: TestClient) -> None:
    answer = stranger.get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    stranger.cookies.clear()


def test_a_visit_that_another_page_began_gets_on_by_a_page_of_ours(stranger: TestClient) -> None:
    answer = stranger.get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": "cross-site"}, follow_redirects=False)
    assert answer.status_code == 200 and 'content="0;url=/"' in answer.text
    stranger.cookies.clear()


@pytest.mark.parametrize(
    "path", ["/", "/api/state", "/api/events", "/static/review.js", "/picture/plate/walk-s000/000000"]
)
@pytest.mark.parametrize("cookie", ["", f"bglora-{PORT}=wrong", f"bglora-{PORT + 1}={TOKEN}", "bglora\x01=1"])
def test_without_the_token_nothing_is_shown(stranger: TestClient, path: str, cookie: str) -> None:
    answer = stranger.get(path, headers={"Cookie": cookie})
    assert answer.status_code == 403
    assert "token" in three_lines(answer)[2]
    assert stranger.get(f"{path}?token=wrong").status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", "[::1]", ""]
)
def test_a_name_that_is_not_this_machines_is_refused(looking: Asked, host: str) -> None:
    answer = looking.client.get("/api/state", headers={"Host": host})
    assert answer.status_code == 403, "a foreign name that leads here (DNS rebinding) gets nothing, cookie or not"
    assert looking.client.get(f"/?token={TOKEN}", headers={"Host": host}).status_code == 403


def test_the_other_name_of_this_machine_is_as_good(looking: Asked) -> None:
    headers = {"Host": f"localhost:{PORT}", "Cookie": f"bglora-{PORT}={TOKEN}"}
    assert looking.client.get("/api/state", headers=headers).status_code == 200


@pytest.mark.parametrize(("port", "status"), [(80, 200), (PORT, 403)])
def test_the_port_that_browsers_leave_out_may_be_left_out(looking: Asked, port: int, status: int) -> None:
    browser = TestClient(make_app(looking.page, TOKEN, port), base_url="http://127.0.0.1")
    for host in ("127.0.0.1", "localhost"):
        headers = {"Host": host, "Cookie": f"bglora-{port}={TOKEN}"}
        assert browser.get("/api/state", headers=headers).status_code == status
        asking = {**headers, "Origin": f"http://{host}", "X-Bglora": "1"}
        assert browser.post("/api/act", json={}, headers=asking).status_code == (400 if status == 200 else 403)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Bglora": "1"},
        {"Origin": ADDRESS},
        {"Origin": "http://evil.example", "X-Bglora": "1"},
        {"Origin": f"http://localhost:{PORT}", "X-Bglora": "1"},
        {"Origin": "null", "X-Bglora": "1"},
        {**ASKING, "Sec-Fetch-Site": "cross-site"},
        {**ASKING, "Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_what_changes_something_must_come_from_this_page(tab: Asked, headers: dict[str, str]) -> None:
    values = {"revision": tab.state["revision"], "act": "drop", "items": ["walk-s000/*"]}
    for path in ("/api/act", "/api/run", "/api/stop"):
        answer = tab.client.post(path, json=values, headers=headers)
        assert answer.status_code == 403, path
        three_lines(answer)
    assert tab.decided == [] and tab.state["running"] is None


def test_another_page_reads_nothing_with_the_cookie(looking: Asked) -> None:
    for site in ("cross-site", "same-site"):
        assert looking.client.get("/api/state", headers={"Sec-Fetch-Site": site}).status_code == 403
    headers = looking.client.get("/api/state").headers
    assert headers["cross-origin-resource-policy"] == "same-origin" and "access-control-allow-origin" not in headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_bodies_are_json_objects_of_a_bounded_size(looking: Asked) -> None:
    def post(content: Any, kind: str = "application/json") -> Any:
        return looking.client.post("/api/act", content=content, headers={**ASKING, "Content-Type": kind})

    assert post(b"[]").status_code == 400
    assert post(b"{").status_code == 400
    assert post(b"[" * 100_000).status_code == 400
    assert post(b"{}", "text/plain").status_code == 400, "what a plain form may send is no act"
    large = post(b" " * (LARGEST + 1))
    assert large.status_code == 413 and "MB" in three_lines(large)[0]
    piece = b" " * (1 << 20)
    assert post(piece for _ in range(26)).status_code == 413, "nor in pieces without a length"


def test_methods_and_addresses_that_there_are_not_are_told(looking: Asked) -> None:
    for answer in (
        looking.client.get("/nowhere"),
        looking.client.get("/api/act"),
        looking.client.put("/api/state", headers=ASKING),
        looking.client.get("/static/../project.toml"),
        looking.client.get("/static/__init__.py"),
    ):
        assert answer.status_code in (404, 405), answer.url
        three_lines(answer)


@pytest.fixture(scope="module")
def besides(looking: Asked) -> Path:
    """Files that must never be served: beside the project, in it, and reached by a link from it."""
    outside = looking.root.parent / "secret.png"
    outside.write_text(SECRET)
    (looking.root / "secret.png").write_text(SECRET)
    (looking.root / "grids/scene-00/secret.webp").write_text(SECRET)
    (looking.root / "plates/secret.png").write_text(SECRET)
    return outside


PIECES = st.sampled_from(
    ["..", ".", "", "/", "%2e%2e", "..%2f", "\\", "%5c", "%00", "secret.png", "secret.webp", "project.toml", "plates"]
    + [
        "grids",
        "scene-00",
        "walk-s000",
        "000000",
        "frame",
        "plate",
        "mask",
        "etc",
        "passwd",
        "C:",
        "~",
        "decisions.toml",
    ]
    + [".bglora", "ledger.sqlite", "style.css", "page.py"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(
        ["/picture/", "/picture/plate/", "/picture/mask/", "/grid/", "/grid/scene-00/", "/static/", "/"]
    ),
    parts=st.lists(st.one_of(PIECES, st.text(max_size=8).map(lambda text: quote(text, errors="replace"))), max_size=8),
    query=st.sampled_from(["", "?w=160", "?w=0", "?w=99999", "?w=1e3", "?w=٣", "?v=x"]),
)
def test_no_path_leads_to_anything_but_the_projects_pictures(
    looking: Asked, besides: Path, start: str, parts: list[str], query: str
) -> None:
    path = start + "/".join(parts)
    status, headers, content = looking.client.portal.call(asked, looking.client.app, path, query)
    assert SECRET.encode() not in content
    assert b"[project]" not in content and b"SQLite format" not in content and b"root:" not in content
    kind = headers.get(b"content-type", b"").decode().partition(";")[0]
    if status == 200:
        there = {"/": "text/html", "/api/state": "application/json"}.get(unquote(path))
        assert kind == there if there else kind in {"image/png", "image/webp", "text/css", "text/javascript"}
    else:
        assert status in (307, 400, 404), (status, path)
        assert status == 307 or set(json.loads(content)) == {"what", "where", "cure"}


async def asked(app: Any, path: str, query: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Asks the server itself: a browser's client would tidy the path before it sends it."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path, errors="replace"),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", f"127.0.0.1:{PORT}".encode()), (b"cookie", f"bglora-{PORT}={TOKEN}".encode())],
        "server": ("127.0.0.1", PORT),
        "client": ("127.0.0.1", 1),
    }
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    await app(scope, receive, send)
    return told[0]["status"], dict(told[0]["headers"]), b"".join(one.get("body", b"") for one in told[1:])


def test_a_link_that_leads_out_of_the_project_is_not_followed(tab: Asked) -> None:
    name = tab.plates()[0]
    outside = tab.root.parent / "outside.png"
    plate = tab.root / f"plates/{name}.png"
    plate.rename(outside)
    try:
        plate.symlink_to(outside)
    except OSError:
        pytest.skip("this system makes no links")
    for width in (0, 160):
        answer = tab.client.get(f"/picture/plate/{name}?w={width}")
        assert answer.status_code == 400 and "not there" in three_lines(answer)[0]


def test_a_ledger_that_names_files_elsewhere_opens_none_of_them(tab: Asked) -> None:
    from bglora.engine.ledger import ItemRow, Ledger

    secret = tab.root.parent / "secret.webp"
    secret.write_text(SECRET)
    ledger = Ledger(tab.root / ".bglora/ledger.sqlite")
    outputs = "grids/../../secret.webp\ngrids/../project.toml.webp"
    with ledger.transaction():
        row = ItemRow("scene-00", "0" * 32, "", "", "", "", "", 1.0, 0, 1, 0, 0)
        ledger.put_item("test", row, [("scene-00", "scene-00", "made", "", outputs, json.dumps({}))])
    ledger.close()
    tab.state  # noqa: B018 - the page looks
    for path in ("/grid/../../secret.webp", "/grid/%2e%2e/%2e%2e/secret.webp", "/grid/..%2f..%2f/secret.webp"):
        assert SECRET not in tab.client.get(path).text


def test_what_is_in_the_project_is_told_as_text_and_never_run(tab: Asked) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    assert tab.act("rename", scene="scene-00", title=evil).status_code == 200
    answer = tab.client.get("/api/state")
    assert (
        answer.headers["content-type"] == "application/json" and answer.headers["x-content-type-options"] == "nosniff"
    )
    assert answer.json()["scenes"][0]["title"] == evil


def test_an_error_that_nobody_foresaw_is_told_in_three_lines_and_logged(tab: Asked) -> None:
    (tab.root / "project.toml").unlink()
    (tab.root / "project.toml").mkdir()
    answer = tab.client.get("/api/state")
    assert answer.status_code in (400, 500)
    three_lines(answer)


def test_one_page_a_project(made: Path, tmp_path: Path) -> None:
    import shutil

    from filelock import FileLock

    from bglora.errors import UserError
    from bglora.review.server import serve

    shutil.copytree(made, tmp_path / "project")
    project = bglora.open(tmp_path / "project")
    with FileLock(tmp_path / "project/.bglora/review.lock"), pytest.raises(UserError, match="open already"):
        serve(project, 0, lambda address: None)
    assert Page(project).running.state() is None
