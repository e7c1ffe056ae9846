"""What Pilotage is on Kubernetes, held against schemas that others made.

Objects are validated against the OpenAPI schemas of every release from 1.29 on, strictly: a field that an API
server does not know is a failure. The resource definitions are held against a table of specs that the parser
of manifests is held against, too (crates/plan/tests/kubernetes/specs.yaml): types and bounds by JSON schema,
rules by an evaluator of CEL, so that both must say the same.
"""

import copy
import functools
import json
import pathlib
import re

import celpy
import jsonschema
import kubernetes_validate
import pytest
import yaml

from conftest import cli

ROOT = pathlib.Path(__file__).parents[2]
RELEASES = [f"1.{minor}" for minor in range(29, 38)]
# Kinds that others bring into a cluster, for which Kubernetes has no schema.
FOREIGN = {
    "APIService", "CustomResourceDefinition", "LeaderWorkerSet", "PodMonitor", "ScaledObject", "ServiceMonitor",
    "VerticalPodAutoscaler", "VirtualService",
}
HEAD = "apiVersion: pilotage.dev/v1alpha1\nkind: {}\nmetadata: {{name: {}}}\nspec: {}\n"
FLEET = HEAD.format("Fleet", "h100", "{kind: nodes, hardware: h100-sxm, nodes: 8, fastNetwork: true}")
HF = "source: 'hf:o/r@main', sizeBytes: 16000000000, fleet: h100"
MODELS = {
    "embedded": "{source: 'https://h/w.gguf', replicas: 2}",
    "vllm": "{%s, runtime: vllm, replicas: 2, storage: {kind: claim}}" % HF,
    "wide": "{%s, runtime: vllm, parallelism: {tensor: 8, pipeline: 2}}" % HF,
    "sglang": "{%s, runtime: sglang, parallelism: {tensor: 2}, scaling: {max: 4, by: hpa}}" % HF,
    "tgi": "{%s, runtime: tgi, scaling: {min: 0, max: 4, by: keda, zero: cold}}" % HF,
    "triton": "{%s, runtime: triton, podTemplate: {cpuMillis: 500, memoryBytes: 1073741824}}" % HF,
    "warm": "{%s, runtime: vllm, scaling: {max: 2, zero: warm}}" % HF,
    "adapters": "{%s, runtime: vllm, adapterSources: {sql: 'hf:o/sql'}}" % HF,
    "canary": "{%s, runtime: vllm, updates: {canary: {}}}" % HF,
}
# What older releases have nothing for.
NEWER = {"image": (33, "{source: 'oci://registry/o/r:v1', sizeBytes: 16000000000, fleet: h100, runtime: vllm, storage: {kind: image}}")}


def documents(*args):
    ended = cli(*args)
    assert ended.returncode == 0, ended.stderr
    return [document for document in yaml.safe_load_all(ended.stdout) if document]


def check(objects, release):
    """Holds objects against the schemas of a release; how many it had a schema for."""
    count = 0
    for one in objects:
        try:
            kubernetes_validate.validate(one, release, strict=True)
            count += 1
        except kubernetes_validate.SchemaNotFoundError:
            assert one["kind"] in FOREIGN, one["kind"]
    return count


@pytest.fixture(name="manifests")
def _manifests(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("---\n".join([FLEET, *(HEAD.format("Model", name, spec) for name, spec in MODELS.items())]))
    return path


def containers(one):
    """All containers of an object's pods."""
    spec = one.get("spec", {})
    group = spec.get("leaderWorkerTemplate", {})
    for template in (spec.get("template"), group.get("leaderTemplate"), group.get("workerTemplate")):
        pod = (template or {}).get("spec", {})
        yield from pod.get("containers", [])
        yield from pod.get("initContainers", [])


def sleeps(objects):
    """Whether pods are to sleep before they stop, which those of 1.29 cannot, though its schema has the field."""
    hooks = [one.get("lifecycle", {}).get("preStop", {}) for each in objects for one in containers(each)]
    return any("sleep" in hook for hook in hooks)


@pytest.mark.parametrize("release", RELEASES)
def test_rendered_objects_are_valid(manifests, release):
    objects = documents("render", "-f", str(manifests), "--kubernetes", release, "--lws", "absent")
    assert check(objects, release) > 25
    assert sleeps(objects) == (release != "1.29")
    stay = {one["name"] for each in objects for one in containers(each) if one.get("restartPolicy") == "Always"}
    assert stay == {"adapters"}


@pytest.mark.parametrize("name", NEWER)
def test_what_older_releases_lack_is_refused_there(tmp_path, name):
    least, spec = NEWER[name]
    path = tmp_path / "m.yaml"
    path.write_text(FLEET + "---\n" + HEAD.format("Model", name, spec))
    for release in RELEASES:
        args = ("render", "-f", str(path), "--kubernetes", release)
        if int(release.split(".")[1]) >= least:
            assert check(documents(*args), release) > 2
        else:
            ended = cli(*args)
            assert ended.returncode == 2 and f"1.{least}" in ended.stderr, ended.stderr


@pytest.mark.parametrize("release", [RELEASES[0], RELEASES[-1]])
@pytest.mark.parametrize("overlays", ["openshift", "eks istio", "gke", "aks linkerd"])
def test_objects_of_overlays_are_valid(manifests, overlays, release):
    more = [word for name in overlays.split() for word in ("--overlay", name)]
    objects = documents("render", "-f", str(manifests), "--kubernetes", release, *more)
    assert check(objects, release) > 25


@pytest.mark.parametrize("release", RELEASES)
def test_installations_are_valid(release):
    for more in ([], ["--namespaced", "--overlay", "openshift"],
                 ["--external-metrics", "--load-balancer", "--overlay", "eks", "--vpa", "present"],
                 ["--overlay", "istio", "--monitors", "present", "--image-pull-secret", "registry"]):
        objects = documents("install", "--dry-run", "--kubernetes", release, *more)
        assert check(objects, release) > 12
        assert objects[0]["kind"] == "CustomResourceDefinition"
        assert not sleeps(objects)
    # The policy is in v1 from 1.30 on.
    if release != "1.29":
        assert check(documents("install", "--dry-run", "--require-digest", "--kubernetes", release), release) > 14


def test_the_same_bytes_come_out_again(manifests):
    args = ("render", "-f", str(manifests))
    assert cli(*args).stdout == cli(*args).stdout
    as_list = json.loads(cli(*args, "-o", "json").stdout)
    assert as_list["items"] == documents(*args)


def test_plain_manifests_and_chart_are_yaml():
    for path in (ROOT / "deploy").rglob("*.yaml"):
        text = path.read_text()
        if "templates" in path.parts:
            # Conditions and blocks are lines of their own; values are numbers or words.
            text = re.sub(r"^\s*\{\{-.*\}\}\n", "", text, flags=re.M)
            text = re.sub(r"\{\{ int [^{}]+ \}\}", "2", text)
            text = re.sub(r"\{\{ [^{}]+ \}\}", "word", text)
            assert "{{" not in text, path
        assert list(yaml.safe_load_all(text)), path
        assert "mark" not in text.replace("remark", ""), path
    values = yaml.safe_load((ROOT / "deploy/helm/pilotage/values.yaml").read_text())
    jsonschema.validate(values, json.loads((ROOT / "deploy/helm/pilotage/values.schema.json").read_text()))
    ended = cli("reference", "--deploy", "--check", str(ROOT / "deploy"))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("release", [RELEASES[0], RELEASES[-1]])
@pytest.mark.parametrize("path", sorted((ROOT / "deploy/manifests").rglob("*.yaml")), ids=lambda path: path.parent.name)
def test_plain_manifests_are_valid(path, release):
    objects = list(yaml.safe_load_all(path.read_text()))
    assert check(objects, release) > 12
    assert not sleeps(objects)


def blocks():
    """What the guides have people apply, by the file and the line."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        for found in re.finditer(r"^```yaml\n(.*?)^```", text, re.M | re.S):
            line = text[: found.start()].count("\n") + 1
            if "apiVersion:" in found[1]:
                yield pytest.param(found[1], id=f"{path.name}:{line}")


@pytest.mark.parametrize("text", list(blocks()))
def test_what_guides_say_is_valid(text):
    image = next(one["image"] for each in documents("install", "--dry-run") for one in containers(each))
    for one in yaml.safe_load_all(text):
        # Those of ours are held to the definitions by the parser's own tests, those of others to nothing here.
        if one["apiVersion"].split("/")[0].endswith((".dev", "gateway.networking.k8s.io", "inference.networking.k8s.io",
                                                     "networking.istio.io", "keda.sh", "monitoring.coreos.com")):
            continue
        for release in (RELEASES[0], RELEASES[-1]):
            assert check([one], release) == 1, one["kind"]
        for container in containers(one):
            if "/pilotage" in container["image"]:
                assert (container["image"], container["command"]) == (image, ["pilotage"])
                assert container["securityContext"]["allowPrivilegeEscalation"] is False


# The resource definitions against the table.


@functools.cache
def definitions():
    return {one["spec"]["names"]["kind"]: one["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            for one in documents("crd")}


def test_definitions_are_what_the_list_has():
    assert set(definitions()) == {"Model", "Route", "Tenant", "Fleet"}
    assert json.loads(cli("crd", "-o", "json").stdout)["items"] == documents("crd")


def filled(schema, value):
    """A value with defaults, as an API server stores it."""
    if isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if name not in value and "default" in field:
                value[name] = copy.deepcopy(field["default"])
            if name in value:
                filled(field, value[name])
    if isinstance(value, list):
        for item in value:
            filled(schema["items"], item)
    return value


def strict(schema):
    """The schema as JSON schema, which refuses fields that it does not list."""
    out = {key: value for key, value in schema.items() if not key.startswith("x-")}
    if "properties" in out:
        out["properties"] = {name: strict(field) for name, field in out["properties"].items()}
        out["additionalProperties"] = False
    if "items" in out:
        out["items"] = strict(out["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = strict(schema["additionalProperties"])
    return out


def twice(schema, value):
    """Entries that a list may have once only."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        keys = [json.dumps(item) for item in value]
    elif kind == "map":
        keys = [json.dumps([item.get(key) for key in schema["x-kubernetes-list-map-keys"]]) for item in value]
    else:
        return []
    return [key for key in keys if keys.count(key) > 1]


CEL = celpy.Environment()
FUNCTIONS = {
    "isSorted": lambda items: celpy.celtypes.BoolType(list(items) == sorted(items)),
    "sum": lambda items: celpy.celtypes.IntType(sum(items)),
}


@functools.cache
def program(rule):
    return CEL.program(CEL.compile(rule), functions=FUNCTIONS)


def broken(schema, value, old=None):
    """Messages of the rules that a value breaks, at whatever depth."""
    found = list(twice(schema, value)) if isinstance(value, list) else []
    for rule in schema.get("x-kubernetes-validations", []):
        about_change = "oldSelf" in rule["rule"]
        if about_change and old is None:
            continue
        given = {"self": celpy.json_to_cel(value)}
        if about_change:
            given["oldSelf"] = celpy.json_to_cel(old)
        if not program(rule["rule"]).evaluate(given):
            found.append(rule["message"])
    if isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if name in value:
                found += broken(field, value[name], (old or {}).get(name))
    if isinstance(value, list):
        for item in value:
            found += broken(schema["items"], item)
    return found


def refused(document, old=None):
    """Why an API server would refuse a document; nothing where it takes it."""
    schema = definitions()[document["kind"]]["properties"]["spec"]
    spec = filled(schema, copy.deepcopy(document["spec"]))
    errors = [error.message for error in jsonschema.Draft202012Validator(strict(schema)).iter_errors(spec)]
    old = filled(schema, copy.deepcopy(old)) if old else None
    return errors or broken(schema, spec, old)


def table():
    text = (ROOT / "crates/plan/tests/kubernetes/specs.yaml").read_text()
    for section in text.split("\n#### ")[1:]:
        head, body = section.split("\n", 1)
        verdict, what = head.split(" ", 1)
        yield pytest.param(verdict == "good", list(yaml.safe_load_all(body)), id=what)


@pytest.mark.parametrize("good, resources", list(table()))
def test_definitions_and_parser_agree(good, resources):
    why = [reason for resource in resources for reason in refused(resource)]
    assert (why == []) == good, why


@pytest.mark.parametrize("kind, old, new, good", [
    ("Fleet", "{kind: nodes}", "{kind: cpu}", False),
    ("Fleet", "{kind: nodes}", "{kind: nodes, nodes: 2}", True),
    ("Model", "{source: 'file:a', storage: {kind: claim}}", "{source: 'file:a', storage: {kind: claim, className: b}}", False),
    ("Model", "{source: 'file:a', storage: {kind: claim, className: b}}", "{source: 'file:b', storage: {kind: claim, className: b}}", True),
    ("Model", "{source: 'file:a', storage: {kind: claim}}",
     "{source: 'file:a', storage: {kind: claim, access: ReadWriteOnce}}", False),
    ("Model", "{source: 'file:a', storage: {kind: claim, sizeBytes: 9}}", "{source: 'file:a', storage: {kind: claim, sizeBytes: 8}}", False),
    ("Model", "{source: 'file:a', storage: {kind: claim, sizeBytes: 9}}", "{source: 'file:a', storage: {kind: claim, sizeBytes: 10}}", True),
    ("Model", "{source: 'file:a', storage: {kind: claim, className: b}}", "{source: 'file:a', storage: {}}", True),
])
def test_what_stays_as_it_is(kind, old, new, good):
    why = refused({"kind": kind, "spec": yaml.safe_load(new)}, yaml.safe_load(old))
    assert (why == []) == good, why


def test_every_rule_is_tried():
    """A rule that no spec of the table breaks is no rule that anybody knows to work."""
    said = set()
    for parameters in table():
        for resource in parameters.values[1]:
            schema = definitions()[resource["kind"]]["properties"]["spec"]
            spec = filled(schema, copy.deepcopy(resource["spec"]))
            # Rules are evaluated on what has the right form alone.
            if jsonschema.Draft202012Validator(strict(schema)).is_valid(spec):
                said.update(broken(schema, spec))

    def messages(schema):
        rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", []) if "oldSelf" not in rule["rule"]]
        below = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
        return {*rules, *(message for field in below for message in messages(field))}
    all_of_them = {message for schema in definitions().values() for message in messages(schema["properties"]["spec"])}
    # Each field that needs another has a rule of one form.
    untried = {message for message in all_of_them - said if "has an effect only" not in message}
    assert untried == set()


# The commands.


def test_lint_says_where_and_ends_accordingly(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(HEAD.format("Model", "m", "{%s, runtime: vllm, parallelism: {tensor: 16}}" % HF)
                    + "---\n" + HEAD.format("Fleet", "h100", "{kind: nodes, hardware: h100-sxm}"))
    ended = cli("lint", "-f", str(path))
    assert ended.returncode == 0 and f"warning[tensor-parallel-over-nodes] {path}:4: spec.parallelism" in ended.stdout
    ended = cli("lint", "-f", str(path), "--strict", "-o", "json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert {finding["severity"] for finding in found} <= {"warning", "info"}
    assert all(finding["line"] and finding["why"] and finding["fix"] for finding in found)


def test_installing_needs_a_cluster(tmp_path):
    for command in (["install"], ["uninstall", "--yes"]):
        ended = cli(*command, env={"KUBECONFIG": str(tmp_path / "none")})
        assert ended.returncode == 1 and "set KUBECONFIG" in ended.stderr, ended.stderr
        assert ended.stdout == ""
    assert cli("render", "-f", "nowhere.yaml").returncode == 2
    assert cli("render", "-f", "x", "--kubernetes", "1.28").returncode == 2


def test_one_manifest_serves_both(manifests):
    """`up` plans the same file, and says what it passes over."""
    only_here = "\n---\n".join([FLEET, HEAD.format("Model", "m", "{source: 'file:w.gguf', updates: {surge: 2}, fleet: h100}")])
    manifests.write_text(only_here)
    ended = cli("up", "-f", str(manifests), "--dry-run")
    assert ended.returncode == 0 and "on Kubernetes only" in ended.stdout, ended.stdout + ended.stderr


def test_weights_are_linked(tmp_path):
    weights, link = tmp_path / "w.gguf", tmp_path / "below" / "m.gguf"
    weights.write_bytes(b"GGUF")
    for _ in range(2):
        ended = cli("model", "pull", f"file:{weights}", "--link", str(link))
        assert ended.returncode == 0, ended.stderr
        assert link.is_symlink() and link.read_bytes() == b"GGUF"
    ended = cli("model", "pull", f"file:{weights}", "--link", str(weights))
    assert ended.returncode == 2 and "no link" in ended.stderr
