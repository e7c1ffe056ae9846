"""A real Prometheus beside a gateway. Rules are those of the program, in a hurry: what takes minutes takes seconds."""

import json
import pathlib
import random
import shutil
import subprocess
import urllib.parse

import pytest
import yaml
from conftest import BINARY, cli, free_port, http, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Prometheus is not installed: apt-get install prometheus")


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alert_names():
    return [rule["alert"] for rule in rules() if "alert" in rule]


class Prometheus:
    """One that scrapes gateways, and engines on these ports, every second. A minute of the rules is a second here."""

    def __init__(self, folder, stacks, engine_ports=(), native=False):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir()
        made = cli("reference", str(folder / "deploy"), "--deploy", "--hurry", "60")
        assert made.returncode == 0, made.stderr
        jobs = []
        for number, stack in enumerate(stacks):
            key = folder / f"admin{number}.key"
            key.write_text((stack.folder / "data" / "admin.key").read_text().strip())
            jobs.append({"job_name": f"pilotage{number}", "authorization": {"credentials_file": str(key)},
                         "static_configs": [{"targets": [f"127.0.0.1:{stack.admin_port}"]}]})
        if engine_ports:
            jobs.append({"job_name": "engines", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in engine_ports]}]})
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "deploy" / "prometheus" / "rules.yaml")],
            "scrape_configs": jobs,
        }
        file = folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        checked = subprocess.run(["promtool", "check", "config", str(file)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        features = "exemplar-storage" + (",native-histograms" if native else "")
        self.log = open(folder / "prometheus.log", "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}", f"--enable-feature={features}",
             f"--web.listen-address=127.0.0.1:{self.port}"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for("Prometheus", lambda: http("GET", self.url + "/-/ready")[0] == 200, 60)

    def api(self, path, **query):
        code, _, body = http("GET", f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        assert code == 200, (path, query, body)
        return json.loads(body)["data"]

    def query(self, expr):
        return self.api("query", query=expr)["result"]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.api("alerts")["alerts"] if alert["state"] == "firing"}

    def ever(self, state="firing", within_s=600):
        """Alerts that were so within that time, with what they were about."""
        seen = self.query(f'count_over_time(ALERTS{{alertstate="{state}"}}[{within_s}s])')
        return sorted({(one["metric"]["alertname"], one["metric"].get("lane") or one["metric"].get("tenant") or one["metric"].get("instance") or "")
                       for one in seen})

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Engines:
    """Scripted engines, each on ports of its own."""

    def __init__(self):
        self.processes = []

    def start(self, *args, count=1):
        """The first of its ports."""
        for _ in range(10):
            # Ports in a row are below those that the system gives to connections.
            port = free_port() if count == 1 else random.randrange(10_000, 30_000 - count)
            process = subprocess.Popen([BINARY, "bench", "engine", "--port", str(port), "--count", str(count), *args],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            last = f"http://127.0.0.1:{port + count - 1}/health"
            if wait_for("an engine", lambda p=process, url=last: p.poll() is not None or http("GET", url)[0] == 200, 60) and process.poll() is None:
                self.processes.append(process)
                return port
        pytest.fail("no ports are free")

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
