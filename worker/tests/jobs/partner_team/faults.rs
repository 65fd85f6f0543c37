//! Invitations with a fault in each of their writes: same result as without faults.

use dezky_shared::{invitation::InvitationState, queue::job::JobState};
use dezky_sim::faults::{Fault, FaultRule};

use super::invitations::{link_of, valid_key, world};

const NEA: &str = "nea@nordic.test";
const WRITES: [&str; 4] = [
    "create_user",
    "create_group",
    "add_member",
    "create_recovery_link",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_with_a_lost_response_has_the_same_result() {
    for write in WRITES {
        for fault in [Fault::AnswerLost, Fault::Reset, Fault::Truncated] {
            same_result_despite(write, fault).await;
        }
    }
}

async fn same_result_despite(write: &str, fault: Fault) {
    let about = format!("{fault:?} in {write}");
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let invitation = world.add_invitation(&partner, NEA).await;
    let authentik = &world.upstreams.authentik;
    authentik.server.faults.add(FaultRule::once(write, fault));

    let job = world.invite(&invitation).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Completed, "{about}");
    assert_eq!(authentik.server.faults.hits(), 1, "{about}");
    let effects = &authentik.server.effects;
    for once in ["create_user", "create_group", "add_member"] {
        assert_eq!(effects.count(once), 1, "{about}: {once}");
    }
    assert_eq!(world.team_in_group(&partner), [NEA], "{about}");
    let invitation = world.find_invitation(&invitation).await.unwrap();
    assert_eq!(invitation.state, InvitationState::Ready, "{about}");
    // Of two links created, the stored one is the valid one.
    assert!(link_of(&invitation).contains(&valid_key(&world)), "{about}");
    world.stop().await;
}
