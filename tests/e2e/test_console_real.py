"""What somebody who has never seen the system finds in the console of a real gateway: which team is over its share, why
a request was slow, who used what; and what a viewer may do. Then the same with 1,000 replicas and millions of rows."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import threading
import time

import pytest

from conftest import Stack, cli, free_port, http, wait_for
from console_kit import Eyes
from prometheus_kit import Engines

VIEWER = "pk-viewer-0123456789abcdef0123456789"
# Five million take two minutes to write; PILOTAGE_TEST_LEDGER_ROWS=5000000 asks for them.
ROWS = int(os.environ.get("PILOTAGE_TEST_LEDGER_ROWS", "1000000"))
REPLICAS = 1000


def key_of(team):
    return f"pk-console-{team}"


def team(name, weight):
    digest = hashlib.sha256(key_of(name).encode()).hexdigest()
    return (f"apiVersion: pilotage.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n"
            f"spec: {{weight: {weight}, keys: [{{name: k, sha256: {digest}}}]}}\n")


def model(name, endpoints):
    return (f"apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\n"
            "spec:\n  dialect: vllm\n  servedModel: scripted\n  context: 4096\n  price: {input: '2', output: '10'}\n  endpoints:\n"
            + "".join(f"  - {{url: 'http://127.0.0.1:{port}', parallel: {parallel}}}\n" for port, parallel in endpoints))


class Site:
    """A gateway with engines, and what a browser needs to get in."""

    def __init__(self, folder, documents, engines):
        self.engines = engines
        (folder / "models.yaml").write_text("---\n".join(documents))
        self.stack = Stack(folder, "-f", str(folder / "models.yaml"), env={"PILOTAGE_VIEWER_KEY": VIEWER}).ready()
        self.key = (folder / "data" / "admin.key").read_text().strip()

    def ask(self, who, name, request_id, tokens=16, band="standard"):
        body = {"model": name, "stream": True, "max_tokens": tokens, "messages": [{"role": "user", "content": f"Tell me of {request_id}."}]}
        return http("POST", self.stack.url + "/v1/chat/completions", body, {"Authorization": f"Bearer {key_of(who)}", "x-request-id": request_id, "x-pilotage-band": band})[0]

    def admin(self, path):
        code, _, body = http("GET", self.stack.admin_url + path, headers={"Authorization": f"Bearer {self.key}"})
        assert code == 200, body
        return json.loads(body)

    @contextlib.contextmanager
    def asking(self, who, name, clients):
        over, threads = threading.Event(), []

        def run(number):
            turn = 0
            while not over.is_set():
                turn += 1
                self.ask(who, name, f"{who}-{number}-{turn}")
        for number in range(clients):
            threads.append(threading.Thread(target=run, args=(number,)))
            threads[-1].start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(60)

    def stop(self):
        self.stack.process.kill()
        self.stack.process.wait()
        self.engines.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A model with two places, which research has for itself until product asks; and one with a slow replica of eight."""
    engines = Engines()
    narrow = engines.start("--first-gap", "250ms")
    quick, slow = engines.start("--first-gap", "20ms", count=7), engines.start("--first-gap", "1500ms")
    running = Site(tmp_path_factory.mktemp("console"), [
        model("narrow", [(narrow, 2)]), model("mixed", [*((quick + at, 1) for at in range(7)), (slow, 1)]), team("research", 1), team("product", 3)], engines)
    yield running
    running.stop()


@pytest.fixture
def eyes(browser):
    """Looks at a gateway with one of its keys."""
    with contextlib.ExitStack() as open_things:
        def begin(site, key=None, theme="light"):
            context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=theme)
            open_things.callback(context.close)
            return Eyes(context.new_page(), site.stack.admin_url, key or site.key).log_in()
        yield begin


def test_who_is_over_its_share_and_why_a_request_was_slow_is_found_from_the_first_page(site, eyes):
    with site.asking("research", "narrow", 12):
        wait_for("research to have used a lot", lambda: site.admin("/records?tenant=research&limit=40")["next"], 60)
        seen = eyes(site)
        page = seen.page
        with site.asking("product", "narrow", 3):
            # No click: the first page says who, how much of what is theirs, and at whose cost.
            over = page.locator(".share", has_text="over its share")
            wait_for("the shares", lambda: over.count() == 1, 30)
            said = over.inner_text().replace("\n", " ")
            assert re.search(r"research.*over its share.*uses \d+ %, entitled to 25 %, while product waits", said), said
        # One that can wait does, for as long as research asks.
        late = threading.Thread(target=site.ask, args=("product", "narrow", "slow-one", 16, "bulk"))
        late.start()
        waits = lambda: any(one["request_id"] == "slow-one" and one["age_ms"] > 5000 for one in site.admin("/live?limit=100")["requests"])
        wait_for("it to have waited", waits, 60)
    late.join(60)
    # One click: the slowest requests stand on the first page, by what took their time.
    row = page.locator("table.slow tbody tr").nth(0)
    wait_for("a slow one", lambda: row.locator("a").nth(0).inner_text() == "mostly queue", 30)
    row.locator("a").nth(0).click()
    page.wait_for_selector("#verdict")
    assert "waiting for its turn" in page.inner_text("#verdict"), page.inner_text("#verdict")
    assert re.search(r"While it waited, \d+ requests with \d+ tokens were before it: .*\d+ of (its own team )?(research|product)", page.inner_text("main")), page.inner_text("main")
    # A given one: its id in the field on top.
    page.fill("#find", "slow-one")
    page.press("#find", "Enter")
    wait_for("its page", lambda: "slow-one" in page.inner_text("h1") and page.locator("#verdict").count(), 20)
    said = page.inner_text("main")
    assert "waiting for its turn" in said and re.search(r"before it: .*\d+ of research", said), said
    assert "a larger share for this tenant" in said
    seen.is_clean()


def test_a_slow_engine_is_named(site, eyes):
    # What is usual is what the quick ones take, whichever of the eight is picked.
    for number in range(40):
        assert site.ask("product", "mixed", f"mixed-{number}") == 200
    # As many at once as there are places: the slow one gets one.
    threads = [threading.Thread(target=site.ask, args=("product", "mixed", f"many-{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = site.admin("/records?model=mixed&limit=48")["records"]
    worst = max(records, key=lambda one: one["t_total_ms"])
    seen = eyes(site)
    page = seen.go(f"requests/{worst['request_id']}")
    page.wait_for_selector("#verdict")
    said = page.inner_text("main")
    assert re.search(r"It took 1\.\d s, [\d.]+ times the usual \d+ ms: 1\.\d s of it (computing|until the replica)", said), said
    assert worst["replica"] in said
    seen.is_clean()


def test_usage_is_what_the_ledger_says(site, eyes):
    # Whatever ran before.
    for who in ["research", "product"]:
        assert site.ask(who, "mixed", f"usage-{who}") == 200

    def told():
        if site.admin("/ledger")["behind_rows"] or site.admin("/ledger")["waiting_rows"]:
            return None
        usage = cli("usage", "--by", "tenant", "-o", "json", "--data-dir", str(site.stack.folder / "data"))
        assert usage.returncode == 0, usage.stderr
        rows = {row["tenant"]: row for row in json.loads(usage.stdout)["rows"]}
        return rows if {"research", "product"} <= rows.keys() else None
    rows = wait_for("all rows to be in the ledger", told, 60)
    seen = eyes(site)
    page = seen.go("usage")
    wait_for("the sums", lambda: "research" in page.inner_text(".listing"), 20)
    for name, row in rows.items():
        shown = page.locator(".listing tbody tr", has_text=name).inner_text()
        assert f"{row['requests']:,}" in shown.replace("\u202f", ","), (row, shown)
        prices = [float(cell.replace(",", "")) for cell in shown.split() if re.fullmatch(r"[\d,]+\.\d+", cell)]
        assert any(abs(price - float(row["price"])) <= 0.005 for price in prices), (row, shown)
    seen.is_clean()


def test_a_viewer_looks_and_changes_nothing(site, eyes):
    seen = eyes(site, key=VIEWER)
    page = seen.page
    assert "viewer: read-only" in page.inner_text("nav")
    for path in ["", "requests", "live", "models", "tenants", "tenants/research", "routes", "triage", "usage", "usage/rows"]:
        seen.go(path)
    page = seen.go("playground")
    assert "The playground is for admins" in page.inner_text("main") and "log out, and in again with that" in page.inner_text("main")
    assert page.locator("main textarea, main button").count() == 0
    ask = "(path, method) => fetch(path, {method, headers: {'Content-Type': 'application/json'}, body: method === 'POST' ? '{}' : undefined}).then(answer => answer.status)"
    for path, method in [("/console/try/v1/models", "GET"), ("/console/try/v1/chat/completions", "POST"), ("/explain/route", "POST")]:
        code = page.evaluate(f"([path, method]) => ({ask})(path, method)", [path, method])
        assert code in (401, 403), (path, code)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A gateway with 1,000 replicas, and a ledger of many rows."""
    folder, engines = tmp_path_factory.mktemp("large"), Engines()
    first = engines.start(count=REPLICAS)
    models = [model(f"m{at}", [(first + at * 250 + number, 8) for number in range(250)]) for at in range(REPLICAS // 250)]
    running = Site(folder, [*models, team("research", 1), team("product", 3)], engines)
    for number in range(20):
        assert running.ask(["research", "product"][number % 2], f"m{number % 4}", f"one-{number}") == 200
    wait_for("rows", lambda: len(running.admin("/usage/rows?limit=100")["rows"]) >= 20, 60)
    store = next(path for path in (folder / "data" / "usage").iterdir() if path.read_bytes()[:15] == b"SQLite format 3")
    begun = time.monotonic()
    fill(store, ROWS)
    running.filled_s = time.monotonic() - begun
    yield running
    running.stop()
    # It is gigabytes, and pytest keeps folders of three runs.
    shutil.rmtree(store.parent)


def fill(path, count):
    """More rows like those that are there, over the last days, of an instance of their own."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as store:
        names = [row[1] for row in store.execute("PRAGMA table_info(rows)") if row[1] != "id"]
        given = {"instance": "'seed'", "seq": "n", "unix_ms": "unix_ms - n * 500", "request_id": "'seed-' || n",
                 "body": "json_set(body, '$.request_id', 'seed-' || n, '$.unix_ms', unix_ms - n * 500)"}
        picked = ", ".join(f"{given.get(name, name)}" for name in names)
        # Writing indexes once is quicker than with each row.
        store.execute("PRAGMA synchronous = OFF")
        store.execute("PRAGMA cache_size = -400000")
        indexes = store.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'rows' AND sql NOT NULL").fetchall()
        store.execute("CREATE TEMP TABLE kind AS SELECT row_number() OVER () - 1 AS at, * FROM rows LIMIT 20")
        store.execute("BEGIN IMMEDIATE")
        for name, _ in indexes:
            store.execute(f"DROP INDEX {name}")
        store.execute(f"INSERT INTO rows ({', '.join(names)}) WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
                      f"SELECT {picked} FROM numbers JOIN kind ON kind.at = n % 20")
        for _, made in indexes:
            store.execute(made)
        store.execute("COMMIT")


def test_a_thousand_replicas_and_many_rows_of_a_real_gateway_are_quick_to_look_at(large, eyes, capsys):
    seen = eyes(large)
    page = seen.page
    paint = "new Promise(done => new PerformanceObserver(list => { const one = list.getEntries().find(one => one.name === 'first-contentful-paint'); if (one) done(one.startTime); }).observe({type: 'paint', buffered: true}))"
    paints = []
    for _ in range(3):
        page.reload()
        page.wait_for_selector("main h1")
        paints.append(page.evaluate(paint))

    def took(path, what, text):
        begun = time.monotonic()
        seen.go(path)
        wait_for(what, lambda: text in page.inner_text("main"), 60)
        return time.monotonic() - begun
    models = took("models", "the models", "250")
    replicas = took("models/m1", "replicas", "250 replicas")
    rows = took("usage/rows", "rows", "200 rows")
    drawn = page.evaluate("document.querySelectorAll('.listing tbody tr').length")
    assert drawn < 60, drawn
    page.click("text=Older")
    wait_for("older rows", lambda: "400 rows" in page.inner_text("main"), 30)
    page.evaluate("location.hash = '#/usage/rows?id=seed-%d'" % ROWS)
    wait_for("the oldest one", lambda: f"seed-{ROWS}" in page.inner_text(".listing"), 30)
    seen.go("live")
    used = lambda: sum(int(part) for part in open(f"/proc/{large.stack.process.pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()[11:13]) / 100
    (cpu, begun) = (used(), time.monotonic())
    asked = lambda: sum("/live?" in url for url in seen.asked)
    polls = asked()
    while asked() < polls + 8 and time.monotonic() < begun + 60:
        page.wait_for_timeout(200)
    share = (used() - cpu) / (time.monotonic() - begun)
    context = page.context
    context.close()
    (cpu, begun) = (used(), time.monotonic())
    threading.Event().wait(10)
    without = (used() - cpu) / (time.monotonic() - begun)
    with capsys.disabled():
        print(f"\nconsole: {REPLICAS} replicas and {ROWS:,} rows (written in {large.filled_s:.0f} s): first paint {min(paints):.0f} ms, models {models:.2f} s, "
              f"replicas {replicas:.2f} s, rows {rows:.2f} s; the gateway computes for {share:.2%} of a core with the live view open, for {without:.2%} without")
    assert len(paints) == 3 and asked() >= polls + 8
