//! Users of the file server. One is found by the username, which is that of the identity provider: oCIS resolves a token
//! to the user of this name.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Ocis, error::ResponseExt as _, personal::PersonalDrive, spaces::failed};
use crate::clients::{ClientError, Operation};

const USERS: &str = "/graph/v1.0/users";

/// User of the file server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesUser {
    /// Id assigned by oCIS. A user of the same name that is created again gets another one.
    pub id: String,
    /// Username; oCIS compares it regardless of case.
    #[serde(rename = "onPremisesSamAccountName")]
    pub username: String,
    /// Display name.
    #[serde(default)]
    pub display_name: String,
    /// Whether the user can sign in, with any credential. Missing in the response to a create: then it can.
    #[serde(default = "is_enabled")]
    pub account_enabled: bool,
    /// Personal space, if it was asked for.
    #[serde(default)]
    pub(super) drive: Option<PersonalDrive>,
}

const fn is_enabled() -> bool {
    true
}

impl Ocis {
    /// The user of this name, with the personal space.
    pub async fn find_files_user(&self, username: &str) -> Result<Option<FilesUser>, ClientError> {
        let request = self.http.request(Method::GET, &user(username));
        let request = request.query(&[("$expand", "drive")]);
        let response = self.send(Operation::read("find_user"), request).await?;
        let Some(response) = response.optional()? else {
            return Ok(None);
        };
        let found: FilesUser = response.json()?;
        // An id is accepted in place of the name.
        Ok(Some(found).filter(|found| found.username.eq_ignore_ascii_case(username)))
    }

    /// Creates a user without a password, who signs in through the identity provider. `None` if the name is taken.
    pub async fn create_files_user(
        &self,
        username: &str,
        display_name: &str,
    ) -> Result<Option<FilesUser>, ClientError> {
        let body = json!({
            "onPremisesSamAccountName": username,
            "displayName": display_name,
            "mail": username,
        });
        let request = self.http.request(Method::POST, USERS).json(&body);
        let response = self.send(Operation::write("create_user"), request).await?;
        if response.status == StatusCode::CONFLICT {
            return Ok(None);
        }
        let is_plain = username.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
        if response.status == StatusCode::BAD_REQUEST && !is_plain {
            let detail = "a username that does not begin with a letter needs GRAPH_USERNAME_MATCH=none in oCIS";
            return Err(ClientError::Rejected(response.failed(detail)));
        }
        response.error_for_status()?.json().map(Some)
    }

    /// Changes a user's display name.
    pub async fn rename_files_user(&self, id: &str, display_name: &str) -> Result<(), ClientError> {
        let body = json!({ "displayName": display_name });
        let request = self.http.request(Method::PATCH, &user(id)).json(&body);
        let response = self.send(Operation::write("update_user"), request).await?;
        response.error_for_status()?;
        Ok(())
    }

    /// Lets a user sign in or not. A disabled user is refused with every credential at once, app tokens included.
    pub async fn set_files_user_enabled(&self, id: &str, enabled: bool) -> Result<(), ClientError> {
        let body = json!({ "accountEnabled": enabled });
        let request = self.http.request(Method::PATCH, &user(id)).json(&body);
        let response = self.send(Operation::write("update_user"), request).await?;
        let Some(response) = response.optional()? else {
            return Ok(());
        };
        let changed: FilesUser = response.json()?;
        if changed.account_enabled != enabled {
            let call = response.failed("the user was not changed");
            return Err(ClientError::Rejected(call));
        }
        Ok(())
    }

    /// Deletes a user, with the personal space; `false` if there was none.
    pub async fn delete_files_user(&self, id: &str) -> Result<bool, ClientError> {
        let request = self.http.request(Method::DELETE, &user(id));
        let response = self.send(Operation::write("delete_user"), request).await?;
        Ok(response.optional()?.is_some())
    }

    /// Creates a user of a name that was not found, or returns the one that has the name since. With it, whether it was
    /// created now.
    pub async fn create_or_find_files_user(
        &self,
        username: &str,
        display_name: &str,
    ) -> Result<(FilesUser, bool), ClientError> {
        if let Some(created) = self.create_files_user(username, display_name).await? {
            return Ok((created, true));
        }
        // The name was taken since the lookup.
        let found = self.find_files_user(username).await?;
        let found = found.ok_or_else(|| {
            let detail =
                format!("the username {username} is taken by a user that is not found by it");
            ClientError::Conflict(failed("create_user", detail))
        })?;
        Ok((found, false))
    }
}

/// Path of the user with this id or name.
fn user(id_or_name: &str) -> String {
    use std::fmt::Write as _;
    let mut path = format!("{USERS}/");
    for byte in id_or_name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment_of_the_path() {
        assert_eq!(user("ada@acme.test"), "/graph/v1.0/users/ada@acme.test");
        assert_eq!(
            user("a/../b?c#d+e"),
            "/graph/v1.0/users/a%2F..%2Fb%3Fc%23d%2Be"
        );
    }
}
