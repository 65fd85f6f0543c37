//! Calls on spaces, named drives in the graph API, and their wire types.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Ocis, error::ResponseExt as _};
use crate::clients::{ClientError, FailedCall, LeaseDeadline, Operation};
use dezky_shared::{
    platform::coalescer::{Coalescer, Limits},
    upstream::Upstream,
};

/// Roles that do not see every space: User and User Light. Their ids are hard-coded in oCIS.
const LESSER_ROLES: [&str; 2] = [
    "d7beeea8-8ff4-406b-8fb6-ab2dd81e6b11",
    "38071a68-456a-4553-846a-fa67bf5596cc",
];

const DRIVES: &str = "/graph/v1.0/drives";
/// Maximum pause between two lists of all spaces.
const MAX_LIST_PAUSE: Duration = Duration::from_secs(2);

/// Request coalescing of the list of all spaces.
///
/// oCIS cannot filter spaces by marker, so every step lists all of them, which would be most of the traffic. One list
/// is in flight at a time. The pause after it is as long as it took, so that with many spaces oCIS can serve other
/// requests.
pub(super) fn space_list() -> Coalescer<(), SpaceList> {
    Coalescer::new(Limits {
        in_flight: 1,
        slot_timeout: None,
        pause: |list: &SpaceList, took| match list.spaces {
            Ok(_) => took.min(MAX_LIST_PAUSE),
            Err(_) => Duration::ZERO,
        },
    })
}

/// List of all spaces.
#[derive(Debug, Clone)]
pub(super) struct SpaceList {
    spaces: Result<Arc<[Drive]>, ClientError>,
    /// Request ids assigned by oCIS.
    request_ids: Vec<String>,
}

fn drive(id: &str) -> String {
    format!("{DRIVES}/{id}")
}

impl Ocis {
    /// Creates a space, regardless of existing ones.
    pub(super) async fn create_space(
        &self,
        marker: &str,
        name: &str,
        quota: Option<i64>,
    ) -> Result<Drive, ClientError> {
        let mut body = json!({ "name": name, "driveType": "project", "driveAlias": marker });
        if let Some(total) = quota {
            body["quota"] = json!({ "total": total });
        }
        let request = self.http.request(Method::POST, DRIVES).json(&body);
        let response = self.send(Operation::write("create_space"), request).await?;
        response.error_for_status()?.json()
    }

    /// Restores a space from the trash.
    pub(super) async fn restore_space(&self, id: &str) -> Result<(), ClientError> {
        let request = self
            .http
            .request(Method::PATCH, &drive(id))
            .header("Restore", "T")
            .json(&json!({}));
        let response = self
            .send(Operation::write("restore_space"), request)
            .await?;
        let _: Drive = response.error_for_status()?.json()?;
        Ok(())
    }

    /// Updates only the fields set in `update`.
    pub(super) async fn update_space(
        &self,
        id: &str,
        update: &Update<'_>,
    ) -> Result<(), ClientError> {
        let request = self.http.request(Method::PATCH, &drive(id)).json(update);
        let response = self.send(Operation::write("update_space"), request).await?;
        let _: Drive = response.error_for_status()?.json()?;
        Ok(())
    }

    /// Moves the space to the trash and verifies it.
    pub(super) async fn trash(&self, space: &Drive) -> Result<(), ClientError> {
        let request = self.http.request(Method::DELETE, &drive(&space.id));
        self.send(Operation::write("disable_space"), request)
            .await?
            .optional()?;

        match self.find_space(&space.id).await? {
            Some(space) if !space.is_trashed() => Err(still_there(&space)),
            _ => Ok(()),
        }
    }

    /// Purges the space, in the required two steps, and verifies it.
    pub(super) async fn purge(&self, space: &Drive) -> Result<(), ClientError> {
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

        match self.find_space(&space.id).await? {
            Some(space) => Err(still_there(&space)),
            None => Ok(()),
        }
    }

    async fn find_space(&self, id: &str) -> Result<Option<Drive>, ClientError> {
        let request = self.http.request(Method::GET, &drive(id));
        let response = self.send(Operation::read("find_space"), request).await?;
        response
            .optional()?
            .map(|response| response.json())
            .transpose()
    }

    /// Project spaces with the marker or the stored id, ordered by id.
    ///
    /// All spaces are read and matched here: oCIS silently ignores a filter by name or alias. The list is not
    /// paginated, and a service account with the role Admin or Space Admin sees all spaces.
    pub(super) async fn spaces_of(
        &self,
        marker: &str,
        stored_id: Option<&str>,
    ) -> Result<Vec<Drive>, ClientError> {
        let ocis = self.clone();
        let listed = self.space_list.load(|()| (), |()| ocis.list_spaces()).await;
        for id in &listed.request_ids {
            self.http.deadline().note_request_id(id);
        }
        let mut spaces: Vec<Drive> = listed
            .spaces?
            .iter()
            .filter(|space| space.has_marker(marker) || Some(space.id.as_str()) == stored_id)
            .cloned()
            .collect();
        spaces.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(spaces)
    }

    /// Lists all spaces on behalf of any number of steps, so no single step's lease deadline applies.
    async fn list_spaces(self) -> SpaceList {
        let deadline = LeaseDeadline::unlimited();
        let spaces = self.with_deadline(&deadline).read_spaces().await;
        SpaceList {
            spaces: spaces.map(Into::into),
            request_ids: deadline.request_ids(),
        }
    }

    async fn read_spaces(&self) -> Result<Vec<Drive>, ClientError> {
        let request = self
            .http
            .request(Method::GET, DRIVES)
            .query(&[("$filter", "driveType eq 'project'")]);
        let response = self.send(Operation::read("list_spaces"), request).await?;
        let list: List<Drive> = response.error_for_status()?.json()?;
        Ok(list.value)
    }

    /// Fails unless our account has a role that sees every space: an invisible space would look deleted.
    pub(super) async fn require_full_view(&self) -> Result<(), ClientError> {
        let me = self.me().await?;
        let path = format!("/graph/v1.0/users/{}/appRoleAssignments", me.id);
        let request = self.http.request(Method::GET, &path);
        let response = self
            .send(Operation::read("list_own_roles"), request)
            .await?
            .error_for_status()?;
        let roles: List<RoleAssignment> = response.json()?;

        let sees_all = |role: &RoleAssignment| !LESSER_ROLES.contains(&role.app_role_id.as_str());
        if roles.value.iter().any(sees_all) {
            Ok(())
        } else {
            Err(ClientError::Permission(response.failed(
                "our account has neither the role Admin nor Space Admin, so a missing space may only be invisible",
            )))
        }
    }
}

fn still_there(space: &Drive) -> ClientError {
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

#[derive(Deserialize)]
struct List<T> {
    value: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleAssignment {
    app_role_id: String,
}

/// Space, as returned by oCIS.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Drive {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(rename = "driveType")]
    kind: Option<String>,
    #[serde(rename = "driveAlias")]
    alias: Option<String>,
    #[serde(default)]
    pub(super) quota: Quota,
    #[serde(default)]
    root: Root,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Quota {
    pub(super) total: Option<i64>,
    /// Missing while the space is in the trash.
    used: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Root {
    /// Present while the space is in the trash.
    deleted: Option<serde::de::IgnoredAny>,
}

impl Drive {
    pub(super) fn has_marker(&self, marker: &str) -> bool {
        self.kind.as_deref() == Some("project") && self.alias.as_deref() == Some(marker)
    }

    pub(super) fn is_trashed(&self) -> bool {
        self.root.deleted.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.quota.used == Some(0)
    }
}

/// Fields of a space to be changed. Must not contain others: oCIS rejects unknown fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Update<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drive_alias: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<NewQuota>,
}

/// Never negative: oCIS would return 500 and hide the space.
#[derive(Serialize)]
pub(super) struct NewQuota {
    pub(super) total: i64,
}

impl Update<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.phrases().next().is_none()
    }

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
