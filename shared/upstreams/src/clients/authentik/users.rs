//! Users and their group memberships.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Authentik, error, failed};
use crate::clients::{ClientError, Operation};

/// Omits the embedded groups and roles; the ids of a user's groups are always included.
const IDS_ONLY: [(&str, &str); 2] = [("include_groups", "false"), ("include_roles", "false")];

/// Authentik user.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct User {
    /// Numeric primary key.
    pub pk: i64,
    /// Stable id: the `sub` of the user's tokens.
    pub uuid: String,
    /// Username; for our users, the e-mail address in lower case.
    pub username: String,
    /// Display name.
    #[serde(default)]
    pub name: String,
    /// E-mail address, unverified.
    #[serde(default)]
    pub email: String,
    /// Whether the user can sign in.
    pub is_active: bool,
    /// Whether the user has all permissions in Authentik.
    #[serde(default)]
    pub is_superuser: bool,
    /// Ids of the groups with direct membership.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Time of the last sign-in, RFC 3339.
    #[serde(default)]
    pub last_login: Option<String>,
    /// Custom attributes.
    #[serde(default)]
    pub attributes: Map<String, Value>,
}

/// Attribute with the partner for whose team the account was created.
const INVITED_BY: &str = "dezkyInvitedBy";

impl User {
    /// Whether the account was created for this partner's team.
    pub fn was_created_for_partner(&self, partner_id: &str) -> bool {
        self.created_for_partner() == Some(partner_id)
    }

    /// The partner for whose team the account was created, which may have used a recovery link to it.
    pub fn created_for_partner(&self) -> Option<&str> {
        self.attributes.get(INVITED_BY).and_then(Value::as_str)
    }
}

impl Authentik {
    /// Ensures that a user with this e-mail address exists. An existing user is not changed, and may have been created for another tenant: see
    /// [`User::created_for_member`] and [`User::created_for_partner`].
    pub async fn ensure_user(&self, email: &str, name: &str) -> Result<User, ClientError> {
        self.ensure_user_with(email, name, Map::new()).await
    }

    /// Ensures that a person invited to a partner's team has an account. A new account records the partner.
    pub async fn ensure_invited(
        &self,
        email: &str,
        name: &str,
        partner_id: &str,
    ) -> Result<User, ClientError> {
        let attributes = Map::from_iter([(INVITED_BY.to_owned(), partner_id.into())]);
        self.ensure_user_with(email, name, attributes).await
    }

    pub(super) async fn ensure_user_with(
        &self,
        email: &str,
        name: &str,
        attributes: Map<String, Value>,
    ) -> Result<User, ClientError> {
        match self.find_user(email).await? {
            Some(user) => Ok(user),
            None => self.create_absent_user(email, name, &attributes).await,
        }
    }

    /// Creates a user that a look-up did not find. If the username was taken since then, possibly by an earlier attempt whose
    /// response was lost, returns its user.
    pub async fn create_absent_user(
        &self,
        email: &str,
        name: &str,
        attributes: &Map<String, Value>,
    ) -> Result<User, ClientError> {
        if let Some(user) = self.create_user(email, name, attributes).await? {
            return Ok(user);
        }
        self.find_user(email).await?.ok_or_else(|| {
            ClientError::Permission(failed(
                "create_user",
                "the username is taken by a user that our account cannot see",
            ))
        })
    }

    /// The user whose username is this e-mail address.
    pub async fn find_user(&self, email: &str) -> Result<Option<User>, ClientError> {
        let username = username(email);
        let users = self.list_users(("username", &username)).await?;
        Ok(users.into_iter().find(|user| user.username == username))
    }

    /// The user with this token subject.
    pub async fn find_subject(&self, subject: &str) -> Result<Option<User>, ClientError> {
        let users = self.list_users(("uuid", subject)).await?;
        Ok(users.into_iter().find(|user| user.uuid == subject))
    }

    /// Re-reads the user.
    pub(super) async fn get_user(&self, pk: i64) -> Result<Option<User>, ClientError> {
        self.get("get_user", &format!("/core/users/{pk}/"), &IDS_ONLY)
            .await
    }

    /// Direct members of a group; empty if the group does not exist.
    pub async fn list_members(&self, group_id: &str) -> Result<Vec<User>, ClientError> {
        let mut users = self.list_users(("groups_by_pk", group_id)).await?;
        users.retain(|user| user.groups.iter().any(|group| group == group_id));
        Ok(users)
    }

    pub(super) async fn list_users(&self, filter: (&str, &str)) -> Result<Vec<User>, ClientError> {
        let [groups, roles] = IDS_ONLY;
        self.list("list_users", "/core/users/", &[filter, groups, roles])
            .await
    }

    /// Adds the user to the group, if not a member.
    pub async fn add_member(&self, group_id: &str, user_pk: i64) -> Result<(), ClientError> {
        let path = format!("/core/groups/{group_id}/add_user/");
        let request = self.http.request(Method::POST, &path);
        let request = request.json(&json!({ "pk": user_pk }));
        let response = self.send(Operation::write("add_member"), request).await?;
        self.expect(&response, StatusCode::NO_CONTENT)
    }

    /// Removes the user from the group, if a member.
    pub async fn remove_member(&self, group_id: &str, user_pk: i64) -> Result<(), ClientError> {
        let path = format!("/core/groups/{group_id}/remove_user/");
        let request = self.http.request(Method::POST, &path);
        let request = request.json(&json!({ "pk": user_pk }));
        let response = self
            .send(Operation::write("remove_member"), request)
            .await?;
        // The group or the user does not exist, so there is no membership.
        if response.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.expect(&response, StatusCode::NO_CONTENT)
    }

    /// `None` if the username is taken.
    async fn create_user(
        &self,
        email: &str,
        name: &str,
        attributes: &Map<String, Value>,
    ) -> Result<Option<User>, ClientError> {
        let username = username(email);
        let request = self
            .http
            .request(Method::POST, "/core/users/")
            .json(&json!({
                "username": username,
                "email": username,
                "name": name,
                "type": "internal",
                "is_active": true,
                "attributes": attributes,
            }));
        let response = self.send(Operation::write("create_user"), request).await?;
        if error::is_duplicate(&response, "username") {
            return Ok(None);
        }
        self.expect(&response, StatusCode::CREATED)?;
        response.json().map(Some)
    }
}

/// Usernames are case-sensitive, so ours are always in lower case.
pub(super) fn username(email: &str) -> String {
    email.trim().to_lowercase()
}
