//! `pilotage epp`: what `pilotage up` or `pilotage gateway` serves, for gateways that carry requests
//! themselves.

use pilotage_gateway::epp::PickerConfig;
use pilotage_watch::Purpose;

use super::front::Face;
use super::gateway::{self, Manner};
use super::up;
use crate::args::{Epp, Gateway, Up};

/// Picks until a signal.
pub(crate) async fn run(args: Epp) -> anyhow::Result<()> {
    let face = Face::Picker(PickerConfig { tenant_header: args.tenant_header.clone() });
    if args.files.is_empty() {
        return in_cluster(args, face).await;
    }
    let up = Up {
        files: args.files,
        listen: args.listen,
        front: args.front,
        replicas: None,
        no_keys: args.no_keys,
        watch: args.watch,
        print: false,
        dry_run: false,
    };
    up::run_as(up, face).await
}

/// Picks among pods.
async fn in_cluster(args: Epp, face: Face) -> anyhow::Result<()> {
    let (purpose, namespace) = match (args.pool, args.namespace) {
        (None, namespace) => (Purpose::Serve, namespace.unwrap_or_else(|| "all".to_owned())),
        (Some(pool), Some(namespace)) => (Purpose::Pool(namespace.clone(), pool), namespace),
        (Some(pool), None) => {
            let namespace = gateway::client().await?.default_namespace().to_owned();
            (Purpose::Pool(namespace.clone(), pool), namespace)
        }
    };
    let all = Gateway {
        namespace,
        system_namespace: args.system_namespace,
        service: args.service,
        pod: None,
        listen: args.listen,
        leave_after: 0,
        front: args.front,
    };
    gateway::run_as(all, Manner { face, purpose, open: args.no_keys }).await
}
