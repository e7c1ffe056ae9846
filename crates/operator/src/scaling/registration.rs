//! What the external metrics API has to have before the API server asks it: a certificate that all pods of
//! the operator share, the API server's word on who it is, and its knowledge of whom to trust.
//!
//! The certificate and its authority are kept in a Secret, made by whoever comes first. The authority
//! outlives its certificates, so that renewing one changes nothing for the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret as Stored};
use kube::Client;
use kube::api::{Api, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use pilotage_shell::certificate::{Certificate, IssueError, Purpose, Validity};
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::{CertificateError, Certificates, Clients};
use serde_json::json;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::write::{MANAGER, resource};

/// The Secret with the certificate.
const SECRET: &str = "pilotage-metrics-api";

/// Whom its authority names.
const AUTHORITY: &str = "Pilotage external metrics";

/// The Service that the API server finds the operator by.
const SERVICE: &str = "pilotage-operator";

/// What is registered.
const API: &str = "v1beta1.external.metrics.k8s.io";

/// Where API servers say how extensions know them.
const AUTHENTICATION: (&str, &str) = ("kube-system", "extension-apiserver-authentication");

/// How often all of it is looked at again.
const LOOK: Duration = Duration::from_secs(60);

const DAY: u64 = 86_400;
/// How long an authority is good, and how long a certificate; renewed when a third is left.
const AUTHORITY_DAYS: u64 = 3650;
const CERTIFICATE_DAYS: u64 = 90;
/// Clocks of others may be behind by so much.
const EARLIER_SECONDS: u64 = 3600;

/// Why the API cannot be served. It is tried again.
#[derive(Debug, Error)]
pub enum RegistrationError {
    /// The API server refused.
    #[error("the API server refused: {0}")]
    Refused(#[source] Box<kube::Error>),
    /// It does not say how extensions know it.
    #[error(
        "the ConfigMap {0} in kube-system says no `requestheader-client-ca-file`: the aggregation layer of this API server is off (`--requestheader-client-ca-file`)"
    )]
    NoAggregation(&'static str),
    /// Another one is registered.
    #[error(
        "{API} is the Service {0}: there is one external metrics API in a cluster; write `scaling.by: pilotage` or `keda`, or remove the other one"
    )]
    Taken(String),
    /// No certificate can be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl From<kube::Error> for RegistrationError {
    fn from(error: kube::Error) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// Keeps the registration right.
#[derive(Clone)]
pub struct Registration {
    client: Client,
    /// The operator's own namespace.
    namespace: String,
    clock: Clock,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What the Secret holds.
struct Held {
    authority: Certificate,
    server: Certificate,
    /// Until when they are good, in seconds since 1970.
    until: (u64, u64),
}

impl Registration {
    /// For an operator in that namespace.
    pub const fn new(client: Client, namespace: String, clock: Clock) -> Self {
        Self { client, namespace, clock }
    }

    /// The certificate to serve with, for the API server alone.
    ///
    /// # Errors
    /// [`RegistrationError`]; it is worth trying again.
    pub async fn certificates(&self) -> Result<Certificates, RegistrationError> {
        let (held, clients) = (self.held().await?, self.clients().await?);
        Ok(Certificates::mutual(&held.server.certificate, &held.server.key, &clients)?)
    }

    /// Keeps all of it as it should be, until `stop`.
    pub async fn keep(self, certificates: Certificates, stop: CancellationToken) {
        let mut last = None;
        loop {
            let failure = self.look(&certificates).await.err().map(|error| error.to_string());
            if let Some(error) = failure.as_ref().filter(|error| last.as_ref() != Some(*error)) {
                tracing::warn!(error, "the external metrics API is not registered");
            }
            last = failure;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look(&self, certificates: &Certificates) -> Result<(), RegistrationError> {
        let (held, clients) = (self.held().await?, self.clients().await?);
        certificates.replace(&held.server.certificate, &held.server.key, &clients)?;
        self.register(&held.authority.certificate).await
    }

    /// Who the API server is.
    async fn clients(&self) -> Result<Clients, RegistrationError> {
        let (namespace, name) = AUTHENTICATION;
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let mut data = maps.get(name).await?.data.unwrap_or_default();
        let authorities = data.remove("requestheader-client-ca-file");
        let authorities = authorities.ok_or(RegistrationError::NoAggregation(name))?;
        let names = data.remove("requestheader-allowed-names").unwrap_or_default();
        let names = serde_json::from_str(&names).unwrap_or_default();
        Ok(Clients { authorities, names })
    }

    /// The certificate that all pods share; made, or renewed, by whoever is first to see that it has to be.
    async fn held(&self) -> Result<Held, RegistrationError> {
        let secrets: Api<Stored> = Api::namespaced(self.client.clone(), &self.namespace);
        let now = self.clock.unix_ms() / 1000;
        let there = secrets.get_opt(SECRET).await?;
        let held = there.as_ref().and_then(|secret| Held::read(secret, now));
        if let Some((held, false)) = held {
            return Ok(held);
        }
        let (whole, part) = (days(now, AUTHORITY_DAYS), days(now, CERTIFICATE_DAYS));
        let (authority, authority_until) = match held {
            Some((held, true)) => (held.authority, held.until.0),
            _ => (Certificate::authority(AUTHORITY, whole)?, whole.until),
        };
        let name = format!("{SERVICE}.{}.svc", self.namespace);
        let purpose = Purpose::Server(&[&name]);
        let server = authority.issue(SERVICE, purpose, part)?;
        let held = Held { authority, server, until: (authority_until, part.until) };
        let version = there.and_then(|secret| secret.metadata.resource_version);
        match self.store(&secrets, &held, version).await {
            Ok(()) => Ok(held),
            // Somebody else was first: what he made is as good.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let there = secrets.get(SECRET).await?;
                let read = Held::read(&there, now).map(|(held, _)| held);
                Ok(read.unwrap_or(held))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn store(
        &self,
        secrets: &Api<Stored>,
        held: &Held,
        version: Option<String>,
    ) -> Result<(), kube::Error> {
        let data = held.entries();
        let metadata = ObjectMeta {
            name: Some(SECRET.to_owned()),
            resource_version: version.clone(),
            ..ObjectMeta::default()
        };
        let secret = Stored { metadata, data: Some(data), ..Stored::default() };
        if version.is_none() {
            return secrets.create(&PostParams::default(), &secret).await.map(|_| ());
        }
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        secrets.patch(SECRET, &params, &Patch::Merge(&secret)).await.map(|_| ())
    }

    /// Tells the API server whom to trust.
    async fn register(&self, authority: &str) -> Result<(), RegistrationError> {
        let kind = resource("apiregistration.k8s.io", "v1", "APIService", "apiservices");
        let services: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let there = services.get(API).await?;
        let service = &there.data["spec"]["service"];
        let word = |name: &str| service[name].as_str().unwrap_or_default();
        if (word("namespace"), word("name")) != (&self.namespace, SERVICE) {
            let whose = format!("{}/{}", word("namespace"), word("name"));
            return Err(RegistrationError::Taken(whose));
        }
        let bundle = STANDARD.encode(authority);
        if there.data["spec"]["caBundle"].as_str() == Some(&bundle) {
            return Ok(());
        }
        let patch = json!({ "spec": { "caBundle": bundle, "insecureSkipTLSVerify": false } });
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        services.patch(API, &params, &Patch::Merge(patch)).await?;
        tracing::info!(api = API, "told the API server whom to trust");
        Ok(())
    }
}

impl Held {
    /// What a Secret holds, and whether its certificate is to be renewed; none where the authority cannot be
    /// used any more.
    fn read(secret: &Stored, now: u64) -> Option<(Self, bool)> {
        let data = secret.data.as_ref()?;
        let text = |entry: &str| String::from_utf8(data.get(entry)?.0.clone()).ok();
        let until = |entry: &str| text(entry)?.trim().parse::<u64>().ok();
        let pair = |name: &str, entry: &str| {
            Some(Certificate {
                name: name.to_owned(),
                certificate: text(&format!("{entry}.crt"))?,
                key: Secret::new(text(&format!("{entry}.key"))?),
            })
        };
        let ends = (until("ca.until")?, until("tls.until")?);
        let (authority, server) = (pair(AUTHORITY, "ca")?, pair(SERVICE, "tls")?);
        let held = Self { authority, server, until: ends };
        // An authority is to outlive each certificate that it signs.
        (ends.0 > now + CERTIFICATE_DAYS * DAY)
            .then(|| (held, ends.1 < now + CERTIFICATE_DAYS * DAY / 3))
    }

    fn entries(&self) -> BTreeMap<String, ByteString> {
        let (authority, server) = (self.until.0.to_string(), self.until.1.to_string());
        let entry =
            |name: &str, text: &str| (name.to_owned(), ByteString(text.as_bytes().to_vec()));
        [
            entry("ca.crt", &self.authority.certificate),
            entry("ca.key", self.authority.key.expose()),
            entry("ca.until", &authority),
            entry("tls.crt", &self.server.certificate),
            entry("tls.key", self.server.key.expose()),
            entry("tls.until", &server),
        ]
        .into()
    }
}

const fn days(now: u64, count: u64) -> Validity {
    Validity { from: now.saturating_sub(EARLIER_SECONDS), until: now + count * DAY }
}
