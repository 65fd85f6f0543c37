//! Admission of new members: their addresses are free, and there is room for them.
//!
//! The api creates one member by it, an import a batch of them, and a dry run of an import none.

use std::collections::HashMap;

use bson::DateTime;

use super::{AddressError, MEMBERS_PER_TENANT, MailDomains, Member, MemberStatus, NewMember};
use crate::{
    allowance::Allowance,
    id::{MemberId, TenantId},
};

/// A member that has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressHolder {
    /// Member.
    pub id: MemberId,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// Its status.
    pub status: MemberStatus,
    /// Whether it has an account at the identity provider.
    pub has_account: bool,
}

/// The present members that have some addresses, as a login or as an address of the mailbox.
#[derive(Debug, Default)]
pub struct AddressHolders {
    /// By address of the mailbox, which is unique over all tenants.
    addresses: HashMap<String, AddressHolder>,
    /// By login, which is unique in a tenant.
    logins: HashMap<String, Vec<AddressHolder>>,
}

impl AddressHolders {
    /// Adds a member with its login and the addresses of its mailbox.
    pub fn add(&mut self, holder: AddressHolder, login: String, addresses: Vec<String>) {
        self.addresses
            .extend(addresses.into_iter().map(|address| (address, holder)));
        self.logins.entry(login).or_default().push(holder);
    }

    /// The member of `tenant` with this login.
    pub(crate) fn with_login(&self, login: &str, tenant: TenantId) -> Option<&AddressHolder> {
        let mut holders = self.logins.get(login).into_iter().flatten();
        holders.find(|holder| holder.tenant_id == tenant)
    }

    /// An address that another member has already: the login of this member or one of its addresses, as an address in
    /// any tenant (the login: in this one), or as a login in this tenant.
    pub fn conflict(&self, member: &Member) -> Option<String> {
        let own = member.mailbox.iter();
        let own: Vec<&String> = own.flat_map(|mailbox| &mailbox.addresses).collect();
        let tenant = member.tenant_id;
        let is_other = |holder: &AddressHolder| holder.id != member.id;
        let is_address = |address: &str| self.addresses.get(address).copied().filter(is_other);
        let is_login = |address: &str| self.with_login(address, tenant).copied().filter(is_other);
        let taken = own
            .iter()
            .find(|address| is_address(address).is_some() || is_login(address).is_some());
        let login = &member.email;
        let of_login = is_address(login)
            .filter(|holder| holder.tenant_id == tenant)
            .or_else(|| is_login(login));
        taken
            .map(|address| (*address).clone())
            .or_else(|| of_login.map(|_| login.clone()))
    }

    /// Whether another tenant than the member's has a member with an account of the same login. One without an account
    /// does not count: every tenant can add any address.
    pub fn is_elsewhere(&self, member: &Member) -> bool {
        let mut holders = self.logins.get(&member.email).into_iter().flatten();
        holders.any(|holder| holder.has_account && holder.tenant_id != member.tenant_id)
    }
}

/// Reason for the rejection of a new member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The addresses cannot be had.
    Address(AddressError),
    /// The tenant has a member with this login.
    Exists {
        /// That member.
        holder: AddressHolder,
        /// The login.
        login: String,
    },
    /// Another member has this address.
    AddressTaken(String),
    /// The login is an address in a domain of another tenant, of a person who is not known: only the owner of the domain
    /// creates the account of such a person.
    ForeignLogin,
    /// The tenant has the maximum number of members.
    TooManyMembers,
    /// Every seat of the plan is taken.
    NoSeats,
}

/// Constraints on new members of a tenant, as seen by one transaction.
#[derive(Debug)]
pub struct Admission {
    /// Tenant.
    pub tenant_id: TenantId,
    /// The tenant's domains.
    pub domains: MailDomains,
    /// The members that have the new members' addresses.
    pub holders: AddressHolders,
    /// Logins of new members that are addresses in domains of other tenants, and whether the person is known.
    pub foreign_logins: HashMap<String, bool>,
    /// Number of the tenant's members.
    pub members: u64,
    /// Allowance of the tenant's plan.
    pub allowance: Allowance,
    /// Whether reserved local parts are allowed as aliases.
    pub may_reserve: bool,
}

impl Admission {
    /// Whether the account of this login is one that another tenant has created, or alone may create.
    pub fn is_elsewhere(&self, member: &Member) -> bool {
        self.foreign_logins.contains_key(&member.email) || self.holders.is_elsewhere(member)
    }

    /// The new member, which from now on counts as one.
    pub fn admit(&mut self, new: &NewMember, now: DateTime) -> Result<Member, Rejection> {
        let resolved = self.domains.resolve(new, self.may_reserve);
        let (login, mailbox) = resolved.map_err(Rejection::Address)?;
        if let Some(holder) = self.holders.with_login(&login, self.tenant_id) {
            return Err(Rejection::Exists {
                holder: *holder,
                login,
            });
        }
        let member = Member::new(self.tenant_id, &login, &new.name, new.role, mailbox, now);
        if let Some(address) = self.holders.conflict(&member) {
            return Err(Rejection::AddressTaken(address));
        }
        if self.foreign_logins.get(&login) == Some(&false) {
            return Err(Rejection::ForeignLogin);
        }
        if self.members >= u64::try_from(MEMBERS_PER_TENANT).unwrap_or(u64::MAX) {
            return Err(Rejection::TooManyMembers);
        }
        if self.allowance.rejects_member(self.members) {
            return Err(Rejection::NoSeats);
        }
        self.members += 1;
        let holder = AddressHolder {
            id: member.id,
            tenant_id: member.tenant_id,
            status: member.status,
            has_account: false,
        };
        let addresses = member.mailbox.iter();
        let addresses = addresses.flat_map(|mailbox| mailbox.addresses.clone());
        self.holders.add(holder, login, addresses.collect());
        Ok(member)
    }
}
