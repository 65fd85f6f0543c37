//! Users, to the extent that the control plane uses them, and the service account.

mod lookup;
mod requests;

use serde_json::{Value, json};
use uuid::Uuid;

pub(super) use self::requests::{
    create_user, delete_user, find_user, list_roles, list_users, me, update_user,
};
use super::{
    OcisSim,
    logins::Caller,
    members::{Grant, Role},
    responses::new_id,
};

const APPLICATION: &str = "0f0b6c8e-3f0c-4f0e-9d58-7b1d7a4c2e11";

/// Role of an account on the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppRole {
    /// Everything.
    Admin,
    /// All spaces, but no accounts.
    SpaceAdmin,
    /// Only what it is a member of.
    User,
}

impl AppRole {
    /// Ids are fixed in the server's source.
    fn id(self) -> &'static str {
        match self {
            Self::Admin => "71881883-1768-46bd-a24d-a356a2afdf7f",
            Self::SpaceAdmin => "2aadd357-682c-406b-8874-293091995fdd",
            Self::User => "d7beeea8-8ff4-406b-8fb6-ab2dd81e6b11",
        }
    }
}

#[derive(Debug)]
pub(super) struct People {
    pub(super) service_account: Uuid,
    /// Server role of the service account. Every other account is a plain user.
    pub(super) service_role: AppRole,
    users: Vec<User>,
    pub(super) groups: Vec<Group>,
    /// Whether new usernames may have any form, as with `GRAPH_USERNAME_MATCH=none`.
    pub(super) any_username: bool,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Uuid,
    pub(super) name: String,
}

impl Group {
    pub(super) fn view(&self) -> Value {
        json!({ "id": self.id, "displayName": self.name, "groupTypes": [] })
    }
}

#[derive(Debug)]
struct User {
    id: Uuid,
    username: String,
    display_name: String,
    mail: Option<String>,
    /// Part of the response to a create only if it was sent.
    enabled: bool,
}

impl People {
    pub(super) fn with_service_account() -> Self {
        let account = User {
            id: new_id(),
            username: OcisSim::USER.to_owned(),
            display_name: "Control plane".to_owned(),
            mail: Some("svc-dezky@ocis.sim".to_owned()),
            enabled: true,
        };
        Self {
            service_account: account.id,
            service_role: AppRole::Admin,
            users: vec![account],
            groups: Vec::new(),
            any_username: false,
        }
    }

    pub(super) fn add_account(&mut self, name: &str) -> Uuid {
        let account = User {
            id: new_id(),
            username: name.to_owned(),
            display_name: name.to_owned(),
            mail: None,
            enabled: true,
        };
        let id = account.id;
        self.users.push(account);
        id
    }

    /// Whether an account with this user name may sign in.
    pub(super) fn knows(&self, username: &str) -> bool {
        self.users
            .iter()
            .any(|user| user.username == username && user.enabled)
    }

    fn user_of(&self, caller: &Caller) -> &User {
        self.users
            .iter()
            .find(|user| user.username == caller.0)
            .expect("a caller is a known account")
    }

    pub(super) fn id_of(&self, caller: &Caller) -> Uuid {
        self.user_of(caller).id
    }

    pub(super) fn role_of(&self, caller: &Caller) -> AppRole {
        self.role_of_user(self.id_of(caller))
    }

    fn role_of_user(&self, id: Uuid) -> AppRole {
        if id == self.service_account {
            self.service_role
        } else {
            AppRole::User
        }
    }

    /// Whether the caller administers all spaces.
    pub(super) fn administers_spaces(&self, caller: &Caller) -> bool {
        self.role_of(caller) != AppRole::User
    }

    fn is_admin(&self, caller: &Caller) -> bool {
        self.role_of(caller) == AppRole::Admin
    }

    /// Role of the caller in a space. A demoted service account is a member of none.
    pub(super) fn membership(&self, caller: &Caller, grants: &[Grant]) -> Option<Role> {
        let id = self.id_of(caller);
        if id == self.service_account && self.service_role == AppRole::User {
            return None;
        }
        grants
            .iter()
            .find(|grant| grant.id == id)
            .map(|grant| grant.role)
    }

    /// Grant of the creator of a space, here the service account.
    pub(super) fn service_grant(&self) -> Grant {
        Grant::user(self.service_account, "Control plane", Role::Manager)
    }

    /// Grant of the creator of a space.
    pub(super) fn creator_grant(&self, caller: &Caller) -> Grant {
        let creator = self.user_of(caller);
        Grant::user(creator.id, &creator.display_name, Role::Manager)
    }

    fn role_assignment(&self, id: Uuid) -> Value {
        json!({
            "id": id,
            "appRoleId": self.role_of_user(id).id(),
            "principalId": id,
            "principalType": "User",
            "resourceDisplayName": "oCIS simulator",
            "resourceId": APPLICATION,
        })
    }

    pub(super) fn users(&self) -> Vec<Value> {
        self.users.iter().map(User::view).collect()
    }

    fn user_mut(&mut self, id_or_name: &str) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.is(id_or_name))
    }

    fn username_taken(&self, name: &str, by_other_than: Option<Uuid>) -> bool {
        self.users
            .iter()
            .any(|user| user.username.eq_ignore_ascii_case(name) && Some(user.id) != by_other_than)
    }
}

impl User {
    fn is(&self, id_or_name: &str) -> bool {
        self.id.to_string() == id_or_name || self.username == id_or_name
    }

    fn view(&self) -> Value {
        let mut view = json!({
            "id": self.id,
            "onPremisesSamAccountName": self.username,
            "displayName": self.display_name,
            "surname": self.username,
            "userType": "Member",
            "accountEnabled": self.enabled,
        });
        if let Some(mail) = &self.mail {
            view["mail"] = json!(mail);
        }
        view
    }

    fn view_without(&self, field: &str) -> Value {
        let mut view = self.view();
        view.as_object_mut()
            .expect("a view is an object")
            .remove(field);
        view
    }
}
