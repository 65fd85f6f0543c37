//! Taking a domain away.
//!
//! Stalwart refuses to destroy a domain that anything depends on, its own DKIM keys included, and names all
//! that does. So the attempt is also the look: what it names is cleared away, and it is made again. The making of
//! keys is switched off before they are destroyed; a task that was already running may still add some, hence the
//! rounds. A mailbox that appears in between stops it all, and the domain stays: without keys, until it is next
//! ensured.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Domain, Stalwart, failed,
    jmap::{Call, ObjectId},
};
use crate::clients::{ClientError, Ensured, Mode, Operation};
use dezky_shared::queue::error_code::ErrorCode;

/// How often the domain is tried before we give up for now.
const ROUNDS: usize = 5;
/// The most objects read or destroyed in a call.
const AT_ONCE: usize = 100;
/// The most addresses that a refusal names.
const NAMED: usize = 20;

/// What may be lost with the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cascade {
    /// Its DKIM keys.
    Keys,
    /// Its mailboxes and lists, too.
    Everything,
}

impl Stalwart {
    /// Removes a domain that the tenant gave up, with its DKIM keys.
    ///
    /// One that accounts or lists use is left as it is, and the customer has to act. A domain that is not this
    /// tenant's is none of our business: nothing happens. A dry run finds the mailboxes of the domain, but not
    /// lists and not aliases of mailboxes elsewhere.
    pub async fn remove_domain(
        &self,
        name: &str,
        tenant_id: &str,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        self.remove(name, tenant_id, mode, Cascade::Keys).await
    }

    /// Removes a domain of a tenant that is deleted, with all its mailboxes and lists.
    ///
    /// Accounts and lists of other domains lose the aliases they have in it. A domain that is not this tenant's
    /// is left alone.
    pub async fn purge_domain(
        &self,
        name: &str,
        tenant_id: &str,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        self.remove(name, tenant_id, mode, Cascade::Everything)
            .await
    }

    async fn remove(
        &self,
        name: &str,
        tenant_id: &str,
        mode: Mode,
        extent: Cascade,
    ) -> Result<Ensured<()>, ClientError> {
        let mut removed = Removed::default();
        let domain = self.find_domain(name).await?;
        let Some(domain) = domain.filter(|domain| domain.belongs_to(tenant_id)) else {
            return Ok(removed.ensured());
        };
        if mode == Mode::DryRun {
            removed.accounts = self.list_accounts(&domain.id).await?.len();
            if extent == Cascade::Keys && removed.accounts > 0 {
                return Err(in_use(&self.addresses_in(&domain).await?));
            }
            removed.domain = true;
            return Ok(removed.ensured());
        }

        let mut blockers = Vec::new();
        for _ in 0..ROUNDS {
            blockers = match self.destroy_domain(&domain).await? {
                Attempt::Destroyed => {
                    removed.domain = true;
                    return Ok(removed.ensured());
                }
                Attempt::Gone => return Ok(removed.ensured()),
                Attempt::Blocked(blockers) => blockers,
            };
            let ids_of = |object: &str| -> Vec<String> {
                let mine = blockers.iter().filter(|blocker| blocker.object == object);
                mine.map(|blocker| blocker.id.clone()).collect()
            };
            let (accounts, lists) = (ids_of(ACCOUNTS.object), ids_of(LISTS.object));
            if extent == Cascade::Keys && !(accounts.is_empty() && lists.is_empty()) {
                let mut users = self.addresses(ACCOUNTS, &accounts, &domain).await?;
                users.extend(self.addresses(LISTS, &lists, &domain).await?);
                return Err(in_use(&users));
            }
            let keys = ids_of("DkimSignature");
            if !keys.is_empty() && removed.keys == 0 {
                self.disable_dkim(&domain).await?;
            }
            if accounts.len() + lists.len() + keys.len() < blockers.len() {
                break;
            }
            removed.accounts += self
                .delete_members(ACCOUNTS, &accounts, &domain, &mut removed.aliases)
                .await?;
            removed.lists += self
                .delete_members(LISTS, &lists, &domain, &mut removed.aliases)
                .await?;
            removed.keys += self
                .destroy(
                    "x:DkimSignature/set",
                    Operation::write("destroy_dkim_signatures"),
                    &keys,
                )
                .await?;
        }
        let names: Vec<String> = blockers
            .iter()
            .take(10)
            .map(|blocker| format!("{} {}", blocker.object, blocker.id))
            .collect();
        let detail = format!("still used by {}", names.join(", "));
        Err(ClientError::Conflict(failed("destroy_domain", detail)))
    }

    async fn destroy_domain(&self, domain: &Domain) -> Result<Attempt, ClientError> {
        let destroy = Call::new("x:Domain/set", json!({ "destroy": [domain.id] }));
        let reply = self
            .call(Operation::write("destroy_domain"), [destroy])
            .await?;
        let outcome = reply.destroyed()?;
        let Some(refusal) = outcome.not_destroyed.get(&domain.id) else {
            return Ok(Attempt::Destroyed);
        };
        if refusal.is_not_found() {
            return Ok(Attempt::Gone);
        }
        match refusal.dependants() {
            Some(blockers) => Ok(Attempt::Blocked(blockers.to_vec())),
            None => Err(reply.refused(refusal)),
        }
    }

    /// Destroys those of the accounts or lists that live in the domain; the others lose their aliases in it.
    /// Says how many were destroyed.
    async fn delete_members(
        &self,
        kind: AddressKind,
        ids: &[String],
        domain: &Domain,
        aliases_removed: &mut usize,
    ) -> Result<usize, ClientError> {
        let mut destroyed = 0;
        for ids in ids.chunks(AT_ONCE) {
            let get = json!({ "ids": ids, "properties": ["name", "domainId", "aliases"] });
            let get = Call::new(kind.get, get);
            let reply = self.call(kind.look, [get]).await?;
            let (inside, outside): (Vec<Addressed>, Vec<Addressed>) = reply
                .list(0)?
                .into_iter()
                .partition(|addressed: &Addressed| addressed.domain_id == domain.id);
            for addressed in outside {
                *aliases_removed += self.drop_aliases(kind, &addressed, domain).await?;
            }
            let inside: Vec<String> = inside.into_iter().map(|addressed| addressed.id).collect();
            destroyed += self.destroy(kind.set, kind.destroy, &inside).await?;
        }
        Ok(destroyed)
    }

    /// The addresses that these accounts or lists have in the domain.
    async fn addresses(
        &self,
        kind: AddressKind,
        ids: &[String],
        domain: &Domain,
    ) -> Result<Vec<String>, ClientError> {
        let mut addresses = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            let get = json!({ "ids": ids, "properties": ["name", "domainId", "aliases"] });
            let get = Call::new(kind.get, get);
            let reply = self.call(kind.look, [get]).await?;
            let found: Vec<Addressed> = reply.list(0)?;
            addresses.extend(found.iter().flat_map(|it| it.addresses_in(domain)));
        }
        Ok(addresses)
    }

    /// The addresses of the mailboxes that live in the domain.
    async fn addresses_in(&self, domain: &Domain) -> Result<Vec<String>, ClientError> {
        let accounts = self.list_accounts(&domain.id).await?;
        let ids: Vec<String> = accounts.into_iter().map(|account| account.id).collect();
        self.addresses(ACCOUNTS, &ids, domain).await
    }

    /// Removes the aliases in the domain, all in one write. Their numbers are not stable, so the list is
    /// replaced.
    async fn drop_aliases(
        &self,
        kind: AddressKind,
        addressed: &Addressed,
        domain: &Domain,
    ) -> Result<usize, ClientError> {
        let kept: Map<String, Value> = addressed
            .aliases
            .values()
            .filter(|alias| alias.get("domainId") != Some(&json!(domain.id)))
            .enumerate()
            .map(|(position, alias)| (position.to_string(), alias.clone()))
            .collect();
        let dropped = addressed.aliases.len() - kept.len();
        let update = json!({ "update": { &addressed.id: { "aliases": kept } } });
        let update = Call::new(kind.set, update);
        let reply = self.call(kind.drop_aliases, [update]).await?;
        match reply.updated()? {
            Ok(()) => Ok(dropped),
            Err(refusal) if refusal.is_not_found() => Ok(0),
            Err(refusal) => Err(reply.refused(&refusal)),
        }
    }

    /// Destroys objects and says how many. What something else depends on is left for the next round.
    async fn destroy(
        &self,
        method: &'static str,
        operation: Operation,
        ids: &[String],
    ) -> Result<usize, ClientError> {
        let mut count = 0;
        for ids in ids.chunks(AT_ONCE) {
            let destroy = Call::new(method, json!({ "destroy": ids }));
            let reply = self.call(operation, [destroy]).await?;
            let outcome = reply.destroyed()?;
            let refusals = outcome.not_destroyed.values();
            for refusal in refusals {
                if !refusal.is_not_found() && refusal.dependants().is_none() {
                    return Err(reply.refused(refusal));
                }
            }
            count += outcome.destroyed.len();
        }
        Ok(count)
    }
}

/// How an attempt to destroy a domain went.
enum Attempt {
    Destroyed,
    /// There was none.
    Gone,
    Blocked(Vec<ObjectId>),
}

/// What has addresses in a domain.
#[derive(Clone, Copy)]
struct AddressKind {
    object: &'static str,
    get: &'static str,
    set: &'static str,
    look: Operation,
    drop_aliases: Operation,
    destroy: Operation,
}

const ACCOUNTS: AddressKind = AddressKind {
    object: "Account",
    get: "x:Account/get",
    set: "x:Account/set",
    look: Operation::read("get_accounts"),
    drop_aliases: Operation::write("remove_account_aliases"),
    destroy: Operation::write("destroy_accounts"),
};

const LISTS: AddressKind = AddressKind {
    object: "MailingList",
    get: "x:MailingList/get",
    set: "x:MailingList/set",
    look: Operation::read("get_lists"),
    drop_aliases: Operation::write("remove_list_aliases"),
    destroy: Operation::write("destroy_lists"),
};

/// An account or a list, as far as its addresses go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Addressed {
    id: String,
    name: String,
    domain_id: String,
    #[serde(default)]
    aliases: Map<String, Value>,
}

impl Addressed {
    fn addresses_in(&self, domain: &Domain) -> Vec<String> {
        let own = (self.domain_id == domain.id).then_some(self.name.as_str());
        let aliases = self
            .aliases
            .values()
            .filter(|alias| alias.get("domainId") == Some(&json!(domain.id)))
            .filter_map(|alias| alias.get("name")?.as_str());
        own.into_iter()
            .chain(aliases)
            .map(|name| format!("{name}@{}", domain.name))
            .collect()
    }
}

/// What went, or would go in a dry run.
#[derive(Default)]
struct Removed {
    domain: bool,
    accounts: usize,
    lists: usize,
    aliases: usize,
    keys: usize,
}

impl Removed {
    fn ensured(&self) -> Ensured<()> {
        let counted = |count: usize, what: &str| {
            (count > 0).then(|| format!("{} removed", plural(count, what)))
        };
        let changes = [
            counted(self.accounts, "account"),
            counted(self.lists, "list"),
            counted(self.aliases, "alias"),
            counted(self.keys, "DKIM key"),
            self.domain.then(|| "domain removed".to_owned()),
        ];
        Ensured {
            value: Some(()),
            changes: changes.into_iter().flatten().collect(),
        }
    }
}

/// The refusal, which names who still uses the domain.
fn in_use(users: &[String]) -> ClientError {
    let mut detail = users
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if users.len() > NAMED {
        let _ = write!(detail, " and {} more", users.len() - NAMED);
    }
    ClientError::UserAction {
        call: failed("destroy_domain", detail),
        code: ErrorCode::DomainInUse,
    }
}

fn plural(count: usize, what: &str) -> String {
    let ending = match (count, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{ending}")
}
