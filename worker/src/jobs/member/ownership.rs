//! Ownership of accounts at the identity provider: the one decision over an account as it is there now, for members,
//! owners of tenants, partners' staff and resets of second factors.

use std::convert::Infallible;

use dezky_shared::{
    account::{AccountAccess, AccountCreator, AccountFacts},
    id::{MemberId, PartnerId, TenantId, UserId},
    member::{AccountOrigin, Member, MemberStatus, SignInAccount},
    queue::error_code::ErrorCode,
    store::{StoreError, TransactionError, VersionedRepository as _, users::UserFilter},
    tenant::{Tenant, TenantStatus},
    user::User as Person,
};
use dezky_upstreams::clients::authentik::User;
use futures::FutureExt as _;

use super::{MemberTarget, not_ready};
use crate::steps::{StepContext, StepFailure};

/// Tenant or partner that would admit or change an account.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs) struct Claimant<'a> {
    /// Tenant; none for a partner's team.
    pub(in crate::jobs) tenant: Option<&'a Tenant>,
    /// Member of the tenant; none for its owner and for people without a member.
    pub(in crate::jobs) member: Option<MemberId>,
    /// Partner that manages the tenant, or whose team is joined.
    pub(in crate::jobs) partner: Option<PartnerId>,
    /// Login of the account, in lower case: its domain decides, not that of a username that was changed since.
    pub(in crate::jobs) login: &'a str,
}

impl<'a> Claimant<'a> {
    /// A member of a tenant.
    pub(super) fn member(target: &'a MemberTarget) -> Self {
        Self {
            member: Some(target.member.id),
            ..Self::tenant(&target.tenant, &target.member.email)
        }
    }

    /// A tenant, for its owner or a person without a member.
    pub(in crate::jobs) const fn tenant(tenant: &'a Tenant, login: &'a str) -> Self {
        Self {
            tenant: Some(tenant),
            member: None,
            partner: tenant.partner_id,
            login,
        }
    }
}

/// The account as it is stored: created for the member, or adopted.
pub(super) fn account_of(member: &Member, user: &User) -> SignInAccount {
    let is_created = user.was_created_for_member(&member.id.to_string());
    let known = member.authentik.as_ref();
    let known = known.filter(|known| known.subject == user.uuid);
    SignInAccount {
        pk: user.pk,
        subject: user.uuid.clone(),
        origin: if is_created {
            AccountOrigin::Created
        } else {
            AccountOrigin::Adopted
        },
        password_issued_at: known.and_then(|known| known.password_issued_at),
    }
}

/// Access of the member's tenant to the account. One that was admitted stays so if its domain changes hands: the
/// person has used it since.
pub(super) async fn access_to(
    run: &StepContext,
    target: &MemberTarget,
    account: &User,
) -> Result<AccountAccess, StoreError> {
    let facts = facts(run, Claimant::member(target), account).await?;
    let admitted = target.member.authentik.as_ref();
    let is_admitted = admitted.is_some_and(|admitted| admitted.subject == account.uuid);
    Ok(match facts.access() {
        AccountAccess::Refused | AccountAccess::Reclaimable if is_admitted => AccountAccess::Usable,
        access => access,
    })
}

/// Whether the account is the member's tenant's to set, deactivate and delete.
pub(super) async fn owns(
    run: &StepContext,
    target: &MemberTarget,
    account: &User,
) -> Result<bool, StoreError> {
    Ok(access_to(run, target, account).await? == AccountAccess::Owned)
}

/// As [`owns`], of an account that does not exist any more, as far as the database knows.
pub(super) async fn owned(run: &StepContext, target: &MemberTarget) -> Result<bool, StoreError> {
    let member = &target.member;
    let Some(account) = &member.authentik else {
        // There never was one.
        return Ok(true);
    };
    let user = run.ctx.users.find_by_subject(&account.subject).await?;
    let here = Some(target.tenant.id);
    let is_elsewhere = match &user {
        Some(user) => is_admitted_elsewhere(run, user.id, &account.subject, here).await?,
        None => false,
    };
    let is_own_address = member.has_address_of(&target.tenant);
    Ok(member.owns_account(is_own_address, user.as_ref(), is_elsewhere))
}

/// Facts that decide the access to an account.
pub(in crate::jobs) async fn facts(
    run: &StepContext,
    claimant: Claimant<'_>,
    account: &User,
) -> Result<AccountFacts, StoreError> {
    let own = claimant.tenant;
    let creator = creator_of(run, claimant, account).await?;
    let user = run.ctx.users.find_by_subject(&account.uuid).await?;
    let is_here = |id| own.is_some_and(|tenant| tenant.id == id);

    let groups = account.groups.iter();
    let own_group = own.and_then(|tenant| tenant.authentik_group_id.as_ref());
    let groups = groups.filter(|group| Some(*group) != own_group).cloned();
    let groups: Vec<String> = groups.collect();
    let holders = run.ctx.tenants.list_group_holders(&groups).await?;
    let is_held = |group: &String| {
        let mut holders = holders.iter();
        holders.any(|holder| holder.authentik_group_id == *group)
    };

    let mut is_elsewhere = holders.iter().any(|holder| !is_here(holder.id));
    let mut is_privileged = account.is_superuser || !groups.iter().all(is_held);
    if let Some(user) = user {
        is_privileged |= user.is_privileged();
        is_elsewhere |= has_role_elsewhere(run, &user, own).await?;
        let here = own.map(|tenant| tenant.id);
        is_elsewhere |= is_admitted_elsewhere(run, user.id, &account.uuid, here).await?;
    }
    Ok(AccountFacts {
        creator,
        is_privileged,
        is_elsewhere,
        is_own_address: own.is_some_and(|tenant| tenant.owns_domain_of(claimant.login)),
    })
}

/// The failure of a step that may not admit an account.
pub(in crate::jobs) fn refused() -> StepFailure {
    StepFailure::new(
        ErrorCode::AccountTaken,
        "the account of this login was created by a tenant or partner that does not own the domain of the login, and may \
         know its password; see \"Account taken\" in the runbook",
    )
}

async fn creator_of(
    run: &StepContext,
    claimant: Claimant<'_>,
    account: &User,
) -> Result<AccountCreator, StoreError> {
    let Some(member_id) = account.created_for_member() else {
        let partner = claimant.partner.map(|partner| partner.to_string());
        return Ok(match account.created_for_partner() {
            None => AccountCreator::Unmarked,
            mark if mark == partner.as_deref() => AccountCreator::ManagingPartner,
            Some(_) => AccountCreator::Unknown,
        });
    };
    let Ok(id) = member_id.parse::<MemberId>() else {
        return Ok(AccountCreator::Unknown);
    };
    if claimant.member == Some(id) {
        return Ok(AccountCreator::ThisMember);
    }
    let Some(member) = run.ctx.members.find(id).await? else {
        return Ok(AccountCreator::Unknown);
    };
    let is_present = member.status != MemberStatus::Removed;
    if claimant
        .tenant
        .is_some_and(|own| own.id == member.tenant_id)
    {
        let is_same = claimant.member.is_none() && is_present;
        return Ok(if is_same {
            AccountCreator::ThisMember
        } else {
            AccountCreator::SameTenant { is_present }
        });
    }
    let tenant = run.ctx.tenants.find(member.tenant_id).await?;
    let owns_domain = tenant.is_some_and(|tenant| tenant.owns_domain_of(claimant.login));
    Ok(AccountCreator::OtherTenant {
        owns_domain,
        is_present,
    })
}

/// Fails if the account of the login may not be created for the claimant: the tenant that owns the domain of the login
/// speaks for the person, and where a member of another tenant has lost an account of this login, that tenant's space
/// would be open to the next one.
pub(in crate::jobs) async fn ensure_may_create(
    run: &StepContext,
    claimant: Claimant<'_>,
) -> Result<(), StepFailure> {
    let login = claimant.login;
    let own = claimant.tenant.map(|tenant| tenant.id);
    if let Some((_, domain)) = login.rsplit_once('@')
        && let Some(owner) = run.ctx.tenants.find_domain_owner(domain).await?
    {
        if own == Some(owner) {
            return Ok(());
        }
        ensure_domain_is_open_to(run, claimant, owner).await?;
    }
    if run.ctx.members.has_account_elsewhere(login, own).await? {
        return Err(StepFailure::new(
            ErrorCode::AccountTaken,
            "a member of another tenant had an account of this login, which was deleted or renamed at the identity provider; \
             see \"Account taken\" in the runbook",
        ));
    }
    Ok(())
}

/// Fails if only `owner`, the tenant that owns the domain of the login, may create its account. The partner that manages
/// that tenant may, for its team and for owners of its tenants: it creates members of that tenant, too.
async fn ensure_domain_is_open_to(
    run: &StepContext,
    claimant: Claimant<'_>,
    owner: TenantId,
) -> Result<(), StepFailure> {
    if claimant.member.is_some() {
        if run.ctx.members.has_login(owner, claimant.login).await? {
            return Err(not_ready(
                "the tenant that owns the domain of the login has not created the account yet",
            ));
        }
    } else if claimant.partner.is_some() {
        let owner = run.ctx.tenants.find(owner).await?;
        if owner.is_some_and(|owner| owner.partner_id == claimant.partner) {
            return Ok(());
        }
    }
    Err(StepFailure::new(
        ErrorCode::AccountTaken,
        "the login is an address in a domain of another tenant, which alone may create its account",
    ))
}

/// Whether another tenant or a partner's team has a person of the member's login, so that an account of that login may
/// be created at any time whose password is not the person's alone. The address only makes a step wait: it identifies no
/// person.
pub(super) async fn is_login_used_elsewhere(
    run: &StepContext,
    member: &Member,
) -> Result<bool, StoreError> {
    /// Users compared: addresses are not unique.
    const USERS: i64 = 20;
    let filter = UserFilter {
        email: Some(member.email.clone()),
        ..UserFilter::default()
    };
    let users = run.ctx.users.list(&filter, USERS).await?;
    let is_staff = users.iter().any(|user| user.partner_id.is_some());
    Ok(is_staff || run.ctx.members.is_login_elsewhere(member).await?)
}

/// Whether the user has a role in another tenant that is not terminated.
async fn has_role_elsewhere(
    run: &StepContext,
    user: &Person,
    own: Option<&Tenant>,
) -> Result<bool, StoreError> {
    let mut others = user.tenant_ids();
    others.retain(|id| own.is_none_or(|tenant| tenant.id != *id));
    if others.is_empty() {
        return Ok(false);
    }
    let mut known = run.ctx.tenants.list_by_ids(&others).await?;
    known.retain(|tenant| tenant.status == TenantStatus::Terminated);
    Ok(known.len() < others.len())
}

/// Whether another tenant than `here` has a present member with this account of the user.
async fn is_admitted_elsewhere(
    run: &StepContext,
    user: UserId,
    subject: &str,
    here: Option<TenantId>,
) -> Result<bool, StoreError> {
    let read = run
        .ctx
        .store
        .transaction((run, user), |session, (run, user)| {
            async move {
                let places = run.ctx.members.list_places(session, *user).await?;
                Ok::<_, TransactionError<Infallible>>(places)
            }
            .boxed()
        })
        .await;
    let places = match read {
        Ok(places) => places,
        Err(TransactionError::Store(error)) => return Err(error),
        Err(TransactionError::Aborted(never)) => match never {},
    };
    Ok(places
        .iter()
        .any(|place| place.has_account_of(subject) && Some(place.tenant_id) != here))
}
