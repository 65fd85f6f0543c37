//! Suspension of mailboxes: no sign-in, while mail still arrives and passwords are kept.
//!
//! Freezing a mailbox disables its permission `authenticate`. Unfreezing must not restore a mailbox that an
//! administrator suspended before, and Stalwart has no place for a marker next to the permissions. The same write
//! therefore also disables `sieveAuthenticate`: without `authenticate` it has no effect, because no protocol admits the
//! owner, and of the permissions of that kind it is the one never disabled alone. **Both disabled: frozen by us.
//! `authenticate` alone: suspended by an administrator, and left alone.** The price: a mailbox with only
//! `sieveAuthenticate` disabled before gets it back when unfrozen.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Stalwart,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Ensured, Mode, Operation};

/// Required to sign in to the mailbox, over any protocol.
const AUTHENTICATE: &str = "authenticate";
/// Marker of our suspension: see the module documentation.
const MARKER: &str = "sieveAuthenticate";
/// Maximum number of accounts that Stalwart returns in one call.
const PAGE: usize = 500;

/// Mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Stalwart's id.
    pub id: String,
    /// Local part of the address.
    pub name: String,
    /// Address.
    pub email: String,
    /// Sign-in access.
    pub access: Access,
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

impl Stalwart {
    /// Lists the mailboxes of a domain.
    pub async fn list_accounts(&self, domain_id: &str) -> Result<Vec<Account>, ClientError> {
        let mut accounts = Vec::new();
        for page in 0.. {
            // With a limit, any other order loses and repeats entries.
            let query = json!({
                "filter": { "domainId": domain_id, "@type": "User" },
                "sort": [{ "property": "id", "isAscending": true }],
                "position": page * PAGE,
                "limit": PAGE,
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
            accounts.extend(records.into_iter().map(Account::from));
            if reply.count(0)? < PAGE {
                break;
            }
        }
        Ok(accounts)
    }

    /// Ensures that the mailbox is frozen. A suspended or deleted one is left alone.
    pub async fn freeze_account(
        &self,
        account: &Account,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let permissions = self.permissions(account).await?;
        let frozen = permissions
            .filter(|permissions| permissions.access() == Access::Open)
            .map(Permissions::frozen);
        let change = frozen.map(|frozen| (frozen, "frozen"));
        self.change(account, change, Operation::write("freeze_account"), mode)
            .await
    }

    /// Ensures that a mailbox we froze is open again. A suspended or deleted one is left alone.
    pub async fn unfreeze_account(
        &self,
        account: &Account,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let permissions = self.permissions(account).await?;
        let open = permissions
            .filter(|permissions| permissions.access() == Access::Frozen)
            .map(Permissions::unfrozen);
        let change = open.map(|open| (open, "unfrozen"));
        self.change(account, change, Operation::write("unfreeze_account"), mode)
            .await
    }

    /// Current permissions of the account; `None` if it was deleted.
    async fn permissions(&self, account: &Account) -> Result<Option<Permissions>, ClientError> {
        let get = json!({ "ids": [account.id], "properties": ["permissions"] });
        let get = Call::new("x:Account/get", get);
        let reply = self.call(Operation::read("get_permissions"), [get]).await?;
        let found: Vec<PermissionsOnly> = reply.list(0)?;
        Ok(found.into_iter().next().map(|found| found.permissions))
    }

    /// Replaces the permissions as a whole: a JSON pointer into inherited permissions fails.
    async fn change(
        &self,
        account: &Account,
        change: Option<(Permissions, &str)>,
        operation: Operation,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let mut changes = Vec::new();
        if let Some((permissions, what)) = change {
            changes.push(format!("mailbox {} {what}", account.email));
            if mode == Mode::Apply {
                let update = json!({ "update": { &account.id: { "permissions": permissions } } });
                let update = Call::new("x:Account/set", update);
                let reply = self.call(operation, [update]).await?;
                match reply.updated()? {
                    Ok(()) => {}
                    Err(set_error) if set_error.is_not_found() => changes.clear(),
                    Err(set_error) => return Err(reply.refused(&set_error)),
                }
            }
        }
        Ok(Ensured {
            value: Some(()),
            changes,
        })
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

#[derive(Deserialize)]
struct PermissionsOnly {
    permissions: Permissions,
}

impl From<Record> for Account {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            name: record.name,
            email: record.email_address,
            access: record.permissions.access(),
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
