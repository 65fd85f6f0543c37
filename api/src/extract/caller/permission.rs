//! Permissions that routes require.

use dezky_shared::{
    tenant::Tenant,
    user::{PartnerRole, Role},
};

use super::Caller;

/// Access level that a route requires at the partner of the caller.
pub trait PartnerLevel: Send + Sync + 'static {
    /// Whether this role has the access level.
    fn allows(role: PartnerRole) -> bool;
}

impl PartnerLevel for Read {
    fn allows(_: PartnerRole) -> bool {
        true
    }
}

impl PartnerLevel for ReadWrite {
    fn allows(role: PartnerRole) -> bool {
        role.may_write()
    }
}

impl PartnerLevel for ManageTeam {
    fn allows(role: PartnerRole) -> bool {
        role == PartnerRole::Owner
    }
}

/// Permission that a route requires on a tenant.
pub trait Permission: Send + Sync + 'static {
    /// Whether only operators have the permission.
    const OPERATORS_ONLY: bool = false;

    /// Whether the caller has the permission.
    fn allows(caller: &Caller, tenant: &Tenant) -> bool;
}

/// Read access: members, partner staff, operators.
#[derive(Debug)]
pub enum Read {}

/// Read access to data that plain members do not see: owners and admins of the tenant, partner staff, operators.
#[derive(Debug)]
pub enum ReadPrivate {}

/// Read access to invoices and billing details: owners and admins of the tenant, partner staff with write access,
/// operators.
#[derive(Debug)]
pub enum ReadBilling {}

/// Write access to the tenant: its owners and admins, partner staff with write access, operators.
#[derive(Debug)]
pub enum ReadWrite {}

/// Suspend and resume: partner staff with write access, operators.
#[derive(Debug)]
pub enum Manage {}

/// Payment methods: owners and admins of the tenant, operators. A partner does not enter its customers' cards.
#[derive(Debug)]
pub enum ManageCards {}

/// Reset of second factors: the tenant's owners, operators.
#[derive(Debug)]
pub enum OwnersOnly {}

/// Team management of a partner: its owners.
#[derive(Debug)]
pub enum ManageTeam {}

/// Delete and restore: operators.
#[derive(Debug)]
pub enum OperatorOnly {}

impl Permission for Read {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        caller.may_read(tenant)
    }
}

impl Permission for ReadPrivate {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        ReadBilling::allows(caller, tenant) || caller.works_for_partner_of(tenant)
    }
}

impl Permission for ReadBilling {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        <ReadWrite as Permission>::allows(caller, tenant) || caller.reads_platform()
    }
}

impl Permission for ReadWrite {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        Manage::allows(caller, tenant)
            || caller.user.role_in(tenant.id).is_some_and(Role::may_write)
    }
}

impl Permission for Manage {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        caller.is_operator()
            || caller.works_for_partner_of(tenant)
                && caller.user.partner_role.is_some_and(PartnerRole::may_write)
    }
}

impl Permission for ManageCards {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        caller.is_operator() || caller.user.role_in(tenant.id).is_some_and(Role::may_write)
    }
}

impl Permission for OwnersOnly {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        caller.is_operator() || caller.user.role_in(tenant.id) == Some(Role::Owner)
    }
}

impl Permission for OperatorOnly {
    const OPERATORS_ONLY: bool = true;

    fn allows(caller: &Caller, _: &Tenant) -> bool {
        caller.is_operator()
    }
}
