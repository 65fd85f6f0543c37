//! Ownership of accounts at the identity provider: the access that a tenant has to an existing one.
//!
//! The creator of an account may know its password, and would get in wherever another tenant admits the account. Only the
//! tenant that owns the domain of the login controls the address, and so speaks for the person. A sign-in proves nothing:
//! it may have been the creator's.

/// Creator of an account, by its marks, which stay for the life of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountCreator {
    /// No tenant and no partner: none was ever told a password of it.
    Unmarked,
    /// The tenant, for this member.
    ThisMember,
    /// The same tenant, for another member.
    SameTenant {
        /// Whether that member is not removed.
        is_present: bool,
    },
    /// Another tenant.
    OtherTenant {
        /// Whether it owns the domain of the login now.
        owns_domain: bool,
        /// Whether the member for whom it was created is not removed.
        is_present: bool,
    },
    /// The partner that manages the tenant, or whose team is joined.
    ManagingPartner,
    /// Another partner, which may still hold a recovery link, or a member that is not known any more.
    Unknown,
}

/// Facts that decide the access to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its creator.
    pub creator: AccountCreator,
    /// Whether it is that of an operator or of a partner's staff, or in a group that no tenant has: the permissions that
    /// such a group grants are not known.
    pub is_privileged: bool,
    /// Whether another tenant uses it: by its group, a role, or a member with this account.
    pub is_elsewhere: bool,
    /// Whether the tenant owns the domain of the login.
    pub is_own_address: bool,
}

/// Access of a tenant to an existing account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountAccess {
    /// The tenant's: it may set the password, end sessions, deactivate and delete it.
    Owned,
    /// The person's, or another tenant's: it may be admitted, and is otherwise left alone.
    Usable,
    /// Left behind with a login in a domain of the tenant: the tenant's, once everything that opened it before is replaced.
    Reclaimable,
    /// Not to be admitted: a tenant or partner that does not speak for the person may know the password.
    Refused,
}

impl AccountFacts {
    /// Access of the tenant to the account.
    pub const fn access(self) -> AccountAccess {
        match self.creator {
            AccountCreator::ThisMember
                if owns(self.is_privileged, self.is_elsewhere, self.is_own_address) =>
            {
                AccountAccess::Owned
            }
            AccountCreator::Unmarked
            | AccountCreator::ThisMember
            | AccountCreator::ManagingPartner
            | AccountCreator::OtherTenant {
                owns_domain: true, ..
            } => AccountAccess::Usable,
            AccountCreator::SameTenant { is_present: false } => {
                self.if_abandoned(AccountAccess::Usable)
            }
            AccountCreator::OtherTenant {
                owns_domain: false,
                is_present: false,
            } => self.if_abandoned(AccountAccess::Refused),
            // Another member or tenant still relies on it: taking it over would open it to this one.
            AccountCreator::SameTenant { is_present: true }
            | AccountCreator::OtherTenant {
                owns_domain: false,
                is_present: true,
            }
            | AccountCreator::Unknown => AccountAccess::Refused,
        }
    }

    /// Access to an account whose creator does not use it any more.
    const fn if_abandoned(self, otherwise: AccountAccess) -> AccountAccess {
        if self.is_own_address && !self.is_privileged && !self.is_elsewhere {
            AccountAccess::Reclaimable
        } else {
            otherwise
        }
    }
}

/// Whether an account that was created for a member is the tenant's to set. If the tenant owns the domain of the login, other
/// tenants have the person as a guest, and do not take the account away from it.
pub const fn owns(is_privileged: bool, is_elsewhere: bool, is_own_address: bool) -> bool {
    !is_privileged && (is_own_address || !is_elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The accesses of an account by the other facts, each as none, privileged, elsewhere.
    fn accesses(creator: AccountCreator, is_own_address: bool) -> [AccountAccess; 3] {
        [(false, false), (true, false), (false, true)].map(|(is_privileged, is_elsewhere)| {
            AccountFacts {
                creator,
                is_privileged,
                is_elsewhere,
                is_own_address,
            }
            .access()
        })
    }

    #[test]
    fn the_maker_the_domain_and_other_uses_decide_whose_account_it_is() {
        use AccountAccess::{Owned, Reclaimable, Refused, Usable};
        let other = |owns_domain, is_present| AccountCreator::OtherTenant {
            owns_domain,
            is_present,
        };
        let same = |is_present| AccountCreator::SameTenant { is_present };
        // Alone, privileged, used elsewhere: first with a login in a domain of the tenant, then with any other one.
        let table = [
            (AccountCreator::Unmarked, [Usable; 3], [Usable; 3]),
            (AccountCreator::ManagingPartner, [Usable; 3], [Usable; 3]),
            (
                AccountCreator::ThisMember,
                [Owned, Usable, Owned],
                [Owned, Usable, Usable],
            ),
            (
                same(false),
                [Reclaimable, Usable, Usable],
                [Usable, Usable, Usable],
            ),
            (same(true), [Refused; 3], [Refused; 3]),
            (
                other(false, false),
                [Reclaimable, Refused, Refused],
                [Refused; 3],
            ),
            (other(false, true), [Refused; 3], [Refused; 3]),
            (other(true, false), [Usable; 3], [Usable; 3]),
            (other(true, true), [Usable; 3], [Usable; 3]),
            (AccountCreator::Unknown, [Refused; 3], [Refused; 3]),
        ];

        for (creator, own_address, any_address) in table {
            assert_eq!(accesses(creator, true), own_address, "{creator:?}");
            assert_eq!(accesses(creator, false), any_address, "{creator:?}");
        }
    }
}
