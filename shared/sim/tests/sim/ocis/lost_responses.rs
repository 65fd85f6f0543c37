//! Writes with a lost response, and writes that take effect after the client has given up.

use std::time::Duration;

use dezky_sim::{
    faults::{Fault, FaultRule},
    ocis::{OcisSim, SimSpace},
};
use dezky_upstreams::clients::{ClientError, Mode, ocis::Ocis};

use super::{MARKER, NAME, TENANT, app_token, client, client_of, ensure, eventually, only, start};

/// Operation on a space.
#[derive(Clone, Copy)]
enum SpaceCall {
    Ensured,
    Disabled,
    Purged,
}

impl SpaceCall {
    async fn execute(self, ocis: &Ocis) -> Result<(), ClientError> {
        match self {
            Self::Ensured => ensure(ocis, None).await.map(drop),
            Self::Disabled => ocis
                .disable_space(TENANT, None, Mode::Apply)
                .await
                .map(drop),
            Self::Purged => ocis.purge_space(TENANT, None, Mode::Apply).await.map(drop),
        }
    }
}

/// Loses one response to `operation` in every way, and repeats the operation.
async fn survives(
    operation: &str,
    space_call: SpaceCall,
    prepare: fn(&OcisSim),
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
        prepare(&sim);
        sim.server
            .faults
            .add(FaultRule::once(operation, fault.clone()));

        let lost = space_call.execute(&ocis).await.unwrap_err();
        let repeated = space_call.execute(&ocis).await;

        assert!(
            matches!(lost, ClientError::AnswerLost(_)),
            "{fault:?}: {lost:?}"
        );
        assert!(repeated.is_ok(), "{fault:?}: {repeated:?}");
        assert_eq!(sim.server.effects.count(operation), 1, "{fault:?}");
        check(sim.spaces());
    }
}

fn ours(sim: &OcisSim) -> String {
    sim.add_space(NAME, MARKER, 7)
}

#[tokio::test]
async fn a_create_with_a_lost_response_leaves_one_space() {
    survives(
        "create_space",
        SpaceCall::Ensured,
        |_| {},
        |spaces| {
            assert_eq!(only(spaces).alias, MARKER);
        },
    )
    .await;
}

#[tokio::test]
async fn an_update_with_a_lost_response_happens_once() {
    let wrong_name = |sim: &OcisSim| {
        sim.add_space("Acme", MARKER, 7);
    };
    survives("update_space", SpaceCall::Ensured, wrong_name, |spaces| {
        assert_eq!(only(spaces).name, NAME);
    })
    .await;
}

#[tokio::test]
async fn a_restore_with_a_lost_response_happens_once() {
    let trashed = |sim: &OcisSim| sim.edit_space(&ours(sim), |space| space.trashed = true);
    survives("restore_space", SpaceCall::Ensured, trashed, |spaces| {
        let space = only(spaces);
        assert!(!space.trashed && space.used == 7);
    })
    .await;
}

#[tokio::test]
async fn a_disable_with_a_lost_response_happens_once() {
    let enabled = |sim: &OcisSim| {
        ours(sim);
    };
    survives("disable_space", SpaceCall::Disabled, enabled, |spaces| {
        assert!(only(spaces).trashed);
    })
    .await;
}

#[tokio::test]
async fn a_purge_with_a_lost_response_happens_once() {
    for operation in ["disable_space", "purge_space"] {
        let enabled = |sim: &OcisSim| {
            ours(sim);
        };
        survives(operation, SpaceCall::Purged, enabled, |spaces| {
            assert!(spaces.is_empty());
        })
        .await;
    }
}

#[tokio::test]
async fn a_create_with_an_unreadable_response_leaves_one_space() {
    for fault in [Fault::Html, Fault::Truncated] {
        let sim = start().await;
        let ocis = client_of(&sim);
        sim.server
            .faults
            .add(FaultRule::once("create_space", fault.clone()));

        let lost = ensure(&ocis, None).await.unwrap_err();
        let id = ensure(&ocis, None).await.unwrap();

        assert!(
            matches!(lost, ClientError::AnswerLost(_)),
            "{fault:?}: {lost:?}"
        );
        assert_eq!(only(sim.spaces()).id, id);
    }
}

#[tokio::test]
async fn a_late_create_is_reported_as_in_doubt() {
    let sim = start().await;
    let mut config = app_token(&sim.server.url);
    config.timeout = Duration::from_secs(1);
    let impatient = client(&config);
    let late = Fault::SlowEffect { millis: 3_000 };
    sim.server.faults.add(FaultRule::once("create_space", late));

    let lost = ensure(&impatient, None).await.unwrap_err();
    let stored = ensure(&client_of(&sim), None).await.unwrap();
    eventually("the late create", || sim.spaces().len() == 2).await;
    let error = ensure(&client_of(&sim), Some(&stored)).await.unwrap_err();

    assert!(matches!(lost, ClientError::AnswerLost(_)), "{lost:?}");
    assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
    for space in sim.spaces() {
        assert!(error.call().detail.contains(&space.id), "{error}");
    }
}

/// Lets a second space with the marker, of the id `other`, appear between the create and the following read. `used`
/// is the number of bytes that the own space then holds.
async fn create_beside(sim: &OcisSim, other: &str, used: i64) -> Result<String, ClientError> {
    let slow = Fault::SlowAnswer { millis: 1_000 };
    sim.server.faults.add(FaultRule::once("create_space", slow));
    let ocis = client_of(sim);
    let ensured = tokio::spawn(async move { ensure(&ocis, None).await });
    eventually("our create", || sim.spaces().len() == 1).await;
    sim.edit_space(&only(sim.spaces()).id, |space| space.used = used);
    let id = sim.add_space(NAME, MARKER, 0);
    sim.edit_space(&id, |space| other.clone_into(&mut space.id));
    ensured.await.unwrap()
}

#[tokio::test]
async fn an_own_empty_duplicate_is_removed_if_the_other_has_the_smaller_id() {
    let sim = start().await;

    let kept = create_beside(&sim, "0-smaller", 0).await.unwrap();

    assert_eq!(kept, "0-smaller");
    assert_eq!(only(sim.spaces()).id, "0-smaller");
}

#[tokio::test]
async fn a_foreign_or_non_empty_duplicate_is_reported_and_kept() {
    for (other, used) in [("z-larger", 0), ("0-smaller", 1)] {
        let sim = start().await;

        let error = create_beside(&sim, other, used).await.unwrap_err();

        assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
        assert_eq!(sim.spaces().len(), 2);
        for space in sim.spaces() {
            assert!(error.call().detail.contains(&space.id), "{error}");
        }
    }
}
