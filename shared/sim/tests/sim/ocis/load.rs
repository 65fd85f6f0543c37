//! Concurrent calls to a server that authenticates one at a time.

use std::time::Duration;

use futures::future::join_all;

use super::{QUOTA, app_token, client, start};

/// Sixty calls at once need longer than the timeout of one: without a limit, most would be given up while the server
/// still works on them, and the outcome of creates would be unknown.
#[tokio::test]
async fn calls_wait_for_each_other_instead_of_timing_out_on_a_slow_server() {
    let sim = start().await;
    sim.set_authentication_time(Duration::from_millis(40));
    let mut config = app_token(&sim.server.url);
    config.timeout = Duration::from_secs(2);
    let ocis = client(&config);
    let tenants: Vec<String> = (0..60).map(|number| format!("tenant-{number}")).collect();

    let requests = tenants
        .iter()
        .map(|tenant| ocis.create_space(tenant, "Files", QUOTA));
    let created = join_all(requests).await;

    let failed: Vec<_> = created.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(sim.spaces().len(), tenants.len());
}
