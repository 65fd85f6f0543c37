//! Calls and bytes of a tenant's reconcile in oCIS, with few spaces and with many.

use std::time::Duration;

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{
    bench_output::report,
    ocis::{Grant, OcisSim, Role},
};
use dezky_upstreams::clients::{
    Mode,
    ocis::{AppTokenLogin, Ocis, OcisConfig, OcisLogin},
};
use uuid::Uuid;

/// Reconciled tenants.
const SAMPLE: usize = 200;
/// Members of each space, beside our account.
const MEMBERS: u128 = 20;
const NAME: &str = "Files";
/// The simulator's default, in bytes.
const QUOTA: u64 = 1_000_000_000;

pub(crate) async fn measure() {
    let few = reconcile_among(1_000).await;
    let many = reconcile_among(100_000).await;
    for (spaces, cost) in [("1,000", &few), ("100,000", &many)] {
        let what = format!("reconcile in oCIS with {spaces} spaces");
        report(format!("{what}: calls of a tenant"), cost.calls, "calls");
        report(format!("{what}: bytes of a tenant"), cost.bytes, "B");
    }
    report(
        "reconcile in oCIS: bytes with 100,000 spaces against 1,000",
        many.bytes / few.bytes,
        "",
    );
}

/// Average of a tenant.
struct Cost {
    calls: f64,
    bytes: f64,
}

#[expect(clippy::cast_precision_loss, reason = "sums are far below 2^52")]
async fn reconcile_among(spaces: usize) -> Cost {
    let ocis = OcisSim::start(([127, 0, 0, 1], 0).into())
        .await
        .expect("a port is free");
    let tenants: Vec<(String, String)> = (0..spaces)
        .map(|number| add_space(&ocis, format!("tenant-{number}")))
        .collect();
    let client = client_of(&ocis);
    let each = tenants.iter().step_by(spaces / SAMPLE);
    for (tenant, id) in each.take(SAMPLE) {
        let space = client.find_space(id, QUOTA, Mode::Apply).await;
        let space = space.expect("oCIS answers").expect("the space exists");
        client
            .ensure_space(&space, tenant, NAME, QUOTA, Mode::Apply)
            .await
            .expect("oCIS answers");
    }
    let calls: u64 = ocis.server.faults.requests().values().sum();
    let average = |sum: u64| sum as f64 / SAMPLE as f64;
    Cost {
        calls: average(calls),
        bytes: average(ocis.server.sent_bytes()),
    }
}

/// Adds the space of a tenant, in sync and with members. Returns the tenant and the id of the space.
fn add_space(ocis: &OcisSim, tenant: String) -> (String, String) {
    let members = (0..MEMBERS).map(|member| {
        Grant::user(
            Uuid::from_u128(member),
            "A member of the space",
            Role::Editor,
        )
    });
    let id = ocis.add_space(NAME, &format!("project/{tenant}"), 0);
    ocis.edit_space(&id, |space| space.grants.extend(members));
    (tenant, id)
}

fn client_of(ocis: &OcisSim) -> Ocis {
    let config = OcisConfig {
        base_url: ocis.server.url.clone(),
        login: OcisLogin::AppToken(AppTokenLogin {
            user: OcisSim::USER.to_owned(),
            password: OcisSim::PASSWORD.into(),
        }),
        timeout: Duration::from_secs(10),
        refusal_grace: Duration::from_mins(5),
    };
    Ocis::new(&config, &TrustRoots::default()).expect("the configuration is valid")
}
