//! Stalwart: the simulator against recorded exchanges, and the client against the simulator.

mod mailboxes;
mod provisioning;
mod recorded;
mod removal;
mod suspension;

use std::{net::SocketAddr, time::Duration};

use dezky_shared::{platform::tls::TrustRoots, upstream::MailDomain};
use dezky_sim::stalwart::StalwartSim;
use dezky_upstreams::clients::{
    ClientError, Ensured, Mode,
    stalwart::{DesiredDomain, Domain, Login, Stalwart, StalwartConfig},
};

/// Tenant of most tests.
const TENANT: &str = "0199aaaa-0000-7000-8000-000000000001";
/// Marker of that tenant's domains: their description.
const MARK: &str = "dezky:0199aaaa-0000-7000-8000-000000000001";
const PASSWORD: &str = "Correct-horse-7-battery";

/// A new server whose domains have their keys immediately, and a client for it.
async fn stalwart() -> (StalwartSim, Stalwart) {
    let sim = StalwartSim::start(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    sim.instant_dkim(true);
    let stalwart = client(&sim, Login::ApiKey(StalwartSim::TOKEN.to_owned().into()));
    (sim, stalwart)
}

fn client(sim: &StalwartSim, login: Login) -> Stalwart {
    let config = StalwartConfig {
        base_url: sim.server.url.clone(),
        login,
        timeout: Duration::from_secs(5),
    };
    Stalwart::new(&config, &TrustRoots::default()).unwrap()
}

/// Ensures a domain of the tenant, as its jobs do.
async fn ensure(
    stalwart: &Stalwart,
    name: &str,
    mode: Mode,
) -> Result<Ensured<Domain>, ClientError> {
    ensure_known(stalwart, name, &[], mode).await
}

/// Ensures a domain of the tenant whose `known` domains are stored.
async fn ensure_known(
    stalwart: &Stalwart,
    name: &str,
    known: &[MailDomain],
    mode: Mode,
) -> Result<Ensured<Domain>, ClientError> {
    let owned = stalwart.list_domains(TENANT, known).await?;
    let known = known.iter().find(|known| known.name == name);
    let desired = DesiredDomain {
        name,
        tenant_id: TENANT,
        known_id: known.map(|known| known.id.as_str()),
        report_address: None,
    };
    stalwart.ensure_domain(&desired, &owned, mode).await
}

/// The tenant's domain of this name.
async fn owned(stalwart: &Stalwart, name: &str) -> Option<Domain> {
    let owned = stalwart.list_domains(TENANT, &[]).await.unwrap();
    owned.into_iter().find(|domain| domain.name == name)
}

/// Status of a login as the owner of a mailbox.
async fn signs_in(sim: &StalwartSim, email: &str) -> u16 {
    let http = TrustRoots::default().client_builder().build().unwrap();
    let session = http
        .get(format!("{}/jmap/session", sim.server.url))
        .basic_auth(email, Some(PASSWORD));
    session.send().await.unwrap().status().as_u16()
}
