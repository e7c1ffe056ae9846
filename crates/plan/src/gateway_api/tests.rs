//! Routes, pools and Gateways as the API server has them, what counts of them, and what is said of them.

use serde_json::{Value, json};

use super::*;
use crate::api::{Kind, Resource};
use crate::cluster::{Admission, Seen, admit};

fn object(spec: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "chat", "namespace": "n", "uid": "u", "generation": 1,
            "creationTimestamp": "2027-01-01T00:00:00Z",
            "annotations": { MODELS_ANNOTATION: "gpt, chat" } },
        "spec": spec,
    })
}

fn to(model: &str) -> Value {
    json!({ "group": "pilotage.dev", "kind": "Model", "name": model, "weight": 3 })
}

#[test]
fn routes_are_what_http_routes_say() {
    let headers = json!([{ "name": "x-tier", "value": "gold" }]);
    let spec = json!({ "parentRefs": [{ "name": "g" }], "rules": [
        { "matches": [{ "path": { "type": "PathPrefix", "value": "/v1" }, "headers": headers }],
          "backendRefs": [to("big")] },
        { "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
          "backendRefs": [to("small"), { "group": "pilotage.dev", "kind": "Model", "name": "big" }] },
    ] });
    let expect = json!({
        "targets": [{ "model": "small", "weight": 3 }, { "model": "big", "weight": 1 }],
        "rules": [{ "name": "rule-0-0", "when": { "header": { "name": "x-tier", "value": "gold" } },
            "targets": [{ "model": "big", "weight": 3 }] }],
        "models": ["gpt", "chat"],
    });
    assert_eq!(translate(&object(spec.clone())), Ok(expect));
    let seen = http_route(&object(spec)).unwrap();
    assert!(seen.resource.is_ok(), "{:?}", seen.resource);
    assert_eq!((seen.identity.name.as_str(), seen.identity.kind), ("chat", Kind::Route));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let check = |spec: Value, reason: &str, begins: &str| {
        let verdict = translate(&object(spec.clone())).unwrap_err();
        assert_eq!(verdict.reason, reason, "{spec}");
        assert!(verdict.message.starts_with(begins), "{}", verdict.message);
        let seen = http_route(&object(spec)).unwrap();
        assert_eq!(seen.resource.unwrap_err().message, verdict.message);
    };
    let rule = |more: Value| {
        let mut rule = json!({ "backendRefs": [to("m")] });
        for (name, value) in more.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!({ "rules": [rule] })
    };
    let unsupported = "UnsupportedValue";
    let mut named = rule(json!({}));
    named["hostnames"] = json!(["a.example.com"]);
    check(named, unsupported, "hostnames: ");
    check(rule(json!({ "filters": [{ "type": "RequestMirror" }] })), unsupported, "filters: ");
    check(rule(json!({ "timeouts": { "request": "1s" } })), unsupported, "timeouts");
    let matched = |one: Value| rule(json!({ "matches": [one] }));
    let path = json!({ "path": { "type": "Exact", "value": "/v1" } });
    check(matched(path), unsupported, "matches.path: ");
    let path = json!({ "path": { "type": "PathPrefix", "value": "/team" } });
    check(matched(path), unsupported, "matches.path: ");
    check(matched(json!({ "method": "GET" })), unsupported, "matches.method: ");
    let header = json!({ "name": "a", "value": "b" });
    check(matched(json!({ "headers": [header, header] })), unsupported, "matches.headers: ");
    check(matched(json!({ "headers": [header] })), unsupported, "rules: every rule");
    let mut two = rule(json!({}));
    two["rules"] = json!([two["rules"][0], two["rules"][0]]);
    check(two, unsupported, "rules: two rules");
    let mut elsewhere = to("m");
    elsewhere["namespace"] = "other".into();
    check(rule(json!({ "backendRefs": [elsewhere] })), "RefNotPermitted", "a backend");
    let service = json!({ "name": "web", "port": 80 });
    check(rule(json!({ "backendRefs": [to("m"), service] })), "InvalidKind", "a rule leads");
}

#[test]
fn routes_to_others_are_not_ours() {
    let spec = json!({ "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }, {}] });
    assert_eq!(http_route(&object(spec)), None);
}

const NOW: &str = "2027-01-31T12:00:00Z";

/// What a cluster has.
#[derive(Default)]
struct Rig {
    catalogue: Catalogue,
    models: Vec<Seen>,
}

fn place(object: &Value) -> Place {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

impl Rig {
    /// A class and a Gateway of ours that takes routes of its own namespace `n`.
    fn new() -> Self {
        let mut rig = Self::default();
        rig.catalogue.all(Part::Classes, []);
        rig.put(
            Part::Classes,
            json!({ "metadata": { "name": "ours", "generation": 1, "resourceVersion": "1" },
            "spec": { "controllerName": CONTROLLER } }),
        );
        rig.put(
            Part::Classes,
            json!({ "metadata": { "name": "theirs", "generation": 1, "resourceVersion": "1" },
            "spec": { "controllerName": "istio.io/gateway-controller" } }),
        );
        rig.put(Part::Gateways, gateway("g", "ours", json!([http(80)])));
        rig.put(Part::Gateways, gateway("other", "theirs", json!([http(80)])));
        rig.put(
            Part::Services,
            json!({ "metadata": { "name": "pilotage-gateway", "namespace": "pilotage" },
            "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [{ "port": 80 }] } }),
        );
        rig
    }

    fn put(&mut self, part: Part, object: Value) {
        self.catalogue.set(part, place(&object), object);
    }

    fn model(&mut self, name: &str) {
        let object = json!({ "apiVersion": crate::api::API_VERSION, "kind": "Model",
            "metadata": { "name": name, "namespace": "n", "uid": name },
            "spec": { "endpoints": [{ "url": "http://h:1" }] } });
        self.models.push(Seen::read(Kind::Model, &object));
    }

    fn admitted(&self) -> Admission {
        let seen = self.catalogue.seen();
        admit(self.models.iter().chain(&seen))
    }

    fn writes(&self, now: &str) -> Vec<Write> {
        self.catalogue.verdicts(&self.admitted(), now)
    }

    /// Writes what there is to write, as an API server would take it; how many writes those were.
    fn settle(&mut self, now: &str) -> usize {
        let writes = self.writes(now);
        for write in &writes {
            let part = match write.plural {
                "gatewayclasses" => Part::Classes,
                "gateways" => Part::Gateways,
                "httproutes" => Part::Routes,
                _ => Part::Pools,
            };
            let place = (write.namespace.clone(), write.name.clone());
            let mut object = self.object(part, &place);
            for (name, value) in write.status.as_object().unwrap() {
                object["status"][name] = value.clone();
            }
            self.catalogue.set(part, place, object);
        }
        writes.len()
    }

    fn object(&self, part: Part, place: &Place) -> Value {
        let all = match part {
            Part::Classes => &self.catalogue.classes,
            Part::Gateways => &self.catalogue.gateways,
            Part::Routes => &self.catalogue.routes,
            Part::Pools => &self.catalogue.pools,
            Part::Services => &self.catalogue.services,
        };
        all[place].clone()
    }

    /// `type=status/reason` of the conditions in part of a status.
    fn said(&self, part: Part, name: &str, at: &str) -> String {
        let namespace = if part == Part::Classes { "" } else { "n" };
        let object = self.object(part, &(namespace.to_owned(), name.to_owned()));
        let conditions = object["status"].pointer(at).unwrap()["conditions"].as_array().unwrap();
        let told = |one: &Value| {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            assert!(!text("message").is_empty());
            format!("{}={}/{}", text("type"), text("status"), text("reason"))
        };
        conditions.iter().map(told).collect::<Vec<_>>().join(" ")
    }
}

fn gateway(name: &str, class: &str, listeners: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": "n", "uid": name, "generation": 3, "resourceVersion": "5" },
        "spec": { "gatewayClassName": class, "listeners": listeners } })
}

fn http(port: u16) -> Value {
    json!({ "name": format!("http-{port}"), "port": port, "protocol": "HTTP" })
}

fn route(name: &str, parents: Value, backends: Value) -> Value {
    json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": name, "namespace": "n", "uid": name, "generation": 2, "resourceVersion": "7",
            "creationTimestamp": "2027-01-01T00:00:00Z" },
        "spec": { "parentRefs": parents, "rules": [{ "backendRefs": backends }] } })
}

fn pool(name: &str) -> Value {
    json!({ "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": { "name": name, "namespace": "n", "uid": name, "generation": 1, "resourceVersion": "9",
            "creationTimestamp": "2027-01-01T00:00:00Z" },
        "spec": { "selector": { "matchLabels": { "app": "vllm", "tier": "a" } },
            "targetPorts": [{ "number": 8000 }, { "number": 8001 }] } })
}

fn to_pool(name: &str) -> Value {
    json!({ "group": POOL_GROUP, "kind": "InferencePool", "name": name })
}

#[test]
fn a_pool_is_a_model_of_pods() {
    let mut rig = Rig::new();
    rig.put(Part::Pools, pool("p"));
    assert_eq!(rig.catalogue.seen(), [], "nothing of ours leads there");
    rig.put(Part::Routes, route("chat", json!([{ "name": "g" }]), json!([to_pool("p")])));
    let admission = rig.admitted();
    assert_eq!(admission.refused, []);
    let names: Vec<_> = admission.resources.iter().map(Resource::name).collect();
    assert_eq!(names, ["chat", "n.p"]);
    assert_eq!(pool_of("n", "n.p"), Some("p"));
    let [wanted] = &rig.catalogue.pools()[..] else { panic!("one pool") };
    assert_eq!(
        (wanted.selector.as_str(), &wanted.ports[..]),
        ("app=vllm,tier=a", &[8000, 8001][..])
    );
    let pod = crate::pods::Pod {
        name: "p-0".to_owned(),
        uid: "u".to_owned(),
        address: "10.0.0.1".parse().unwrap(),
        ports: [].into(),
        zone: None,
        node: None,
        near: Vec::new(),
        stage: crate::pods::Stage::Ready,
    };
    let plan = crate::serve(&admission.resources, &[("n.p".to_owned(), vec![pod])].into()).unwrap();
    let told: Vec<_> =
        plan.endpoints.iter().map(|one| (&*one.name, &*one.url, one.finds_name)).collect();
    let expect = [
        ("n.p@p-0:8000", "http://10.0.0.1:8000", true),
        ("n.p@p-0:8001", "http://10.0.0.1:8001", true),
    ];
    assert_eq!(told, expect);
    assert_eq!(plan.routes.len(), 1, "it has no name of its own");
    assert_eq!((plan.lanes.len(), plan.lanes[0].replicas.len()), (1, 0));
}

#[test]
fn a_pool_says_what_it_runs_and_a_picker_takes_every_name() {
    let mut object = pool("p");
    object["metadata"]["annotations"] = json!({ DIALECT_ANNOTATION: "vllm", PARALLEL_ANNOTATION: "7",
        CONTEXT_ANNOTATION: "8192", MODELS_ANNOTATION: "a, b" });
    let read = Pool::read(&object).unwrap();
    assert_eq!(
        (read.dialect, read.parallel, read.context),
        (crate::api::Dialect::Vllm, 7, Some(8192))
    );
    let plan = crate::serve(&read.picked(), &[].into()).unwrap();
    assert_eq!(plan.routes[0].public_names, ["a", "b", "*"]);
    assert_eq!((plan.lanes[0].served_model.as_str(), plan.lanes[0].context_tokens), ("*", 8192));
    let refused = |at: &str, value: Value, begins: &str| {
        let mut object = pool("p");
        *object.pointer_mut(at).unwrap() = value;
        let verdict = Pool::read(&object).unwrap_err();
        assert_eq!(verdict.reason, "NotSupportedByParent");
        assert!(verdict.message.starts_with(begins), "{}", verdict.message);
    };
    refused("/spec/selector/matchLabels", json!({}), "selector: ");
    let long = "a".repeat(64);
    for key in ["bad key!", "", "a/b/c", "-a", "UP/a", "a..b/c", "/a", long.as_str()] {
        refused("/spec/selector/matchLabels", json!({ key: "x" }), "selector: `");
    }
    refused("/spec/selector/matchLabels", json!({ "a": "x,b=y" }), "selector: `a`");
    refused("/spec/targetPorts", json!([]), "targetPorts: ");
    refused("/spec/targetPorts", json!([{ "number": 1 }, { "number": 1 }]), "targetPorts: ");
    refused("/spec/targetPorts", json!([{ "number": 70_000 }]), "targetPorts: ");
    refused(
        "/metadata",
        json!({ "annotations": { DIALECT_ANNOTATION: "abc" } }),
        DIALECT_ANNOTATION,
    );
    refused(
        "/metadata",
        json!({ "annotations": { PARALLEL_ANNOTATION: "0" } }),
        PARALLEL_ANNOTATION,
    );
    refused("/spec", json!({ "appProtocol": "kubernetes.io/h2c" }), "appProtocol: ");
}

#[test]
fn routes_to_pools_count_at_gateways_of_ours_alone() {
    let check = |parents: Value, models: bool, expect: bool| {
        let mut rig = Rig::new();
        rig.put(Part::Pools, pool("p"));
        rig.model("m");
        let to = if models { to("m") } else { to_pool("p") };
        rig.put(Part::Routes, route("chat", parents.clone(), json!([to])));
        let found = rig.catalogue.seen().iter().any(|one| one.identity.name == "chat");
        assert_eq!(found, expect, "{parents} {models}");
    };
    check(json!([{ "name": "g" }]), false, true);
    check(json!([{ "name": "g", "namespace": "n" }, { "name": "other" }]), false, true);
    check(json!([{ "name": "other" }]), false, false);
    check(json!([]), false, false);
    check(json!([{ "name": "g", "kind": "Service", "group": "" }]), false, false);
    check(json!([{ "name": "g", "namespace": "elsewhere" }]), false, false);
    check(json!([{ "name": "g", "sectionName": "nothing" }]), false, false);
    // Nobody else knows Models.
    check(json!([{ "name": "other" }]), true, true);
    check(json!([]), true, true);
    check(json!([{ "name": "g" }]), true, true);
    check(json!([{ "name": "g", "sectionName": "nothing" }]), true, false);
}

#[test]
fn classes_that_cannot_be_looked_at_are_known_by_name() {
    let mut rig = Rig::default();
    rig.put(Part::Gateways, gateway("g", CLASS, json!([http(80)])));
    rig.put(Part::Pools, pool("p"));
    rig.put(Part::Routes, route("chat", json!([{ "name": "g" }]), json!([to_pool("p")])));
    assert_eq!(rig.catalogue.seen().len(), 2);
    rig.catalogue.all(Part::Classes, []);
    assert_eq!(rig.catalogue.seen().len(), 0, "there is no class of that name");
    rig.catalogue.absent(Part::Classes);
    assert_eq!(rig.catalogue.seen().len(), 2);
}

#[test]
fn all_is_told_once_and_nothing_at_rest() {
    let mut rig = Rig::new();
    rig.model("m");
    rig.put(Part::Pools, pool("p"));
    rig.put(Part::Routes, route("chat", json!([{ "name": "g" }]), json!([to("m"), to_pool("p")])));
    assert_eq!(rig.settle(NOW), 4, "class, Gateway, route, pool");
    assert_eq!(rig.said(Part::Classes, "ours", ""), "Accepted=True/Accepted");
    assert_eq!(
        rig.said(Part::Gateways, "g", ""),
        "Accepted=True/Accepted Programmed=True/Programmed"
    );
    let fine = "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs";
    assert_eq!(rig.said(Part::Routes, "chat", "/parents/0"), fine);
    assert_eq!(rig.said(Part::Pools, "p", "/parents/0"), fine);
    let own = |name: &str| ("n".to_owned(), name.to_owned());
    let gateway = rig.object(Part::Gateways, &own("g"));
    assert_eq!(gateway["status"]["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(
        gateway["status"]["addresses"],
        json!([{ "type": "IPAddress", "value": "10.96.0.9" }])
    );
    assert_eq!(rig.writes("2027-02-01T00:00:00Z"), [], "at rest");
    // A new generation is told of, and when it was accepted stays what it was.
    let mut again = rig.object(Part::Routes, &own("chat"));
    again["metadata"]["generation"] = 3.into();
    rig.catalogue.set(Part::Routes, own("chat"), again);
    assert_eq!(rig.settle("2027-02-01T00:00:00Z"), 1);
    let condition =
        &rig.object(Part::Routes, &own("chat"))["status"]["parents"][0]["conditions"][0];
    assert_eq!(
        (&condition["observedGeneration"], &condition["lastTransitionTime"]),
        (&json!(3), &json!(NOW))
    );
    // It goes elsewhere: what was said is taken back.
    let mut gone = rig.object(Part::Routes, &own("chat"));
    gone["spec"]["parentRefs"] = json!([{ "name": "other" }]);
    rig.catalogue.set(Part::Routes, own("chat"), gone);
    assert_eq!(rig.settle(NOW), 3, "route, pool, and the Gateway's count");
    assert_eq!(rig.object(Part::Routes, &own("chat"))["status"]["parents"], json!([]));
    assert_eq!(rig.object(Part::Pools, &own("p"))["status"]["parents"], json!([]));
    assert_eq!(rig.writes(NOW), []);
}

#[test]
fn what_others_say_stays_where_it_is() {
    let mut rig = Rig::new();
    rig.model("m");
    let theirs = |name: &str| json!({ "parentRef": { "name": name }, "controllerName": "istio.io/gateway-controller", "conditions": [] });
    let mut object = route("chat", json!([{ "name": "other" }, { "name": "g" }]), json!([to("m")]));
    object["status"] = json!({ "parents": [theirs("other"), theirs("g")] });
    rig.put(Part::Routes, object);
    let mut object = pool("p");
    // A definition without room for the controller's name.
    let of = |name: &str| json!({ "parentRef": { "group": GATEWAY_GROUP, "kind": "Gateway", "namespace": "n", "name": name } });
    object["status"] = json!({ "parents": [of("other"), of("g")] });
    rig.put(Part::Pools, object);
    rig.settle(NOW);
    let own = |name: &str| ("n".to_owned(), name.to_owned());
    let told = rig.object(Part::Routes, &own("chat"))["status"]["parents"].clone();
    assert_eq!(
        (&told[0], &told[1], &told[2]["controllerName"]),
        (&theirs("other"), &theirs("g"), &json!(CONTROLLER))
    );
    assert_eq!(
        rig.object(Part::Pools, &own("p"))["status"]["parents"],
        json!([of("other")]),
        "nothing leads there"
    );
    rig.put(Part::Routes, route("pooled", json!([{ "name": "g" }]), json!([to_pool("p")])));
    let mut without = rig.object(Part::Pools, &own("p"));
    without["status"]["parents"] = json!([of("g"), of("other")]);
    rig.catalogue.set(Part::Pools, own("p"), without);
    rig.settle(NOW);
    let told = rig.object(Part::Pools, &own("p"))["status"]["parents"].clone();
    assert!(
        told[0]["controllerName"].is_null() && told[0]["conditions"][0]["status"] == "True",
        "{told}"
    );
    assert_eq!(told[1], of("other"));
    assert_eq!(rig.writes(NOW), []);
}

#[test]
fn what_is_refused_says_why() {
    let check = |route: Value, expect: &str| {
        let mut rig = Rig::new();
        rig.model("m");
        rig.put(Part::Pools, pool("p"));
        rig.put(Part::Gateways, gateway("g", "ours", json!([http(80), http(81),
            { "name": "shut", "port": 80, "protocol": "HTTP", "allowedRoutes": { "namespaces": { "from": "None" } } },
            { "name": "tcp", "port": 80, "protocol": "TCP" }])));
        rig.put(Part::Routes, route.clone());
        rig.settle(NOW);
        assert_eq!(rig.said(Part::Routes, "chat", "/parents/0"), expect, "{route}");
        assert_eq!(rig.writes(NOW), [], "{route}");
    };
    let at = json!([{ "name": "g" }]);
    let fine = "Accepted=True/Accepted";
    let mut hosted = route("chat", at.clone(), json!([to("m")]));
    hosted["spec"]["hostnames"] = json!(["a.example.com"]);
    check(hosted, "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs");
    check(
        route("chat", at.clone(), json!([{ "name": "web", "port": 80 }])),
        &format!("{fine} ResolvedRefs=False/InvalidKind"),
    );
    let mut elsewhere = to("m");
    elsewhere["namespace"] = "other".into();
    check(
        route("chat", at.clone(), json!([elsewhere])),
        &format!("{fine} ResolvedRefs=False/RefNotPermitted"),
    );
    check(
        route("chat", at.clone(), json!([to("missing")])),
        &format!("{fine} ResolvedRefs=False/BackendNotFound"),
    );
    check(
        route("chat", at, json!([to_pool("missing")])),
        &format!("{fine} ResolvedRefs=False/BackendNotFound"),
    );
    let section =
        |name: &str| route("chat", json!([{ "name": "g", "sectionName": name }]), json!([to("m")]));
    check(section("nothing"), "Accepted=False/NoMatchingParent ResolvedRefs=True/ResolvedRefs");
    check(section("shut"), "Accepted=False/NotAllowedByListeners ResolvedRefs=True/ResolvedRefs");
    check(section("tcp"), "Accepted=False/NotAllowedByListeners ResolvedRefs=True/ResolvedRefs");
}

#[test]
fn gateways_say_what_they_cannot_be() {
    let mut rig = Rig::new();
    rig.put(
        Part::Gateways,
        gateway(
            "g",
            "ours",
            json!([http(80), http(81),
        { "name": "tls", "port": 443, "protocol": "HTTPS" }]),
        ),
    );
    rig.settle(NOW);
    assert_eq!(
        rig.said(Part::Gateways, "g", ""),
        "Accepted=True/ListenersNotValid Programmed=True/Programmed"
    );
    let refused = |reason: &str| {
        format!("Accepted=False/{reason} Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs")
    };
    assert_eq!(rig.said(Part::Gateways, "g", "/listeners/1"), refused("PortUnavailable"));
    assert_eq!(rig.said(Part::Gateways, "g", "/listeners/2"), refused("UnsupportedProtocol"));
    rig.catalogue.all(Part::Services, []);
    rig.settle(NOW);
    assert_eq!(
        rig.said(Part::Gateways, "g", ""),
        "Accepted=True/ListenersNotValid Programmed=False/AddressNotAssigned"
    );
    let mut balanced = json!({ "metadata": { "name": "pilotage-gateway", "namespace": "pilotage" },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [{ "port": 80 }] } });
    rig.put(Part::Services, balanced.clone());
    rig.settle(NOW);
    assert_eq!(
        rig.said(Part::Gateways, "g", ""),
        "Accepted=True/ListenersNotValid Programmed=False/AddressNotAssigned"
    );
    balanced["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "a.example.com" }] } });
    rig.put(Part::Services, balanced);
    rig.settle(NOW);
    let told = rig.object(Part::Gateways, &("n".to_owned(), "g".to_owned()));
    assert_eq!(
        told["status"]["addresses"][1],
        json!({ "type": "Hostname", "value": "a.example.com" })
    );
    assert_eq!(rig.writes(NOW), []);
}
