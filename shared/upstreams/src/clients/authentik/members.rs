//! Accounts of members.
//!
//! An account is found by its stored number and subject, else by its username, never by its e-mail address, which is
//! neither unique nor verified. An account that was created for a member carries the member's id in the attribute
//! `dezkyMember`, set by the call that creates it, so that a later attempt recognises a create whose response was lost.
//! Any other account is adopted: only its group membership is changed.
//!
//! The mark stays for the life of the account: the tenant of that member may know the password, and would enter wherever
//! another one admits the account. Only a [reclaim](Authentik::reclaim) replaces it.

use http::StatusCode;
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::{Authentik, User, error, failed, users::username};
use crate::clients::{ClientError, Operation};

/// Attribute with the member for whom the account was created.
const MEMBER: &str = "dezkyMember";

/// The account that a member should have.
#[derive(Debug, Clone, Copy)]
pub struct MemberAccount<'a> {
    /// Member id.
    pub member_id: &'a str,
    /// Username, in lower case.
    pub login: &'a str,
    /// Display name.
    pub name: &'a str,
    /// Number and subject as last stored.
    pub known: Option<(i64, &'a str)>,
}

impl User {
    /// Whether the account was created for this member.
    pub fn was_created_for_member(&self, member_id: &str) -> bool {
        self.created_for_member() == Some(member_id)
    }

    /// The member for whom the account was created, present or removed.
    pub fn created_for_member(&self) -> Option<&str> {
        self.attributes.get(MEMBER).and_then(Value::as_str)
    }
}

impl Authentik {
    /// The member's account, if it exists.
    pub async fn find_member(
        &self,
        account: &MemberAccount<'_>,
    ) -> Result<Option<User>, ClientError> {
        if let Some((pk, subject)) = account.known {
            let user = self.get_user(pk).await?;
            // A number may denote another user once the server was restored from a backup.
            if let Some(user) = user.filter(|user| user.uuid == subject) {
                return Ok(Some(user));
            }
        }
        self.find_user(account.login).await
    }

    /// Creates the member's account with the member's mark. If the username is taken meanwhile, the account that has it,
    /// which the caller must not take for the member's unless it carries the mark.
    pub async fn create_member(&self, account: &MemberAccount<'_>) -> Result<User, ClientError> {
        let mark = Map::from_iter([(MEMBER.to_owned(), account.member_id.into())]);
        self.ensure_user_with(account.login, account.name, mark)
            .await
    }

    /// Restores username, e-mail address and display name of an account that was created for the member. Returns the
    /// changes.
    pub async fn restore_profile(
        &self,
        user: &User,
        account: &MemberAccount<'_>,
    ) -> Result<Vec<String>, ClientError> {
        let login = username(account.login);
        let name = account.name.trim();
        let mut changes = Vec::new();
        let mut body = Map::new();
        let mut restore = |field: &str, actual: &str, desired: &str| {
            if actual != desired {
                changes.push(format!("{field} of the account changed"));
                body.insert(field.to_owned(), desired.into());
            }
        };
        restore("username", &user.username, &login);
        restore("email", &user.email, &login);
        restore("name", &user.name, name);
        if changes.is_empty() {
            return Ok(changes);
        }
        let path = format!("/core/users/{}/", user.pk);
        let request = self.http.request(Method::PATCH, &path).json(&body);
        let response = self.send(Operation::write("update_user"), request).await?;
        if error::is_duplicate(&response, "username") {
            return Err(ClientError::Conflict(failed(
                "update_user",
                "the account was renamed, and another account has its username now",
            )));
        }
        self.expect(&response, StatusCode::OK)?;
        Ok(changes)
    }

    /// Sets a user's password. Sessions are kept.
    pub async fn set_password(
        &self,
        user_pk: i64,
        password: &SecretString,
    ) -> Result<(), ClientError> {
        let path = format!("/core/users/{user_pk}/set_password/");
        let request = self.http.request(Method::POST, &path);
        let request = request.json(&json!({ "password": password.expose_secret() }));
        let response = self.send(Operation::write("set_password"), request).await?;
        if response.status == StatusCode::NO_CONTENT {
            return Ok(());
        }
        // The body could quote the password.
        Err(response.error(""))
    }

    /// Deletes an account that was created for the member; `false` if it did not exist. Any other account is a conflict.
    pub async fn delete_member(&self, user: &User, member_id: &str) -> Result<bool, ClientError> {
        let Some(user) = self.get_user(user.pk).await? else {
            return Ok(false);
        };
        if !user.was_created_for_member(member_id) {
            return Err(ClientError::Conflict(failed(
                "delete_user",
                "the account was not created for this member",
            )));
        }
        let path = format!("/core/users/{}/", user.pk);
        self.delete(Operation::write("delete_user"), &path).await
    }

    /// Gives an account that another member left behind to this member, or to none: its mark is replaced, and all
    /// suspensions are lifted. `None` if the account was deleted meanwhile.
    ///
    /// The caller has replaced everything that opened the account before: once the mark is replaced, a repeated attempt
    /// does not do that again.
    pub async fn reclaim(
        &self,
        user: &User,
        member_id: Option<&str>,
    ) -> Result<Option<User>, ClientError> {
        let Some(user) = self.get_user(user.pk).await? else {
            return Ok(None);
        };
        let mut reclaimed = user.without_freezes();
        // Recovery mail would go to an address that was changed.
        reclaimed.email.clone_from(&reclaimed.username);
        match member_id {
            Some(id) => reclaimed.attributes.insert(MEMBER.to_owned(), id.into()),
            None => reclaimed.attributes.remove(MEMBER),
        };
        let body = json!({
            "is_active": reclaimed.is_active,
            "email": reclaimed.email,
            "attributes": reclaimed.attributes,
        });
        self.update_user(Operation::write("unfreeze_user"), user.pk, &body)
            .await?;
        Ok(Some(reclaimed))
    }
}
