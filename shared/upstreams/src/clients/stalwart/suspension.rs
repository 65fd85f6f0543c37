//! Suspension of mailboxes: no sign-in, while mail still arrives and passwords are kept.
//!
//! Freezing a mailbox disables its permission `authenticate`. Unfreezing must not restore a mailbox that an
//! administrator suspended before, and Stalwart has no place for a marker next to the permissions. The same write
//! therefore also disables a permission as a marker: `sieveAuthenticate` for the suspension of the tenant, and
//! `sieveHaveSpace` for that of the member. Without `authenticate` they have no effect, because no protocol admits the
//! owner, and they are never disabled alone. **A marker disabled, too: frozen by us. `authenticate` alone: suspended by an
//! administrator, and left alone.** Each suspension lifts its own marker, and the last one restores `authenticate`. The
//! price: a mailbox with only such a permission disabled before gets it back when unfrozen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Domain, Stalwart,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Mode, Operation};

/// Required to sign in to the mailbox, over any protocol.
const AUTHENTICATE: &str = "authenticate";
/// Maximum number of accounts that Stalwart returns, or changes, in one call.
const PAGE: usize = 500;

/// Cause of a mailbox's freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailFreeze {
    /// The suspension of its tenant.
    Tenant,
    /// The suspension of its member.
    Member,
}

impl MailFreeze {
    const ALL: [Self; 2] = [Self::Tenant, Self::Member];

    /// The permission that is disabled as a marker: see the module documentation.
    const fn marker(self) -> &'static str {
        match self {
            Self::Tenant => "sieveAuthenticate",
            Self::Member => "sieveHaveSpace",
        }
    }
}

/// Mailbox.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Stalwart's id.
    pub id: String,
    /// Local part of the address.
    pub name: String,
    /// Address.
    #[serde(rename = "emailAddress")]
    pub email: String,
    /// Stalwart's id of the domain.
    pub domain_id: String,
    /// Display name.
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub(super) aliases: BTreeMap<String, Alias>,
    #[serde(default)]
    pub(super) quotas: Map<String, Value>,
    #[serde(default)]
    pub(super) credentials: Map<String, Value>,
    pub(super) permissions: Permissions,
}

/// Further address of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alias {
    /// Local part of the address.
    pub name: String,
    /// Stalwart's id of the domain.
    pub domain_id: String,
}

/// The properties of an account that are read.
pub(super) const PROPERTIES: [&str; 8] = [
    "name",
    "emailAddress",
    "domainId",
    "description",
    "aliases",
    "quotas",
    "credentials",
    "permissions",
];

impl Account {
    /// Sign-in access.
    pub fn access(&self) -> Access {
        self.permissions.access()
    }

    /// Its addresses in a domain, aliases included.
    pub(super) fn addresses_in(&self, domain: &Domain) -> Vec<String> {
        let aliases = self.aliases.values();
        let own = (&self.name, &self.domain_id);
        let all = [own]
            .into_iter()
            .chain(aliases.map(|alias| (&alias.name, &alias.domain_id)));
        all.filter(|(_, domain_id)| **domain_id == domain.id)
            .map(|(name, _)| format!("{name}@{}", domain.name))
            .collect()
    }

    /// Whether this suspension froze the mailbox.
    pub fn is_frozen_by(&self, freeze: MailFreeze) -> bool {
        self.permissions.is_frozen_by(freeze)
    }

    /// Whether a password is set, not which.
    pub fn has_password(&self) -> bool {
        !self.credentials.is_empty()
    }
}

/// Sign-in access of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The owner can sign in.
    Open,
    /// Frozen by us, with its tenant or its member.
    Frozen,
    /// Suspended by an administrator; left alone.
    Suspended,
}

/// Page of a domain's mailboxes, oldest first.
#[derive(Debug)]
pub struct AccountPage {
    /// Mailboxes.
    pub accounts: Vec<Account>,
    /// Number of mailboxes of the domain.
    pub total: usize,
    /// Position of the next page, if one follows.
    pub next: Option<usize>,
}

/// Result of changing the access of mailboxes.
#[derive(Debug, Default)]
pub struct AccessChange {
    /// Changes made, or planned in a dry run: one for each mailbox.
    pub changes: Vec<String>,
    /// Rejected changes of single mailboxes.
    pub failures: Vec<ClientError>,
}

impl Stalwart {
    /// Lists the mailboxes of a domain.
    pub async fn list_accounts(&self, domain_id: &str) -> Result<Vec<Account>, ClientError> {
        let mut accounts = Vec::new();
        let mut next = Some(0);
        while let Some(position) = next {
            let page = self.account_page(domain_id, position).await?;
            accounts.extend(page.accounts);
            next = page.next;
        }
        Ok(accounts)
    }

    /// The page of a domain's mailboxes that begins at `position`, from 0. A page has up to 500, or fewer if the server
    /// limits it further.
    pub async fn account_page(
        &self,
        domain_id: &str,
        position: usize,
    ) -> Result<AccountPage, ClientError> {
        // With a limit, any other order loses and repeats entries.
        let query = json!({
            "filter": { "domainId": domain_id, "@type": "User" },
            "sort": [{ "property": "id", "isAscending": true }],
            "position": position,
            "limit": PAGE,
            "calculateTotal": true,
        });
        let get = json!({
            "#ids": result_of(0, "x:Account/query", "/ids"),
            "properties": PROPERTIES,
        });
        let calls = [
            Call::new("x:Account/query", query),
            Call::new("x:Account/get", get),
        ];
        let reply = self.call(Operation::read("list_accounts"), calls).await?;
        let found = reply.found(0)?;
        let end = position + found.ids.len();
        let has_more = match found.total {
            Some(total) => end < total && end > position,
            None => found.ids.len() >= PAGE,
        };
        Ok(AccountPage {
            accounts: reply.list(1)?,
            total: found.total.unwrap_or(end),
            next: has_more.then_some(end),
        })
    }

    /// Ensures that these mailboxes, at most a page, are frozen. A suspended or deleted one is left alone.
    ///
    /// The listed permissions are changed without reading them again.
    pub async fn freeze_accounts(
        &self,
        accounts: &[Account],
        freeze: MailFreeze,
        mode: Mode,
    ) -> Result<AccessChange, ClientError> {
        let open = accounts
            .iter()
            .filter(|it| it.access() != Access::Suspended && !it.is_frozen_by(freeze));
        let frozen = open.map(|it| (it, it.permissions.clone().frozen(freeze)));
        let frozen: Vec<_> = frozen.collect();
        let operation = Operation::write("freeze_account");
        self.change(operation, &frozen, "frozen", mode).await
    }

    /// Ensures that this suspension freezes none of these mailboxes, at most a page: they are open again unless the other
    /// one does.
    pub async fn unfreeze_accounts(
        &self,
        accounts: &[Account],
        freeze: MailFreeze,
        mode: Mode,
    ) -> Result<AccessChange, ClientError> {
        let frozen = accounts.iter().filter(|it| it.is_frozen_by(freeze));
        let open = frozen.map(|it| (it, it.permissions.clone().unfrozen(freeze)));
        let open: Vec<_> = open.collect();
        let operation = Operation::write("unfreeze_account");
        self.change(operation, &open, "unfrozen", mode).await
    }

    /// Ensures that exactly these suspensions freeze the mailbox. One that an administrator suspended is left alone.
    pub async fn set_freezes(
        &self,
        account: &Account,
        freezes: &[MailFreeze],
        mode: Mode,
    ) -> Result<AccessChange, ClientError> {
        let is_as_desired = MailFreeze::ALL
            .iter()
            .all(|freeze| account.is_frozen_by(*freeze) == freezes.contains(freeze));
        if is_as_desired || account.access() == Access::Suspended {
            return Ok(AccessChange::default());
        }
        let open = MailFreeze::ALL
            .into_iter()
            .filter(|freeze| account.is_frozen_by(*freeze))
            .fold(account.permissions.clone(), Permissions::unfrozen);
        let desired = freezes.iter().copied().fold(open, Permissions::frozen);
        let (operation, what) = if freezes.is_empty() {
            (Operation::write("unfreeze_account"), "unfrozen")
        } else {
            (Operation::write("freeze_account"), "frozen")
        };
        self.change(operation, &[(account, desired)], what, mode)
            .await
    }

    /// Replaces the permissions as a whole, in one call: a JSON pointer into inherited permissions fails.
    async fn change(
        &self,
        operation: Operation,
        changed: &[(&Account, Permissions)],
        what: &str,
        mode: Mode,
    ) -> Result<AccessChange, ClientError> {
        let mut change = AccessChange::default();
        let mut refused = BTreeMap::new();
        if mode == Mode::Apply && !changed.is_empty() {
            let update: Map<String, Value> = changed
                .iter()
                .map(|(account, it)| (account.id.clone(), json!({ "permissions": it })))
                .collect();
            let update = Call::new("x:Account/set", json!({ "update": update }));
            let reply = self.call(operation, [update]).await?;
            refused = reply.not_updated(changed.len())?;
            let failures = refused.values().filter(|it| !it.is_not_found());
            change
                .failures
                .extend(failures.map(|set_error| reply.refused(set_error)));
        }
        let done = changed
            .iter()
            .filter(|(account, _)| !refused.contains_key(&account.id));
        change
            .changes
            .extend(done.map(|(account, _)| format!("mailbox {} {what}", account.email)));
        Ok(change)
    }
}

/// Permission overrides of an account. The sets are objects whose values are `true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Permissions {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(
        rename = "enabledPermissions",
        default,
        skip_serializing_if = "Map::is_empty"
    )]
    enabled: Map<String, Value>,
    #[serde(
        rename = "disabledPermissions",
        default,
        skip_serializing_if = "Map::is_empty"
    )]
    disabled: Map<String, Value>,
}

impl Permissions {
    /// Those of the role, with these suspensions.
    pub(super) fn inherited(freezes: &[MailFreeze]) -> Self {
        let inherited = Self {
            kind: "Inherit".to_owned(),
            enabled: Map::new(),
            disabled: Map::new(),
        };
        freezes
            .iter()
            .fold(inherited, |permissions, freeze| permissions.frozen(*freeze))
    }

    fn access(&self) -> Access {
        let is_frozen = MailFreeze::ALL.iter().any(|it| self.is_frozen_by(*it));
        match (self.disabled.contains_key(AUTHENTICATE), is_frozen) {
            (true, true) => Access::Frozen,
            (true, false) => Access::Suspended,
            (false, _) => Access::Open,
        }
    }

    fn is_frozen_by(&self, freeze: MailFreeze) -> bool {
        [AUTHENTICATE, freeze.marker()]
            .iter()
            .all(|permission| self.disabled.contains_key(*permission))
    }

    /// These overrides with sign-in disabled.
    fn frozen(mut self, freeze: MailFreeze) -> Self {
        if self.kind == "Inherit" {
            "Merge".clone_into(&mut self.kind);
        }
        for permission in [AUTHENTICATE, freeze.marker()] {
            self.disabled
                .insert(permission.to_owned(), Value::Bool(true));
        }
        self
    }

    /// These overrides without this suspension.
    fn unfrozen(mut self, freeze: MailFreeze) -> Self {
        self.disabled.remove(freeze.marker());
        if MailFreeze::ALL.iter().all(|it| !self.is_frozen_by(*it)) {
            self.disabled.remove(AUTHENTICATE);
        }
        let overrides_nothing = self.enabled.is_empty() && self.disabled.is_empty();
        if self.kind == "Merge" && overrides_nothing {
            "Inherit".clone_into(&mut self.kind);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(value: Value) -> Permissions {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn unfreezing_restores_the_permissions_before_freezing() {
        for before in [
            json!({ "@type": "Inherit" }),
            json!({ "@type": "Merge", "disabledPermissions": { "emailSend": true } }),
            json!({ "@type": "Merge", "enabledPermissions": { "impersonate": true } }),
            json!({ "@type": "Replace", "enabledPermissions": { "authenticate": true } }),
        ] {
            let before = permissions(before);

            let frozen = before.clone().frozen(MailFreeze::Tenant);

            assert_eq!(before.access(), Access::Open);
            assert_eq!(frozen.access(), Access::Frozen);
            assert_eq!(frozen.unfrozen(MailFreeze::Tenant), before);
        }
    }

    #[test]
    fn each_suspension_lifts_only_its_own_mark() {
        let before = permissions(json!({ "@type": "Inherit" }));
        let [first, second] = MailFreeze::ALL;
        for (first, second) in [(first, second), (second, first)] {
            let both = before.clone().frozen(first).frozen(second);

            let one_left = both.unfrozen(first);

            assert_eq!(one_left.access(), Access::Frozen);
            assert!(!one_left.is_frozen_by(first) && one_left.is_frozen_by(second));
            assert_eq!(one_left.unfrozen(second), before);
        }
    }

    #[test]
    fn an_account_without_only_authenticate_counts_as_suspended() {
        let suspended = permissions(json!({
            "@type": "Merge", "enabledPermissions": {}, "disabledPermissions": { "authenticate": true },
        }));

        assert_eq!(suspended.access(), Access::Suspended);
    }
}
