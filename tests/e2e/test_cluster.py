"""Pilotage on a real cluster: from one Model to copies that are served, scaled, updated and moved.

Run it with `./x cluster`; see there what it wants. Each test says what it saw, so that its output is a report.
"""

import hashlib
import json
import re
import threading
import time

import pytest
from cluster_kit import (
    FLEET, METRICS, Followed, Load, command, manifest, model, resource, route, say, secret_text, stays, until, write,
)
from conftest import KEY, Stack, http

pytestmark = pytest.mark.cluster

def amount(text):
    """A quantity as a number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", str(text))
    if not found:
        return None
    times = {None: 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(found[1]) * times[found[2]]


def missing(rendered, live, at=""):
    """Where an object of the cluster is not what was rendered; fields that were not rendered are free."""
    if isinstance(rendered, dict) and isinstance(live, dict):
        return [one for key, value in rendered.items() for one in missing(value, live.get(key), f"{at}.{key}")]
    if isinstance(rendered, list) and isinstance(live, list) and len(rendered) == len(live):
        return [one for n, value in enumerate(rendered) for one in missing(value, live[n], f"{at}[{n}]")]
    alike = rendered == live or (amount(rendered) is not None and amount(rendered) == amount(live))
    # What is empty is left out by API servers.
    return [] if alike or (rendered in ({}, [], 0, "") and live is None) else [f"{at}: {rendered!r} is {live!r}"]


# One Model.


def test_one_model_becomes_what_render_says(installation, engines, place, tmp_path):
    cluster, text = installation.cluster, model("one", "replicas: 2")
    file = write(tmp_path, manifest(FLEET, text))
    command("lint", "-f", file)
    said = cluster.apply(place, text)
    say(said.strip())
    cluster.becomes("Model", place, "one", "Accepted", "True")
    cluster.becomes("Model", place, "one", "Ready", "True", "Serving")
    cluster.becomes("Model", place, "one", "Progressing", "False", "Stable")
    cluster.becomes("Model", place, "one", "Degraded", "False", "Healthy")
    owner = cluster.get("Model", place, "one")["metadata"]["uid"]
    there = cluster.made(place, "one")
    offered = {one["name"] for one in cluster.call("GET", "/apis")[1]["groups"]}
    has = [words for flag, group in (("--lws", "leaderworkerset.x-k8s.io"), ("--keda", "keda.sh"),
                                     ("--monitors", "monitoring.coreos.com"))
           for words in (flag, "present" if group in offered else "absent")]
    rendered = json.loads(command("render", "-f", file, "-n", place, "--system-namespace", installation.system,
                                  "--kubernetes", installation.minor, "-o", "json", *has))["items"]
    for one in rendered:
        name = (one["kind"], one["metadata"]["name"])
        live = there.get(name)
        assert live, f"{name} is not there: {sorted(there)}"
        assert missing(one, live) == [], name
        assert [ref["uid"] for ref in live["metadata"]["ownerReferences"]] == [owner], name
        say(f"{one['kind']} {one['metadata']['name']}: as rendered, owned by the Model")
    key = there["Secret", "one-key"]
    assert key["metadata"]["ownerReferences"][0]["uid"] == owner
    kept = cluster.get("Secret", installation.system, "pilotage-engine-keys")
    assert secret_text(kept, f"{place}.one") == secret_text(key, "key")
    others = {name for name in there if name[0] not in ("Pod", "ReplicaSet", "EndpointSlice", "Secret")}
    assert others == {(one["kind"], one["metadata"]["name"]) for one in rendered}, "nothing else is made"
    for line in cluster.kubectl("-n", place, "get", "models.pilotage.dev,deployments,services,networkpolicies,poddisruptionbudgets,secrets").splitlines():
        say(line)


def test_status_says_of_which_spec_it_is(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, model("said", "replicas: 1"))
    cluster.becomes("Model", place, "said", "Ready", "True")
    table = cluster.kubectl("-n", place, "get", "models.pilotage.dev", "said", "-o", "wide")
    for line in table.splitlines():
        say(line)
    assert table.split()[:4] == ["NAME", "RUNTIME", "REPLICAS", "READY"]
    assert re.search(r"said\s+vllm\s+1\s+1\s+True", table), table
    before = cluster.get("Model", place, "said")["metadata"]["generation"]
    cluster.kubectl("-n", place, "scale", "models.pilotage.dev", "said", "--replicas", "3")

    def copies():
        one = cluster.get("Model", place, "said")
        status = one["status"]
        return one if status.get("readyReplicas") == 3 and status["observedGeneration"] == one["metadata"]["generation"] else None
    one = until("three copies", copies)
    assert one["metadata"]["generation"] == before + 1
    generations = {condition["observedGeneration"] for condition in one["status"]["conditions"]}
    assert generations == {before + 1}
    say(f"scaled by kubectl: generation {before + 1}, {one['status']['readyReplicas']} of {one['status']['replicas']} ready")
    cluster.told(place, "said", "Ready")
    assert not [told for told in cluster.events(place, "said") if told.startswith("Repaired")], cluster.events(place, "said")


def test_at_rest_nothing_is_written(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, manifest(model("quiet", "replicas: 2"), route("quiet"), resource("Tenant", "calm", "{weight: 2}")))
    cluster.becomes("Model", place, "quiet", "Progressing", "False", "Stable")
    cluster.becomes("Route", place, "quiet", "Accepted", "True")
    cluster.becomes("Tenant", place, "calm", "Accepted", "True")
    # A new leader has seen nothing yet, and has nothing to write either.
    until("quiet", lambda: settled(cluster, place, 2), 60)
    before = cluster.versions(place)
    stays("nothing is written", lambda: cluster.versions(place) == before, 8)
    installation.operator.stop()
    installation.operator.start()
    installation.ready()
    until("a leader", lambda: "leads" in leading(installation), 30)
    stays("a new leader writes nothing", lambda: cluster.versions(place) == before, 10)
    say(f"{len(before)} objects kept their versions for 8 s, and for 10 s under a new leader")


def settled(cluster, place, for_s):
    before = cluster.versions(place)
    threading.Event().wait(for_s)
    return cluster.versions(place) == before


def leading(installation):
    """Whether this operator leads, by its Lease."""
    code, lease = installation.cluster.call(
        "GET", f"/apis/coordination.k8s.io/v1/namespaces/{installation.system}/leases/pilotage-operator")
    assert code == 200, lease
    return "leads" if lease["spec"].get("holderIdentity") else "nobody"


def test_what_is_changed_by_hand_is_repaired(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, model("kept", "replicas: 1"))
    cluster.becomes("Model", place, "kept", "Ready", "True")
    cluster.patch("NetworkPolicy", place, "kept-engines", {"spec": {"ingress": [{}]}})
    cluster.told(place, "kept", "Repaired")
    until("the policy as it was", lambda: cluster.get("NetworkPolicy", place, "kept-engines")["spec"]["ingress"] != [{}])
    cluster.delete("PodDisruptionBudget", place, "kept")
    until("the budget anew", lambda: cluster.get("PodDisruptionBudget", place, "kept"))
    # What the Model does not say is left to others.
    cluster.patch("Deployment", place, "kept", {"metadata": {"annotations": {"example.com/note": "mine"}}})
    stays("a note of others stays", lambda: cluster.get("Deployment", place, "kept")["metadata"]["annotations"].get(
        "example.com/note") == "mine", 4)
    say("a policy opened by hand is closed again, a deleted budget is made anew, a note of others stays")


# Clients.


def test_a_tenant_with_a_key_is_served(installation, engines, place):
    cluster, key = installation.cluster, "pk-cluster-" + "5" * 40
    hashed = hashlib.sha256(key.encode()).hexdigest()
    cluster.apply(place, manifest(
        model("served", "replicas: 1"), route("served"),
        resource("Tenant", "team", "{keys: [{name: ci, sha256: '%s'}]}" % hashed)))
    cluster.becomes("Model", place, "served", "Ready", "True")
    cluster.becomes("Route", place, "served", "Accepted", "True")
    cluster.becomes("Tenant", place, "team", "Accepted", "True")
    until("an answer for the tenant's key", lambda: installation.ask("served", key=key) == (200, True), 30)
    wrong = installation.ask("served", key="pk-" + "0" * 48)
    absent = installation.ask("nothing", key=key)
    assert wrong[0] == 401 and absent[0] == 404, (wrong, absent)
    say(f"the tenant's key: 200; a wrong key: {wrong[0]}; a model that is not there: {absent[0]}")
    cluster.kubectl("-n", place, "delete", "tenants.pilotage.dev", "team")
    until("the key to be refused", lambda: installation.ask("served", key=key)[0] == 401, 30)
    say("after the Tenant was deleted its key is refused")


def test_the_same_manifest_serves_on_one_machine(installation, engines, place, tmp_path):
    """The built-in model: `pilotage up -f` runs it; on the cluster its engine is played."""
    key = "pk-alike-" + "7" * 40
    built_in = command("up", "--print").split("---\n")[0].replace("smollm2\n", "alike\n", 1)
    text = manifest(built_in, route("alike"),
                    resource("Tenant", "alike", "{keys: [{name: ci, sha256: '%s'}]}" % hashlib.sha256(key.encode()).hexdigest()))
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack(folder, "-f", write(tmp_path, text))
    installation.cluster.apply(place, text)
    try:
        installation.cluster.becomes("Model", place, "alike", "Ready", "True")
        until("an answer of the cluster", lambda: installation.ask("alike", key=key) == (200, True), 30)
        stack.ready()
        here, there = answers(stack.url, key), answers(installation.url, key)
    finally:
        assert stack.stop() == 0, stack.said()
    for name, got in here.items():
        say(f"{name}: {got} on one machine, {there[name]} on the cluster")
    # The gateway of this suite serves other tests' Models, too.
    assert here == {**there, "models": [one for one in there["models"] if one == "alike"]}


def answers(url, key):
    """What a gateway says to what is right and to what is wrong."""
    def ask(name, more, key=key):
        body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, **more}
        code, _, data = http("POST", url + "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"}, 120)
        said = json.loads(data)
        return code, (said.get("error") or {}).get("code"), (said.get("usage") or {}).get("completion_tokens")
    listed = http("GET", url + "/v1/models", headers={"Authorization": f"Bearer {key}"})
    return {
        "models": [one["id"] for one in json.loads(listed[2])["data"]],
        "an answer": ask("alike", {"ignore_eos": True}),
        "a wrong key": ask("alike", {}, "pk-" + "0" * 48),
        "no such model": ask("nothing", {}),
        "no model": ask(None, {}),
        "a number of tokens that is none": ask("alike", {"max_tokens": "many"}),
    }


# Scaling.


def test_hpa_reads_the_external_metric_and_follows_it(installation, engines, place):
    cluster = installation.cluster
    if installation.address is None:
        pytest.skip("the API server reaches this machine at no address: it cannot ask for metrics")
    cluster.apply(place, manifest(model("busy", "scaling: {min: 1, max: 3, by: hpa, ttftMs: 200}, parallel: 4"), route("busy")))
    cluster.becomes("Model", place, "busy", "Ready", "True")
    until("the API to be available", lambda: any(
        one["type"] == "Available" and one["status"] == "True"
        for one in cluster.get("APIService", None, "v1beta1.external.metrics.k8s.io").get("status", {}).get("conditions", [])))
    path = f"{METRICS}/namespaces/{place}/pilotage_replicas_wanted?labelSelector=model%3Dbusy"

    def metric():
        code, said = cluster.call("GET", path)
        return said["items"][0]["value"] if code == 200 and said["items"] else None
    say(f"kubectl get --raw '{path}': value {until('a value', metric)}")

    def autoscaler():
        status = cluster.get("HorizontalPodAutoscaler", place, "busy").get("status", {})
        said = {one["type"]: (one["status"], one["reason"]) for one in status.get("conditions", [])}
        return status if said.get("ScalingActive", ("", ""))[0] == "True" else None
    status = until("ScalingActive", autoscaler, 60)
    say("HPA:", [f"{one['type']}={one['status']} {one['reason']}" for one in status["conditions"]])
    load = Load(installation, "busy", 24, 40)
    try:
        def grown():
            said = cluster.get("Model", place, "busy")["status"]
            copies = cluster.get("Deployment", place, "busy")
            return (said, copies) if copies["spec"]["replicas"] > 1 and copies["status"].get("readyReplicas", 0) > 1 else None
        said, copies = until("more copies", grown, 120)
    finally:
        answered = load.stop()
    say(f"under load the metric is {metric()}, {copies['spec']['replicas']} copies: {said['scaling']['reason']}: {said['scaling']['message']}")
    # By whom a scale was written API servers do not note; the autoscaler tells of it.
    cluster.told(place, "busy", "SuccessfulRescale")
    say(f"{answered} requests answered, none lost")


def test_to_no_copies_and_back(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, manifest(model("rests", "scaling: {min: 0, max: 2, zero: cold, idleSeconds: 5}"), route("rests")))
    cluster.becomes("Model", place, "rests", "Accepted", "True")
    until("its Route", lambda: cluster.condition("Route", place, "rests", "Accepted"))
    cluster.becomes("Model", place, "rests", "Ready", "True", "AtRest", 180)
    until("no pod", lambda: not cluster.list("Pod", place))
    begun = time.monotonic()
    assert installation.ask("rests") == (200, True)
    say(f"asked while there was no copy: answered after {time.monotonic() - begun:.1f} s")
    cluster.becomes("Model", place, "rests", "Ready", "True", "Serving")
    cluster.becomes("Model", place, "rests", "Ready", "True", "AtRest", 240)
    until("no pod", lambda: not cluster.list("Pod", place))
    for told in cluster.events(place, "rests"):
        say(told)
    told = [one.split(":")[0] for one in cluster.events(place, "rests")]
    assert "ScaledUp" in told and "ScaledDown" in told, told


# Updates.


STEPS = "[{weight: 20, minutes: 0, samplesMin: 15}, {weight: 50, minutes: 0, samplesMin: 15}]"


def update_of(models):
    """Phase and percent of an update, and which version serves."""
    [one] = models.values()
    update = one.get("status", {}).get("update", {})
    step = update.get("next") or {}
    return step.get("phase", "Serves"), step.get("percent"), update.get("serving")


def canary(name, more, steps=STEPS, tolerance=100):
    wide = "{errorPercent: 10, ttftPercent: %d, tpotPercent: %d}" % (tolerance, tolerance)
    return model(name, "replicas: 2, updates: {surge: 1, canary: {steps: %s, tolerance: %s}}, %s" % (steps, wide, more))


def test_an_update_shifts_step_by_step(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, manifest(canary("turns", "context: 2048"), route("turns")))
    cluster.becomes("Model", place, "turns", "Ready", "True")
    until("an answer", lambda: installation.ask("turns") == (200, True), 30)
    old = cluster.get("Model", place, "turns")["status"]["update"]["serving"]
    watched, load = Followed(cluster, "Model", place, update_of), Load(installation, "turns", 6)
    try:
        cluster.apply(place, canary("turns", "context: 4096"))

        def taken_over():
            update = cluster.get("Model", place, "turns")["status"].get("update", {})
            return update.get("serving") not in (None, old) and not update.get("next")
        until("the new version to serve", taken_over, 240)
        until("one workload", lambda: len(cluster.list("Deployment", place)) == 1, 60)
    finally:
        seen = watched.stop()
        answered = load.stop()
    for at, (phase, percent, serving) in seen:
        say(f"{at:6.1f} s  {phase} {'' if percent is None else f'{percent} %'}  {serving} serves")
    say(f"{answered} streams while the version changed, none lost")
    steps = [percent for _, (phase, percent, serving) in seen if phase == "Trying" and serving == old]
    assert steps == sorted(steps) and {20, 50} <= set(steps), seen
    phase, _, serving = seen[-1][1]
    assert phase == "Serves" and serving != old, seen
    assert answered > 60
    args = cluster.list("Deployment", place)[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "4096" in args, args


def test_a_version_that_is_worse_goes_back_by_itself(installation, engines, place):
    cluster = installation.cluster
    steps = "[{weight: 50, minutes: 10, samplesMin: 1000}]"
    cluster.apply(place, manifest(canary("worse", "context: 2048", steps, 30), route("worse")))
    cluster.becomes("Model", place, "worse", "Ready", "True")
    until("an answer", lambda: installation.ask("worse") == (200, True), 30)
    old = cluster.get("Model", place, "worse")["status"]["update"]["serving"]
    watched, load = Followed(cluster, "Model", place, update_of), Load(installation, "worse", 6)
    try:
        cluster.apply(place, canary("worse", "context: 2048, image: 'example.com/vllm:slow'", steps, 30))
        cluster.becomes("Model", place, "worse", "Degraded", "True", "RolledBack", 240)
        until("the old workload alone", lambda: len(cluster.list("Pod", place)) == 2, 60)
    finally:
        seen = watched.stop()
        answered = load.stop()
    for at, (phase, percent, serving) in seen:
        say(f"{at:6.1f} s  {phase} {'' if percent is None else f'{percent} %'}  {serving} serves")
    say(f"{answered} streams, none lost")
    assert cluster.get("Model", place, "worse")["status"]["update"]["serving"] == old
    cluster.apply(place, canary("worse", "context: 2048", steps, 30))
    cluster.becomes("Model", place, "worse", "Degraded", "False", "Healthy", 60)


# Nodes.


def test_a_drained_nodes_copies_move_first_and_stop_later(installation, engines, place):
    cluster = installation.cluster
    nodes = [one for one in cluster.list("Node") if not one["spec"].get("unschedulable")]
    if len(nodes) < 2:
        pytest.skip("a cluster of one node has nowhere to move to")
    cluster.apply(place, manifest(model("moves", "replicas: 1"), route("moves")))
    cluster.becomes("Model", place, "moves", "Ready", "True")
    until("an answer", lambda: installation.ask("moves") == (200, True), 30)
    [pod] = cluster.list("Pod", place)
    node = pod["spec"]["nodeName"]

    def show(pods):
        return sorted((name == pod["metadata"]["name"], one["spec"].get("nodeName"), is_ready(one), "deletionTimestamp" in one["metadata"])
                      for name, one in pods.items())
    followed, load = Followed(cluster, "Pod", place, show), Load(installation, "moves", 4)
    begun = time.monotonic()
    try:
        said = cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data",
                               "--pod-selector=pilotage.dev/model=moves", "--timeout=120s", limit_s=150)
        lasted = time.monotonic() - begun
        until("the old pod to be gone", lambda: not cluster.get("Pod", place, pod["metadata"]["name"]), 60)
    finally:
        cluster.kubectl("uncordon", node)
        seen = followed.stop()
        answered = load.stop()
    for line in said.splitlines()[-3:]:
        say(line)
    for at, pods in seen:
        say(f"{at:6.1f} s", "; ".join(f"{'old' if old else 'new'} on {where}{', ready' if ready else ''}{', ends' if ends else ''}"
                                       for old, where, ready, ends in pods) or "none")
    say(f"drained after {lasted:.1f} s; {answered} streams, none lost")
    for _, pods in seen:
        ends = any(old and ends for old, _, _, ends in pods)
        assert not ends or any(not old and ready for old, _, ready, _ in pods), "the old one ends before the new one is ready"
        assert any(ready for _, _, ready, _ in pods), "there is always one that is ready"
    [left] = cluster.list("Pod", place)
    assert left["spec"]["nodeName"] != node and is_ready(left)


def is_ready(pod):
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))


# The end.


def test_deleting_a_model_leaves_nothing_behind(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, manifest(model("ends", "replicas: 2, scaling: {min: 1, max: 2, by: hpa}"), route("ends")))
    cluster.becomes("Model", place, "ends", "Ready", "True")
    before = cluster.made(place, "ends")
    say(f"{len(before)} objects of the Model: {sorted({kind for kind, _ in before})}")
    until("its key beside the gateway", lambda: f"{place}.ends" in keys(installation))
    cluster.kubectl("-n", place, "delete", "models.pilotage.dev", "ends", "--timeout=60s")
    until("nothing to be left of it", lambda: not cluster.made(place, "ends"), 60)
    until("its key to be gone", lambda: f"{place}.ends" not in keys(installation))
    cluster.becomes("Route", place, "ends", "Accepted", "False", "ReferenceMissing")
    say("nothing is left, its key beside the gateway neither; the Route says that it misses it")


def keys(installation):
    return installation.cluster.get("Secret", installation.system, "pilotage-engine-keys").get("data") or {}
