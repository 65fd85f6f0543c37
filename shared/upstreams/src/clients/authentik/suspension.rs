//! Suspension of users, by tenants and by members, and its exact reversal.
//!
//! A frozen user carries the ids of what froze it: of suspended tenants in the attribute `dezkyFrozenBy`, and of suspended
//! members in `dezkyFrozenMembers`. Each is lifted separately, and the user is activated with the last one. A user who
//! is inactive without any was suspended by an administrator, and stays so. The marker and `is_active` change in one
//! request.
//!
//! Authentik has no `If-Match`. A user is read immediately before each write, to preserve concurrent changes of
//! attributes. If two tenants write concurrently, the later one can undo the earlier one until the next reconcile of its
//! tenant. Markers and `is_active` are written together, as they were read, so that a lost marker never leaves a user
//! inactive without one, which no resume would activate again.

use http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Authentik, User};
use crate::clients::{ClientError, Ensured, Mode, Operation};

/// Attribute with the ids of the tenants that froze the user.
const FROZEN_BY: &str = "dezkyFrozenBy";
/// Attribute with the ids of the members whose suspension froze the user.
const FROZEN_MEMBERS: &str = "dezkyFrozenMembers";

/// Cause of a user's freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze<'a> {
    /// The suspension of the tenant with this id.
    Tenant(&'a str),
    /// The suspension of the member with this id.
    Member(&'a str),
}

impl<'a> Freeze<'a> {
    const fn attribute(self) -> &'static str {
        match self {
            Self::Tenant(_) => FROZEN_BY,
            Self::Member(_) => FROZEN_MEMBERS,
        }
    }

    const fn id(self) -> &'a str {
        match self {
            Self::Tenant(id) | Self::Member(id) => id,
        }
    }
}

impl User {
    /// Ids of the tenants whose suspension froze this user.
    pub fn frozen_by(&self) -> Vec<&str> {
        self.marked_in(FROZEN_BY)
    }

    /// Whether this suspension froze the user.
    pub fn is_frozen_by(&self, freeze: Freeze<'_>) -> bool {
        self.marked_in(freeze.attribute()).contains(&freeze.id())
    }

    /// Whether the user was suspended by an administrator, and is left alone.
    pub fn is_suspended(&self) -> bool {
        !self.is_active && !self.is_frozen()
    }

    fn is_frozen(&self) -> bool {
        [FROZEN_BY, FROZEN_MEMBERS]
            .iter()
            .any(|attribute| !self.marked_in(attribute).is_empty())
    }

    /// The user with or without this marker.
    fn with_freeze(&self, freeze: Freeze<'_>, is_set: bool) -> Self {
        let mut user = self.clone();
        let mut ids = self.marked_in(freeze.attribute());
        ids.retain(|id| *id != freeze.id());
        if is_set {
            ids.push(freeze.id());
        }
        if ids.is_empty() {
            user.attributes.remove(freeze.attribute());
        } else {
            let ids = ids.into();
            user.attributes.insert(freeze.attribute().to_owned(), ids);
        }
        user
    }

    /// The user without any marker, active again if one had deactivated it.
    pub(super) fn without_freezes(&self) -> Self {
        let mut user = self.clone();
        user.is_active |= self.is_frozen();
        for attribute in [FROZEN_BY, FROZEN_MEMBERS] {
            user.attributes.remove(attribute);
        }
        user
    }

    fn marked_in(&self, attribute: &str) -> Vec<&str> {
        let ids = self.attributes.get(attribute).and_then(Value::as_array);
        let ids = ids.map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(Value::as_str).collect()
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

    /// Ensures, for this suspension, that the user cannot sign in, and has neither a session nor an app password.
    ///
    /// A user suspended by an administrator is left alone. A dry run relies on `user` as listed.
    pub async fn freeze_user(
        &self,
        user: &User,
        freeze: Freeze<'_>,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let current = self.current(user, mode).await?;
        let Some(user) = current.filter(|user| !user.is_suspended()) else {
            return Ok(Ensured::with(Vec::new()));
        };
        let mut changes = Vec::new();
        if user.is_active {
            changes.push("user deactivated".to_owned());
        }
        if !user.is_frozen_by(freeze) {
            changes.push("user marked as frozen".to_owned());
        }
        if mode == Mode::DryRun {
            return Ok(Ensured::with(changes));
        }
        if !changes.is_empty() {
            let attributes = user.with_freeze(freeze, true).attributes;
            let body = json!({ "is_active": false, "attributes": attributes });
            self.update_user(Operation::write("freeze_user"), user.pk, &body)
                .await?;
        }
        // Authentik ends sessions when a user becomes inactive. An interrupted attempt or a concurrent login may have
        // left some.
        changes.extend(self.end_access(&user).await?.change());
        Ok(Ensured::with(changes))
    }

    /// Ensures that this suspension no longer freezes the user, and reactivates the user if no other does. A dry run
    /// relies on `user` as listed.
    pub async fn unfreeze_user(
        &self,
        user: &User,
        freeze: Freeze<'_>,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let current = self.current(user, mode).await?;
        let Some(user) = current.filter(|user| user.is_frozen_by(freeze)) else {
            return Ok(Ensured::with(Vec::new()));
        };
        let thawed = user.with_freeze(freeze, false);
        let mut changes = vec!["freeze marker removed from user".to_owned()];
        let mut operation = Operation::write("update_user");
        let mut body = json!({ "attributes": thawed.attributes });
        if !thawed.is_frozen() {
            if !user.is_active {
                changes.push("user activated".to_owned());
            }
            operation = Operation::write("unfreeze_user");
            // Also if the user is active: a concurrent freeze may be undone, but not in half.
            body["is_active"] = true.into();
        }
        if mode == Mode::Apply {
            self.update_user(operation, user.pk, &body).await?;
        }
        Ok(Ensured::with(changes))
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
    pub(super) async fn update_user(
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
        let marked_as_asked = [FROZEN_BY, FROZEN_MEMBERS]
            .iter()
            .all(|mark| body["attributes"].get(mark) == user.attributes.get(*mark));
        if !(active_as_asked && marked_as_asked) {
            let call = response.failed("the update was not applied");
            return Err(ClientError::Rejected(call));
        }
        Ok(())
    }
}
