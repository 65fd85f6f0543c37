//! Members of spaces: listing, inviting and removing them, and changing their role.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State as Held},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Shared, SimSpace, State,
    logins::Caller,
    responses::{no_such_space, object, refusal},
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

    fn id(self) -> &'static str {
        Self::IDS[self as usize].2
    }

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

    /// The grant in the list of permissions: with its id, and the roles by theirs.
    fn permission(&self) -> Value {
        json!({
            "id": self.permission_id(),
            "roles": [self.role.id()],
            "grantedToV2": self.identity(),
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

/// The space, if the caller is a member and it is enabled: whatever its role on the server, no other account sees the
/// members. With the caller's role.
fn space_of_member<'a>(
    state: &'a mut State,
    caller: &Caller,
    id: &str,
) -> Option<(&'a mut SimSpace, Role)> {
    let space = state.spaces.iter_mut().find(|space| space.id == id)?;
    let role = state.people.membership(caller, &space.grants)?;
    (!space.trashed).then_some((space, role))
}

/// `GET /drives/{id}/root/permissions`.
pub(super) async fn list(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    let mut state = shared.lock();
    let Some((space, _)) = space_of_member(&mut state, &caller, &id) else {
        return no_such_space();
    };
    let permissions: Vec<Value> = space.grants.iter().map(Grant::permission).collect();
    Json(json!({
        "@libre.graph.permissions.actions.allowedValues": [],
        "@libre.graph.permissions.roles.allowedValues": [],
        "value": permissions,
    }))
    .into_response()
}

/// `POST /drives/{id}/root/invite`: grants a role to exactly one user or group. A member, whatever the role, is a
/// conflict.
pub(super) async fn invite(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let invalid = |message: &str| refusal(400, "invalidRequest", message);
    let body = match object(&body, &["recipients", "roles", "expirationDateTime"]) {
        Ok(body) => body,
        Err(unreadable) => return unreadable.refusal("invalid request body: "),
    };
    let recipients = body.get("recipients").and_then(Value::as_array);
    let [recipient] = recipients.map_or(&[][..], Vec::as_slice) else {
        return invalid(
            "Key: 'DriveItemInvite.Recipients' Error:Field validation for 'Recipients' failed on the 'len' tag",
        );
    };
    let kind = recipient["@libre.graph.recipient.type"].as_str();
    let id_of_role = body.get("roles").and_then(|roles| roles.get(0)?.as_str());
    let (Some(kind @ ("user" | "group")), Some(id_of_role)) = (kind, id_of_role) else {
        return invalid(
            "Key: 'DriveItemInvite.Recipients[0].LibreGraphRecipientType' Error:Field validation for \
             'LibreGraphRecipientType' failed on the 'oneof' tag",
        );
    };
    let Some(role) = Role::of_id(id_of_role) else {
        return invalid("role not applicable to this resource");
    };
    let mut guard = shared.lock();
    let state = &mut *guard;
    let object_id = recipient["objectId"].as_str();
    let object_id = object_id.and_then(|id| id.parse::<Uuid>().ok());
    let invited = object_id.and_then(|id| {
        let name = match kind {
            "user" => state.people.display_name(id)?.to_owned(),
            _ => state.people.group_name(id)?.to_owned(),
        };
        Some((id, name))
    });
    let Some((space, own_role)) = space_of_member(state, &caller, &id) else {
        return refusal(404, "itemNotFound", "getting space");
    };
    if space.drive_type != "project" {
        return invalid("unsupported space type");
    }
    if own_role != Role::Manager {
        let message = "add grant: error: permission denied";
        return refusal(403, "accessDenied", message);
    }
    let Some((member, name)) = invited else {
        return invalid("itemNotFound: not found");
    };
    if space.grants.iter().any(|grant| grant.id == member) {
        let message = format!("add grant: error: already exists: {}", space.name);
        return refusal(409, "nameAlreadyExists", &message);
    }
    let grant = Grant {
        id: member,
        is_group: kind == "group",
        name,
        role,
    };
    let view = grant.permission();
    shared
        .effects
        .record("invite_member", format!("{} {}", space.alias, grant.name));
    space.grants.push(grant);
    Json(json!({ "value": [view] })).into_response()
}

/// `DELETE /drives/{id}/root/permissions/{permission}`. An absent grant is a 500; the grant of a deleted user can still be
/// removed.
pub(super) async fn remove(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, permission)): Path<(String, String)>,
) -> Response {
    let is_id = ["u:", "g:"].iter().any(|kind| {
        let id = permission.strip_prefix(kind);
        id.is_some_and(|id| id.parse::<Uuid>().is_ok())
    });
    if !is_id {
        return refusal(400, "invalidRequest", "invalid space permission id");
    }
    let mut state = shared.lock();
    let Some((space, own_role)) = space_of_member(&mut state, &caller, &id) else {
        return no_such_space();
    };
    if own_role != Role::Manager {
        return refusal(403, "accessDenied", "Forbidden");
    }
    let managers = space.grants.iter();
    let is_last = managers.filter(|it| it.role == Role::Manager).count() == 1;
    let mut grants = space.grants.iter();
    let Some(place) = grants.position(|grant| grant.permission_id() == permission) else {
        let message =
            "rpc error: code = Unknown desc = gateway: error getting grant to remove from storage";
        return refusal(500, "generalException", message);
    };
    if is_last && space.grants[place].role == Role::Manager {
        return refusal(403, "accessDenied", "can't remove the last manager");
    }
    let grant = space.grants.remove(place);
    shared.effects.record(
        "remove_permission",
        format!("{} {}", space.alias, grant.name),
    );
    StatusCode::NO_CONTENT.into_response()
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
    let mut state = shared.lock();
    let Some((space, own_role)) = space_of_member(&mut state, &caller, &id) else {
        return no_such_space();
    };
    if own_role != Role::Manager {
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
