//! Project spaces: one for each tenant, and what becomes of it.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{GraphAnswer as _, Ocis};
use crate::{
    clients::{ClientError, Ensured, FailedCall, Mode, Operation},
    upstream::Upstream,
};

/// The most bytes that a space's name may have.
const NAME_LIMIT: usize = 255;

/// The roles that do not see every space: User and User Light. Their ids are fixed in the source of oCIS.
const LESSER_ROLES: [&str; 2] = [
    "d7beeea8-8ff4-406b-8fb6-ab2dd81e6b11",
    "38071a68-456a-4553-846a-fa67bf5596cc",
];

/// A tenant's space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The only stable key of a space, made by oCIS.
    pub id: String,
    /// What its members see.
    pub name: String,
}

/// The name of a tenant's space: the tenant's own without what oCIS forbids, else the slug.
pub fn space_name(tenant_name: &str, slug: &str) -> String {
    let allowed = tenant_name.replace(['/', '\\', '.', ':', '?', '*', '"', '>', '<', '|'], " ");
    let trimmed = allowed.trim();
    // A cut can leave a space at the end, which oCIS would trim: then the names would differ for ever.
    let name = trimmed[..trimmed.floor_char_boundary(NAME_LIMIT)].trim_end();
    if name.is_empty() { slug } else { name }.to_owned()
}

impl Ocis {
    /// Brings the tenant's space to be there once, enabled, marked and named.
    ///
    /// The stored id counts first, then the marker, in the trash too. A space that `quota` bytes are given to
    /// gets just that (0 is unlimited); without them oCIS decides. Several spaces with the marker are a conflict,
    /// except the empty one that this very call made.
    pub async fn ensure_space(
        &self,
        tenant_id: &str,
        name: &str,
        stored_id: Option<&str>,
        quota: Option<u64>,
        mode: Mode,
    ) -> Result<Ensured<Space>, ClientError> {
        let marker = marker(tenant_id);
        let quota = quota.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut changes = Vec::new();

        let mut spaces = self.spaces_of(&marker, stored_id).await?;
        if stored_id.is_some_and(|stored| spaces.iter().all(|space| space.id != stored)) {
            self.require_full_view().await?;
        }
        if spaces.is_empty() {
            changes.push("space created".to_owned());
            if mode == Mode::DryRun {
                return Ok(Ensured {
                    value: None,
                    changes,
                });
            }
            let created = self.create_space(&marker, name, quota).await?;
            spaces = self
                .settle_duplicates(&marker, created, &mut changes)
                .await?;
        }
        let space = match <[Drive; 1]>::try_from(spaces) {
            Ok([space]) => space,
            Err(spaces) => return Err(several(&marker, &spaces)),
        };

        if space.is_trashed() {
            changes.push("space restored".to_owned());
            if mode == Mode::Apply {
                self.restore_space(&space.id).await?;
            }
        }
        let update = Update {
            name: (space.name != name).then_some(name),
            drive_alias: (!space.has_marker(&marker)).then_some(marker.as_str()),
            quota: quota
                .filter(|total| space.quota.total != Some(*total))
                .map(|total| NewQuota { total }),
        };
        if !update.is_empty() {
            changes.extend(update.phrases().map(str::to_owned));
            if mode == Mode::Apply {
                self.update_space(&space.id, &update).await?;
            }
        }
        Ok(Ensured {
            value: Some(Space {
                id: space.id,
                name: name.to_owned(),
            }),
            changes,
        })
    }

    /// Puts the tenant's space, and any other with its marker, in the trash, from which
    /// [`ensure_space`](Self::ensure_space) restores it. The value is `None` inside when there is no space.
    pub async fn disable_space(
        &self,
        tenant_id: &str,
        stored_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<Option<Space>>, ClientError> {
        let spaces = self.every_space_of(&marker(tenant_id), stored_id).await?;

        let mut changes = Vec::new();
        for space in spaces.iter().filter(|space| !space.is_trashed()) {
            changes.push("space disabled".to_owned());
            if mode == Mode::Apply {
                self.trash(space).await?;
            }
        }
        let kept = spaces
            .iter()
            .find(|space| Some(space.id.as_str()) == stored_id)
            .or(spaces.first());
        Ok(Ensured {
            value: Some(kept.map(Drive::to_space)),
            changes,
        })
    }

    /// Removes every space with the tenant's marker for good. A stored space that lost its marker is a conflict.
    pub async fn purge_space(
        &self,
        tenant_id: &str,
        stored_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let marker = marker(tenant_id);
        let spaces = self.every_space_of(&marker, stored_id).await?;
        if let Some(foreign) = spaces.iter().find(|space| !space.has_marker(&marker)) {
            return Err(conflict(format!(
                "{} is stored for the tenant but does not carry {marker}: it was not purged",
                foreign.id
            )));
        }

        let mut changes = Vec::new();
        for space in &spaces {
            changes.push("space purged".to_owned());
            if mode == Mode::Apply {
                self.purge(space).await?;
            }
        }
        Ok(Ensured {
            value: Some(()),
            changes,
        })
    }

    async fn create_space(
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
        answer.success()?.json()
    }

    /// Looks again after creating, and answers the spaces that then carry the marker.
    ///
    /// oCIS makes a second space of the same name and alias without a word, and an earlier create whose answer
    /// was lost can land at any time. The smallest id stays; the one `made` by this call goes if it is another
    /// and still empty. What others made is not touched.
    async fn settle_duplicates(
        &self,
        marker: &str,
        made: Drive,
        changes: &mut Vec<String>,
    ) -> Result<Vec<Drive>, ClientError> {
        let mut spaces = self.spaces_of(marker, None).await?;
        let made = match spaces.iter().position(|space| space.id == made.id) {
            Some(ours) => spaces.remove(ours),
            None => made,
        };
        match spaces.first() {
            Some(kept) if kept.id < made.id && made.is_empty() => {
                self.purge(&made).await?;
                changes.push("duplicate removed".to_owned());
            }
            _ => spaces.push(made),
        }
        Ok(spaces)
    }

    async fn restore_space(&self, id: &str) -> Result<(), ClientError> {
        let request = self
            .http
            .request(Method::PATCH, &drive(id))
            .header("Restore", "true")
            .json(&json!({}));
        let answer = self
            .send(Operation::write("restore_space"), request)
            .await?;
        let _: Drive = answer.success()?.json()?;
        Ok(())
    }

    async fn update_space(&self, id: &str, update: &Update<'_>) -> Result<(), ClientError> {
        let request = self.http.request(Method::PATCH, &drive(id)).json(update);
        let answer = self.send(Operation::write("update_space"), request).await?;
        let _: Drive = answer.success()?.json()?;
        Ok(())
    }

    /// Trashes the space and makes sure that it is.
    async fn trash(&self, space: &Drive) -> Result<(), ClientError> {
        let request = self.http.request(Method::DELETE, &drive(&space.id));
        self.send(Operation::write("disable_space"), request)
            .await?
            .found()?;

        match self.find_space(&space.id).await? {
            Some(space) if !space.is_trashed() => Err(still_there(&space)),
            _ => Ok(()),
        }
    }

    /// Removes the space for good, in the two steps this takes, and makes sure that it is gone.
    async fn purge(&self, space: &Drive) -> Result<(), ClientError> {
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
            .found()?;

        match self.find_space(&space.id).await? {
            Some(space) => Err(still_there(&space)),
            None => Ok(()),
        }
    }

    async fn find_space(&self, id: &str) -> Result<Option<Drive>, ClientError> {
        let request = self.http.request(Method::GET, &drive(id));
        let answer = self.send(Operation::read("find_space"), request).await?;
        answer.found()?.map(|answer| answer.json()).transpose()
    }

    /// The project spaces that carry the marker or have the stored id, by id.
    ///
    /// All spaces are read and matched here: oCIS ignores a filter by name or alias without saying so. There are
    /// no pages, and for a service account of the role Admin or Space Admin the list holds everybody's.
    async fn spaces_of(
        &self,
        marker: &str,
        stored_id: Option<&str>,
    ) -> Result<Vec<Drive>, ClientError> {
        let request = self
            .http
            .request(Method::GET, DRIVES)
            .query(&[("$filter", "driveType eq 'project'")]);
        let answer = self.send(Operation::read("list_spaces"), request).await?;
        let list: List<Drive> = answer.success()?.json()?;

        let mut spaces = list.value;
        spaces.retain(|space| space.has_marker(marker) || Some(space.id.as_str()) == stored_id);
        spaces.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(spaces)
    }

    /// As above; and when there is none, this is certain.
    async fn every_space_of(
        &self,
        marker: &str,
        stored_id: Option<&str>,
    ) -> Result<Vec<Drive>, ClientError> {
        let spaces = self.spaces_of(marker, stored_id).await?;
        if spaces.is_empty() {
            self.require_full_view().await?;
        }
        Ok(spaces)
    }

    /// Fails when our account has no role that sees every space: what it may not see looks as if it were gone.
    async fn require_full_view(&self) -> Result<(), ClientError> {
        let me = self.me().await?;
        let path = format!("/graph/v1.0/users/{}/appRoleAssignments", me.id);
        let request = self.http.request(Method::GET, &path);
        let answer = self
            .send(Operation::read("list_own_roles"), request)
            .await?
            .success()?;
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

const DRIVES: &str = "/graph/v1.0/drives";

fn drive(id: &str) -> String {
    format!("{DRIVES}/{id}")
}

/// What marks a space as the tenant's.
fn marker(tenant_id: &str) -> String {
    format!("project/{tenant_id}")
}

fn conflict(detail: String) -> ClientError {
    ClientError::Conflict(FailedCall {
        upstream: Upstream::Ocis,
        operation: "list_spaces",
        status: None,
        request_id: None,
        detail,
    })
}

fn several(marker: &str, spaces: &[Drive]) -> ClientError {
    let ids: Vec<_> = spaces.iter().map(|space| space.id.as_str()).collect();
    conflict(format!("several spaces for {marker}: {}", ids.join(", ")))
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
#[derive(Deserialize)]
struct Drive {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(rename = "driveType")]
    kind: Option<String>,
    #[serde(rename = "driveAlias")]
    alias: Option<String>,
    #[serde(default)]
    quota: Quota,
    #[serde(default)]
    root: Root,
}

#[derive(Default, Deserialize)]
struct Quota {
    total: Option<i64>,
    /// Missing while the space is in the trash.
    used: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Root {
    /// Present while the space is in the trash.
    deleted: Option<serde::de::IgnoredAny>,
}

impl Drive {
    fn has_marker(&self, marker: &str) -> bool {
        self.kind.as_deref() == Some("project") && self.alias.as_deref() == Some(marker)
    }

    fn is_trashed(&self) -> bool {
        self.root.deleted.is_some()
    }

    fn is_empty(&self) -> bool {
        self.quota.used == Some(0)
    }

    fn to_space(&self) -> Space {
        Space {
            id: self.id.clone(),
            name: self.name.clone(),
        }
    }
}

/// The fields of a space that differ from what they should be. Never more: oCIS refuses unknown fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Update<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drive_alias: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<NewQuota>,
}

/// Never negative: oCIS answers that with 500 and hides the space.
#[derive(Serialize)]
struct NewQuota {
    total: i64,
}

impl Update<'_> {
    fn is_empty(&self) -> bool {
        self.phrases().next().is_none()
    }

    fn phrases(&self) -> impl Iterator<Item = &'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_space_name_may_not_hold_becomes_a_space() {
        assert_eq!(space_name("acme.example", "acme"), "acme example");
        assert_eq!(
            space_name(r#"a/b\c.d:e?f*g"h>i<j|k"#, "acme"),
            "a b c d e f g h i j k"
        );
        assert_eq!(space_name(" Müller & Söhne. ", "acme"), "Müller & Söhne");
    }

    #[test]
    fn a_name_of_nothing_but_forbidden_signs_gives_way_to_the_slug() {
        assert_eq!(space_name("...", "acme"), "acme");
        assert_eq!(space_name("", "acme"), "acme");
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_trimmed_again() {
        let umlauts = "ä".repeat(200);
        let blank_at_the_cut = format!("{} {}", "x".repeat(254), "y".repeat(10));

        assert_eq!(space_name(&umlauts, "acme"), "ä".repeat(127));
        assert_eq!(space_name(&blank_at_the_cut, "acme"), "x".repeat(254));
    }

    #[test]
    fn a_name_is_already_as_it_would_be_made() {
        let name = space_name(&format!("{}. ", "é.".repeat(150)), "acme");

        assert_eq!(space_name(&name, "acme"), name);
    }
}
