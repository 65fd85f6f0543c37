//! Personal spaces of users: their usage, and their quota.

use serde::Deserialize;

use super::{
    FilesUser, Ocis,
    drives::{Quota, QuotaState, Update},
};
use crate::clients::ClientError;
use dezky_shared::storage_report::SpaceUsage;

/// Personal space of a user, as part of the user. Before the first sign-in it has no id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct PersonalDrive {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    quota: QuotaState,
}

impl FilesUser {
    /// Usage of the personal space. `None` before the first sign-in, and after a create.
    pub fn personal_space(&self) -> Option<SpaceUsage> {
        let drive = self.drive.as_ref()?;
        drive.id.as_ref().map(|_| drive.quota.usage())
    }
}

impl Ocis {
    /// Ensures the quota of a user's personal space, in bytes; 0 is unlimited. True if it was changed; false also if there
    /// is no such space yet.
    pub async fn ensure_personal_quota(
        &self,
        user: &FilesUser,
        quota: u64,
    ) -> Result<bool, ClientError> {
        let Some(PersonalDrive {
            id: Some(id),
            quota: actual,
        }) = &user.drive
        else {
            return Ok(false);
        };
        let quota = Quota::of_bytes(quota);
        if quota.is_total(actual) {
            return Ok(false);
        }
        let update = Update {
            quota: Some(quota),
            ..Update::default()
        };
        let updated = self.patch_space(id, &update).await?;
        Ok(updated.is_some())
    }
}
