"""The web console in a real browser, with worlds that are busy, huge, hostile or empty."""

import re
import time

import pytest

from conftest import http, wait_for
from console.world import HOSTILE, KEPT, World
from console_kit import PAGES, SLOW_ID


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_for_everybody(look, axe, theme):
    eyes = look(World.busy(), theme=theme)
    found = []
    for path in PAGES:
        page = eyes.go(path)
        page.evaluate(axe)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found += [f"{path}: {one['id']} {node['html'][:160]}" for one in result["violations"] for node in one["nodes"]]
    assert found == [], "\n".join(found)
    eyes.is_clean()


def test_the_login_page_is_for_everybody(look, axe):
    eyes = look(World.busy(), log_in=False)
    eyes.page.goto(f"{eyes.url}/console/login?wrong=key")
    eyes.page.evaluate(axe)
    assert eyes.page.evaluate("axe.run()")["violations"] == []


def test_an_empty_gateway_teaches(look, axe):
    eyes = look(World.empty())
    for path, said in {"": "pilotage up", "requests": "pilotage chat", "live": "pilotage chat", "models": "pilotage up", "tenants": "pilotage key", "routes": "A Route divides", "usage": "pilotage chat"}.items():
        page = eyes.go(path)
        wait_for(f"{path} to say what to do", lambda: said in page.inner_text("main"), 10)
        page.evaluate(axe)
        assert page.evaluate("axe.run()")["violations"] == []
    eyes.is_clean()


def test_hostile_names_break_nothing(look):
    eyes = look(World.hostile())
    one = World.hostile().record(SLOW := int(SLOW_ID.removeprefix("req-"), 16))
    assert one["seq"] == SLOW
    encode = "name => '#/models/' + encodeURIComponent(name).replaceAll('%2F', '/')"
    targets = [path for path in PAGES if "llama" not in path and "research" not in path]
    targets += [eyes.page.evaluate(encode, name)[2:] for name in HOSTILE] + [eyes.page.evaluate(encode, name)[2:].replace("models", "tenants", 1) for name in HOSTILE]
    for path in targets:
        page = eyes.go(path)
        assert page.evaluate("window.pwned") is None, path
        assert page.evaluate("document.querySelectorAll('main script, main img, main iframe, main object, [onerror], [onload]').length") == 0, path
        links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        assert all(href is None or href.startswith(("#/", "#main", "/")) for href in links), links
    for name in HOSTILE[:4]:
        assert page.evaluate(encode, name)
        assert name in eyes.go("models").inner_text("main")
        page.fill("#find", name)
        page.press("#find", "Enter")
        wait_for("the model's page", lambda: page.inner_text("h1") == name, 10)
    # What turns text around is shown as what it is.
    assert "‹202e›gnp.exe‹202c›" in eyes.go("tenants").inner_text("main")
    eyes.is_clean()


def test_markup_in_answers_and_addresses_is_text(look):
    eyes = look(World.busy())
    page = eyes.go("playground")
    page.fill("textarea", "<b>what?</b>")
    page.click("text=Ask both")
    wait_for("the answer", lambda: "<b>42</b>" in page.inner_text("[aria-label='Left answer']"), 10)
    for bad in ["requests?tenant=%3Cimg%20src%3Dx%20onerror%3Dwindow.pwned%3D1%3E", "models/%3Cscript%3Ewindow.pwned=1%3C%2Fscript%3E", "requests/%E0%A4%A", "triage?at=%22%5D%3Cx"]:
        page.goto(f"{eyes.url}/console/#/{bad}")
        page.wait_for_selector("main h1")
        assert page.evaluate("window.pwned") is None
    eyes.is_clean()


def test_a_request_that_is_forgotten_is_explained_from_the_ledger(look):
    eyes = look(World.busy())
    page = eyes.page
    old = f"req-{World.busy().records - 2 * KEPT:032x}"
    page.fill("#find", old)
    page.press("#find", "Enter")
    page.wait_for_selector("#verdict")
    assert "from the ledger" in page.inner_text("main") and "in the days before it" in page.inner_text("main")
    assert page.locator(".fall tbody tr").count() == 10
    page.fill("#find", "req-" + "f" * 32)
    page.press("#find", "Enter")
    page.wait_for_selector("text=its ledger has older ones, and not this one")
    eyes.is_clean()


def test_three_clicks_to_who_and_why(look):
    eyes = look(World.busy())
    page = eyes.page
    # Who is over its share: no click at all.
    over = page.locator(".share", has_text="over its share")
    wait_for("the shares", lambda: over.count() == 1, 10)
    assert re.search(r"research.*uses \d+ %, entitled to 25 %, while product and support wait", over.inner_text().replace("\n", " "))
    # Why a request was slow: one.
    page.click("text=mostly queue >> nth=0")
    page.wait_for_selector("#verdict")
    assert "waited" in page.inner_text("#verdict")
    assert "14 requests of others went first" in page.inner_text("main")
    page.go_back()
    # And why a given one was: its id in the field on top.
    page.fill("#find", SLOW_ID)
    page.press("#find", "Enter")
    page.wait_for_selector("#verdict")
    assert SLOW_ID in page.inner_text("h1")
    eyes.is_clean()


def test_phases_are_drawn_where_they_began(look):
    eyes = look(World.busy())
    page = eyes.go(f"requests/{SLOW_ID}")
    boxes = page.evaluate("[...document.querySelectorAll('.fall .fill')].map(one => [parseFloat(one.style.left), parseFloat(one.style.width)])")
    ends = [left + width for left, width in boxes]
    assert all(later[0] >= end - 0.05 for end, later in zip(ends, boxes[1:])), boxes
    assert max(ends) == pytest.approx(100, abs=0.1)


def test_the_keyboard_is_enough(look):
    eyes = look(World.busy())
    page = eyes.page
    at = lambda: page.evaluate("location.hash")
    for key, path in {"r": "requests", "l": "live", "m": "models", "t": "tenants", "c": "routes", "f": "triage", "u": "usage", "p": "playground", "o": "overview"}.items():
        page.keyboard.press("g")
        page.keyboard.press(key)
        wait_for(path, lambda: at() == f"#/{path}", 10)
        wait_for("its head to have the focus", lambda: page.evaluate("document.activeElement.tagName") == "H1", 10)
    eyes.go("models")
    page.keyboard.press("j")
    page.keyboard.press("j")
    wait_for("the second row", lambda: page.evaluate("document.activeElement.textContent") == "qwen3-32b", 10)
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    wait_for("the first one's page", lambda: at() == "#/models/llama-3.1-8b", 10)
    page.keyboard.press("?")
    assert page.is_visible("dialog")
    page.keyboard.press("Escape")
    wait_for("the dialog to be gone", lambda: page.locator("dialog").count() == 0, 10)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    eyes.go("usage")
    for _ in range(40):
        page.keyboard.press("Tab")
        outlined = page.evaluate("(() => { const one = document.activeElement; return one === document.body || getComputedStyle(one).outlineStyle !== 'none' })()")
        assert outlined, page.evaluate("document.activeElement.outerHTML")
    eyes.is_clean()


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_scroll_down_only(look, width):
    for world in [World.busy(), World.hostile()]:
        eyes = look(world, width=width, height=640)
        for path in PAGES:
            page = eyes.go(path)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth && main.scrollWidth <= main.clientWidth"), path
        eyes.is_clean()


def test_a_thousand_replicas_and_millions_of_records(look, capsys):
    world = World.huge()
    eyes = look(world)
    page = eyes.go("models/llama-3.1-8b")
    rows = lambda: page.evaluate("document.querySelectorAll('.listing tbody tr').length")
    wait_for("replicas", lambda: "500 replicas" in page.inner_text("main"), 10)
    assert rows() < 60
    page.evaluate("document.querySelector('.listing .scroll').scrollTop = 1e9")
    wait_for("the last one", lambda: "llama-3.1-8b-499" in page.inner_text(".listing"), 10)
    page.select_option("select[name=state]", "down")
    wait_for("those that are down", lambda: "14 replicas" in page.inner_text("main"), 10)
    took = page.evaluate("""async () => { const table = document.querySelector('.listing').table; const rows = table.rows; const begun = performance.now();
        for (let at = 0; at < 20; at++) table.set([...rows]); return (performance.now() - begun) / 20 }""")
    page = eyes.go("usage/rows")
    wait_for("rows", lambda: "200 rows" in page.inner_text("main"), 10)
    for more in [400, 600]:
        page.click("text=Older")
        wait_for("more rows", lambda: f"{more} rows" in page.inner_text("main"), 10)
    page = eyes.go("tenants")
    wait_for("teams", lambda: "200 teams" in page.inner_text("main"), 10)
    assert rows() < 60
    nodes = page.evaluate("document.querySelectorAll('*').length")
    assert nodes < 3000, nodes
    page = eyes.go("requests?sort=slow")
    wait_for("all that are kept", lambda: "the slowest of all that are kept" in page.inner_text("main"), 60)
    assert rows() < 60
    with capsys.disabled():
        print(f"\nconsole: a table of replicas is drawn anew in {took:.1f} ms, {nodes} elements on a page of 200 teams")
    eyes.is_clean()


def test_requests_are_followed_as_they_end(look):
    eyes = look(World.busy())
    page = eyes.go("requests?follow=1")
    shown = lambda: int((re.search(r"([\d,]+) requests", page.inner_text(".below")) or ["", "0"])[1].replace(",", ""))
    before = wait_for("requests", shown, 10)
    wait_for("more", lambda: shown() > before + 5, 20)
    assert "3 ended faster than they could be shown" in page.inner_text(".below")
    eyes.is_clean()


def test_filters_are_in_the_address(look):
    eyes = look(World.busy())
    page = eyes.go("requests")
    page.fill("input[name=tenant]", "product")
    page.press("input[name=tenant]", "Tab")
    wait_for("the address", lambda: page.evaluate("location.hash") == "#/requests?tenant=product", 10)
    wait_for("only those", lambda: "research" not in page.inner_text(".listing") and "product" in page.inner_text(".listing"), 10)
    page.reload()
    page.wait_for_selector(".listing td")
    assert page.input_value("input[name=tenant]") == "product"
    assert page.title() == "Requests – Pilotage"
    eyes.is_clean()


def test_a_session_is_wanted_and_leads_to_where_one_wanted_to_go(look):
    eyes = look(World.busy(), log_in=False)
    page = eyes.page
    page.goto(f"{eyes.url}/console/#/tenants/research")
    page.fill("#key", "wrong")
    page.click("button[type=submit]")
    wait_for("what was wrong", lambda: "not known here" in page.inner_text("#wrong"), 10)
    page.fill("#key", eyes.key)
    page.click("button[type=submit]")
    wait_for("the team", lambda: page.inner_text("h1") == "research", 10)
    assert page.evaluate("document.cookie") == "", "no script sees the session"
    page.click("[aria-label='Log out']")
    page.wait_for_selector("#key")
    assert page.evaluate("fetch('/status').then(answer => answer.status)") == 401


def test_what_fails_is_said_and_mends_itself(look):
    eyes = look(World.busy())
    page = eyes.go("models")
    page.route("**/status", lambda route: route.abort())
    wait_for("what is wrong", lambda: "the gateway does not answer" in page.inner_text("main"), 15)
    assert "pilotage check" in page.inner_text("main")
    assert "llama-3.1-8b" in page.inner_text("main"), "what was known stays"
    page.unroute("**/status")
    wait_for("it to be well again", lambda: "does not answer" not in page.inner_text("main"), 30)


PRESS_P = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'p', bubbles: true}))"


@pytest.mark.parametrize("stop, go_on", [(PRESS_P, PRESS_P), ("seen(true)", "seen(false)")])
def test_nobody_asks_while_nobody_looks(look, stop, go_on):
    world = World.busy()
    eyes = look(world, log_in=False)
    page = eyes.page
    page.clock.install()
    page.add_init_script("globalThis.seen = isHidden => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => isHidden}); document.dispatchEvent(new Event('visibilitychange')) }")
    eyes.log_in("#/models")
    polled = lambda: [path for path in world.asked if path.startswith(("/status", "/history", "/triage"))]
    ended = lambda: page.evaluate("fetch('/live?limit=1').then(answer => answer.status)")
    wait_for("the first answers", lambda: len(polled()) >= 3, 10)
    page.evaluate(stop)
    assert ended() == 200
    before = len(polled())
    page.clock.run_for(120_000)
    assert ended() == 200, "what was asked before has come by now"
    # What was under way when it stopped may have come still.
    assert len(polled()) <= before + 3, polled()[before:]
    before = len(polled())
    page.clock.run_for(120_000)
    assert ended() == 200
    assert len(polled()) == before, polled()[before:]
    page.evaluate(go_on)
    page.clock.run_for(10_000)
    wait_for("it to go on", lambda: len(polled()) > before, 10)


def test_the_first_paint_is_soon(look, capsys):
    eyes = look(World.huge())
    page = eyes.page
    paints = []
    for _ in range(3):
        page.reload()
        page.wait_for_selector("main h1")
        paints.append(page.evaluate("new Promise(done => new PerformanceObserver(list => { const one = list.getEntries().find(one => one.name === 'first-contentful-paint'); if (one) done(one.startTime); }).observe({type: 'paint', buffered: true}))"))
    with capsys.disabled():
        print(f"\nconsole: first contentful paint after {', '.join(f'{paint:.0f}' for paint in paints)} ms")
    # What the time is made of: how much has to come, over one connection, before anything can be shown.
    parts, size = page.evaluate("(all => [all.length, all.reduce((sum, one) => sum + one.decodedBodySize, 0)])(performance.getEntriesByType('resource').filter(one => one.name.includes('/console/')))")
    assert len(paints) == 3 and 10 < parts < 60 and 20_000 < size < 300_000, (parts, size)


def test_answers_are_closed_to_others(console):
    url, _ = console
    for path in ["/console/", "/console/login", "/"]:
        code, headers, _ = http("GET", url + path)
        policy = headers["Content-Security-Policy"]
        assert code == 200 and "default-src 'none'" in policy and "unsafe" not in policy and "require-trusted-types-for 'script'" in policy
        assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"
        assert http("GET", url + path, headers={"Host": "rebound.example"})[0] == 421
    assert http("GET", url + "/status", headers={"Cookie": "pilotage-0=x"})[0] == 401


def test_the_real_gateway_is_shown(look, stack, client, capsys):
    answer = client.chat.completions.with_raw_response.create(model="smollm2", messages=[{"role": "user", "content": "Say hello."}], max_tokens=8)
    name = answer.headers["x-request-id"]
    eyes = look()
    page = eyes.go("")
    wait_for("its team", lambda: "local" in page.inner_text(".shares"), 20)
    for path in ["requests", "live", "models", "models/smollm2", "tenants", "tenants/local", "routes", "triage", "usage", "usage/rows"]:
        eyes.go(path)
    page.fill("#find", name)
    page.press("#find", "Enter")
    page.wait_for_selector("#verdict", timeout=20_000)
    assert "prefill" in page.inner_text(".fall") and "smollm2" in page.inner_text("main")
    page = eyes.go("playground")
    wait_for("models", lambda: page.locator("select option").count() >= 2, 20)
    page.fill("textarea", "Say hello.")
    page.fill("input[name=max_tokens]", "8")
    page.click("text=Ask both")
    wait_for("answers", lambda: page.locator("text=where the time went").count() == 2, 60)
    page.click("text=where the time went >> nth=0")
    page.wait_for_selector("#verdict", timeout=20_000)
    eyes.go("")
    used = lambda: sum(int(part) for part in open(f"/proc/{stack.process.pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()[11:13]) / 100
    asked = lambda: sum(1 for url in eyes.asked if url.endswith("/status"))
    (cpu, begun, polls) = (used(), time.monotonic(), asked())
    # Only a turn of the browser's own loop lets the page go on.
    while asked() < polls + 6 and time.monotonic() < begun + 60:
        page.wait_for_timeout(200)
    share = (used() - cpu) / (time.monotonic() - begun)
    with capsys.disabled():
        print(f"\nconsole: with the overview open, the gateway computes for {share:.2%} of a core")
    assert asked() >= polls + 6
    eyes.is_clean()
