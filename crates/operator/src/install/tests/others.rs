//! Installing beside others: into their namespace, with few rights, over what was installed before.

use pilotage_plan::render::kubernetes::install::Scope;
use pilotage_plan::render::kubernetes::{Cluster, Mesh, Platform};

use super::*;

const TEAM: &str = "/api/v1/namespaces/team-a";

impl Ground {
    async fn create(&self, target: &str, object: &Value) {
        self.ask(Method::POST, target, "application/json", object).await.unwrap();
    }

    /// Makes a namespace as its people do.
    async fn team(&self) {
        let labels = json!({"team": "a"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": labels}});
        self.create("/api/v1/namespaces", &namespace).await;
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pilotage-hub"}});
        self.create(&format!("{TEAM}/secrets"), &secret).await;
    }

    /// The user who installs has no right to that.
    fn forbid(&self, resource: &str, namespace: &str) {
        let meets = Meets {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            user: "admin".to_owned(),
            ..Meets::default()
        };
        self.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Forbidden)));
    }

    async fn names(&self, list: &str) -> Vec<String> {
        let list = self.get(list).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// One for the namespace `team-a` alone.
fn small() -> Wish {
    let mut wish = wish();
    wish.installation.scope = Scope::Namespace;
    wish.installation.external_metrics = false;
    wish.installation.cluster.namespace = "team-a".to_owned();
    wish.installation.cluster.system = "team-a".to_owned();
    wish
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_others_is_left_as_it_was() {
    let ground = Ground::new().await;
    ground.team().await;
    let before = ground.get(TEAM).await;
    let changes = ground.preview(&small()).await;
    assert!(changes.iter().all(|change| change.of()[1] != "Namespace"));
    let done = ground.install(&small()).await.unwrap();
    assert!(done.key_made);
    assert_eq!(ground.get(TEAM).await["metadata"], before["metadata"]);
    let installer = ground.installer();
    let found = installer.inventory("team-a").await.unwrap();
    assert!(found.stays.as_ref().is_some_and(|why| why.contains("there before")), "{found:?}");
    installer.remove(&found, true).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(ground.get(TEAM).await["metadata"], before["metadata"]);
    assert_eq!(ground.names(&format!("{TEAM}/secrets")).await, ["pilotage-hub"]);
    assert_eq!(ground.names("/apis/apps/v1/deployments").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_others_put_into_our_namespace_keeps_it() {
    let others = [
        ("/api/v1", "secrets", "Secret", json!({})),
        ("/api/v1", "configmaps", "ConfigMap", json!({})),
        (
            "/api/v1",
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            json!({"spec":
            {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        ("/api/v1", "services", "Service", json!({"spec": {"ports": [{"port": 80}]}})),
    ];
    for (root, plural, kind, rest) in others {
        let ground = Ground::new().await;
        ground.install(&wish()).await.unwrap();
        let made = ground.get(NAMESPACE).await;
        assert_eq!(made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
        let mut object = rest.clone();
        object["apiVersion"] = "v1".into();
        object["kind"] = kind.into();
        object["metadata"] = json!({"name": "theirs"});
        ground.create(&format!("{root}/namespaces/pilotage/{plural}"), &object).await;
        let installer = ground.installer();
        let found = installer.inventory("pilotage").await.unwrap();
        assert_eq!(found.stays, Some(format!("the {kind} `theirs` is in it")));
        installer.remove(&found, true).await.unwrap();
        sleep(Duration::from_secs(120)).await;
        assert!(
            ground.get(&format!("{root}/namespaces/pilotage/{plural}/theirs")).await.is_object()
        );
        // It is nobody's of ours from now on, and holds others to nothing.
        let left = ground.get(NAMESPACE).await;
        assert_eq!(left["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "pilotage"}));
        assert!(left["metadata"]["annotations"].as_object().is_none_or(serde_json::Map::is_empty));
    }
}

#[tokio::test(start_paused = true)]
async fn rights_in_one_namespace_are_enough_for_it() {
    let ground = Ground::new().await;
    ground.team().await;
    for resource in [
        "namespaces",
        "customresourcedefinitions",
        "clusterroles",
        "clusterrolebindings",
        "apiservices",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "endpointslices",
    ] {
        ground.forbid(resource, "");
    }
    ground.forbid("rolebindings", "kube-system");
    let installer = ground.installer();
    assert_eq!(installer.surroundings().await.unwrap().api_ports, [0_u16; 0]);
    let small = Wish { definitions: Vec::new(), ..small() };
    installer.install(&small).await.unwrap();
    assert_eq!(installer.install(&small).await.unwrap().changed, 0);
    let found = installer.inventory("team-a").await.unwrap();
    assert!(found.objects().count() > 10);
    installer.remove(&found, false).await.unwrap();
    assert_eq!(ground.names("/apis/apps/v1/deployments").await, [""; 0]);
    // What is missing is said as that.
    ground.forbid("deployments", "");
    let failed = installer.inventory("team-a").await.unwrap_err();
    assert!(matches!(failed, InstallError::Forbidden(_)), "{failed}");
    assert!(failed.hint().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_goes() {
    let ground = Ground::new().await;
    let mut more = wish();
    more.installation.requires_digest = true;
    more.said.external_metrics = Some(true);
    ground.install(&more).await.unwrap();
    assert_eq!(ground.installer().said("pilotage").await.unwrap(), Some(more.said.clone()));
    assert_eq!(ground.installer().said("elsewhere").await.unwrap(), None);
    ground.written();
    let mut less = wish();
    less.installation.external_metrics = false;
    let changes = ground.preview(&less).await;
    let gone = changes.iter().filter(|change| change.deed() == Deed::Delete).count();
    assert!(gone > 5, "{gone}");
    assert_eq!(ground.written(), []);
    assert_eq!(ground.install(&less).await.unwrap().gone, gone);
    // The API server asks nobody who does not answer.
    assert_eq!(ground.written()[0].0, "apiservices v1beta1.external.metrics.k8s.io");
    let roles = ground.names("/apis/rbac.authorization.k8s.io/v1/clusterroles").await;
    assert!(roles.iter().all(|name| !name.contains("registration") && !name.contains("metrics")));
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    assert_eq!(ground.names(policies).await, [""; 0]);
    assert_eq!(ground.install(&less).await.unwrap().gone, 0);
    // From the whole cluster to a namespace alone.
    less.installation.scope = Scope::Namespace;
    ground.install(&less).await.unwrap();
    for list in ["clusterroles", "clusterrolebindings"] {
        let target = format!("/apis/rbac.authorization.k8s.io/v1/{list}");
        assert_eq!(ground.names(&target).await, [""; 0], "{list}");
    }
    assert!(ground.get(GATEWAY).await.is_object());
}

#[tokio::test(start_paused = true)]
async fn one_for_a_namespace_leaves_the_clusters_alone() {
    let ground = Ground::new().await;
    ground.install(&wish()).await.unwrap();
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let before = ground.names(roles).await;
    ground.team().await;
    assert_eq!(ground.install(&small()).await.unwrap().gone, 0);
    let found = ground.installer().inventory("team-a").await.unwrap();
    ground.installer().remove(&found, false).await.unwrap();
    assert_eq!(ground.names(roles).await, before);
}

#[tokio::test(start_paused = true)]
async fn external_metrics_of_others_are_left_to_them() {
    let ground = Ground::new().await;
    let service =
        json!({"name": "keda-operator-metrics-apiserver", "namespace": "keda", "port": 443});
    let api = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
        "spec": {"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
            "versionPriority": 100, "service": service}});
    ground.create("/apis/apiregistration.k8s.io/v1/apiservices", &api).await;
    let failed = ground.install(&wish()).await.unwrap_err();
    let InstallError::MetricsTaken(who) = &failed else { panic!("{failed}") };
    assert!(who.contains("keda-operator-metrics-apiserver") && who.contains("`keda`"), "{who}");
    assert!(failed.hint().unwrap().contains("--external-metrics"));
    assert_eq!(ground.written(), []);
    let mut without = wish();
    without.installation.external_metrics = false;
    ground.install(&without).await.unwrap();
    assert_eq!(ground.names("/apis/apiregistration.k8s.io/v1/apiservices").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nodes_can_be_drained_when_nobody_moves_copies() {
    let budget = |component: &str| {
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "llama",
            "labels": {"app.kubernetes.io/part-of": "pilotage", "app.kubernetes.io/component": component}},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"a": "b"}}}})
    };
    let target =
        |namespace: &str| format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
    let ground = Ground::new().await;
    ground.team().await;
    ground.install(&wish()).await.unwrap();
    ground.create(&target("team-a"), &budget("engine")).await;
    ground.create(&target("default"), &budget("somebody")).await;
    let installer = ground.installer();
    let found = installer.inventory("pilotage").await.unwrap();
    assert_eq!(found.budgets(), 1);
    installer.remove(&found, false).await.unwrap();
    assert_eq!(ground.names("/apis/policy/v1/poddisruptionbudgets").await, ["llama"]);
    assert_eq!(ground.names(&target("default")).await, ["llama"]);
    // One for a namespace takes its own alone.
    ground
        .create(&target("default"), &{
            let mut other = budget("engine");
            other["metadata"]["name"] = "other".into();
            other
        })
        .await;
    ground.install(&small()).await.unwrap();
    let found = installer.inventory("team-a").await.unwrap();
    assert_eq!(found.budgets(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_api_server_is_found_behind_its_service() {
    let ground = Ground::new().await;
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"name": "https", "port": 16443, "protocol": "TCP"}]});
    let target = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    ground.create(target, &slice).await;
    assert_eq!(ground.installer().surroundings().await.unwrap().api_ports, [16_443]);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_was_told_is_read_back() {
    let ground = Ground::new().await;
    ground.team().await;
    assert_eq!(ground.installer().operator("team-a").await.unwrap(), None);
    let mut wish = small();
    let cluster = &mut wish.installation.cluster;
    cluster.image = "corp/pilotage:1".to_owned();
    (cluster.platform, cluster.mesh) = (Platform::Eks, Some(Mesh::Linkerd));
    cluster.monitor_labels = [("release".to_owned(), "prometheus".to_owned())].into();
    ground.install(&wish).await.unwrap();
    let told = ground.installer().operator("team-a").await.unwrap().unwrap();
    let Cluster { image, platform, mesh, monitor_labels, .. } = &wish.installation.cluster;
    assert_eq!((&told.cluster.image, told.cluster.platform), (image, *platform));
    assert_eq!((told.cluster.mesh, &told.cluster.monitor_labels), (*mesh, monitor_labels));
    assert_eq!(told.namespace.as_deref(), Some("team-a"));
    // One for the whole cluster has none.
    ground.install(&super::wish()).await.unwrap();
    let told = ground.installer().operator("pilotage").await.unwrap();
    assert_eq!(told, Some(Told::default()));
    ground.forbid("deployments", "pilotage");
    let failed = ground.installer().operator("pilotage").await.unwrap_err();
    assert!(matches!(failed, InstallError::Forbidden(_)), "{failed}");
}
