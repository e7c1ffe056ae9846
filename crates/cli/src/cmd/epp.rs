//! `pilotage epp`: what `pilotage up` serves, for gateways that carry requests themselves.

use pilotage_gateway::epp::PickerConfig;

use super::front::Face;
use super::up;
use crate::args::{Epp, Up};

/// Picks until a signal.
pub(crate) async fn run(args: Epp) -> anyhow::Result<()> {
    let face = Face::Picker(PickerConfig { tenant_header: args.tenant_header });
    let up = Up {
        files: args.files,
        listen: args.listen,
        tls_cert: args.tls_cert,
        tls_key: args.tls_key,
        admin_listen: args.admin_listen,
        replicas: None,
        data_dir: args.data_dir,
        no_keys: args.no_keys,
        zone: args.zone,
        media_hosts: args.media_hosts,
        watch: args.watch,
        drain_timeout: args.drain_timeout,
        print: false,
        dry_run: false,
    };
    up::run_as(up, face).await
}
