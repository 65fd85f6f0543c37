//! Addresses of members: local parts on the tenant's domains.

use super::{Alias, MailAddress, Mailbox, NewMember, is_reserved, local_part};
use crate::{domain::Domain, id::DomainId, tenant::Tenant};

/// The owned domains of a tenant.
#[derive(Debug)]
pub struct MailDomains {
    owned: Vec<Domain>,
    primary: Option<DomainId>,
}

/// Reason for the rejection of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressError {
    /// The tenant owns no primary domain.
    NoMailDomain,
    /// The domain is being removed.
    DomainRemoving,
    /// Only owners can add a reserved local part as an alias.
    ReservedAlias,
    /// These fields are invalid.
    Invalid(Vec<InvalidAddress>),
}

/// An invalid field of a new member, or of a change of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidAddress {
    /// JSON Pointer to the field.
    pub pointer: String,
    /// Stable code.
    pub code: &'static str,
    /// Explanation.
    pub message: String,
}

impl AddressError {
    fn at(pointer: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![InvalidAddress {
            pointer: pointer.into(),
            code,
            message: message.into(),
        }])
    }
}

impl MailDomains {
    /// The domains of `tenant` among `domains`, which are all its claims.
    pub fn new(mut domains: Vec<Domain>, tenant: &Tenant) -> Self {
        domains.retain(Domain::is_owned);
        let name = tenant.primary_domain.as_ref();
        let primary = domains.iter().find(|domain| Some(&domain.name) == name);
        Self {
            primary: primary.map(|domain| domain.id),
            owned: domains,
        }
    }

    /// The primary domain, which new mailboxes need.
    fn primary(&self) -> Result<&Domain, AddressError> {
        let mut owned = self.owned.iter();
        let primary = owned.find(|domain| Some(domain.id) == self.primary);
        usable(primary.ok_or(AddressError::NoMailDomain)?)
    }

    /// The owned domain with this name.
    fn named(&self, name: &str) -> Option<&Domain> {
        self.owned.iter().find(|domain| domain.name == name)
    }

    /// The login and the mailbox of a new member. Without a mailbox no domain is needed, unless the login is in it.
    /// Reserved local parts are for those who `may_reserve` them.
    pub fn resolve(
        &self,
        new: &NewMember,
        may_reserve: bool,
    ) -> Result<(String, Option<Mailbox>), AddressError> {
        let NewMember {
            email, local_part, ..
        } = new;
        if !new.mailbox {
            let login = match (email, local_part) {
                (Some(email), _) => email.clone(),
                (None, local_part) => {
                    let local = local_part.as_deref().unwrap_or_default();
                    format!("{local}@{}", self.primary()?.name)
                }
            };
            return Ok((login, None));
        }
        let own = self.own_address(new)?;
        let aliases = self.aliases(&own, &new.aliases, &[], may_reserve)?;
        let login = email.clone().unwrap_or_else(|| own.address.clone());
        Ok((login, Some(Mailbox::new(own, aliases, new.quota_bytes))))
    }

    /// The address of a new mailbox.
    fn own_address(&self, new: &NewMember) -> Result<MailAddress, AddressError> {
        let domain = self.primary()?;
        let parts = new
            .email
            .as_deref()
            .and_then(|email| email.rsplit_once('@'));
        let local = match (&new.local_part, parts) {
            (Some(local), _) => local.clone(),
            (None, Some((local, name))) if *name == domain.name => local_part(local)
                .map_err(|(code, message)| AddressError::at("/email", code, message))?,
            (None, _) => {
                let message = "A mailbox in the primary domain needs a local part.";
                return Err(AddressError::at("/localPart", "missing", message));
            }
        };
        let own = MailAddress::new(&local, domain.id, &domain.name);
        if let Some((_, name)) = parts
            && self.named(name).is_some()
            && new.email.as_ref() != Some(&own.address)
        {
            let message = "A login in a domain of the tenant must be the address of the mailbox.";
            return Err(AddressError::at("/email", "differs_from_mailbox", message));
        }
        Ok(own)
    }

    /// The aliases of the mailbox `own`. Those in `kept` were added before. Reserved local parts are for those who
    /// `may_reserve` them.
    pub fn aliases(
        &self,
        own: &MailAddress,
        aliases: &[Alias],
        kept: &[MailAddress],
        may_reserve: bool,
    ) -> Result<Vec<MailAddress>, AddressError> {
        let mut invalid = Vec::new();
        let mut found: Vec<MailAddress> = Vec::new();
        for (index, alias) in aliases.iter().enumerate() {
            let mut note = |code, message: &str| {
                invalid.push(InvalidAddress {
                    pointer: format!("/aliases/{index}"),
                    code,
                    message: message.to_owned(),
                });
            };
            let domain = match &alias.domain {
                None => self.primary()?,
                Some(name) => {
                    if let Some(domain) = self.named(name) {
                        domain
                    } else {
                        note("unknown_domain", "The tenant does not own this domain.");
                        continue;
                    }
                }
            };
            let address = MailAddress::new(&alias.local_part, domain.id, &domain.name);
            if kept.contains(&address) {
                found.push(address);
                continue;
            }
            usable(domain)?;
            if is_reserved(&alias.local_part) && !may_reserve {
                return Err(AddressError::ReservedAlias);
            }
            if address == *own {
                note("own_address", "This is the address of the mailbox.");
            } else if found.contains(&address) {
                note("duplicate", "Duplicate entry.");
            } else {
                found.push(address);
            }
        }
        if invalid.is_empty() {
            Ok(found)
        } else {
            Err(AddressError::Invalid(invalid))
        }
    }
}

fn usable(domain: &Domain) -> Result<&Domain, AddressError> {
    if domain.removing {
        return Err(AddressError::DomainRemoving);
    }
    Ok(domain)
}
