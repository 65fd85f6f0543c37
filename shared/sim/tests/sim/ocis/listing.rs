//! Size of what the client reads: one space by its id, or the list of all as it streams.

use dezky_sim::ocis::{Grant, OcisSim, Role};
use dezky_upstreams::clients::{
    Mode,
    ocis::{ListedSpace, Ocis},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{MARKER, NAME, TENANT, client_of, create, ensure, requests_for, start};

/// Adds spaces of other tenants, with `members` each.
fn add_others(sim: &OcisSim, spaces: usize, members: u128) {
    for number in 0..spaces {
        let id = sim.add_space("Others", &format!("project/other-{number}"), 0);
        sim.edit_space(&id, |space| {
            space.grants.extend((0..members).map(|member| {
                Grant::user(
                    Uuid::from_u128(member),
                    "A member of that space",
                    Role::Editor,
                )
            }));
        });
    }
}

/// Calls and bytes of a reconcile.
async fn cost(sim: &OcisSim, ocis: &Ocis, id: &str) -> (u64, u64) {
    let sums = || {
        let calls: u64 = sim.server.faults.requests().values().sum();
        (calls, sim.server.sent_bytes())
    };
    let (calls, bytes) = sums();
    let changes = ensure(ocis, id, Mode::Apply).await.unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    let (calls_after, bytes_after) = sums();
    (calls_after - calls, bytes_after - bytes)
}

#[tokio::test]
async fn a_reconcile_costs_one_small_call_however_many_spaces_there_are() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = create(&ocis).await.unwrap();
    // A process reads once which account is its own.
    cost(&sim, &ocis, &id).await;

    let alone = cost(&sim, &ocis, &id).await;
    add_others(&sim, 1_000, 50);
    let among_many = cost(&sim, &ocis, &id).await;

    assert_eq!((alone.0, among_many.0), (1, 1));
    assert!(alone.1 < 2_000, "{} bytes", alone.1);
    // A time may have one digit more.
    assert!(among_many.1 <= alone.1 + 10, "{alone:?}, {among_many:?}");
    assert_eq!(requests_for(&sim, "list_spaces"), 0);
}

#[tokio::test]
async fn a_new_space_costs_one_call() {
    let sim = start().await;

    create(&client_of(&sim)).await.unwrap();

    let requests = sim.server.faults.requests();
    assert_eq!(
        requests.into_iter().collect::<Vec<_>>(),
        [("create_space".to_owned(), 1)]
    );
}

#[tokio::test]
async fn a_list_of_more_than_16_mib_is_read_to_its_end() {
    let sim = start().await;
    let own = sim.add_space(NAME, MARKER, 0);
    add_others(&sim, 1_200, 50);

    let found = client_of(&sim).find_unrecorded_spaces(TENANT).await;

    let ids: Vec<String> = found.unwrap().into_iter().map(|space| space.id).collect();
    assert_eq!(ids, [own]);
    assert!(sim.server.sent_bytes() > 16 << 20, "the list is long");
}

#[tokio::test]
async fn concurrent_searches_share_lists() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let tenants: Vec<String> = (0..20).map(|number| format!("tenant-{number}")).collect();
    let ids: Vec<String> = tenants
        .iter()
        .map(|tenant| sim.add_space(NAME, &format!("project/{tenant}"), 0))
        .collect();

    let searches = tenants
        .iter()
        .map(|tenant| ocis.find_unrecorded_spaces(tenant));
    let found = futures::future::try_join_all(searches).await.unwrap();

    for (spaces, id) in found.iter().zip(&ids) {
        assert_eq!((spaces.len(), &spaces[0].id), (1, id));
    }
    let lists = requests_for(&sim, "list_spaces");
    assert!(lists <= 2, "{lists} lists");
}

#[tokio::test]
async fn the_list_of_all_spaces_has_every_project_space_once() {
    let sim = start().await;
    let trashed = sim.add_space("Trashed", MARKER, 0);
    sim.edit_space(&trashed, |space| space.trashed = true);
    add_others(&sim, 3, 0);
    let (spaces, mut listed) = mpsc::channel::<ListedSpace>(1);

    let receive = async {
        let mut all = Vec::new();
        while let Some(space) = listed.recv().await {
            all.push((space.id, space.drive_alias));
        }
        all
    };
    let ocis = client_of(&sim);
    let (result, mut all) = tokio::join!(ocis.list_spaces(spaces), receive);

    result.unwrap();
    all.sort();
    let held = sim
        .spaces()
        .into_iter()
        .map(|space| (space.id, space.alias));
    assert!(held.eq(all));
}
