//! Suspension of a tenant's members, and its exact reversal.
//!
//! A frozen user carries the ids of the freezing tenants in the attribute `dezkyFrozenBy`. A user who is inactive
//! without it was suspended by an administrator, and stays so. The marker and `is_active` change in one request.
//!
//! Authentik has no `If-Match`. A user is read immediately before each write, to preserve concurrent changes of
//! attributes. If two tenants freeze a user concurrently, one marker can be lost until the next reconcile of its tenant
//! restores it.

use http::StatusCode;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Authentik, User};
use crate::clients::{ClientError, Ensured, Mode, Operation};

/// Attribute with the ids of the tenants that froze the user.
const FROZEN_BY: &str = "dezkyFrozenBy";

impl User {
    /// Ids of the tenants whose suspension froze this user.
    pub fn frozen_by(&self) -> Vec<&str> {
        let tenants = self.attributes.get(FROZEN_BY).and_then(Value::as_array);
        let tenants = tenants.map_or(&[][..], Vec::as_slice);
        tenants.iter().filter_map(Value::as_str).collect()
    }

    /// Whether a suspension of this tenant froze the user.
    pub fn is_frozen_by(&self, tenant_id: &str) -> bool {
        self.frozen_by().contains(&tenant_id)
    }

    /// Whether the user was suspended by an administrator, and is left alone.
    pub fn is_suspended(&self) -> bool {
        !self.is_active && self.frozen_by().is_empty()
    }
}

impl Authentik {
    /// Users frozen by this tenant only, whatever their current groups.
    pub async fn list_frozen(&self, tenant_id: &str) -> Result<Vec<User>, ClientError> {
        let mark = json!({ FROZEN_BY: [tenant_id] }).to_string();
        let mut users = self.list_users(("attributes", &mark)).await?;
        users.retain(|user| user.frozen_by() == [tenant_id]);
        Ok(users)
    }

    /// Ensures, on behalf of this tenant, that the user cannot sign in and has no session.
    ///
    /// A user suspended by an administrator is left alone. A dry run relies on `user` as listed.
    pub async fn freeze_user(
        &self,
        user: &User,
        tenant_id: &str,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let mut changes = Vec::new();
        let value = Some(());
        let Some(user) = self.current(user, mode).await? else {
            return Ok(Ensured { value, changes });
        };
        if user.is_suspended() {
            return Ok(Ensured { value, changes });
        }
        let mut frozen_by = user.frozen_by();

        if user.is_active {
            changes.push("user deactivated".to_owned());
        }
        if !frozen_by.contains(&tenant_id) {
            changes.push("user marked as frozen".to_owned());
            frozen_by.push(tenant_id);
        }
        if mode == Mode::DryRun {
            return Ok(Ensured { value, changes });
        }
        if !changes.is_empty() {
            let attributes = attributes_with(&user, &frozen_by);
            let body = json!({ "is_active": false, "attributes": attributes });
            self.update_user(Operation::write("freeze_user"), user.pk, &body)
                .await?;
        }
        // Authentik ends sessions when a user becomes inactive. An interrupted attempt or a concurrent login may have
        // left some.
        let ended = self.end_sessions(&user).await?;
        if ended > 0 {
            changes.push(format!("{ended} sessions and tokens ended"));
        }
        Ok(Ensured { value, changes })
    }

    /// Ensures that this tenant no longer freezes the user, and reactivates the user if no other tenant does. A dry run
    /// relies on `user` as listed.
    pub async fn unfreeze_user(
        &self,
        user: &User,
        tenant_id: &str,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let mut changes = Vec::new();
        let value = Some(());
        let Some(user) = self.current(user, mode).await? else {
            return Ok(Ensured { value, changes });
        };
        let mut frozen_by = user.frozen_by();
        if !frozen_by.contains(&tenant_id) {
            return Ok(Ensured { value, changes });
        }

        frozen_by.retain(|tenant| *tenant != tenant_id);
        changes.push("freeze marker removed from user".to_owned());
        let mut operation = Operation::write("update_user");
        let mut body = json!({ "attributes": attributes_with(&user, &frozen_by) });
        if frozen_by.is_empty() && !user.is_active {
            changes.push("user activated".to_owned());
            operation = Operation::write("unfreeze_user");
            body["is_active"] = true.into();
        }
        if mode == Mode::Apply {
            self.update_user(operation, user.pk, &body).await?;
        }
        Ok(Ensured { value, changes })
    }

    /// The user as it is now, if it exists: a write has to preserve the other attributes.
    async fn current(&self, listed: &User, mode: Mode) -> Result<Option<User>, ClientError> {
        match mode {
            Mode::Apply => self.get_user(listed.pk).await,
            Mode::DryRun => Ok(Some(listed.clone())),
        }
    }

    /// Updates the user and verifies the result, because Authentik ignores unknown fields. A deleted user needs no
    /// update.
    async fn update_user(
        &self,
        operation: Operation,
        pk: i64,
        body: &Value,
    ) -> Result<(), ClientError> {
        let path = format!("/core/users/{pk}/");
        let request = self.http.request(Method::PATCH, &path).json(body);
        let response = self.send(operation, request).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.expect(&response, StatusCode::OK)?;
        let user: User = response.json()?;
        let active_as_asked = body
            .get("is_active")
            .is_none_or(|asked| *asked == user.is_active);
        let marked_as_asked = body["attributes"].get(FROZEN_BY) == user.attributes.get(FROZEN_BY);
        if !(active_as_asked && marked_as_asked) {
            let call = response.failed("the update was not applied");
            return Err(ClientError::Rejected(call));
        }
        Ok(())
    }
}

/// The user's attributes with these tenants in the marker, or without the marker if there are none.
fn attributes_with(user: &User, frozen_by: &[&str]) -> Map<String, Value> {
    let mut attributes = user.attributes.clone();
    if frozen_by.is_empty() {
        attributes.remove(FROZEN_BY);
    } else {
        attributes.insert(FROZEN_BY.to_owned(), frozen_by.into());
    }
    attributes
}
