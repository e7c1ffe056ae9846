//! The web console of a gateway: on its admin listener, with its keys, and with its API to try models.

use std::sync::Arc;

use pilotage_console::{Console, ConsoleConfig, Forward, Playground};
use pilotage_gateway::Gateway;
use pilotage_gateway::admin::Beside;
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::KeyHash;

use super::traffic::Keys;

/// What the console has on the admin listener: its pages, and who gets in by them.
pub(super) fn beside(gateway: &Gateway, keys: &Keys, clock: Clock) -> Beside {
    let front = gateway.front();
    let forward: Forward = Arc::new(move |request| Box::pin(front.clone().answer(request)));
    let hosts = env::get(Var::ConsoleHosts).unwrap_or_default();
    let hosts = hosts.split(',').map(|host| host.trim().to_owned());
    let config = ConsoleConfig {
        admin_key: keys.admin.hash(),
        viewer_key: env::get(Var::ViewerKey)
            .filter(|key| !key.is_empty())
            .map(|key| KeyHash::of(&key)),
        hosts: hosts.filter(|host| !host.is_empty()).collect(),
        https: false,
        playground: Some(Playground { forward, key: keys.local.clone() }),
    };
    let console = Console::new(config, clock);
    let open = console.router();
    let admits = Arc::new(move |method: &_, headers: &_| console.lets(method, headers));
    Beside { open, admits: Some(admits), ..Beside::default() }
}
