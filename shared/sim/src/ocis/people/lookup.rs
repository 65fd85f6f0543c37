//! Look-ups of accounts by name and id.

use uuid::Uuid;

use super::People;

impl People {
    /// Id of an account that may sign in.
    pub(in crate::ocis) fn sign_in(&self, name: &str) -> Option<Uuid> {
        self.knows(name).then(|| self.id_named(name)).flatten()
    }

    /// Id of the account of this name.
    pub(in crate::ocis) fn id_named(&self, name: &str) -> Option<Uuid> {
        let mut users = self.users.iter();
        users.find(|user| user.username == name).map(|user| user.id)
    }

    /// Whether the account of this name may sign in.
    pub(in crate::ocis) fn is_enabled(&self, name: &str) -> Option<bool> {
        let mut users = self.users.iter();
        users
            .find(|user| user.username == name)
            .map(|user| user.enabled)
    }

    /// Lets the account of this name sign in or not.
    pub(in crate::ocis) fn set_enabled(&mut self, name: &str, enabled: bool) {
        if let Some(user) = self.user_mut(name) {
            user.enabled = enabled;
        }
    }

    /// Renames the account of this name.
    pub(in crate::ocis) fn rename(&mut self, name: &str, to: &str) {
        if let Some(user) = self.user_mut(name) {
            to.clone_into(&mut user.username);
        }
    }

    /// Names of all accounts, oldest first.
    pub(in crate::ocis) fn usernames(&self) -> Vec<String> {
        self.users
            .iter()
            .map(|user| user.username.clone())
            .collect()
    }

    /// Display name of the user with this id.
    pub(in crate::ocis) fn display_name(&self, id: Uuid) -> Option<&str> {
        let mut users = self.users.iter();
        users
            .find(|user| user.id == id)
            .map(|user| user.display_name.as_str())
    }
}
