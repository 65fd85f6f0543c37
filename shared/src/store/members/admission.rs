//! Constraints on new members.

use std::collections::{BTreeSet, HashMap};

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::{MemberRepository, present};
use crate::{
    allowance::Allowance,
    id::{MemberId, TenantId},
    member::{
        AddressHolder, AddressHolders, Admission, MEMBERS_PER_TENANT, MailDomains, MemberStatus,
        NewMember,
    },
    store::{
        StoreError, domains::DomainRepository, tenants::TenantRepository, users::UserRepository,
    },
    tenant::Tenant,
};

/// Maximum number of addresses in one query.
const MAX_ADDRESSES: usize = 1_000;

/// The repositories that an admission reads.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionSources<'a> {
    /// Members.
    pub members: &'a MemberRepository,
    /// Domains.
    pub domains: &'a DomainRepository,
    /// Tenants.
    pub tenants: &'a TenantRepository,
    /// Users.
    pub users: &'a UserRepository,
}

impl MemberRepository {
    /// The present members that have any of `addresses`, as a login or as an address of the mailbox.
    pub async fn holders(
        &self,
        session: &mut ClientSession,
        addresses: &[String],
    ) -> Result<AddressHolders, StoreError> {
        #[derive(serde::Deserialize)]
        struct Mailbox {
            #[serde(default)]
            addresses: Vec<String>,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Found {
            #[serde(rename = "_id")]
            id: MemberId,
            tenant_id: TenantId,
            email: String,
            authentik: Option<Document>,
            status: MemberStatus,
            mailbox: Option<Mailbox>,
        }
        let fields = doc! { "tenantId": 1, "email": 1, "status": 1, "mailbox.addresses": 1,
        "authentik.subject": 1 };
        let mut holders = AddressHolders::default();
        for some in addresses.chunks(MAX_ADDRESSES) {
            let query = doc! {
                "$or": [
                    { "mailbox.addresses": { "$in": some } },
                    { "email": { "$in": some }, "status": present() },
                ],
            };
            let members = self.members.clone_with_type::<Found>();
            let found = members.find(query).projection(fields.clone());
            let mut found = found.session(&mut *session).await?;
            let mut found = found.stream(&mut *session);
            while let Some(member) = found.try_next().await? {
                let holder = AddressHolder {
                    id: member.id,
                    tenant_id: member.tenant_id,
                    status: member.status,
                    has_account: member.authentik.is_some(),
                };
                let addresses = member.mailbox.map(|mailbox| mailbox.addresses);
                holders.add(holder, member.email, addresses.unwrap_or_default());
            }
        }
        Ok(holders)
    }
}

impl AdmissionSources<'_> {
    /// Constraints on the `new` members of a tenant. `allowance` is that of its plan, and `may_reserve` whether
    /// reserved local parts are allowed as aliases.
    pub async fn admission<'n>(
        self,
        session: &mut ClientSession,
        tenant: &Tenant,
        allowance: Allowance,
        may_reserve: bool,
        new: impl Iterator<Item = &'n NewMember> + Send,
    ) -> Result<Admission, StoreError> {
        let claims = self.domains.list_in(session, tenant.id).await?;
        let domains = MailDomains::new(claims, tenant);
        let mut logins = Vec::new();
        let mut addresses = Vec::new();
        for (login, mailbox) in new.filter_map(|new| domains.resolve(new, may_reserve).ok()) {
            addresses.extend(mailbox.into_iter().flat_map(|mailbox| mailbox.addresses));
            addresses.push(login.clone());
            logins.push(login);
        }
        let limit = u64::try_from(MEMBERS_PER_TENANT).unwrap_or(u64::MAX);
        let holders = self.members.holders(session, &addresses).await?;
        let foreign_logins = self.foreign_logins(tenant.id, &holders, logins).await?;
        Ok(Admission {
            tenant_id: tenant.id,
            domains,
            holders,
            foreign_logins,
            members: self.members.count(session, tenant.id, limit).await?,
            allowance,
            may_reserve,
        })
    }

    /// Those of `logins` that are addresses in domains of other tenants, and whether the person is known: as a user, or as a
    /// member of the owner of the domain.
    async fn foreign_logins(
        self,
        tenant: TenantId,
        holders: &AddressHolders,
        logins: Vec<String>,
    ) -> Result<HashMap<String, bool>, StoreError> {
        let domain_of = |login: &str| login.rsplit_once('@').map(|(_, domain)| domain.to_owned());
        let domains: BTreeSet<String> = logins.iter().filter_map(|it| domain_of(it)).collect();
        let domains: Vec<String> = domains.into_iter().collect();
        let mut owners = HashMap::new();
        for some in domains.chunks(MAX_ADDRESSES) {
            owners.extend(self.tenants.domain_owners(some).await?);
        }
        let mut foreign = HashMap::new();
        for login in logins {
            let owner = domain_of(&login).and_then(|domain| owners.get(&domain).copied());
            if let Some(owner) = owner.filter(|owner| *owner != tenant) {
                let is_known = holders.with_login(&login, owner).is_some();
                foreign.insert(login, is_known);
            }
        }
        let unknown = foreign.iter().filter(|(_, is_known)| !**is_known);
        let unknown: Vec<String> = unknown.map(|(login, _)| login.clone()).collect();
        for some in unknown.chunks(MAX_ADDRESSES) {
            let known = self.users.known_emails(some).await?;
            foreign.extend(known.into_iter().map(|login| (login, true)));
        }
        Ok(foreign)
    }
}
