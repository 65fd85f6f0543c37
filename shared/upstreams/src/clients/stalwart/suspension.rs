//! Freezing mailboxes: nobody can sign in, mail still arrives, passwords stay.
//!
//! A mailbox is frozen by taking the permission `authenticate` from it. Resuming a tenant must not give it back
//! to a mailbox that an operator had suspended before, and Stalwart has no place for a note beside the
//! permissions. So the same write also takes `sieveAuthenticate`: without `authenticate` it means nothing (no
//! protocol lets its owner in), and of the permissions of that kind it is the one nobody takes by itself. **Both
//! taken: frozen by us. `authenticate` alone: suspended by somebody else, and left alone.** The price: a mailbox
//! that had lost just `sieveAuthenticate` before we froze it gets that back when we unfreeze it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Stalwart,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Ensured, Mode, Operation};

/// Without it nobody signs in to the mailbox, over any protocol.
const AUTHENTICATE: &str = "authenticate";
/// Says that it was us: see the module.
const MARKER: &str = "sieveAuthenticate";
/// The most accounts that Stalwart gives in one call.
const PAGE: usize = 500;

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Stalwart's id of it.
    pub id: String,
    /// The part of its address before the `@`.
    pub name: String,
    /// Its address.
    pub email: String,
    /// Whether its owner can sign in.
    pub access: Access,
}

/// Whether the owner of a mailbox can sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// They can.
    Open,
    /// Frozen by us, with its tenant.
    Frozen,
    /// Suspended by somebody else, whose business it stays.
    Suspended,
}

impl Stalwart {
    /// Lists the mailboxes of a domain.
    pub async fn list_accounts(&self, domain_id: &str) -> Result<Vec<Account>, ClientError> {
        let mut accounts = Vec::new();
        for page in 0.. {
            // Any other order, with a limit, loses and repeats entries.
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

    /// Makes sure that nobody can sign in to the mailbox. One that is suspended or gone is left as it is.
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

    /// Lets the owner of a mailbox that we froze sign in again. One that is suspended or gone is left as it is.
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

    /// What the account may do now; `None` when it is gone.
    async fn permissions(&self, account: &Account) -> Result<Option<Permissions>, ClientError> {
        let get = json!({ "ids": [account.id], "properties": ["permissions"] });
        let get = Call::new("x:Account/get", get);
        let reply = self.call(Operation::read("get_permissions"), [get]).await?;
        let found: Vec<PermissionsOnly> = reply.list(0)?;
        Ok(found.into_iter().next().map(|found| found.permissions))
    }

    /// Writes the permissions as a whole: a pointer into them fails while they are inherited.
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
                    Err(refusal) if refusal.is_not_found() => changes.clear(),
                    Err(refusal) => return Err(reply.refused(&refusal)),
                }
            }
        }
        Ok(Ensured {
            value: Some(()),
            changes,
        })
    }
}

/// An account as Stalwart shows it.
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

/// What an account may do beyond or below its roles. The sets are objects whose values are `true`.
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

    /// The same overrides, and nobody signs in.
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

    /// The overrides that were there before we froze the account.
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
    fn freezing_and_unfreezing_gives_back_what_was_there() {
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
    fn an_account_that_lost_authenticate_alone_was_suspended_by_somebody_else() {
        let suspended = permissions(json!({
            "@type": "Merge", "enabledPermissions": {}, "disabledPermissions": { "authenticate": true },
        }));

        assert_eq!(suspended.access(), Access::Suspended);
    }
}
