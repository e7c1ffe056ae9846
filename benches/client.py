"""One request over a connection of its own, and what came of it by the clock: enough of a client to
tell a whole answer from one that broke off, and cheap enough to send some hundreds a second from one
thread.
"""

import asyncio
import dataclasses
import json
import math
import re
import time

# A piece of text that is not empty: the first event of a chat only says who speaks.
TOKEN = re.compile(rb'"(?:content|text)":"[^"]')
READ_BYTES = 1 << 16


@dataclasses.dataclass
class Answer:
    """What came of a request; times are the monotonic clock's."""

    due: float
    status: int = 0
    tokens: int = 0
    first: float | None = None
    last: float | None = None
    whole: bool = False
    cut: bool = False
    error: str = ""

    def first_ms(self):
        return (self.first - self.due) * 1000


def body_of(prompt, tokens, stream, **more):
    return json.dumps({"model": "scripted", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens,
                       "stream": stream, **more}).encode()


async def ask(port, body, due=None, key=None, headers=(), cut_after=None, source=None, timeout=300,
              path="/v1/chat/completions"):
    """Sends a request now; `due` is when it was meant to be. `cut_after` says after how many tokens the
    client goes away, `source` from which address it comes."""
    answer = Answer(due=time.monotonic() if due is None else due)
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(source, 0) if source else None)
            lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json",
                     f"Content-Length: {len(body)}", "Connection: close", *headers]
            lines += [f"Authorization: Bearer {key}"] if key else []
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await read(reader, answer, cut_after)
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        answer.error = repr(error)
    finally:
        if writer:
            if answer.cut:
                writer.transport.abort()
            writer.close()
    return answer


async def read(reader, answer, cut_after):
    head = await reader.readuntil(b"\r\n\r\n")
    answer.status = int(head.split(b" ", 2)[1])
    # Only the end of what was read is kept: the rest of a line whose begin came before.
    kept, tail, size = bytearray(), b"", 0
    while piece := await reader.read(READ_BYTES):
        now = time.monotonic()
        text = tail + piece
        lines = text[:text.rfind(b"\n") + 1]
        found = len(TOKEN.findall(lines))
        if found:
            answer.tokens += found
            answer.first = answer.first or now
            answer.last = now
        tail = text[len(lines):]
        size += len(piece)
        kept += piece
        del kept[:-READ_BYTES]
        if cut_after and answer.tokens >= cut_after:
            answer.cut = True
            return
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    if b"text/event-stream" in head.lower():
        answer.whole = b"data: [DONE]" in kept and b'"error":' not in kept
    else:
        answer.whole = size == int(length[1]) if length else kept.endswith(b"0\r\n\r\n")
    if not answer.whole or answer.status != 200:
        answer.error = bytes(kept[-300:]).decode(errors="replace")


def percentile(values, part):
    """The smallest value that so large a part is not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else None
