"""A real cluster to try Pilotage on: what the tests of the mark `cluster` share.

The cluster is that of PILOTAGE_TEST_KUBECONFIG, or of KUBECONFIG. Operator and gateway are processes of this
machine, each with the rights of its ServiceAccount as `pilotage install` gives them and no others. The cluster
finds them by EndpointSlices that name this machine. Everything that is made has names of its own and goes
again, also after a failure.
"""

import base64
import ipaddress
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from conftest import BINARY, KEY, cli, free_port, http

CONFIG = os.environ.get("PILOTAGE_TEST_KUBECONFIG") or os.environ.get("KUBECONFIG")
ADMIN_KEY = secrets.token_hex(32)
METRICS = "/apis/external.metrics.k8s.io/v1beta1"

# Where kinds are found, and whether what is made of a Model can be one of them.
KINDS = {
    "Model": ("/apis/pilotage.dev/v1alpha1", "models", False),
    "Route": ("/apis/pilotage.dev/v1alpha1", "routes", False),
    "Tenant": ("/apis/pilotage.dev/v1alpha1", "tenants", False),
    "Fleet": ("/apis/pilotage.dev/v1alpha1", "fleets", False),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "Pod": ("/api/v1", "pods", True),
    "Secret": ("/api/v1", "secrets", True),
    "Service": ("/api/v1", "services", True),
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Event": ("/apis/events.k8s.io/v1", "events", False),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "ReplicaSet": ("/apis/apps/v1", "replicasets", True),
    "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers", True),
    "APIService": ("/apis/apiregistration.k8s.io/v1", "apiservices", False),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", False),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", False),
}
MADE = [kind for kind, (_, _, made) in KINDS.items() if made]
DEFINITIONS = [f"{plural}.pilotage.dev" for plural in ("models", "routes", "tenants", "fleets")]


def say(*words):
    """A line of the report: what a test saw."""
    print("   ", *words, flush=True)


def until(what, check, limit_s=60, every_s=0.25):
    """What `check` returns once that is true; fails saying what was awaited, and what there was last."""
    end = time.monotonic() + limit_s
    last = None
    while time.monotonic() < end:
        last = check()
        if last:
            return last
        # The pause between two looks; what is waited for is `check`.
        threading.Event().wait(every_s)
    pytest.fail(f"waited {limit_s} s for {what}; last: {last!r}")


def stays(what, check, for_s):
    """`check` has to be true all the time."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        assert check(), what
        threading.Event().wait(0.25)


def run(*words, text=None, limit_s=120):
    """A program to its end; its output. Fails with what it said."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


class Cluster:
    """The API server, asked through `kubectl proxy`, so that every way of proving who one is works."""

    def __init__(self):
        self.proxy = subprocess.Popen(["kubectl", "--kubeconfig", CONFIG, "proxy", "--port=0"], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
        line = self.proxy.stdout.readline()
        assert "Starting to serve on" in line, line
        self.url = "http://" + line.split(" on ")[1].strip()
        # Proxies of the environment are for other hosts.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def close(self):
        self.proxy.kill()
        self.proxy.wait()

    def call(self, method, path, body=None, kind="application/json"):
        """Status and answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"Content-Type": kind})
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, {"message": text.decode(errors="replace")}

    def path(self, kind, namespace=None, name=None):
        base, plural, _ = KINDS[kind]
        parts = [base, *(["namespaces", namespace] if namespace else []), plural, *([name] if name else [])]
        return "/".join(parts)

    def get(self, kind, namespace, name):
        """The object, or none."""
        code, said = self.call("GET", self.path(kind, namespace, name))
        assert code in (200, 404), said
        return said if code == 200 else None

    def list(self, kind, namespace=None, selector=""):
        query = "?labelSelector=" + urllib.request.quote(selector) if selector else ""
        code, said = self.call("GET", self.path(kind, namespace) + query)
        # A kind that this cluster does not have has no objects.
        assert code in (200, 404), said
        # Items of lists do not say what they are.
        about = {"apiVersion": KINDS[kind][0].removeprefix("/apis/").removeprefix("/api/"), "kind": kind}
        return [{**about, **one} for one in said.get("items", [])]

    def patch(self, kind, namespace, name, body, part=""):
        code, said = self.call("PATCH", self.path(kind, namespace, name) + part, body, "application/merge-patch+json")
        assert code == 200, said
        return said

    def create(self, kind, namespace, body):
        code, said = self.call("POST", self.path(kind, namespace), body)
        assert code == 201, said
        return said

    def delete(self, kind, namespace, name):
        code, said = self.call("DELETE", self.path(kind, namespace, name), {"propagationPolicy": "Background"})
        assert code in (200, 202, 404), said

    def kubectl(self, *words, text=None, limit_s=120):
        return run("kubectl", "--kubeconfig", CONFIG, *words, text=text, limit_s=limit_s)

    def apply(self, namespace, text):
        """As people do it."""
        return self.kubectl("-n", namespace, "apply", "-f", "-", text=text)

    def refused(self, namespace, text):
        """What the API server says to a manifest that it does not take."""
        done = subprocess.run(["kubectl", "--kubeconfig", CONFIG, "-n", namespace, "apply", "-f", "-"], input=text,
                              capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode != 0, f"it was taken: {done.stdout}"
        return done.stderr

    def condition(self, kind, namespace, name, about):
        """`(status, reason, message)` of a condition; none where there is none, or of a spec before this one."""
        there = self.get(kind, namespace, name) or {}
        for one in there.get("status", {}).get("conditions", []):
            if one["type"] == about and one.get("observedGeneration") == there["metadata"]["generation"]:
                return one["status"], one["reason"], one.get("message", "")
        return None

    def becomes(self, kind, namespace, name, about, status, reason=None, limit_s=60):
        """Waits for a condition, and reports it."""
        def check():
            found = self.condition(kind, namespace, name, about)
            return found if found and found[0] == status and reason in (None, found[1]) else None
        try:
            found = until(f"{kind} {name}: {about}={status} {reason or ''}", check, limit_s)
        except pytest.fail.Exception as failure:
            there = self.get(kind, namespace, name) or {}
            pytest.fail(f"{failure}; status: {json.dumps(there.get('status'))}; events: {self.events(namespace, name)}")
        say(f"{kind} {name}: {about}={found[0]} {found[1]}: {found[2]}")
        return found

    def events(self, namespace, name):
        """`reason: note` of what was told of an object, oldest first."""
        told = [one for one in self.list("Event", namespace) if (one.get("regarding") or {}).get("name") == name]
        told.sort(key=lambda one: one["metadata"]["creationTimestamp"])
        return [f"{one.get('reason')}: {one.get('note', '')}" for one in told]

    def told(self, namespace, name, reason, limit_s=30):
        """Waits for an event, and reports it."""
        def check():
            return next((one for one in self.events(namespace, name) if one.startswith(reason + ":")), None)
        found = until(f"an event {reason} of {name}", check, limit_s)
        say(f"event of {name}: {found}")
        return found

    def made(self, namespace, model):
        """What is there of a Model, by kind and name."""
        selector = f"pilotage.dev/model={model}"
        return {(kind, one["metadata"]["name"]): one for kind in MADE for one in self.list(kind, namespace, selector)}

    def versions(self, namespace):
        """The version of every object of a namespace that is there for a while."""
        kinds = ["Model", "Route", "Tenant", "Fleet", *MADE]
        return {(kind, one["metadata"]["name"]): one["metadata"]["resourceVersion"]
                for kind in kinds for one in self.list(kind, namespace)}


def answering():
    """A cluster that answers; skips where there is none, or none that may be used."""
    if not CONFIG:
        pytest.skip("no cluster: neither PILOTAGE_TEST_KUBECONFIG nor KUBECONFIG names one")
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    asked = subprocess.run(["kubectl", "--kubeconfig", CONFIG, "version", "-o", "json"], capture_output=True, text=True,
                           timeout=60, check=False)
    if asked.returncode != 0:
        pytest.skip(f"the API server that {CONFIG} names does not answer: {asked.stderr.strip()[:200]}")
    say("API server", json.loads(asked.stdout)["serverVersion"]["gitVersion"])
    cluster = Cluster()
    taken = [name for kind, name in (("ClusterRole", "pilotage-operator"), ("APIService", "v1beta1.external.metrics.k8s.io"))
             if cluster.get(kind, None, name)]
    taken += [one["metadata"]["name"] for one in cluster.list("Model")]
    if taken:
        cluster.close()
        pytest.skip(f"somebody uses this cluster: {', '.join(taken)}; tests need one without Pilotage and other metrics")
    return cluster


def address_seen_by(cluster):
    """The address of this machine that a cluster may be told; none where it is its own alone."""
    server = cluster.kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    host = server.split("://")[1].rsplit(":", 1)[0].strip("[]")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: it is only asked which address would be used.
        probe.connect((host, 9))
        address = probe.getsockname()[0]
    return None if ipaddress.ip_address(address).is_loopback else address


class Process:
    """The operator or a gateway, on this machine."""

    def __init__(self, folder, name, words, env):
        self.name, self.words, self.log = name, words, folder / f"{name}.log"
        self.env = {**os.environ, "PILOTAGE_ADMIN_KEY": ADMIN_KEY, "PILOTAGE_API_KEY": KEY, **env}
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BINARY, *self.words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        return self

    def stop(self, limit_s=30):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Installation:
    """Pilotage in a cluster: definitions, rights and services there; operator and gateway here."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder = cluster, folder
        self.suffix = secrets.token_hex(3)
        self.system = f"pilotage-test-{self.suffix}"
        self.address = address_seen_by(cluster)
        self.namespaces = []
        self.had_definitions = {name for name in DEFINITIONS if cluster.get("CustomResourceDefinition", None, name)}
        self.objects = []
        self.ports = {name: free_port() for name in ("clients", "gateway-admin", "operator-admin", "scaler", "metrics-api")}
        self.url = f"http://127.0.0.1:{self.ports['clients']}"
        self.operator = self.gateway = None

    def up(self):
        begun = time.monotonic()
        self.cluster.kubectl("apply", "--server-side", "-f", "-", text=run(BINARY, "crd"), limit_s=300)
        for name in DEFINITIONS:
            self.cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        say(f"definitions established after {time.monotonic() - begun:.1f} s")
        minor = json.loads(self.cluster.kubectl("version", "-o", "json"))["serverVersion"]["minor"].rstrip("+")
        self.minor = f"1.{minor}"
        rendered = run(BINARY, "install", "--dry-run", "-n", self.system, "--external-metrics", "--no-crds",
                       "--monitors", "absent", "--kubernetes", self.minor, "-o", "json")
        items = json.loads(rendered)["items"]
        # The programs run here.
        self.objects = [self.at_home(one) for one in items if one["kind"] not in ("Deployment", "HorizontalPodAutoscaler")]
        self.cluster.kubectl("apply", "--server-side", "-f", "-",
                             text=json.dumps({"apiVersion": "v1", "kind": "List", "items": self.objects}))
        say(f"installed as {self.system}: {len(self.objects)} objects")
        for service, ports in (("pilotage-operator", ("metrics-api", "scaler")), ("pilotage-gateway-admin", ("admin",)),
                               ("pilotage-gateway", ("http",))):
            self.point(service, ports)
        system = ["--system-namespace", self.system]
        self.operator = Process(self.folder, "operator", [
            "operator", *system, "--admin-listen", f"127.0.0.1:{self.ports['operator-admin']}",
            "--metrics-api-listen", f"0.0.0.0:{self.ports['metrics-api']}",
            "--scaler-listen", f"0.0.0.0:{self.ports['scaler']}",
        ], {"KUBECONFIG": self.account("pilotage-operator")}).start()
        self.gateway = Process(self.folder, "gateway", [
            "gateway", *system, "--listen", f"127.0.0.1:{self.ports['clients']}",
            "--admin-listen", f"0.0.0.0:{self.ports['gateway-admin']}",
            "--data-dir", str(self.folder / "gateway"), "--drain-timeout", "5",
        ], {"KUBECONFIG": self.account("pilotage-gateway")}).start()
        self.ready()
        return self

    def ready(self):
        ports = {self.operator: self.ports["operator-admin"], self.gateway: self.ports["gateway-admin"]}

        def check(process):
            assert process.process.poll() is None, f"{process.name} ended: {process.said()}"
            try:
                return http("GET", f"http://127.0.0.1:{ports[process]}/health/ready")[0] == 200
            except OSError:
                return False
        for process in ports:
            until(f"{process.name} to be ready", lambda process=process: check(process))

    @staticmethod
    def at_home(one):
        if one["kind"] == "Service":
            # Where it leads is said by the slices that are made here.
            one["spec"].pop("selector", None)
        return one

    def point(self, service, names):
        """Has a Service lead to this machine."""
        if self.address is None:
            return
        numbers = {"metrics-api": "metrics-api", "scaler": "scaler", "admin": "gateway-admin", "http": "clients"}
        self.cluster.create("EndpointSlice", self.system, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"{service}-here", "labels": {
                "kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "pilotage-tests"}},
            "endpoints": [{"addresses": [self.address], "conditions": {"ready": True, "serving": True, "terminating": False}}],
            "ports": [{"name": name, "port": self.ports[numbers[name]], "protocol": "TCP"} for name in names],
        })

    def account(self, name):
        """A configuration with the rights of a ServiceAccount and no others."""
        config = json.loads(self.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        token = self.cluster.kubectl("-n", self.system, "create", "token", name, "--duration", "3h").strip()
        config["users"] = [{"name": name, "user": {"token": token}}]
        config["contexts"][0]["context"].update({"user": name, "namespace": self.system})
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return str(path)

    def namespace(self, word):
        """A namespace of a test's own."""
        name = f"pt-{word}-{self.suffix}"
        self.cluster.create("Namespace", None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
        self.namespaces.append(name)
        return name

    def clear(self, namespace):
        """Deletes a namespace, its Models before it: with pods in it a namespace waits for as long as they might take."""
        for kind in ("Model", "Route", "Tenant"):
            self.cluster.call("DELETE", self.cluster.path(kind, namespace))
        end = time.monotonic() + 60
        while self.cluster.list("Pod", namespace) and time.monotonic() < end:
            threading.Event().wait(0.25)
        self.cluster.delete("Namespace", None, namespace)

    def ask(self, model, tokens=8, key=KEY, stream=True, timeout=120):
        """One request: its status, and whether its answer came to the end."""
        body = {"model": model, "messages": [{"role": "user", "content": "Count."}], "max_tokens": tokens,
                "ignore_eos": True, "stream": stream}
        headers = {"Authorization": f"Bearer {key}"}
        try:
            code, _, data = http("POST", self.url + "/v1/chat/completions", body, headers, timeout)
        except OSError as error:
            return f"broken: {error}", False
        if code != 200:
            return code, data.decode(errors="replace")[:300]
        text = data.decode(errors="replace").rstrip()
        whole = text.endswith("data: [DONE]") and '"error"' not in text if stream else "choices" in text
        return code, whole or f"broken off: {text[-400:]}"

    def down(self):
        """Takes everything away again; what is left then, as words."""
        for process in (self.gateway, self.operator):
            if process:
                process.stop()
        for namespace in [*self.namespaces, self.system]:
            self.clear(namespace)
        for one in self.objects:
            namespace = one["metadata"].get("namespace")
            if namespace != self.system and one["kind"] != "Namespace":
                self.cluster.delete(one["kind"], namespace, one["metadata"]["name"])
        for name in set(DEFINITIONS) - self.had_definitions:
            self.cluster.delete("CustomResourceDefinition", None, name)
        ours = {*self.namespaces, self.system}

        def left():
            found = [f"Namespace {one['metadata']['name']}" for one in self.cluster.list("Namespace") if one["metadata"]["name"] in ours]
            for kind in ("ClusterRole", "ClusterRoleBinding", "APIService", "RoleBinding", *MADE):
                found += [f"{kind} {one['metadata']['name']}" for one in self.cluster.list(kind, None, "app.kubernetes.io/part-of=pilotage")]
            found += [name for name in DEFINITIONS if name not in self.had_definitions
                      and self.cluster.get("CustomResourceDefinition", None, name)]
            return found
        end = time.monotonic() + 400
        while left() and time.monotonic() < end:
            threading.Event().wait(0.5)
        return left()


class Followed:
    """What objects of a kind and namespace go through meanwhile: `show` makes what counts of all of them, by name."""

    def __init__(self, cluster, kind, namespace, show):
        self.seen, self.begun, there = [], time.monotonic(), {}
        path = cluster.path(kind, namespace)
        code, listed = cluster.call("GET", path)
        assert code == 200, listed
        there.update({one["metadata"]["name"]: one for one in listed["items"]})
        self.note(show(there))
        request = f"{cluster.url}{path}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}"
        self.answer = cluster.opener.open(request, timeout=600)

        def work():
            try:
                for line in self.answer:
                    event = json.loads(line)
                    if event["type"] == "DELETED":
                        there.pop(event["object"]["metadata"]["name"], None)
                    elif event["type"] in ("ADDED", "MODIFIED"):
                        there[event["object"]["metadata"]["name"]] = event["object"]
                    self.note(show(there))
            except (OSError, ValueError, AttributeError):
                # It was stopped.
                pass
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def note(self, now):
        if not self.seen or self.seen[-1][1] != now:
            self.seen.append((round(time.monotonic() - self.begun, 1), now))

    def stop(self):
        """`(seconds, what)` of every change."""
        # What was written before this is heard of within a moment.
        self.thread.join(1)
        return list(self.seen)


class Engines(threading.Thread):
    """Plays the engines of pods whose addresses are this machine's: a scripted one at each pod that runs, as long as
    the pod is there, however short a grace period it is given. An image that says `slow` takes its time."""

    def __init__(self, installation):
        super().__init__(daemon=True)
        self.cluster, self.installation = installation.cluster, installation
        self.at, self.ended, self.trouble = {}, threading.Event(), None

    def run(self):
        while not self.ended.wait(0.2):
            try:
                self.look()
            except (OSError, AssertionError) as error:
                self.trouble = error

    def look(self):
        selector = "app.kubernetes.io/component=engine,pilotage.dev/role=serves"
        pods = {one["metadata"]["uid"]: one for one in self.cluster.list("Pod", None, selector)
                if one["metadata"]["namespace"] in self.installation.namespaces and one["status"].get("podIP")
                and one["status"].get("phase") == "Running"}
        for uid in set(self.at) - set(pods):
            engine = self.at.pop(uid)
            engine.kill()
            engine.wait()
        for uid in set(pods) - set(self.at):
            self.at[uid] = self.play(pods[uid])

    def play(self, pod):
        image = pod["spec"]["containers"][0]["image"]
        port = next(port["containerPort"] for port in pod["spec"]["containers"][0]["ports"] if port["name"] == "http")
        model = pod["metadata"]["labels"]["pilotage.dev/model"]
        token, first = ("60ms", "60ms") if "slow" in image else ("20ms", "5ms")
        return subprocess.Popen(
            [BINARY, "bench", "engine", "--kind", "vllm", "--host", pod["status"]["podIP"], "--port", str(port), "--model", model,
             "--sequences", "8", "--decode", token, "--prefill", first],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self):
        self.ended.set()
        self.join(10)
        for engine in self.at.values():
            engine.kill()
            engine.wait()


def pods_are_here(cluster):
    """Why engines cannot be played, if they cannot: addresses of pods have to be this machine's."""
    for node in cluster.list("Node"):
        net = node["spec"].get("podCIDR")
        if not net:
            return f"node {node['metadata']['name']} does not say which addresses its pods have"
        with socket.socket() as probe:
            try:
                probe.bind((str(ipaddress.ip_network(net)[7]), 0))
            except OSError:
                return f"pods of {node['metadata']['name']} are not on this machine, so that no engine can be played for them"
    return None if cluster.list("Node") else "the cluster has no nodes"


class Load:
    """Clients that ask one request after the other, until they are told to stop; nothing may be lost."""

    def __init__(self, installation, model, clients, tokens=20):
        self.answers, self.ended = [], threading.Event()

        def work():
            while not self.ended.is_set():
                self.answers.append(installation.ask(model, tokens))
        self.threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """How many were answered; fails where one was not, or not to its end."""
        self.ended.set()
        for thread in self.threads:
            thread.join(130)
        lost = [one for one in self.answers if one != (200, True)]
        assert not lost, f"{len(lost)} of {len(self.answers)} requests were lost: {lost[:5]}"
        return len(self.answers)


@pytest.fixture(scope="session")
def installation(tmp_path_factory):
    """Pilotage in the cluster for the whole run; at the end nothing of it may be left."""
    cluster = answering()
    installed = Installation(cluster, tmp_path_factory.mktemp("cluster"))
    try:
        yield installed.up()
    finally:
        left = installed.down()
        cluster.close()
    assert left == [], f"left behind: {left}"
    say("everything that was made is gone")


@pytest.fixture(scope="session")
def engines(installation):
    """Engines at the addresses of pods; skips where those are not on this machine."""
    why = pods_are_here(installation.cluster)
    if why:
        pytest.skip(why)
    played = Engines(installation)
    played.start()
    yield played
    played.close()


@pytest.fixture(scope="session")
def fleet(installation):
    """What all Models of this file run on."""
    namespace = installation.namespace("fleet")
    installation.cluster.apply(namespace, FLEET)
    return namespace


@pytest.fixture
def place(request, installation, fleet):
    """A namespace of a test's own; its Models go with it."""
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:30].strip("-")
    name = installation.namespace(word)
    yield name
    installation.clear(name)
    # Names are of the whole cluster: the next test may want the same one.
    until(f"{name} to be gone", lambda: installation.cluster.get("Namespace", None, name) is None, 400)


def secret_text(secret, entry):
    return base64.b64decode(secret["data"][entry]).decode()


def manifest(*documents):
    """A file of several resources."""
    return "---\n".join(documents)


def resource(kind, name, spec):
    return f"apiVersion: pilotage.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


WEIGHTS = "source: 'hf:o/r@main', sizeBytes: 16000000000, runtime: vllm, fleet: h100"
FLEET = resource("Fleet", "h100", "{kind: nodes, hardware: h100-sxm, perNode: 8, nodes: 3}")


def model(name, more):
    return resource("Model", name, "{%s, %s}" % (WEIGHTS, more))


def route(name):
    return resource("Route", name, "{targets: [{model: %s}], timeouts: {queueSeconds: 120}}" % name)


def write(folder, text):
    path = pathlib.Path(folder) / "manifest.yaml"
    path.write_text(text)
    return str(path)


def command(*words, **more):
    """The binary, which has to succeed."""
    done = cli(*words, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
