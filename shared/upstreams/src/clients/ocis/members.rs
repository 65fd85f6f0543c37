//! Members of a space. Its permissions are the only place that tells roles by their ids; the id of a permission follows
//! from its member's.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{
    Ocis,
    drives::{EDITOR, Member},
    error::ResponseExt as _,
    spaces::failed,
};
use crate::clients::{ClientError, Mode, Operation};

/// Role of a manager of a space, hard-coded in oCIS.
const MANAGER: &str = "312c0871-5ef7-4b3a-85b6-0e4074c64049";

/// Members of an enabled space.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SpaceMembers {
    value: Vec<Permission>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Permission {
    #[serde(default)]
    granted_to_v2: Member,
    #[serde(default)]
    roles: Vec<String>,
}

impl SpaceMembers {
    /// Number of members.
    pub fn count(&self) -> usize {
        self.value.len()
    }

    /// Whether the user is a member, whatever the role.
    pub fn contains(&self, user_id: &str) -> bool {
        self.of(user_id).is_some()
    }

    /// Whether the user may write.
    pub fn may_write(&self, user_id: &str) -> bool {
        self.of(user_id).is_some_and(Permission::may_write)
    }

    fn of(&self, user_id: &str) -> Option<&Permission> {
        let mut permissions = self.value.iter();
        permissions.find(|permission| permission.granted_to_v2.is_user(user_id))
    }
}

impl Permission {
    fn may_write(&self) -> bool {
        self.roles
            .iter()
            .any(|role| role == EDITOR || role == MANAGER)
    }
}

impl Ocis {
    /// The members of a space; `None` while it is in the trash, or if our account is not one of them.
    pub async fn list_space_members(
        &self,
        space_id: &str,
    ) -> Result<Option<SpaceMembers>, ClientError> {
        let request = self.http.request(Method::GET, &permissions(space_id));
        let operation = Operation::read("list_permissions");
        let response = self.send(operation, request).await?;
        response
            .optional()?
            .map(|response| response.json())
            .transpose()
    }

    /// Ensures that a user may write in a space whose `members` were just listed. A manager is left one: the space's own
    /// repair decides that. Returns the changes.
    pub async fn ensure_editor(
        &self,
        space_id: &str,
        members: &SpaceMembers,
        user_id: &str,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        if members.may_write(user_id) {
            return Ok(Vec::new());
        }
        let is_reader = members.of(user_id);
        if mode == Mode::Apply {
            match is_reader {
                Some(reader) => self.make_editor(space_id, &reader.granted_to_v2).await?,
                None => self.invite_editor(space_id, user_id).await?,
            }
        }
        let change = match is_reader {
            Some(_) => "reader of the space made an editor",
            None => "member added to the space",
        };
        Ok(vec![change.to_owned()])
    }

    /// Invites a user as an editor.
    async fn invite_editor(&self, space_id: &str, user_id: &str) -> Result<(), ClientError> {
        let path = format!("/graph/v1beta1/drives/{space_id}/root/invite");
        let recipient = json!({ "objectId": user_id, "@libre.graph.recipient.type": "user" });
        let body = json!({ "recipients": [recipient], "roles": [EDITOR] });
        let request = self.http.request(Method::POST, &path).json(&body);
        let response = self
            .send(Operation::write("invite_member"), request)
            .await?;
        if response.status == StatusCode::CONFLICT {
            // A member since the list. The next attempt checks the role.
            let detail = "the user became a member of the space meanwhile";
            return Err(ClientError::StateChanged(response.failed(detail)));
        }
        response.error_for_status()?;
        Ok(())
    }

    /// Ensures that a user is no member of a space whose `members` were just listed. Returns the changes.
    pub async fn remove_space_member(
        &self,
        space_id: &str,
        members: &SpaceMembers,
        user_id: &str,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        let Some(permission) = members.of(user_id) else {
            return Ok(Vec::new());
        };
        let changes = vec!["member removed from the space".to_owned()];
        if mode == Mode::DryRun {
            return Ok(changes);
        }
        let id = permission.granted_to_v2.permission_id();
        let path = format!("{}/{id}", permissions(space_id));
        let request = self.http.request(Method::DELETE, &path);
        let operation = Operation::write("remove_permission");
        let response = self.send(operation, request).await?;
        // An absent grant is a 500, too, so the list decides.
        if response.status != StatusCode::INTERNAL_SERVER_ERROR {
            response.optional()?;
        }
        let left = self.list_space_members(space_id).await?;
        if left.is_some_and(|members| members.contains(user_id)) {
            let detail = format!("{user_id} is still a member of {space_id}");
            return Err(ClientError::StateChanged(failed(
                "remove_permission",
                detail,
            )));
        }
        Ok(changes)
    }
}

fn permissions(space_id: &str) -> String {
    format!("/graph/v1beta1/drives/{space_id}/root/permissions")
}
