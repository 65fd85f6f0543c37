//! Members of spaces: grants, and the change of a member's role.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State as Held},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Shared,
    logins::Caller,
    responses::{object, refusal},
    spaces::no_such_space,
};

/// Role of a member of a space, in ascending order of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Writes, and may change the space's alias.
    Editor,
    /// May also change name and description, invite members, disable, restore and purge the space.
    Manager,
}

impl Role {
    /// Ids are fixed in the server's source. In lists of spaces a role has its name instead.
    const IDS: [(Self, &'static str, &'static str); 3] = [
        (
            Self::Viewer,
            "viewer",
            "a8d5fe5e-96e3-418d-825b-534dbdf22b99",
        ),
        (
            Self::Editor,
            "editor",
            "58c63c02-1d89-4572-916a-870abc5a1b7d",
        ),
        (
            Self::Manager,
            "manager",
            "312c0871-5ef7-4b3a-85b6-0e4074c64049",
        ),
    ];

    fn name(self) -> &'static str {
        Self::IDS[self as usize].1
    }

    fn of_id(id: &str) -> Option<Self> {
        let mut roles = Self::IDS.into_iter();
        roles
            .find(|(_, _, known)| *known == id)
            .map(|(role, ..)| role)
    }
}

/// Grant of a role in a space to a user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// User or group.
    pub id: Uuid,
    /// Whether `id` is a group's.
    pub is_group: bool,
    /// Display name.
    pub name: String,
    /// Granted role.
    pub role: Role,
}

impl Grant {
    /// A grant to a user.
    pub fn user(id: Uuid, name: &str, role: Role) -> Self {
        Self {
            id,
            is_group: false,
            name: name.to_owned(),
            role,
        }
    }

    /// The grant within a space: with the identity twice, about 300 bytes.
    pub(super) fn view(&self) -> Value {
        json!({
            "grantedToIdentities": [self.identity()],
            "grantedToV2": self.identity(),
            "roles": [self.role.name()],
        })
    }

    fn identity(&self) -> Value {
        if self.is_group {
            return json!({ "group": { "displayName": self.name, "id": self.id } });
        }
        json!({ "user": {
            "@libre.graph.userType": "Member",
            "displayName": self.name,
            "id": self.id,
        } })
    }

    /// Id of the permission, which follows from the member's.
    fn permission_id(&self) -> String {
        let kind = if self.is_group { 'g' } else { 'u' };
        format!("{kind}:{}", self.id)
    }
}

/// `PATCH /drives/{id}/root/permissions/{permission}`: changes the role of a member. Only managers may, whatever their
/// role on the server, and only while the space is enabled.
pub(super) async fn update(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, permission)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let body = match object(&body, &["roles", "expirationDateTime"]) {
        Ok(body) => body,
        Err(unreadable) => return unreadable.refusal("invalid request body: "),
    };
    let ids = body.get("roles");
    let id_of_role = ids.and_then(|ids| ids.get(0)?.as_str());
    let Some(role) = id_of_role.and_then(Role::of_id) else {
        return refusal(
            400,
            "invalidRequest",
            "role not applicable to this resource",
        );
    };
    let mut guard = shared.lock();
    let state = &mut *guard;
    let Some(space) = state.spaces.iter_mut().find(|space| space.id == id) else {
        return no_such_space();
    };
    let own_role = state.people.membership(&caller, &space.grants);
    if space.trashed || own_role.is_none() {
        return no_such_space();
    }
    if own_role != Some(Role::Manager) {
        return refusal(403, "accessDenied", "Forbidden");
    }
    let managers = space
        .grants
        .iter()
        .filter(|grant| grant.role == Role::Manager);
    let is_last = managers.count() == 1;
    let mut grants = space.grants.iter_mut();
    let Some(grant) = grants.find(|grant| grant.permission_id() == permission) else {
        return refusal(404, "itemNotFound", "not found");
    };
    if is_last && grant.role == Role::Manager && role != Role::Manager {
        return refusal(403, "accessDenied", "can't remove the last manager");
    }
    if grant.role != role {
        grant.role = role;
        shared.effects.record("update_permission", &space.alias);
    }
    Json(json!({
        "grantedToV2": grant.identity(),
        "id": permission,
        "roles": ids,
    }))
    .into_response()
}
