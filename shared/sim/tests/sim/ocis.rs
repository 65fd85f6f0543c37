//! oCIS: the client and the simulator against recorded exchanges and each other.
#![expect(
    clippy::unwrap_used,
    reason = "clippy does not see that the helpers of tests are tests too"
)]

mod fixtures;
mod listing;
mod load;
mod logins;
mod lost_responses;
mod members;
mod spaces;

use std::time::Duration;

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::ocis::{OcisSim, SimSpace};
use dezky_upstreams::clients::{
    ClientError, Mode,
    ocis::{AppTokenLogin, Ocis, OcisConfig, OcisLogin, OidcLogin, Space},
};

const TENANT: &str = "0199a3c2-7d44-7b1e-9a63-2f6f0d1c5e77";
const MARKER: &str = "project/0199a3c2-7d44-7b1e-9a63-2f6f0d1c5e77";
const NAME: &str = "Acme Files";

async fn start() -> OcisSim {
    OcisSim::start(([127, 0, 0, 1], 0).into()).await.unwrap()
}

fn app_token(url: &str) -> OcisConfig {
    OcisConfig {
        base_url: url.to_owned(),
        login: OcisLogin::AppToken(AppTokenLogin {
            user: OcisSim::USER.to_owned(),
            password: OcisSim::PASSWORD.to_owned().into(),
        }),
        timeout: Duration::from_secs(10),
        refusal_grace: Duration::from_mins(5),
    }
}

fn oidc(sim: &OcisSim, change: impl FnOnce(&mut OidcLogin)) -> OcisConfig {
    let mut login = OidcLogin {
        token_url: sim.token_url().parse().unwrap(),
        client_id: OcisSim::OIDC_CLIENT_ID.to_owned(),
        client_secret: None,
        username: OcisSim::USER.to_owned(),
        password: OcisSim::OIDC_PASSWORD.to_owned().into(),
        scope: "openid profile email".to_owned(),
    };
    change(&mut login);
    OcisConfig {
        login: OcisLogin::Oidc(login),
        ..app_token(&sim.server.url)
    }
}

fn client(config: &OcisConfig) -> Ocis {
    Ocis::new(config, &TrustRoots::default()).unwrap()
}

fn client_of(sim: &OcisSim) -> Ocis {
    client(&app_token(&sim.server.url))
}

/// Quota of a tenant's space, in bytes.
const QUOTA: u64 = 5_000;

/// Creates the tenant's space, and returns its id.
async fn create(ocis: &Ocis) -> Result<String, ClientError> {
    let created = ocis.create_space(TENANT, NAME, QUOTA).await?;
    Ok(created.id)
}

/// The space with this id, which exists.
async fn find(ocis: &Ocis, id: &str) -> Space {
    let found = ocis.find_space(id, QUOTA, Mode::Apply).await;
    found.unwrap().unwrap()
}

/// Brings the space to the state of an active tenant's, and returns the changes.
async fn ensure(ocis: &Ocis, id: &str, mode: Mode) -> Result<Vec<String>, ClientError> {
    let space = find(ocis, id).await;
    ocis.ensure_space(&space, TENANT, NAME, QUOTA, mode).await
}

fn only(spaces: Vec<SimSpace>) -> SimSpace {
    let [space] = <[SimSpace; 1]>::try_from(spaces).unwrap();
    space
}

/// Number of requests for `operation`.
fn requests_for(sim: &OcisSim, operation: &str) -> u64 {
    let requests = sim.server.faults.requests();
    requests.get(operation).copied().unwrap_or(0)
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let happened = tokio::time::timeout(Duration::from_secs(10), wait).await;
    assert!(happened.is_ok(), "timeout: {what}");
}
