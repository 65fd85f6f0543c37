//! Authentik: the simulator against recorded exchanges, and the client against both.

mod apps;
mod client;
mod devices;
mod failures;
mod groups;
mod members;
mod recorded;
mod suspension;
mod team;
mod users;

use std::{net::Ipv4Addr, time::Duration};

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{authentik::AuthentikSim, effects::Effect};
use dezky_upstreams::clients::authentik::{Authentik, AuthentikConfig, DEFAULT_SIGNING_KEY};
use serde_json::{Value, json};

const TENANT: &str = "0192f0c4-7c1e-7b51-8a3d-2f6f1d3b9a10";
const OTHER_TENANT: &str = "0192f0c4-0000-7000-8000-000000000002";

async fn sim() -> AuthentikSim {
    AuthentikSim::start((Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap()
}

fn client_at(api_url: &str, token: &str) -> Authentik {
    let config = AuthentikConfig {
        api_url: api_url.to_owned(),
        public_url: None,
        signing_key: DEFAULT_SIGNING_KEY.to_owned(),
        api_token: token.into(),
        timeout: Duration::from_secs(10),
    };
    Authentik::new(&config, &TrustRoots::default()).unwrap()
}

async fn sim_and_client() -> (AuthentikSim, Authentik) {
    let sim = sim().await;
    let client = client_at(&sim.api_url(), AuthentikSim::TOKEN);
    (sim, client)
}

/// Attributes of a tenant's group.
fn marks(tenant: &str, slug: &str) -> Value {
    json!({ "tenantId": tenant, "tenantSlug": slug })
}

fn effects(sim: &AuthentikSim) -> Vec<String> {
    let effects = sim.server.effects.all().into_iter();
    effects
        .map(|Effect { operation, key }| format!("{operation} {key}"))
        .collect()
}
