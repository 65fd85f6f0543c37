//! Suspension of mailboxes: no sign-in, while mail still arrives and passwords are kept.
//!
//! Freezing a mailbox disables its permission `authenticate`. Unfreezing must not restore a mailbox that an
//! administrator suspended before, and Stalwart has no place for a marker next to the permissions. The same write
//! therefore also disables `sieveAuthenticate`: without `authenticate` it has no effect, because no protocol admits the
//! owner, and of the permissions of that kind it is the one never disabled alone. **Both disabled: frozen by us.
//! `authenticate` alone: suspended by an administrator, and left alone.** The price: a mailbox with only
//! `sieveAuthenticate` disabled before gets it back when unfrozen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Stalwart,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Mode, Operation};

/// Required to sign in to the mailbox, over any protocol.
const AUTHENTICATE: &str = "authenticate";
/// Marker of our suspension: see the module documentation.
const MARKER: &str = "sieveAuthenticate";
/// Maximum number of accounts that Stalwart returns, or changes, in one call.
const PAGE: usize = 500;

/// Mailbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Stalwart's id.
    pub id: String,
    /// Local part of the address.
    pub name: String,
    /// Address.
    pub email: String,
    /// Sign-in access.
    pub access: Access,
    permissions: Permissions,
}

/// Sign-in access of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The owner can sign in.
    Open,
    /// Frozen by us, with its tenant.
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
    /// Whether another page follows.
    pub has_more: bool,
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
        for number in 0.. {
            let page = self.account_page(domain_id, number).await?;
            accounts.extend(page.accounts);
            if !page.has_more {
                break;
            }
        }
        Ok(accounts)
    }

    /// The page of this number, from 0, of a domain's mailboxes. A page has up to 500.
    pub async fn account_page(
        &self,
        domain_id: &str,
        number: usize,
    ) -> Result<AccountPage, ClientError> {
        // With a limit, any other order loses and repeats entries.
        let query = json!({
            "filter": { "domainId": domain_id, "@type": "User" },
            "sort": [{ "property": "id", "isAscending": true }],
            "position": number * PAGE,
            "limit": PAGE,
            "calculateTotal": true,
        });
        let get = json!({
            "#ids": result_of(0, "x:Account/query", "/ids"),
            "properties": ["name", "emailAddress", "permissions"],
        });
        let calls = [
            Call::new("x:Account/query", query),
            Call::new("x:Account/get", get),
        ];
        let reply = self.call(Operation::read("list_accounts"), calls).await?;
        let records: Vec<Record> = reply.list(1)?;
        let found = reply.found(0)?;
        Ok(AccountPage {
            accounts: records.into_iter().map(Account::from).collect(),
            total: found.total.unwrap_or(number * PAGE + found.ids.len()),
            has_more: found.ids.len() >= PAGE,
        })
    }

    /// Ensures that these mailboxes, at most a page, are frozen. A suspended or deleted one is left alone.
    ///
    /// The listed permissions are changed without reading them again.
    pub async fn freeze_accounts(
        &self,
        accounts: &[Account],
        mode: Mode,
    ) -> Result<AccessChange, ClientError> {
        let open = accounts.iter().filter(|it| it.access == Access::Open);
        let frozen = open.map(|it| (it, it.permissions.clone().frozen()));
        let frozen: Vec<_> = frozen.collect();
        let operation = Operation::write("freeze_account");
        self.change(operation, &frozen, "frozen", mode).await
    }

    /// Ensures that those of these mailboxes, at most a page, that we froze are open again.
    pub async fn unfreeze_accounts(
        &self,
        accounts: &[Account],
        mode: Mode,
    ) -> Result<AccessChange, ClientError> {
        let frozen = accounts.iter().filter(|it| it.access == Access::Frozen);
        let open = frozen.map(|it| (it, it.permissions.clone().unfrozen()));
        let open: Vec<_> = open.collect();
        let operation = Operation::write("unfreeze_account");
        self.change(operation, &open, "unfrozen", mode).await
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

/// Account, as returned by Stalwart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: String,
    name: String,
    email_address: String,
    permissions: Permissions,
}

impl From<Record> for Account {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            name: record.name,
            email: record.email_address,
            access: record.permissions.access(),
            permissions: record.permissions,
        }
    }
}

/// Permission overrides of an account. The sets are objects whose values are `true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Permissions {
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
    fn access(&self) -> Access {
        let lacks = |permission| self.disabled.contains_key(permission);
        match (lacks(AUTHENTICATE), lacks(MARKER)) {
            (true, true) => Access::Frozen,
            (true, false) => Access::Suspended,
            (false, _) => Access::Open,
        }
    }

    /// These overrides with sign-in disabled.
    fn frozen(mut self) -> Self {
        if self.kind == "Inherit" {
            "Merge".clone_into(&mut self.kind);
        }
        for permission in [AUTHENTICATE, MARKER] {
            self.disabled
                .insert(permission.to_owned(), Value::Bool(true));
        }
        self
    }

    /// These overrides without our suspension.
    fn unfrozen(mut self) -> Self {
        for permission in [AUTHENTICATE, MARKER] {
            self.disabled.remove(permission);
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

            let frozen = before.clone().frozen();

            assert_eq!(before.access(), Access::Open);
            assert_eq!(frozen.access(), Access::Frozen);
            assert_eq!(frozen.unfrozen(), before);
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
