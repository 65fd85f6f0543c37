//! The calls about spaces, which the graph API names drives, and what they carry.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Ocis, error::ResponseExt as _, single_flight::SpaceList};
use crate::clients::{ClientError, FailedCall, LeaseDeadline, Operation};
use dezky_shared::upstream::Upstream;

/// The roles that do not see every space: User and User Light. Their ids are fixed in the source of oCIS.
const LESSER_ROLES: [&str; 2] = [
    "d7beeea8-8ff4-406b-8fb6-ab2dd81e6b11",
    "38071a68-456a-4553-846a-fa67bf5596cc",
];

const DRIVES: &str = "/graph/v1.0/drives";

fn drive(id: &str) -> String {
    format!("{DRIVES}/{id}")
}

impl Ocis {
    /// Creates another space, whatever there is already.
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
        let answer = self.send(Operation::write("create_space"), request).await?;
        answer.error_for_status()?.json()
    }

    /// Takes a space out of the trash.
    pub(super) async fn restore_space(&self, id: &str) -> Result<(), ClientError> {
        let request = self
            .http
            .request(Method::PATCH, &drive(id))
            .header("Restore", "T")
            .json(&json!({}));
        let answer = self
            .send(Operation::write("restore_space"), request)
            .await?;
        let _: Drive = answer.error_for_status()?.json()?;
        Ok(())
    }

    /// Changes just the fields that `update` holds.
    pub(super) async fn update_space(
        &self,
        id: &str,
        update: &Update<'_>,
    ) -> Result<(), ClientError> {
        let request = self.http.request(Method::PATCH, &drive(id)).json(update);
        let answer = self.send(Operation::write("update_space"), request).await?;
        let _: Drive = answer.error_for_status()?.json()?;
        Ok(())
    }

    /// Trashes the space and makes sure that it is.
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

    /// Removes the space for good, in the two steps this takes, and makes sure that it is gone.
    pub(super) async fn purge(&self, space: &Drive) -> Result<(), ClientError> {
        if !space.is_trashed() {
            self.trash(space).await?;
        }
        let request = self
            .http
            .request(Method::DELETE, &drive(&space.id))
            // Any other value is taken for a plain delete, which disables.
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
        let answer = self.send(Operation::read("find_space"), request).await?;
        answer.optional()?.map(|answer| answer.json()).transpose()
    }

    /// The project spaces that carry the marker or have the stored id, by id.
    ///
    /// All spaces are read and matched here: oCIS ignores a filter by name or alias without saying so. There are
    /// no pages, and for a service account of the role Admin or Space Admin the list holds everybody's.
    pub(super) async fn spaces_of(
        &self,
        marker: &str,
        stored_id: Option<&str>,
    ) -> Result<Vec<Drive>, ClientError> {
        let listed = self.listing.read(self.clone().list_spaces()).await;
        for id in &listed.request_ids {
            self.http.trust().note_request_id(id);
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

    /// All spaces, for any number of steps: the trust of one of them does not bound it.
    async fn list_spaces(self) -> SpaceList {
        let trust = LeaseDeadline::unlimited();
        let spaces = self.trusting(&trust).read_spaces().await;
        SpaceList {
            spaces: spaces.map(Into::into),
            request_ids: trust.request_ids(),
        }
    }

    async fn read_spaces(&self) -> Result<Vec<Drive>, ClientError> {
        let request = self
            .http
            .request(Method::GET, DRIVES)
            .query(&[("$filter", "driveType eq 'project'")]);
        let answer = self.send(Operation::read("list_spaces"), request).await?;
        let list: List<Drive> = answer.error_for_status()?.json()?;
        Ok(list.value)
    }

    /// Fails when our account has no role that sees every space: what it may not see looks as if it were gone.
    pub(super) async fn require_full_view(&self) -> Result<(), ClientError> {
        let me = self.me().await?;
        let path = format!("/graph/v1.0/users/{}/appRoleAssignments", me.id);
        let request = self.http.request(Method::GET, &path);
        let answer = self
            .send(Operation::read("list_own_roles"), request)
            .await?
            .error_for_status()?;
        let roles: List<RoleAssignment> = answer.json()?;

        let sees_all = |role: &RoleAssignment| !LESSER_ROLES.contains(&role.app_role_id.as_str());
        if roles.value.iter().any(sees_all) {
            Ok(())
        } else {
            Err(ClientError::Permission(answer.failed(
                "our account has neither the role Admin nor Space Admin: a space it does not see need not be gone",
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
            "{} is unchanged after its removal: our account may not remove it",
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

/// A space as oCIS shows it.
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

/// The fields of a space that differ from what they should be. Never more: oCIS refuses unknown fields.
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

/// Never negative: oCIS answers that with 500 and hides the space.
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
