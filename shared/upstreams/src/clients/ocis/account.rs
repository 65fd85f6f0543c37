//! Our own account: its id and its server role.

use http::Method;
use serde::Deserialize;

use super::{Ocis, error::ResponseExt as _};
use crate::clients::{ClientError, Operation, UpstreamResponse};

/// Roles that do not see every space: User and User Light. Their ids are hard-coded in oCIS.
const LESSER_ROLES: [&str; 2] = [
    "d7beeea8-8ff4-406b-8fb6-ab2dd81e6b11",
    "38071a68-456a-4553-846a-fa67bf5596cc",
];

/// Account of our credentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Me {
    id: String,
    /// Only if it was asked for.
    #[serde(default)]
    app_role_assignments: Vec<RoleAssignment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleAssignment {
    app_role_id: String,
}

impl Ocis {
    /// Checks that oCIS accepts our credentials.
    pub async fn check(&self) -> Result<(), ClientError> {
        let _: Me = self.me("/graph/v1.0/me").await?.json()?;
        Ok(())
    }

    /// Fails unless our account has a role that sees every space, Admin or Space Admin: an invisible space would look
    /// deleted.
    ///
    /// The roles are read with the own account: listing the assignments of a user is the Admin's alone.
    pub async fn require_full_view(&self) -> Result<(), ClientError> {
        let response = self.me("/graph/v1.0/me?$expand=appRoleAssignments").await?;
        let me: Me = response.json()?;
        let sees_all = |role: &RoleAssignment| !LESSER_ROLES.contains(&role.app_role_id.as_str());
        if me.app_role_assignments.iter().any(sees_all) {
            return Ok(());
        }
        Err(ClientError::Permission(response.failed(
            "our account has neither the role Admin nor Space Admin, so a missing space may only be invisible: assign it one of them",
        )))
    }

    /// Id of our account, read once: it is the manager of every space that we created.
    pub(super) async fn account_id(&self) -> Result<&str, ClientError> {
        let id = self.account.get_or_try_init(|| async {
            let me: Me = self.me("/graph/v1.0/me").await?.json()?;
            Ok(me.id)
        });
        Ok(id.await?)
    }

    async fn me(&self, path: &str) -> Result<UpstreamResponse, ClientError> {
        let request = self.http.request(Method::GET, path);
        let response = self.send(Operation::read("check"), request).await?;
        response.error_for_status()
    }
}
