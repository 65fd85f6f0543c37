//! Scenarios of a removal with mailing lists.

use std::time::Duration;

use dezky_shared::{
    platform::clock,
    queue::{args::SuspendMember, job::JobArgs as _},
};
use futures::FutureExt as _;

use super::{Scenario, Scene, member};
use crate::world::World;

/// Requests the removal of a member, whose mailbox two lists deliver to: the suspension names them.
pub(crate) const DELETE_MEMBER: Scenario = Scenario {
    kind: SuspendMember::KIND,
    prepare: |world| listed_member(world).boxed_local(),
    enqueue: |world, scene| {
        async {
            let now = world.harness.context.store.now();
            let later = clock::later(now, Duration::from_hours(1));
            world.delete_member(scene.member(), later).await
        }
        .boxed_local()
    },
};

/// A member whose mailbox the tenant's list does not deliver to.
pub(super) async fn unlisted_member(world: &World) -> Scene {
    let scene = member(world).await;
    world.upstreams.stalwart.add_list("team@acme.test", &[]);
    scene
}

/// A member whose mailbox two lists of the tenant deliver to.
async fn listed_member(world: &World) -> Scene {
    let scene = member(world).await;
    let mail = &world.upstreams.stalwart;
    for list in ["team@acme.test", "all@acme.test"] {
        mail.add_list(list, &[]);
        mail.set_recipients(list, &["ada@acme.test"]);
    }
    scene
}
