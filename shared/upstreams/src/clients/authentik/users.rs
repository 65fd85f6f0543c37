//! Users, and which groups they are members of.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Authentik, error, failed};
use crate::clients::{ClientError, Operation};

/// Leaves out whole groups and roles; the ids of a user's groups are answered all the same.
const IDS_ONLY: [(&str, &str); 2] = [("include_groups", "false"), ("include_roles", "false")];

/// A user.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct User {
    /// The number that addresses them.
    pub pk: i64,
    /// The stable id, which is the `sub` of their tokens.
    pub uuid: String,
    /// The lower-cased e-mail address, for users of ours.
    pub username: String,
    /// Whether they can sign in.
    pub is_active: bool,
    /// Whether they may do everything in Authentik.
    #[serde(default)]
    pub is_superuser: bool,
    /// The ids of the groups they are direct members of.
    #[serde(default)]
    pub groups: Vec<String>,
    /// When they last signed in: RFC 3339.
    #[serde(default)]
    pub last_login: Option<String>,
    /// What else is written down about them.
    #[serde(default)]
    pub attributes: Map<String, Value>,
}

/// The attribute with the partner for whose team an account was made.
const INVITED_BY: &str = "dezkyInvitedBy";

impl User {
    /// Whether the account was made for this partner's team.
    pub fn was_made_for(&self, partner_id: &str) -> bool {
        self.made_for() == Some(partner_id)
    }

    fn made_for(&self) -> Option<&str> {
        self.attributes.get(INVITED_BY).and_then(Value::as_str)
    }
}

impl Authentik {
    /// Makes sure that there is a user with this e-mail address. One who exists is left as they are.
    pub async fn ensure_user(&self, email: &str, name: &str) -> Result<User, ClientError> {
        self.ensure_user_with(email, name, Map::new()).await
    }

    /// The same for the owner of a tenant that `partner_id` looks after. A partner that invited them to its team may
    /// have a link to an account that nobody has signed in to: only a tenant of that partner's may depend on it.
    pub async fn ensure_owner(
        &self,
        email: &str,
        name: &str,
        partner_id: Option<&str>,
    ) -> Result<User, ClientError> {
        let user = self.ensure_user(email, name).await?;
        let made_for = user.made_for();
        if user.last_login.is_none() && made_for.is_some() && made_for != partner_id {
            return Err(ClientError::Conflict(failed(
                "ensure_owner",
                "the owner's account was made for a partner's team, and nobody has signed in to it",
            )));
        }
        Ok(user)
    }

    /// The same for somebody who is invited to a partner's team: an account that is made says for which.
    pub async fn ensure_invited(
        &self,
        email: &str,
        name: &str,
        partner_id: &str,
    ) -> Result<User, ClientError> {
        let made_for = Map::from_iter([(INVITED_BY.to_owned(), partner_id.into())]);
        self.ensure_user_with(email, name, made_for).await
    }

    async fn ensure_user_with(
        &self,
        email: &str,
        name: &str,
        attributes: Map<String, Value>,
    ) -> Result<User, ClientError> {
        if let Some(user) = self.find_user(email).await? {
            return Ok(user);
        }
        if let Some(user) = self.create_user(email, name, &attributes).await? {
            return Ok(user);
        }
        // The username was taken since we looked, perhaps by an earlier attempt of ours whose answer was lost.
        self.find_user(email).await?.ok_or_else(|| {
            ClientError::Permission(failed(
                "create_user",
                "the username is taken by a user that our account cannot see",
            ))
        })
    }

    /// The user with this e-mail address as their username.
    pub async fn find_user(&self, email: &str) -> Result<Option<User>, ClientError> {
        let username = username(email);
        let users = self.list_users(("username", &username)).await?;
        Ok(users.into_iter().find(|user| user.username == username))
    }

    /// The user whose tokens carry this subject.
    pub async fn find_subject(&self, subject: &str) -> Result<Option<User>, ClientError> {
        let users = self.list_users(("uuid", subject)).await?;
        Ok(users.into_iter().find(|user| user.uuid == subject))
    }

    /// The user as they are now.
    pub(super) async fn get_user(&self, pk: i64) -> Result<Option<User>, ClientError> {
        self.get("get_user", &format!("/core/users/{pk}/"), &IDS_ONLY)
            .await
    }

    /// The direct members of a group; none when there is no such group.
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

    /// Makes the user a member of the group, if they are not.
    pub async fn add_member(&self, group_id: &str, user_pk: i64) -> Result<(), ClientError> {
        let path = format!("/core/groups/{group_id}/add_user/");
        let request = self.http.request(Method::POST, &path);
        let request = request.json(&json!({ "pk": user_pk }));
        let answer = self.send(Operation::write("add_member"), request).await?;
        self.expect(&answer, StatusCode::NO_CONTENT)
    }

    /// Ends the user's membership of the group, if there is one.
    pub async fn remove_member(&self, group_id: &str, user_pk: i64) -> Result<(), ClientError> {
        let path = format!("/core/groups/{group_id}/remove_user/");
        let request = self.http.request(Method::POST, &path);
        let request = request.json(&json!({ "pk": user_pk }));
        let answer = self
            .send(Operation::write("remove_member"), request)
            .await?;
        // Without the group, or without the user, there is no membership.
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.expect(&answer, StatusCode::NO_CONTENT)
    }

    /// `None` when the username is taken.
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
        let answer = self.send(Operation::write("create_user"), request).await?;
        if error::is_duplicate(&answer, "username") {
            return Ok(None);
        }
        self.expect(&answer, StatusCode::CREATED)?;
        answer.json().map(Some)
    }
}

/// Usernames that differ only in case are two users, so ours are always in lower case.
fn username(email: &str) -> String {
    email.trim().to_lowercase()
}
