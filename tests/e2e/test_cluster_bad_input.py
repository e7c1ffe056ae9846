"""What goes wrong on a real cluster: it is said in status and events, with what to do, and nothing flaps."""

import pytest
from cluster_kit import WEIGHTS, model, resource, route, run, say, stays, until

pytestmark = pytest.mark.cluster


def rests(cluster, *namespaces, for_s=6):
    """Whatever is wrong, it is said once."""
    def versions():
        return [cluster.versions(namespace) for namespace in namespaces]

    def quiet():
        before = versions()
        stays_so = all(versions() == before for _ in range(4))
        return before if stays_so else None
    before = until("nothing to change", quiet, 60)
    stays("nothing is written while it is wrong", lambda: versions() == before, for_s)


@pytest.mark.parametrize("what, text, why", [
    ("a field that nobody knows", model("m", "replica: 2"), "unknown field"),
    ("a number out of bounds", model("m", "replicas: 65"), "less than or equal to"),
    ("a runtime that there is not", resource("Model", "m", "{source: 'file:a', runtime: vlm}"), "Unsupported value"),
    ("weights and endpoints", resource("Model", "m", "{source: 'file:a', endpoints: [{url: 'http://h'}]}"), "Invalid value"),
    ("a key that is no hash", resource("Tenant", "t", "{keys: [{name: a, sha256: abc}]}"), "sha256"),
])
def test_the_api_server_refuses(installation, place, what, text, why):
    said = installation.cluster.refused(place, text)
    say(f"{what}: {said.strip().splitlines()[-1][:300]}")
    assert why in said, said


def test_the_older_of_two_has_the_name(installation, place):
    cluster, other = installation.cluster, installation.namespace("younger")
    cluster.apply(place, model("twice", "replicas: 1"))
    cluster.becomes("Model", place, "twice", "Accepted", "True")
    until("another second", lambda: younger(cluster, place, other), 30)
    cluster.becomes("Model", other, "twice", "Accepted", "False", "NameTaken")
    cluster.told(other, "twice", "NameTaken")
    assert not cluster.made(other, "twice") and cluster.made(place, "twice")
    rests(cluster, other)
    cluster.kubectl("-n", place, "delete", "models.pilotage.dev", "twice")
    cluster.becomes("Model", other, "twice", "Accepted", "True")
    until("its Deployment", lambda: cluster.get("Deployment", other, "twice"))
    say("it counts when the older one is gone")
    cluster.kubectl("-n", other, "delete", "models.pilotage.dev", "twice")


def younger(cluster, place, other):
    """The second one, in a later second than the first: ages are told in seconds."""
    cluster.apply(other, model("twice", "replicas: 1"))
    made = [cluster.get("Model", space, "twice")["metadata"]["creationTimestamp"] for space in (place, other)]
    if made[0] < made[1]:
        return True
    cluster.kubectl("-n", other, "delete", "models.pilotage.dev", "twice")
    return False


def test_an_image_that_is_not_there(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, model("bare", "replicas: 1, image: 'example.com/no-such:1'"))
    cluster.becomes("Model", place, "bare", "Degraded", "True", "ImagePullFailed")
    cluster.becomes("Model", place, "bare", "Ready", "False", "ImagePullFailed")
    cluster.told(place, "bare", "ImagePullFailed")
    rests(cluster, place)
    cluster.apply(place, model("bare", "replicas: 1"))
    cluster.becomes("Model", place, "bare", "Degraded", "False", "Healthy")
    cluster.becomes("Model", place, "bare", "Ready", "True")
    cluster.told(place, "bare", "Recovered")


@pytest.mark.parametrize("word, reason", [("crash", "CrashLooping"), ("oom", "OutOfMemory")])
def test_a_program_that_ends_again_and_again(installation, engines, place, word, reason):
    cluster = installation.cluster
    cluster.apply(place, model("falls", f"replicas: 1, image: 'example.com/{word}:1'"))
    cluster.becomes("Model", place, "falls", "Degraded", "True", reason)
    cluster.told(place, "falls", reason)


def test_nodes_that_there_are_not(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, model("apart", "replicas: 1, podTemplate: {nodeSelector: {example.com/nowhere: 'yes'}}"))
    cluster.becomes("Model", place, "apart", "Degraded", "True", "Unschedulable", 90)
    rests(cluster, place)


def allow(cluster, namespace, hard):
    """Lets a namespace have that much and no more, by a quota `none` that holds."""
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    code, said = cluster.call("POST", quotas, {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": hard}})
    assert code == 201, said
    until("the quota to hold", lambda: cluster.call("GET", f"{quotas}/none")[1]["status"].get("used"))


def test_a_quota_that_is_used_up(installation, fleet):
    cluster, quota = installation.cluster, installation.namespace("quota")
    allow(cluster, quota, {"count/deployments.apps": "0"})
    cluster.apply(quota, model("much", "replicas: 1"))
    cluster.becomes("Model", quota, "much", "Degraded", "True", "QuotaExceeded")
    cluster.told(quota, "much", "QuotaExceeded")
    stays("the Model is not written over and over", lambda: cluster.condition("Model", quota, "much", "Degraded")[1] == "QuotaExceeded", 6)
    code, said = cluster.call("DELETE", f"/api/v1/namespaces/{quota}/resourcequotas/none")
    assert code == 200, said
    until("its Deployment", lambda: cluster.get("Deployment", quota, "much"), 90)
    say("without the quota it is made, by itself")
    cluster.kubectl("-n", quota, "delete", "models.pilotage.dev", "much")


def test_pods_beyond_a_quota(installation, fleet):
    cluster, quota = installation.cluster, installation.namespace("podquota")
    allow(cluster, quota, {"pods": "0"})
    cluster.apply(quota, model("crowd", "replicas: 1"))
    cluster.becomes("Model", quota, "crowd", "Degraded", "True", "QuotaExceeded")
    cluster.kubectl("-n", quota, "delete", "models.pilotage.dev", "crowd")


def test_tenants_in_a_circle_over_namespaces(installation, place):
    cluster, other = installation.cluster, installation.namespace("circle")
    cluster.apply(place, resource("Tenant", "hen", "{parent: egg}"))
    cluster.apply(other, resource("Tenant", "egg", "{parent: hen}"))
    for namespace, name in ((place, "hen"), (other, "egg")):
        cluster.becomes("Tenant", namespace, name, "Accepted", "False", "TenantCycle")
        cluster.told(namespace, name, "TenantCycle")
    rests(cluster, place, other)
    cluster.apply(other, resource("Tenant", "egg", "{weight: 2}"))
    for namespace, name in ((place, "hen"), (other, "egg")):
        cluster.becomes("Tenant", namespace, name, "Accepted", "True")


def test_a_pod_that_is_not_ready_yet(installation, engines, place):
    cluster = installation.cluster
    cluster.apply(place, model("never", "replicas: 1, image: 'example.com/never-ready:1'"))
    until("its pod to run", lambda: any(one["status"].get("phase") == "Running" for one in cluster.list("Pod", place)))
    cluster.becomes("Model", place, "never", "Ready", "False", "Starting")
    cluster.becomes("Model", place, "never", "Progressing", "True", "Starting")
    cluster.becomes("Model", place, "never", "Degraded", "False", "Healthy")
    rests(cluster, place)


def test_rights_that_are_missing(installation, place):
    cluster = installation.cluster
    role = cluster.get("ClusterRole", None, "pilotage-operator")
    fewer = [rule for rule in role["rules"] if "networkpolicies" not in rule.get("resources", [])]
    assert len(fewer) == len(role["rules"]) - 1
    cluster.patch("ClusterRole", None, "pilotage-operator", {"rules": fewer})
    try:
        cluster.apply(place, model("barred", "replicas: 1"))
        cluster.becomes("Model", place, "barred", "Degraded", "True", "Forbidden")
        cluster.told(place, "barred", "Forbidden")
        assert cluster.get("Deployment", place, "barred"), "what may be made is made"
    finally:
        cluster.patch("ClusterRole", None, "pilotage-operator", {"rules": role["rules"]})
    cluster.becomes("Model", place, "barred", "Degraded", "False", "Healthy", 120)
    assert cluster.get("NetworkPolicy", place, "barred-engines")


POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic%s"


def test_a_policy_that_says_no(installation, place):
    cluster, name = installation.cluster, f"pilotage-test-{installation.suffix}"
    if int(installation.minor.split(".")[1]) < 30:
        pytest.skip("policies for admission are in v1 from Kubernetes 1.30 on")
    made = [(POLICIES % "ies", "ValidatingAdmissionPolicy", {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                                                "resources": ["deployments"]}]},
        "validations": [{"expression": "false", "message": "no workloads on Sundays"}],
    }), (POLICIES % "ybindings", "ValidatingAdmissionPolicyBinding", {
        "policyName": name, "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place}}},
    })]
    try:
        for path, kind, spec in made:
            code, said = cluster.call("POST", path, {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                                                     "metadata": {"name": name}, "spec": spec})
            assert code == 201, said
        probe = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "probe"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "containers": [{"name": "c", "image": "i"}]}}}}
        until("the policy to hold", lambda: cluster.call("POST", cluster.path("Deployment", place) + "?dryRun=All", probe)[0] == 422)
        cluster.apply(place, model("sunday", "replicas: 1"))
        cluster.becomes("Model", place, "sunday", "Degraded", "True", "RefusedByWebhook")
        cluster.told(place, "sunday", "RefusedByWebhook")
    finally:
        for path, _, _ in made:
            cluster.call("DELETE", f"{path}/{name}")
    cluster.becomes("Model", place, "sunday", "Degraded", "False", "Healthy", 120)


def test_kinds_that_are_not_installed(installation, place):
    cluster = installation.cluster
    offered = {one["name"] for one in cluster.call("GET", "/apis")[1]["groups"]}
    if offered & {"leaderworkerset.x-k8s.io", "keda.sh"}:
        pytest.skip("this cluster has LeaderWorkerSet or KEDA")
    cluster.apply(place, model("wide", "replicas: 1, parallelism: {tensor: 8, pipeline: 2}"))
    cluster.becomes("Model", place, "wide", "Accepted", "True", "LwsAbsent")
    until("its StatefulSets", lambda: len(cluster.list("StatefulSet", place)) == 2)
    cluster.apply(place, model("fed", "scaling: {min: 1, max: 2, by: keda}"))
    cluster.becomes("Model", place, "fed", "Accepted", "True", "KedaAbsent")
    until("its Deployment", lambda: cluster.get("Deployment", place, "fed"))


def test_a_route_to_nowhere(installation, place):
    cluster = installation.cluster
    cluster.apply(place, route("nowhere"))
    cluster.becomes("Route", place, "nowhere", "Accepted", "False", "ReferenceMissing")
    rests(cluster, place)


def test_an_object_of_somebody_else_is_never_touched(installation, place):
    cluster = installation.cluster
    cluster.create("Service", place, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs-engines"},
                                      "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}})
    before = cluster.get("Service", place, "theirs-engines")
    cluster.apply(place, model("theirs", "replicas: 1"))
    cluster.becomes("Model", place, "theirs", "Degraded", "True", "Conflict")
    cluster.told(place, "theirs", "Conflict")
    stays("it stays as it is", lambda: cluster.get("Service", place, "theirs-engines") == before, 5)
    cluster.kubectl("-n", place, "delete", "service", "theirs-engines")
    cluster.becomes("Model", place, "theirs", "Degraded", "False", "Healthy", 90)


def test_a_claim_never_shrinks(installation, place):
    cluster = installation.cluster
    claim = resource("Model", "holds", "{%s, storage: {kind: claim, sizeBytes: 20000000000}}" % WEIGHTS)
    smaller = claim.replace("20000000000", "17000000000")
    cluster.apply(place, claim)
    until("the claim", lambda: cluster.get("PersistentVolumeClaim", place, "holds-weights") or cluster.list("PersistentVolumeClaim", place))
    said = cluster.refused(place, smaller)
    say(said.strip().splitlines()[-1][:300])
    assert "Invalid value" in said


def test_rights_that_install_gives_were_enough(installation):
    """Operator and gateway ran with the rights of their ServiceAccounts all the time."""
    for process in (installation.operator, installation.gateway):
        # Quotas, policies and namespaces that go are refusals of another kind; one right was taken away by a test.
        refused = [line for line in process.said().splitlines() if "orbidden" in line and not any(
            words in line for words in ("exceeded quota", "being terminated", "denied request", "barred-engines"))]
        assert refused == [], refused[:5]
        assert process.process.poll() is None
    for kind in ("operator", "gateway"):
        who = f"system:serviceaccount:{installation.system}:pilotage-{kind}"
        can = run("kubectl", "--kubeconfig", installation.account(f"pilotage-{kind}"), "auth", "whoami", "-o",
                  "jsonpath={.status.userInfo.username}").strip()
        assert can == who
        say(f"as {who}: nothing was refused")
