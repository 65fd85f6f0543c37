//! Groups of tenants and partners. A tenant's group is named by its slug, because a token's `groups` claim contains
//! names; a partner's contains a colon, so that the two never collide. The owner of a group is determined only by its
//! attribute `tenantId` or `partnerId`.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Authentik, error, failed};
use crate::clients::{ClientError, Ensured, Mode, Operation};

/// Otherwise, the response of every group includes its members.
const WITHOUT_MEMBERS: (&str, &str) = ("include_users", "false");

/// Change reported for a new group.
pub const GROUP_CREATED: &str = "group created";

/// Managed group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// UUID.
    pub id: String,
    /// Name.
    pub name: String,
}

/// Ownership marker of a group, independent of its name.
#[derive(Debug, Clone, Copy)]
struct OwnershipMarker<'a> {
    key: &'static str,
    id: &'a str,
}

/// Desired state of a group.
struct DesiredGroup<'a> {
    name: &'a str,
    marker: OwnershipMarker<'a>,
    marks: Map<String, Value>,
}

impl<'a> OwnershipMarker<'a> {
    fn tenant(id: &'a str) -> Self {
        Self {
            key: "tenantId",
            id,
        }
    }

    fn partner(id: &'a str) -> Self {
        Self {
            key: "partnerId",
            id,
        }
    }
}

impl<'a> DesiredGroup<'a> {
    fn of_tenant(slug: &'a str, tenant_id: &'a str) -> Self {
        let marker = OwnershipMarker::tenant(tenant_id);
        Self::new(slug, marker, ("tenantSlug", slug))
    }

    fn new(name: &'a str, marker: OwnershipMarker<'a>, slug: (&'static str, &str)) -> Self {
        let (slug_key, slug) = slug;
        Self {
            name,
            marker,
            marks: Map::from_iter([
                (slug_key.to_owned(), slug.into()),
                (marker.key.to_owned(), marker.id.into()),
            ]),
        }
    }
}

impl Authentik {
    /// Ensures that the tenant has its group, named exactly as its slug, without drift.
    ///
    /// `known_id` is the id last stored. A group with that name that does not belong to the tenant is a
    /// [`ClientError::Conflict`]; it is never adopted.
    pub async fn ensure_group(
        &self,
        slug: &str,
        tenant_id: &str,
        known_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<Group>, ClientError> {
        let desired = DesiredGroup::of_tenant(slug, tenant_id);
        self.ensure(&desired, known_id, mode).await
    }

    /// Creates the group of a tenant that certainly has none, without a look-up. `None` if the name is taken: then
    /// [`ensure_group`](Self::ensure_group) tells whose group has it.
    pub async fn create_tenant_group(
        &self,
        slug: &str,
        tenant_id: &str,
    ) -> Result<Option<Group>, ClientError> {
        let desired = DesiredGroup::of_tenant(slug, tenant_id);
        let created = self.create_group(&desired).await?;
        Ok(created.map(Group::from))
    }

    /// Ensures that a partner has its group, named `name`, like [`ensure_group`](Self::ensure_group).
    pub async fn ensure_partner_group(
        &self,
        name: &str,
        slug: &str,
        partner_id: &str,
        known_id: Option<&str>,
    ) -> Result<Ensured<Group>, ClientError> {
        let desired = DesiredGroup::new(
            name,
            OwnershipMarker::partner(partner_id),
            ("partnerSlug", slug),
        );
        self.ensure(&desired, known_id, Mode::Apply).await
    }

    async fn ensure(
        &self,
        desired: &DesiredGroup<'_>,
        known_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<Group>, ClientError> {
        if let Some(group) = self.look_up(desired.marker, known_id).await? {
            return self.repair_group(group, desired, mode).await;
        }
        if self.group_named(desired.name).await?.is_some() {
            return Err(name_is_foreign());
        }
        let changes = vec![GROUP_CREATED.to_owned()];
        if mode == Mode::DryRun {
            let value = None;
            return Ok(Ensured { value, changes });
        }
        if let Some(group) = self.create_group(desired).await? {
            let value = Some(group.into());
            return Ok(Ensured { value, changes });
        }
        // The name was taken since the lookup, possibly by an earlier attempt of ours whose response was lost.
        if let Some(group) = self.look_up(desired.marker, None).await? {
            return self.repair_group(group, desired, mode).await;
        }
        match self.group_named(desired.name).await? {
            Some(_) => Err(name_is_foreign()),
            None => Err(ClientError::Permission(failed(
                "create_group",
                "the name is taken by a group that our account cannot see",
            ))),
        }
    }

    /// Ensures that the tenant has no group. Groups without the tenant's marker are left alone.
    pub async fn delete_group(
        &self,
        tenant_id: &str,
        known_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let mut changes = Vec::new();
        let marker = OwnershipMarker::tenant(tenant_id);
        if let Some(group) = self.look_up(marker, known_id).await? {
            if group.owner(marker) != Some(tenant_id) {
                return Err(ClientError::Conflict(failed(
                    "delete_group",
                    "the tenant's group lost its ownership marker",
                )));
            }
            let path = format!("/core/groups/{}/", group.pk);
            if mode == Mode::DryRun || self.delete(Operation::write("delete_group"), &path).await? {
                changes.push("group deleted".to_owned());
            }
        }
        Ok(Ensured::with(changes))
    }

    /// The tenant's group, whatever its current name. `known_id` is the id last stored.
    pub async fn find_group(
        &self,
        tenant_id: &str,
        known_id: Option<&str>,
    ) -> Result<Option<Group>, ClientError> {
        let group = self
            .look_up(OwnershipMarker::tenant(tenant_id), known_id)
            .await?;
        Ok(group.map(Group::from))
    }

    /// The partner's group, like [`find_group`](Self::find_group).
    pub async fn find_partner_group(
        &self,
        partner_id: &str,
        known_id: Option<&str>,
    ) -> Result<Option<Group>, ClientError> {
        let group = self
            .look_up(OwnershipMarker::partner(partner_id), known_id)
            .await?;
        Ok(group.map(Group::from))
    }

    /// The group with this marker: the one at `known_id`, unless its marker names another owner, else the one with the
    /// marker, whatever its name.
    async fn look_up(
        &self,
        marker: OwnershipMarker<'_>,
        known_id: Option<&str>,
    ) -> Result<Option<WireGroup>, ClientError> {
        if let Some(id) = known_id {
            let path = format!("/core/groups/{id}/");
            let group: Option<WireGroup> = self.get("get_group", &path, &[WITHOUT_MEMBERS]).await?;
            // Its attributes may have been cleared; the stored id is sufficient.
            let ours =
                |group: &WireGroup| group.owner(marker).is_none_or(|owner| owner == marker.id);
            if let Some(group) = group.filter(ours) {
                return Ok(Some(group));
            }
        }
        let bearing = json!({ marker.key: marker.id }).to_string();
        let mut groups = self.list_groups(("attributes", &bearing)).await?;
        groups.retain(|group| group.owner(marker) == Some(marker.id));
        match groups.len() {
            0 | 1 => Ok(groups.pop()),
            _ => Err(ClientError::Conflict(failed(
                "list_groups",
                "several groups have the same ownership marker",
            ))),
        }
    }

    async fn group_named(&self, name: &str) -> Result<Option<WireGroup>, ClientError> {
        let groups = self.list_groups(("name", name)).await?;
        Ok(groups.into_iter().find(|group| group.name == name))
    }

    async fn list_groups(&self, filter: (&str, &str)) -> Result<Vec<WireGroup>, ClientError> {
        self.list("list_groups", "/core/groups/", &[filter, WITHOUT_MEMBERS])
            .await
    }

    /// `None` if the name is taken.
    async fn create_group(
        &self,
        desired: &DesiredGroup<'_>,
    ) -> Result<Option<WireGroup>, ClientError> {
        let request = self
            .http
            .request(Method::POST, "/core/groups/")
            .json(&json!({
                "name": desired.name,
                "is_superuser": false,
                "attributes": desired.marks,
            }));
        let response = self.send(Operation::write("create_group"), request).await?;
        if error::is_duplicate(&response, "name") {
            return Ok(None);
        }
        self.expect(&response, StatusCode::CREATED)?;
        response.json().map(Some)
    }

    /// Restores the group's name and marker, and removes superuser status.
    async fn repair_group(
        &self,
        group: WireGroup,
        desired: &DesiredGroup<'_>,
        mode: Mode,
    ) -> Result<Ensured<Group>, ClientError> {
        let mut changes = Vec::new();
        let mut body = Map::new();
        if group.name != desired.name {
            changes.push("group name restored".to_owned());
            body.insert("name".to_owned(), desired.name.into());
        }
        if group.is_superuser {
            changes.push("superuser status removed from group".to_owned());
            body.insert("is_superuser".to_owned(), false.into());
        }
        if desired
            .marks
            .iter()
            .any(|(key, marker)| group.attributes.get(key) != Some(marker))
        {
            changes.push("group attributes restored".to_owned());
            let mut attributes = group.attributes.clone();
            attributes.extend(desired.marks.clone());
            body.insert("attributes".to_owned(), attributes.into());
        }

        let group = if changes.is_empty() || mode == Mode::DryRun {
            group
        } else {
            self.update_group(&group.pk, &body).await?
        };
        let value = Some(group.into());
        Ok(Ensured { value, changes })
    }

    async fn update_group(
        &self,
        id: &str,
        body: &Map<String, Value>,
    ) -> Result<WireGroup, ClientError> {
        let path = format!("/core/groups/{id}/");
        let request = self
            .http
            .request(Method::PATCH, &path)
            .query(&[WITHOUT_MEMBERS])
            .json(body);
        let response = self.send(Operation::write("update_group"), request).await?;
        if error::is_duplicate(&response, "name") {
            return Err(name_is_foreign());
        }
        self.expect(&response, StatusCode::OK)?;
        response.json()
    }
}

fn name_is_foreign() -> ClientError {
    ClientError::Conflict(failed(
        "ensure_group",
        "the name belongs to a group that is not ours",
    ))
}

#[derive(Debug, Deserialize)]
struct WireGroup {
    pk: String,
    name: String,
    #[serde(default)]
    is_superuser: bool,
    #[serde(default)]
    attributes: Map<String, Value>,
}

impl WireGroup {
    /// The id in the group's marker of this kind, if present.
    fn owner(&self, marker: OwnershipMarker<'_>) -> Option<&str> {
        self.attributes.get(marker.key)?.as_str()
    }
}

impl From<WireGroup> for Group {
    fn from(group: WireGroup) -> Self {
        Self {
            id: group.pk,
            name: group.name,
        }
    }
}
