//! Reclaim of an account that was left behind: everything that opened it before is replaced, and then its mark.
//!
//! Its creator may have passed the password on, and enrolled devices and app passwords. The mark is replaced last, so that
//! an interrupted attempt is repeated as a whole.

use std::time::Duration;

use dezky_shared::platform::clock;
use dezky_upstreams::clients::authentik::{Authentik, User};
use secrecy::SecretString;

use super::not_ready;
use crate::steps::{StepContext, StepFailure};

/// Tolerated difference between the clocks of Authentik and MongoDB.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Gives the account to this member, with the issued password, or to none. Without a password it gets a random one that is
/// not disclosed.
pub(in crate::jobs) async fn reclaim_account(
    run: &StepContext,
    client: &Authentik,
    user: &User,
    member_id: Option<&str>,
    password: Option<SecretString>,
) -> Result<User, StepFailure> {
    let random = || format!("{}{}", bson::Uuid::new(), bson::Uuid::new()).into();
    let password = password.unwrap_or_else(random);
    client.set_password(user.pk, &password).await?;
    client.end_access(user).await?;
    let enrolled_until = clock::later(run.ctx.store.now(), CLOCK_TOLERANCE);
    client.delete_mfa_devices(user, enrolled_until).await?;
    let reclaimed = client.reclaim(user, member_id).await?;
    reclaimed.ok_or_else(|| not_ready("the account was deleted while it was reclaimed"))
}
