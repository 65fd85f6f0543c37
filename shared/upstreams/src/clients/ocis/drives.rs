//! Calls on one space, named drive in the graph API, and its wire types.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{DRIVES, Ocis, error::ResponseExt as _};
use crate::clients::{ClientError, FailedCall, Operation};
use dezky_shared::{storage_report::SpaceUsage, upstream::Upstream};

/// Role of an editor of a space, hard-coded in oCIS.
pub(super) const EDITOR: &str = "58c63c02-1d89-4572-916a-870abc5a1b7d";

fn drive(id: &str) -> String {
    format!("{DRIVES}/{id}")
}

impl Ocis {
    /// Creates a space, regardless of existing ones.
    pub(super) async fn post_space(
        &self,
        marker: &str,
        name: &str,
        quota: Quota,
    ) -> Result<Space, ClientError> {
        let body =
            json!({ "name": name, "driveType": "project", "driveAlias": marker, "quota": quota });
        let request = self.http.request(Method::POST, DRIVES).json(&body);
        let response = self.send(Operation::write("create_space"), request).await?;
        response.error_for_status()?.json()
    }

    /// Reads a space, with its members; `None` if it does not exist or is invisible.
    pub(super) async fn get_space(&self, id: &str) -> Result<Option<Space>, ClientError> {
        let request = self
            .http
            .request(Method::GET, &drive(id))
            // Newer servers list the members only on request.
            .query(&[("$expand", "root($expand=permissions)")]);
        let response = self.send(Operation::read("find_space"), request).await?;
        response
            .optional()?
            .map(|response| response.json())
            .transpose()
    }

    /// Restores a space from the trash.
    pub(super) async fn restore(&self, id: &str) -> Result<(), ClientError> {
        let request = self
            .http
            .request(Method::PATCH, &drive(id))
            .header("Restore", "T")
            .json(&json!({}));
        let response = self
            .send(Operation::write("restore_space"), request)
            .await?;
        let _: Space = response.error_for_status()?.json()?;
        Ok(())
    }

    /// Updates only the fields set in `update`; `None` if the space does not exist.
    pub(super) async fn patch_space(
        &self,
        id: &str,
        update: &Update<'_>,
    ) -> Result<Option<Space>, ClientError> {
        let request = self.http.request(Method::PATCH, &drive(id)).json(update);
        let response = self.send(Operation::write("update_space"), request).await?;
        response
            .optional()?
            .map(|response| response.json())
            .transpose()
    }

    /// Makes a member of the space an editor.
    pub(super) async fn make_editor(&self, id: &str, member: &Member) -> Result<(), ClientError> {
        let permission = member.permission_id();
        let path = format!("/graph/v1beta1/drives/{id}/root/permissions/{permission}");
        let body = json!({ "roles": [EDITOR] });
        let request = self.http.request(Method::PATCH, &path).json(&body);
        self.send(Operation::write("update_permission"), request)
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// Moves the space to the trash and verifies it.
    pub(super) async fn trash(&self, space: &Space) -> Result<(), ClientError> {
        let request = self.http.request(Method::DELETE, &drive(&space.id));
        self.send(Operation::write("disable_space"), request)
            .await?
            .optional()?;

        match self.get_space(&space.id).await? {
            Some(space) if !space.is_trashed() => Err(still_there(&space)),
            _ => Ok(()),
        }
    }

    /// Purges the space, in the required two steps, and verifies it.
    pub(super) async fn purge(&self, space: &Space) -> Result<(), ClientError> {
        if !space.is_trashed() {
            self.trash(space).await?;
        }
        let request = self
            .http
            .request(Method::DELETE, &drive(&space.id))
            // Any other value means a plain delete, which disables the space.
            .header("Purge", "T");
        self.send(Operation::write("purge_space"), request)
            .await?
            .optional()?;

        match self.get_space(&space.id).await? {
            Some(space) => Err(still_there(&space)),
            None => Ok(()),
        }
    }
}

fn still_there(space: &Space) -> ClientError {
    ClientError::Permission(FailedCall {
        upstream: Upstream::Ocis,
        operation: "find_space",
        status: None,
        request_id: None,
        detail: format!(
            "{} is unchanged after its removal: our account lacks the permission",
            space.id
        ),
    })
}

/// Project space of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Space {
    /// Id assigned by oCIS, the only stable key of a space.
    pub id: String,
    /// Name shown to members.
    #[serde(default)]
    pub name: String,
    #[serde(rename = "driveType")]
    kind: Option<String>,
    #[serde(rename = "driveAlias")]
    alias: Option<String>,
    #[serde(default)]
    quota: QuotaState,
    #[serde(default)]
    root: Root,
}

/// Quota as returned by oCIS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct QuotaState {
    total: Option<i64>,
    /// Missing while the space is in the trash.
    used: Option<i64>,
}

impl QuotaState {
    pub(super) fn usage(&self) -> SpaceUsage {
        SpaceUsage {
            total_bytes: self.total.unwrap_or(0).max(0),
            used_bytes: self.used.map(|used| used.max(0)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Root {
    /// Present while the space is in the trash.
    deleted: Option<Deleted>,
    /// Missing if the server lists no members here.
    permissions: Option<Vec<Grant>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Deleted {}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grant {
    #[serde(default)]
    granted_to_v2: Member,
    /// Names of the roles, not their ids.
    #[serde(default)]
    roles: Vec<String>,
}

/// Member of a space: a user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct Member {
    user: Option<Identity>,
    group: Option<Identity>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Identity {
    id: String,
}

impl Member {
    pub(super) fn is_user(&self, id: &str) -> bool {
        self.user.as_ref().is_some_and(|user| user.id == id)
    }

    /// Id of the member's permission, which follows from the member's.
    pub(super) fn permission_id(&self) -> String {
        match (&self.user, &self.group) {
            (Some(user), _) => format!("u:{}", user.id),
            (None, Some(group)) => format!("g:{}", group.id),
            (None, None) => String::new(),
        }
    }
}

impl Space {
    pub(super) fn is_project(&self) -> bool {
        self.kind.as_deref() == Some("project")
    }

    pub(super) fn has_marker(&self, marker: &str) -> bool {
        self.alias.as_deref() == Some(marker)
    }

    pub(super) fn is_trashed(&self) -> bool {
        self.root.deleted.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.quota.used == Some(0)
    }

    pub(super) fn usage(&self) -> SpaceUsage {
        self.quota.usage()
    }

    /// Managers of the space, as far as the server lists members.
    pub(super) fn managers(&self) -> impl Iterator<Item = &Member> {
        let grants = self.root.permissions.iter().flatten();
        grants
            .filter(|grant| grant.roles.iter().any(|role| role == "manager"))
            .map(|grant| &grant.granted_to_v2)
    }

    /// Managers other than `account`; `None` if that is none.
    pub(super) fn managers_beside(&self, account: &str) -> Option<Vec<&Member>> {
        let (own, others): (Vec<_>, Vec<_>) = self
            .managers()
            .partition(|manager| manager.is_user(account));
        (!own.is_empty()).then_some(others)
    }

    /// Whether `account` is the only member, as it is of a space that it has created and not shared yet. False if the
    /// server lists no members.
    pub(super) fn is_unshared(&self, account: &str) -> bool {
        let grants = self.root.permissions.as_deref().unwrap_or_default();
        grants.len() == 1 && self.managers().any(|manager| manager.is_user(account))
    }
}

/// Quota in bytes; 0 is unlimited. Never negative: oCIS would return 500 and hide the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Quota {
    total: i64,
}

impl Quota {
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self {
            total: i64::try_from(bytes).unwrap_or(i64::MAX),
        }
    }

    pub(super) fn is_of(self, space: &Space) -> bool {
        self.is_total(&space.quota)
    }

    pub(super) fn is_total(self, actual: &QuotaState) -> bool {
        actual.total == Some(self.total)
    }
}

/// Fields of a space to be changed. Must not contain others: oCIS rejects unknown fields.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Update<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drive_alias: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<Quota>,
}

impl Update<'_> {
    pub(super) fn phrases(&self) -> impl Iterator<Item = &'static str> {
        let changes = [
            (self.name.is_some(), "space renamed"),
            (self.drive_alias.is_some(), "marker restored"),
            (self.quota.is_some(), "quota changed"),
        ];
        changes
            .into_iter()
            .filter_map(|(changed, phrase)| changed.then_some(phrase))
    }
}
