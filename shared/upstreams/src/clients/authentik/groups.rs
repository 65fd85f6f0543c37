//! The group of a tenant, and that of a partner. A tenant's name is its slug, because names are what a token's `groups`
//! claim carries; a partner's holds a colon, so that it is never taken for one. Whose a group is stands in its attribute
//! `tenantId` or `partnerId` and nowhere else.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Authentik, error, failed};
use crate::clients::{ClientError, Ensured, Mode, Operation};

/// Members are loaded with every group unless this is said.
const WITHOUT_MEMBERS: (&str, &str) = ("include_users", "false");

/// A group of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The UUID that addresses it.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Whose group it is: the mark by which it is known, whatever its name.
#[derive(Debug, Clone, Copy)]
struct Mark<'a> {
    key: &'static str,
    id: &'a str,
}

/// How a group is to be.
struct Wanted<'a> {
    name: &'a str,
    mark: Mark<'a>,
    marks: Map<String, Value>,
}

impl<'a> Mark<'a> {
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

impl<'a> Wanted<'a> {
    fn new(name: &'a str, mark: Mark<'a>, slug: (&'static str, &str)) -> Self {
        let (slug_key, slug) = slug;
        Self {
            name,
            mark,
            marks: Map::from_iter([
                (slug_key.to_owned(), slug.into()),
                (mark.key.to_owned(), mark.id.into()),
            ]),
        }
    }
}

impl Authentik {
    /// Makes sure that the tenant has its group, named exactly as its slug, and that nothing about it has drifted.
    ///
    /// `known_id` is where the group was when last seen. A group of that name that is not this tenant's is a
    /// [`ClientError::Conflict`]; it is never adopted.
    pub async fn ensure_group(
        &self,
        slug: &str,
        tenant_id: &str,
        known_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<Group>, ClientError> {
        let wanted = Wanted::new(slug, Mark::tenant(tenant_id), ("tenantSlug", slug));
        self.ensure(&wanted, known_id, mode).await
    }

    /// The same for a partner, whose group is named `name`.
    pub async fn ensure_partner_group(
        &self,
        name: &str,
        slug: &str,
        partner_id: &str,
        known_id: Option<&str>,
    ) -> Result<Ensured<Group>, ClientError> {
        let wanted = Wanted::new(name, Mark::partner(partner_id), ("partnerSlug", slug));
        self.ensure(&wanted, known_id, Mode::Apply).await
    }

    async fn ensure(
        &self,
        wanted: &Wanted<'_>,
        known_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<Group>, ClientError> {
        if let Some(group) = self.look_up(wanted.mark, known_id).await? {
            return self.repair_group(group, wanted, mode).await;
        }
        if self.group_named(wanted.name).await?.is_some() {
            return Err(name_is_foreign());
        }
        let changes = vec!["group created".to_owned()];
        if mode == Mode::DryRun {
            let value = None;
            return Ok(Ensured { value, changes });
        }
        if let Some(group) = self.create_group(wanted).await? {
            let value = Some(group.into());
            return Ok(Ensured { value, changes });
        }
        // The name was taken since we looked, perhaps by an earlier attempt of ours whose answer was lost.
        if let Some(group) = self.look_up(wanted.mark, None).await? {
            return self.repair_group(group, wanted, mode).await;
        }
        match self.group_named(wanted.name).await? {
            Some(_) => Err(name_is_foreign()),
            None => Err(ClientError::Permission(failed(
                "create_group",
                "the name is taken by a group that our account cannot see",
            ))),
        }
    }

    /// Makes sure that the tenant has no group. What is not marked as this tenant's is left alone.
    pub async fn delete_group(
        &self,
        tenant_id: &str,
        known_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let mut changes = Vec::new();
        let mark = Mark::tenant(tenant_id);
        if let Some(group) = self.look_up(mark, known_id).await? {
            if group.owner(mark) != Some(tenant_id) {
                return Err(ClientError::Conflict(failed(
                    "delete_group",
                    "the tenant's group no longer says whose it is",
                )));
            }
            let path = format!("/core/groups/{}/", group.pk);
            if mode == Mode::DryRun || self.delete(Operation::write("delete_group"), &path).await? {
                changes.push("group deleted".to_owned());
            }
        }
        let value = Some(());
        Ok(Ensured { value, changes })
    }

    /// The tenant's group, whatever its name is by now. `known_id` is where it was when last seen.
    pub async fn find_group(
        &self,
        tenant_id: &str,
        known_id: Option<&str>,
    ) -> Result<Option<Group>, ClientError> {
        let group = self.look_up(Mark::tenant(tenant_id), known_id).await?;
        Ok(group.map(Group::from))
    }

    /// The same for a partner.
    pub async fn find_partner_group(
        &self,
        partner_id: &str,
        known_id: Option<&str>,
    ) -> Result<Option<Group>, ClientError> {
        let group = self.look_up(Mark::partner(partner_id), known_id).await?;
        Ok(group.map(Group::from))
    }

    /// The group with this mark: the one at `known_id`, unless it now says it is another's, else the one that bears it,
    /// whatever its name.
    async fn look_up(
        &self,
        mark: Mark<'_>,
        known_id: Option<&str>,
    ) -> Result<Option<WireGroup>, ClientError> {
        if let Some(id) = known_id {
            let path = format!("/core/groups/{id}/");
            let group: Option<WireGroup> = self.get("get_group", &path, &[WITHOUT_MEMBERS]).await?;
            // Its attributes may have been emptied; that its id is the one we stored says enough.
            let ours = |group: &WireGroup| group.owner(mark).is_none_or(|owner| owner == mark.id);
            if let Some(group) = group.filter(ours) {
                return Ok(Some(group));
            }
        }
        let bearing = json!({ mark.key: mark.id }).to_string();
        let mut groups = self.list_groups(("attributes", &bearing)).await?;
        groups.retain(|group| group.owner(mark) == Some(mark.id));
        match groups.len() {
            0 | 1 => Ok(groups.pop()),
            _ => Err(ClientError::Conflict(failed(
                "list_groups",
                "several groups say that they are the same one's",
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

    /// `None` when the name is taken.
    async fn create_group(&self, wanted: &Wanted<'_>) -> Result<Option<WireGroup>, ClientError> {
        let request = self
            .http
            .request(Method::POST, "/core/groups/")
            .json(&json!({
                "name": wanted.name,
                "is_superuser": false,
                "attributes": wanted.marks,
            }));
        let answer = self.send(Operation::write("create_group"), request).await?;
        if error::is_duplicate(&answer, "name") {
            return Ok(None);
        }
        self.expect(&answer, StatusCode::CREATED)?;
        answer.json().map(Some)
    }

    /// Gives the group back its name and its marks, and takes from it what it must not have.
    async fn repair_group(
        &self,
        group: WireGroup,
        wanted: &Wanted<'_>,
        mode: Mode,
    ) -> Result<Ensured<Group>, ClientError> {
        let mut changes = Vec::new();
        let mut body = Map::new();
        if group.name != wanted.name {
            changes.push("group name restored".to_owned());
            body.insert("name".to_owned(), wanted.name.into());
        }
        if group.is_superuser {
            changes.push("superuser status removed from group".to_owned());
            body.insert("is_superuser".to_owned(), false.into());
        }
        if wanted
            .marks
            .iter()
            .any(|(key, mark)| group.attributes.get(key) != Some(mark))
        {
            changes.push("group attributes restored".to_owned());
            let mut attributes = group.attributes.clone();
            attributes.extend(wanted.marks.clone());
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
        let answer = self.send(Operation::write("update_group"), request).await?;
        if error::is_duplicate(&answer, "name") {
            return Err(name_is_foreign());
        }
        self.expect(&answer, StatusCode::OK)?;
        answer.json()
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
    /// The id in the mark of this kind, if the group bears one.
    fn owner(&self, mark: Mark<'_>) -> Option<&str> {
        self.attributes.get(mark.key)?.as_str()
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
