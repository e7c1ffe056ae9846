"""Whatever a client sends, it gets an error that says what to do, and others go on being served."""

import json
import socket
import threading
import time

import pytest

from conftest import KEY, MODEL, http, wait_for

CHAT = "/v1/chat/completions"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture(autouse=True)
def others_are_served(stack):
    """After every piece of bad input, a good request is answered."""
    yield
    assert stack.post(CHAT, HELLO)[0] == 200


def refused(stack, body, status=400, path=CHAT, headers=None):
    """The error object of a request that must be refused with `status`."""
    code, answer, _ = stack.post(path, body, headers)
    assert code == status, answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


@pytest.mark.parametrize("body", [
    b"", b"{", b'{"model": ', b"[]", b"null", b'"text"', b"{} {}", b'{"model":"smollm2",}',
    b'{"model":"smollm2","messages":[{"role":"user","content":"\xff\xfe"}]}',
    b"[" * 100_000, b'{"a":' * 5_000,
])
def test_malformed_json(stack, body):
    assert refused(stack, body)["type"] == "invalid_request_error"


@pytest.mark.parametrize("param, value", [
    ("temperature", -3), ("temperature", 1e9), ("temperature", "hot"), ("top_p", 0), ("top_p", 1.5),
    ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", "many"), ("max_tokens", 10**30), ("max_tokens", 1.5),
    ("n", 0), ("n", 1000), ("top_k", -7), ("presence_penalty", 9), ("frequency_penalty", -9),
    ("logit_bias", {"99999999": 1}), ("logit_bias", {"1": 1000}), ("logit_bias", "x"), ("top_logprobs", 99),
    ("stop", 5), ("stop", ["x"] * 100), ("messages", "hello"), ("messages", []), ("messages", [{"role": "user"}]),
    ("messages", [{"role": "emperor", "content": "x"}]), ("response_format", {"type": "xml"}),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}),
    ("tools", [{"type": "function"}]), ("tool_choice", "required"), ("stream", "yes"), ("seed", "x"),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x"}}]}]),
])
def test_bad_parameters_name_the_parameter(stack, param, value):
    error = refused(stack, {**HELLO, param: value})
    assert param in (error["param"] or "") or param in error["message"], error


def test_missing_fields(stack):
    assert "model" in refused(stack, {"messages": HELLO["messages"]})["message"]
    assert "messages" in refused(stack, {"model": MODEL})["message"]


def test_unknown_model_names_the_known(stack):
    error = refused(stack, {**HELLO, "model": "nope"}, 404)
    assert error["code"] == "model_not_found" and MODEL in error["message"]


def test_context_overflow_says_the_numbers(stack):
    error = refused(stack, {**HELLO, "messages": [{"role": "user", "content": "word " * 6000}]})
    assert error["code"] == "context_length_exceeded"
    assert "2048" in error["message"] and "60" in error["message"]
    error = refused(stack, {**HELLO, "max_tokens": 2048})
    assert "2048" in error["message"]


def test_keys(stack):
    for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer "}):
        code, _, body = http("POST", stack.url + CHAT, HELLO, headers)
        assert code == 401 and json.loads(body)["error"]["code"] == "invalid_api_key"
    for path in ("/metrics", "/status"):
        assert http("GET", stack.admin_url + path)[0] == 401
    assert http("GET", stack.url + "/health/live")[0] == 200


def test_unknown_paths_and_methods(stack):
    assert http("GET", stack.url + "/v1/nope", headers={"Authorization": f"Bearer {KEY}"})[0] == 404
    code, headers, body = http("GET", stack.url + CHAT, headers={"Authorization": f"Bearer {KEY}"})
    assert code == 405 and "POST" in headers["allow"] and json.loads(body)["error"]


def raw(stack):
    connection = socket.create_connection(("127.0.0.1", stack.port), timeout=90)
    return connection


def head(length):
    return (f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n").encode()


def answer_of(connection):
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def test_a_100_mb_body_is_refused_by_its_length(stack):
    with raw(stack) as connection:
        connection.sendall(head(100_000_000))
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_100_mb_chunked_body_is_refused_while_it_comes(stack):
    with raw(stack) as connection:
        connection.sendall(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        sent = 0
        try:
            for _ in range(100):
                connection.sendall(chunk)
                sent += 1
        except OSError:
            pass  # cut while sending is as good as an answer
        assert sent < 100
    assert stack.status() is not None


def test_a_slow_header_is_cut(stack):
    with raw(stack) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        started = time.monotonic()
        answer_of(connection)
        assert time.monotonic() - started < 60


def test_a_client_that_sends_one_byte_a_second_is_cut(stack):
    with raw(stack) as connection:
        connection.sendall(head(1000))
        stop = threading.Event()

        def drip():
            while not stop.wait(1):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]
        finally:
            stop.set()
            thread.join()


def test_huge_headers(stack):
    code, _, _ = http("GET", stack.url + "/v1/models", headers={"Authorization": f"Bearer {KEY}", "X-Big": "x" * 200_000})
    assert code == 431


@pytest.mark.parametrize("lines", [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Bad Header: x\r\n", b"X: a\x00b\r\n",
])
def test_smuggling_shapes_are_refused_or_closed(stack, lines):
    with raw(stack) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n0\r\n\r\n")
        first = connection.recv(4096).split(b"\r\n")[0]
        assert first == b"" or b" 400 " in first or b" 401 " in first


def test_a_client_that_vanishes_mid_stream(stack):
    body = json.dumps({**HELLO, "max_tokens": 1500, "stream": True, "ignore_eos": True}).encode()
    with raw(stack) as connection:
        connection.sendall(head(len(body)) + body)
        assert b" 200 " in connection.recv(4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    idle = lambda: stack.engine_metrics()["vllm:num_requests_running"] == 0
    wait_for("the abandoned request to leave the engine", idle, 20)


def test_embedding_errors(stack):
    for body in ({"model": MODEL}, {"model": MODEL, "input": []}, {"model": MODEL, "input": {"a": 1}},
                 {"model": MODEL, "input": "x", "encoding_format": "hex"}):
        refused(stack, body, path="/v1/embeddings")
    assert "2048" in refused(stack, {"model": MODEL, "input": "word " * 6000}, path="/v1/embeddings")["message"]


def test_completion_errors(stack):
    for body in ({"model": MODEL}, {"model": MODEL, "prompt": {"a": 1}}, {"model": MODEL, "prompt": [99999999]},
                 {"model": MODEL, "prompt": "x", "max_tokens": 0}, {"model": MODEL, "prompt": [-1]}):
        refused(stack, body, path="/v1/completions")


def test_error_streams_are_plain_errors_before_the_first_byte(stack):
    assert refused(stack, {**HELLO, "stream": True, "temperature": -1})["param"] == "temperature"


def test_grammar_bombs_are_refused_not_fatal(stack):
    deep = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string", "pattern": "^(a+)+$"} for i in range(500)}}
    nested = {}
    for _ in range(200):
        nested = {"type": "array", "items": nested, "minItems": 1, "maxItems": 1000}
    for schema in (deep, wide, nested, {"$ref": "http://10.0.0.1/x"}, {"enum": []}):
        code, _, _ = stack.post(CHAT, {**HELLO, "response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
        assert code in (200, 400)
