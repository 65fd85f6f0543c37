//! Writes with a lost response, and writes that take effect after the client has given up.

use std::time::Duration;

use dezky_sim::{
    faults::{Fault, FaultRule},
    ocis::{OcisSim, Role, SimSpace},
};
use dezky_upstreams::clients::{ClientError, Mode, ocis::Ocis};

use super::{
    MARKER, NAME, TENANT, app_token, client, client_of, create, ensure, eventually, find, only,
    requests_for, start,
};

/// Operation on a space.
#[derive(Clone, Copy)]
enum SpaceCall {
    Ensured,
    Disabled,
    Purged,
}

impl SpaceCall {
    /// Makes the call about a space that may be gone.
    async fn execute(self, ocis: &Ocis, id: &str) -> Result<(), ClientError> {
        let Some(space) = ocis.find_space(id, super::QUOTA, Mode::Apply).await? else {
            return Ok(());
        };
        match self {
            Self::Ensured => ensure(ocis, id, Mode::Apply).await.map(drop),
            Self::Disabled => ocis.disable_space(&space, Mode::Apply).await.map(drop),
            Self::Purged => ocis.purge_space(&space, Mode::Apply).await.map(drop),
        }
    }
}

/// Loses one response to `operation` in every way, and repeats the operation.
async fn survives(
    operation: &str,
    space_call: SpaceCall,
    prepare: fn(&OcisSim, &str),
    check: fn(Vec<SimSpace>),
) {
    for fault in [
        Fault::AnswerLost,
        Fault::Reset,
        Fault::SlowAnswer { millis: 60_000 },
    ] {
        let sim = start().await;
        let mut config = app_token(&sim.server.url);
        config.timeout = Duration::from_secs(1);
        let ocis = client(&config);
        let id = sim.add_space(NAME, MARKER, 7);
        sim.edit_space(&id, |space| space.quota = 5_000);
        prepare(&sim, &id);
        sim.server
            .faults
            .add(FaultRule::once(operation, fault.clone()));

        let lost = space_call.execute(&ocis, &id).await.unwrap_err();
        let repeated = space_call.execute(&ocis, &id).await;

        assert!(
            matches!(lost, ClientError::AnswerLost(_)),
            "{fault:?}: {lost:?}"
        );
        assert!(repeated.is_ok(), "{fault:?}: {repeated:?}");
        assert_eq!(sim.server.effects.count(operation), 1, "{fault:?}");
        check(sim.spaces());
    }
}

#[tokio::test]
async fn an_update_with_a_lost_response_happens_once() {
    let wrong_name = |sim: &OcisSim, id: &str| {
        sim.edit_space(id, |space| "Acme".clone_into(&mut space.name));
    };
    survives("update_space", SpaceCall::Ensured, wrong_name, |spaces| {
        assert_eq!(only(spaces).name, NAME);
    })
    .await;
}

#[tokio::test]
async fn a_restore_with_a_lost_response_happens_once() {
    let trashed = |sim: &OcisSim, id: &str| sim.edit_space(id, |space| space.trashed = true);
    survives("restore_space", SpaceCall::Ensured, trashed, |spaces| {
        let space = only(spaces);
        assert!(!space.trashed && space.used == 7);
    })
    .await;
}

#[tokio::test]
async fn a_demotion_with_a_lost_response_happens_once() {
    let managed = |sim: &OcisSim, id: &str| {
        sim.add_member(id, "mia", Role::Manager);
    };
    survives("update_permission", SpaceCall::Ensured, managed, |spaces| {
        assert_eq!(only(spaces).grants[1].role, Role::Editor);
    })
    .await;
}

#[tokio::test]
async fn a_disable_with_a_lost_response_happens_once() {
    survives(
        "disable_space",
        SpaceCall::Disabled,
        |_, _| {},
        |spaces| {
            assert!(only(spaces).trashed);
        },
    )
    .await;
}

#[tokio::test]
async fn a_purge_with_a_lost_response_happens_once() {
    for operation in ["disable_space", "purge_space"] {
        survives(
            operation,
            SpaceCall::Purged,
            |_, _| {},
            |spaces| {
                assert!(spaces.is_empty());
            },
        )
        .await;
    }
}

#[tokio::test]
async fn the_space_of_a_create_with_a_lost_response_is_found() {
    for fault in [
        Fault::AnswerLost,
        Fault::Html,
        Fault::Truncated,
        Fault::SlowAnswer { millis: 60_000 },
    ] {
        let sim = start().await;
        let mut config = app_token(&sim.server.url);
        config.timeout = Duration::from_secs(1);
        let ocis = client(&config);
        sim.server
            .faults
            .add(FaultRule::once("create_space", fault.clone()));

        let lost = create(&ocis).await.unwrap_err();
        let found = ocis.find_unrecorded_spaces(TENANT).await.unwrap();

        assert!(
            matches!(lost, ClientError::AnswerLost(_)),
            "{fault:?}: {lost:?}"
        );
        let ids: Vec<_> = found.into_iter().map(|space| space.id).collect();
        assert_eq!(ids, [only(sim.spaces()).id], "{fault:?}");
    }
}

#[tokio::test]
async fn a_create_that_never_arrived_left_no_space() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let reset = FaultRule::once("create_space", Fault::Reset);
    sim.server.faults.add(reset);

    let lost = create(&ocis).await.unwrap_err();
    let found = ocis.find_unrecorded_spaces(TENANT).await.unwrap();

    assert!(matches!(lost, ClientError::AnswerLost(_)), "{lost:?}");
    assert!(found.is_empty());
}

#[tokio::test]
async fn a_late_create_leaves_the_stored_space_as_it_is() {
    let sim = start().await;
    let mut config = app_token(&sim.server.url);
    config.timeout = Duration::from_secs(1);
    let late = Fault::SlowEffect { millis: 2_000 };
    sim.server.faults.add(FaultRule::once("create_space", late));

    create(&client(&config)).await.unwrap_err();
    let ocis = client_of(&sim);
    let stored = create(&ocis).await.unwrap();
    eventually("the late create", || sim.spaces().len() == 2).await;
    let changes = ensure(&ocis, &stored, Mode::Apply).await.unwrap();

    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!(sim.spaces().len(), 2);
}

#[tokio::test]
async fn only_an_empty_space_is_withdrawn() {
    for (used, is_withdrawn) in [(0, true), (1, false)] {
        let sim = start().await;
        let ocis = client_of(&sim);
        let id = create(&ocis).await.unwrap();
        sim.edit_space(&id, |space| space.used = used);
        let created = find(&ocis, &id).await;

        let withdrawn = ocis.withdraw_space(&created).await.unwrap();

        assert_eq!(withdrawn, is_withdrawn);
        assert_eq!(sim.spaces().is_empty(), is_withdrawn);
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_is_not_taken_for_an_empty_one() {
    for fault in [Fault::Truncated, Fault::Html, Fault::AnswerLost] {
        let sim = start().await;
        sim.add_space(NAME, MARKER, 0);
        sim.server
            .faults
            .add(FaultRule::once("list_spaces", fault.clone()));

        let found = client_of(&sim).find_unrecorded_spaces(TENANT).await;

        let error = found.unwrap_err();
        assert!(
            matches!(
                error,
                ClientError::Unavailable(_) | ClientError::InvalidResponse(_)
            ),
            "{fault:?}: {error:?}"
        );
        assert_eq!(requests_for(&sim, "list_spaces"), 1);
    }
}
