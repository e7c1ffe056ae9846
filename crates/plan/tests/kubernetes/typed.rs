//! Every object of Kubernetes' own kinds is read into the bindings that are made of its API, and comes
//! back as it was: no field is misspelt, of another type, or in another place.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, PodTemplateSpec, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use pilotage_plan::crd;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::properties::every;

fn back<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

/// The value after its way through the bindings; none for kinds of others.
fn through(value: &Value) -> Option<Result<Value, String>> {
    Some(match value["kind"].as_str()? {
        "APIService" => back::<APIService>(value),
        "ClusterRole" => back::<ClusterRole>(value),
        "ClusterRoleBinding" => back::<ClusterRoleBinding>(value),
        "ConfigMap" => back::<ConfigMap>(value),
        "CustomResourceDefinition" => back::<CustomResourceDefinition>(value),
        "Deployment" => back::<Deployment>(value),
        "HorizontalPodAutoscaler" => back::<HorizontalPodAutoscaler>(value),
        "Job" => back::<Job>(value),
        "Namespace" => back::<Namespace>(value),
        "NetworkPolicy" => back::<NetworkPolicy>(value),
        "PersistentVolumeClaim" => back::<PersistentVolumeClaim>(value),
        "PodDisruptionBudget" => back::<PodDisruptionBudget>(value),
        "Role" => back::<Role>(value),
        "RoleBinding" => back::<RoleBinding>(value),
        "Secret" => back::<Secret>(value),
        "Service" => back::<Service>(value),
        "ServiceAccount" => back::<ServiceAccount>(value),
        "StatefulSet" => back::<StatefulSet>(value),
        "ValidatingAdmissionPolicy" => back::<ValidatingAdmissionPolicy>(value),
        "ValidatingAdmissionPolicyBinding" => back::<ValidatingAdmissionPolicyBinding>(value),
        _ => return None,
    })
}

#[test]
fn objects_come_back_as_they_were() {
    let mut count = 0;
    for (name, objects) in every() {
        for object in objects {
            let Some(found) = through(object.value()) else {
                assert!(object.api_version().contains('.'), "{} is Kubernetes' own", object.kind());
                continue;
            };
            assert_eq!(found.as_ref(), Ok(object.value()), "{name}: {}", object.kind());
            count += 1;
        }
    }
    assert!(count > 120, "{count}");
}

#[test]
fn templates_of_groups_come_back_as_they_were() {
    let mut count = 0;
    for (name, objects) in every() {
        for object in objects.iter().filter(|object| object.kind() == "LeaderWorkerSet") {
            for part in ["leaderTemplate", "workerTemplate"] {
                let template = &object.value()["spec"]["leaderWorkerTemplate"][part];
                assert_eq!(back::<PodTemplateSpec>(template).as_ref(), Ok(template), "{name}");
                count += 1;
            }
        }
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn definitions_come_back_as_they_were() {
    for definition in crd::all() {
        // Bounds are numbers with fractions there.
        let whole = |value: Value| value.to_string().replace(".0,", ",").replace(".0}", "}");
        let found = through(&definition).unwrap().unwrap();
        let sorted = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(sorted(whole(found)), sorted(whole(definition)));
    }
}
