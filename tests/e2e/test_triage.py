"""`pilotage triage` reads results of `vllm bench serve`, and says what limits a server and which flag lifts it."""

import heapq
import json
import subprocess

import pytest

from conftest import BINARY

PREFILL, STEP, INPUT, OUTPUT = 0.035, 0.018, 512, 128


def result(path, rate, slots=4, requests=200):
    """What vLLM would write of a server that computes so many sequences at once and has the others wait."""
    free, ttfts, starts = [0.0] * slots, [], []
    heapq.heapify(free)
    for number in range(requests):
        came = number / rate
        begins = max(came, heapq.heappop(free))
        starts.append(came)
        ttfts.append(begins + PREFILL - came)
        heapq.heappush(free, begins + PREFILL + STEP * (OUTPUT - 1))
    duration = max(free)
    path.write_text(json.dumps({
        "request_rate": rate, "duration": duration, "completed": requests, "failed": 0,
        "total_input_tokens": requests * INPUT, "total_output_tokens": requests * OUTPUT,
        "mean_ttft_ms": sum(ttfts) / requests * 1e3, "mean_tpot_ms": STEP * 1e3,
        "ttfts": ttfts, "itls": [[STEP] * (OUTPUT - 1)] * requests, "start_times": starts,
        "input_lens": [INPUT] * requests, "output_lens": [OUTPUT] * requests,
    }))
    return path


def triage(*args):
    return subprocess.run([BINARY, "triage", *map(str, args)], capture_output=True, text=True, timeout=60)


def test_a_full_batch_is_told_from_results_alone(tmp_path):
    files = [result(tmp_path / f"r{rate}.json", rate) for rate in (1, 2, 4)]
    told = triage("--bench", *files)
    assert told.returncode == 1, told.stderr
    assert told.stdout.startswith("S01: all 4 places in the batch are taken"), told.stdout
    assert "--max-num-seqs" in told.stdout
    report = json.loads(triage("--bench", *files, "-o", "json").stdout)
    assert report["findings"][0]["id"] == "S01"


def test_one_that_keeps_up_is_left_alone(tmp_path):
    told = triage("--bench", result(tmp_path / "r1.json", 1))
    assert "S01" not in told.stdout, told.stdout


@pytest.mark.parametrize("text, said", [
    ("{", "no JSON"),
    ("[1, 2]", "no JSON"),
    ('{"model": "m"}', "neither `completed` nor `ttfts`"),
])
def test_what_is_no_result_is_said_with_its_file(tmp_path, text, said):
    path = tmp_path / "other.json"
    path.write_text(text)
    told = triage("--bench", path)
    assert told.returncode == 2, told.stdout
    assert "other.json" in told.stderr and said in told.stderr and "vllm bench serve" in told.stderr
    assert "Traceback" not in told.stderr and "panicked" not in told.stderr


def test_a_file_that_is_not_there_is_said(tmp_path):
    told = triage("--bench", tmp_path / "nowhere.json")
    assert told.returncode == 1 and "nowhere.json" in told.stderr
