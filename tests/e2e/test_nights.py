"""`check`, `top`, `tap` and `why` tell of a running gateway what somebody wants to know who was woken."""

import json
import subprocess
import threading

from conftest import BINARY, KEY, MODEL, Stack, free_port, http, wait_for


def pilotage(stack, *args, timeout=60):
    return subprocess.run([BINARY, *args, "--data-dir", str(stack.folder / "data")],
                          capture_output=True, text=True, timeout=timeout)


def admin(stack, path):
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    status, _, body = http("GET", stack.admin_url + path, headers={"Authorization": f"Bearer {key}"})
    return status, json.loads(body)


def ask(stack, request_id, **more):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 8, **more}
    return stack.post("/v1/chat/completions", body, {"x-request-id": request_id})


def test_why_tells_where_a_requests_time_went(stack):
    status, answer, _ = ask(stack, "nights-why")
    assert status == 200, answer
    told = pilotage(stack, "why", "nights-why")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("It took ") and "prefill" in told.stdout, told.stdout
    record = json.loads(pilotage(stack, "why", "nights-why", "-o", "json").stdout)["record"]
    # The engine's own count is what the client was told, and phases are the whole.
    usage = answer["usage"]
    assert (record["input"], record["output"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    phases = sum(value for name, value in record.items()
                 if name.startswith("t_") and name.endswith("_ms") and name != "t_total_ms")
    assert abs(phases - record["t_total_ms"]) < 1, record
    assert record["runtime"] == "pilotage" and record["model_version"].startswith("sha256:"), record


def test_a_request_that_nobody_knows_is_said(stack):
    told = pilotage(stack, "why", "nobody/knows?it")
    assert told.returncode == 1 and "nobody/knows?it" in told.stderr and "hint:" in told.stderr


def test_tap_shows_requests_as_they_end(stack):
    command = [BINARY, "tap", "--count", "1", "-o", "json", "--tenant", "local", "--data-dir", str(stack.folder / "data")]
    tap = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = threading.Event()

    def asks():
        number = 0
        while not done.is_set():
            ask(stack, f"nights-tap-{number}")
            number += 1

    asking = threading.Thread(target=asks)
    asking.start()
    try:
        out, err = tap.communicate(timeout=60)
    finally:
        done.set()
        asking.join()
    assert tap.returncode == 0, err
    record = json.loads(out)
    assert record["termination"] == "ok" and "Say hello" not in out and KEY not in out, out


def test_top_and_check_tell_that_all_is_well(stack):
    ask(stack, "nights-top")
    top = pilotage(stack, "top", "--once")
    assert top.returncode == 0 and MODEL in top.stdout and "ENTITLED" in top.stdout, top.stderr
    seen = json.loads(pilotage(stack, "top", "-o", "json").stdout)
    tenants = {one["name"]: one for one in seen["status"]["lanes"][0]["tenants"]}
    assert tenants["local"]["entitled_share"] == 1.0, tenants
    check = pilotage(stack, "check")
    assert check.returncode == 0, check.stdout
    findings = json.loads(pilotage(stack, "check", "-o", "json").stdout)["findings"]
    assert all(finding["grade"] in ("well", "warning") for finding in findings), findings


def test_check_says_when_nothing_runs(tmp_path):
    told = subprocess.run([BINARY, "check", "--data-dir", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 1 and "FAIL" in told.stdout and "pilotage up" in told.stdout, told.stdout


def test_check_and_status_tell_that_an_engine_is_gone(tmp_path):
    port = free_port()
    engine = subprocess.Popen([BINARY, "bench", "engine", "--port", str(port)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("the engine", lambda: http("GET", f"http://127.0.0.1:{port}/health")[0] == 200)
    manifest = tmp_path / "models.yaml"
    manifest.write_text("apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\n"
                        f"spec: {{servedModel: scripted, context: 4096, endpoints: [{{url: 'http://127.0.0.1:{port}'}}]}}\n")
    lone = Stack(tmp_path, "-f", str(manifest)).ready()
    asks = lambda: [lone.post("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "?"}]})[0] for _ in range(6)]
    try:
        assert set(asks()) == {200}
        assert pilotage(lone, "check").returncode == 0
        engine.kill()
        engine.wait()
        assert set(asks()) <= {502, 503}
        told = pilotage(lone, "check")
        assert told.returncode == 1 and "requests of m are answered: 6 of 12 in the last minute" in told.stdout, told.stdout
        # Its own address reaches it as well, and the last error is there for whoever follows the hint.
        admin_key = lone.folder / "data" / "admin.key"
        status = subprocess.run([BINARY, "status", "--url", lone.admin_url, "--key-file", str(admin_key)], capture_output=True, text=True, timeout=60)
        assert status.returncode == 0 and "connect" in status.stdout, status.stdout + status.stderr
        # What ended is enough of it, where only so many are wanted.
        tap = pilotage(lone, "tap", "--last", "5", "--count", "3", "-o", "json")
        assert len(tap.stdout.splitlines()) == 3, tap.stdout
    finally:
        engine.kill()
        lone.stop()


def test_who_is_not_the_admin_listener_is_said(stack, tmp_path):
    wrong = tmp_path / "wrong.key"
    wrong.write_text("no key")
    def check(url):
        told = subprocess.run([BINARY, "check", "--url", url, "--key-file", str(wrong)], capture_output=True, text=True, timeout=60)
        assert told.returncode == 1, told.stdout
        return told.stdout
    assert "--key-file" in check(stack.admin_url)
    assert "where clients ask" in check(stack.url)
    assert "write http://" in check(stack.admin_url.removeprefix("http://"))
    assert "cannot reach" in check(f"http://127.0.0.1:{free_port()}")
    band = pilotage(stack, "tap", "--band", "interactive")
    assert band.returncode == 2 and "realtime" in band.stderr, band.stderr


def test_a_long_answer_is_seen_while_it_comes(stack):
    client = stack.client()
    messages = [{"role": "user", "content": "Count to one hundred."}]
    stream = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=200, stream=True,
                                            extra_headers={"x-request-id": "nights-live"})
    next(iter(stream))
    live = admin(stack, "/live")[1]["requests"]
    seen = [one for one in live if one["request_id"] == "nights-live"]
    assert seen and seen[0]["phase"] == "decode" and seen[0]["replica"], live
    stream.close()
    wait_for("its record", lambda: admin(stack, "/records?id=nights-live")[1]["records"])
    assert all(one["request_id"] != "nights-live" for one in admin(stack, "/live")[1]["requests"])
