//! Second factors of a tenant's people at the identity provider: look-up and reset.

mod look_up;
mod reset;

use dezky_shared::upstream::{MFA_DEVICES, Upstream};

use super::tenant::ReadOnlySink;
use crate::steps::Steps;

pub(super) use self::look_up::check_of;

/// Looks up the devices of a tenant's people.
pub(super) fn look_up() -> Steps {
    Steps::parallel()
        .partial(Upstream::Authentik, MFA_DEVICES, look_up::each_person)
        .reporting_to(ReadOnlySink)
}

/// Deletes the devices of one person.
pub(super) fn reset() -> Steps {
    Steps::parallel().partial(Upstream::Authentik, MFA_DEVICES, reset::delete_devices)
}
