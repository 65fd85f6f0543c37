//! Problem codes of single operations. The client of the tests fails on a response whose code is not documented.

use crate::error::ProblemCode;

/// Codes of the operations with these ids.
type Row = (&'static [&'static str], &'static [ProblemCode]);

/// Codes of an operation beyond those that follow from its parameters.
pub(super) fn codes(id: &str) -> impl Iterator<Item = ProblemCode> {
    let rows = ROWS.iter().filter(move |(ids, _)| ids.contains(&id));
    rows.flat_map(|(_, codes)| codes.iter().copied())
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Tenants.
    (&["createTenant"], &[ProblemCode::HasTenant]),
    (&["createTenant", "createOwnPartnerTenant"], &[ProblemCode::SlugTaken, ProblemCode::DomainTaken, ProblemCode::PartnerTerminated]),
    (&["updateTenant", "updateOwnPartnerTenant"], &[ProblemCode::DomainTaken, ProblemCode::PartnerTerminated]),
    (&["restoreTenant"], &[ProblemCode::NotTerminating, ProblemCode::PurgeStarted, ProblemCode::TenantTerminated]),
    (&["deleteTenant"], &[ProblemCode::ConfirmationRequired, ProblemCode::TenantTerminated]),
    (TENANT_WRITES, &[ProblemCode::TenantTerminating, ProblemCode::TenantTerminated]),
    // Domains.
    (&["addDomain"], &[ProblemCode::DomainTaken, ProblemCode::DomainExists, ProblemCode::DomainRemoving, ProblemCode::TooManyDomains, ProblemCode::NoDomainsLeft]),
    (&["updateDomain"], &[ProblemCode::DomainIsPrimary, ProblemCode::DomainRemoving, ProblemCode::DomainTaken]),
    (&["removeDomain"], &[ProblemCode::DomainIsPrimary, ProblemCode::DomainInUse]),
    (&["recheckDomain"], &[ProblemCode::RecheckTooSoon, ProblemCode::DomainRemoving]),
    // Apps.
    (&["createApp"], &[ProblemCode::AppExists, ProblemCode::NoAppsLeft, ProblemCode::TooManyApps, ProblemCode::EncryptionNotConfigured]),
    (&["updateApp"], &[ProblemCode::AppRemoving, ProblemCode::EncryptionNotConfigured]),
    (&["rotateAppSecret"], &[ProblemCode::AppRemoving, ProblemCode::PublicClient, ProblemCode::EncryptionNotConfigured]),
    // Members.
    (&["createTenantUser"], &[
        ProblemCode::NoMailDomain, ProblemCode::DomainRemoving, ProblemCode::AddressTaken, ProblemCode::NoSeats,
        ProblemCode::TooManyMembers, ProblemCode::EncryptionNotConfigured, ProblemCode::LoginInForeignDomain,
    ]),
    (&["updateTenantUser"], &[
        ProblemCode::LastOwner, ProblemCode::NoMailbox, ProblemCode::NotManaged, ProblemCode::AddressTaken,
        ProblemCode::DomainRemoving, ProblemCode::MemberRemoving, ProblemCode::NoMailDomain, ProblemCode::ManagedMember,
    ]),
    (&["removeTenantUser", "suspendTenantUser"], &[ProblemCode::ManagedMember, ProblemCode::OwnAccount, ProblemCode::LastOwner, ProblemCode::MemberRemoving, ProblemCode::NotManaged]),
    (&["resumeTenantUser"], &[ProblemCode::MemberRemoving, ProblemCode::NotManaged, ProblemCode::OwnAccount]),
    (&["restoreTenantUser"], &[ProblemCode::NotRemoving, ProblemCode::PurgeStarted, ProblemCode::NotManaged]),
    (&["signOutTenantUser"], &[ProblemCode::OwnAccount, ProblemCode::MemberRemoving, ProblemCode::NotManaged]),
    (&["resetTenantUserPassword"], &[
        ProblemCode::PasswordNotOurs, ProblemCode::MemberRemoving, ProblemCode::NotManaged, ProblemCode::EncryptionNotConfigured,
    ]),
    (&["resetTenantUserMfa"], &[ProblemCode::MemberSuspended, ProblemCode::OwnAccount, ProblemCode::SharedAccount]),
    (&["importTenantUsers"], &[ProblemCode::EncryptionNotConfigured, ProblemCode::NoMailDomain, ProblemCode::DomainRemoving]),
    (&["fetchTenantUserImportPasswords"], &[ProblemCode::PasswordsGone, ProblemCode::ImportRunning, ProblemCode::EncryptionNotConfigured]),
    // Users.
    (&["createUser"], &[ProblemCode::UserExists, ProblemCode::TeamFull]),
    (&["updateUser"], &[ProblemCode::OwnAdminFlag, ProblemCode::LastOwner, ProblemCode::ManagedMember, ProblemCode::PartnerTerminated, ProblemCode::TeamFull]),
    (&["deleteUser"], &[ProblemCode::OwnUser, ProblemCode::LastOwner, ProblemCode::ManagedMember]),
    // Partners and their teams.
    (&["createPartner"], &[ProblemCode::SlugTaken]),
    (&["updatePartner"], &[ProblemCode::PartnerTerminated]),
    (&["inviteOwnPartnerMember", "invitePartnerMember"], &[ProblemCode::TeamFull, ProblemCode::PartnerTerminated, ProblemCode::EncryptionNotConfigured]),
    (&["updateOwnPartnerMember", "removeOwnPartnerMember"], &[ProblemCode::LastOwner]),
    (&["refreshOwnPartnerTeam"], &[ProblemCode::TeamRefreshTooSoon]),
    (&["acceptInvitation"], &[ProblemCode::PartnerTerminated, ProblemCode::WorksElsewhere, ProblemCode::TeamFull]),
    (&["showInvitationLink"], &[
        ProblemCode::LinkNotReady, ProblemCode::LinkNotNeeded, ProblemCode::LinkAlreadyShown, ProblemCode::EncryptionNotConfigured,
    ]),
    // Billing.
    (&["createSubscription"], &[ProblemCode::SubscriptionExists, ProblemCode::NotFound]),
    (&["updateSubscription", "cancelSubscription"], &[ProblemCode::SubscriptionCancelled]),
    (&["createSubscription", "updateSubscription"], &[ProblemCode::BillingDisabled]),
    (&["createPrice"], &[ProblemCode::PriceExists]),
    (&["updateSubscription"], &[ProblemCode::ManagedByBilling, ProblemCode::CurrencyFixed, ProblemCode::BillingOff]),
    (&["cancelSubscription"], &[ProblemCode::ManagedByBilling, ProblemCode::BillingOff]),
    (&["createInvoice"], &[ProblemCode::InvoiceNotPaid, ProblemCode::BilledByStripe]),
    (&["invoiceTenant"], &[ProblemCode::BillingOff, ProblemCode::NoSubscription, ProblemCode::PeriodsDiffer, ProblemCode::BilledByStripe]),
    (&["syncTenantBilling"], &[ProblemCode::BillingOff]),
    (&["voidInvoice", "markInvoicePaid"], &[ProblemCode::InvoiceNotOpen, ProblemCode::BilledByStripe]),
    (&["getInvoicePdf"], &[ProblemCode::NoDocument]),
    (&["refreshInvoice"], &[ProblemCode::BillingDisabled]),
    (&["createPayout"], &[ProblemCode::PayoutExists, ProblemCode::NothingToPay]),
    (&["markPayoutPaid", "cancelPayout"], &[ProblemCode::PayoutNotPending]),
    (&["getPaymentMethod"], &[ProblemCode::BillingDisabled]),
    (&["createSetupIntent"], &[
        ProblemCode::BillingDisabled, ProblemCode::BillingOff, ProblemCode::EncryptionNotConfigured,
        ProblemCode::TooManySetupIntents,
    ]),
    (&["setPaymentMethod"], &[ProblemCode::BillingDisabled, ProblemCode::BillingOff]),
    (&["replayWebhookEvent"], &[ProblemCode::EventIgnored]),
    (&["receiveStripeEvent"], &[
        ProblemCode::InvalidRequest, ProblemCode::InvalidSignature, ProblemCode::ModeMismatch, ProblemCode::BodyTimeout,
        ProblemCode::EventMismatch, ProblemCode::PayloadTooLarge, ProblemCode::UnsupportedMediaType,
        ProblemCode::InternalError, ProblemCode::WebhookNotConfigured, ProblemCode::ServiceUnavailable,
        ProblemCode::Starting, ProblemCode::Timeout, ProblemCode::TooManyConnections,
    ]),
    (&["getReport", "getOwnReport"], &[ProblemCode::ReportTooLong]),
    (&["createSavedReport", "createOwnSavedReport"], &[ProblemCode::SavedReportExists, ProblemCode::TooManySavedReports, ProblemCode::ReportTooLong]),
    // Flags.
    (&["createFlag"], &[ProblemCode::FlagExists, ProblemCode::TooManyFlags]),
    (&["deleteFlag"], &[ProblemCode::FlagBuiltIn]),
    (&["evaluateFlags"], &[ProblemCode::TenantNeeded, ProblemCode::NotFound]),
    // Jobs.
    (&["cancelJob"], &[ProblemCode::JobFinal, ProblemCode::PurgeScheduled, ProblemCode::JobRunning]),
    (&["dismissJob"], &[ProblemCode::NotDiscarded]),
    (&["requeueJob"], &[ProblemCode::JobRunning, ProblemCode::SecretsGone, ProblemCode::PurgeScheduled]),
    (&["createJobOperation"], &[ProblemCode::SearchTooLong, ProblemCode::CountDiffers, ProblemCode::TooManyJobs]),
    // Searches, exports and streams.
    (&["listAuditEvents", "listTenantAuditEvents", "listJobs", "listTenantJobs", "countJobs", "listTenants", "listOwnPartnerTenants"], &[ProblemCode::SearchTooLong]),
    (&["listAuditEvents", "listTenantAuditEvents", "watchJob", "watchTenant"], &[ProblemCode::TooManyStreams]),
];

/// Writes that a tenant refuses while it is being removed.
const TENANT_WRITES: &[&str] = &[
    "updateTenant",
    "updateOwnPartnerTenant",
    "suspendTenant",
    "suspendOwnPartnerTenant",
    "resumeTenant",
    "resumeOwnPartnerTenant",
    "reconcileTenant",
    "updateTenantBillingInfo",
    "syncTenantBilling",
    "createSetupIntent",
    "setPaymentMethod",
    "replaceTenantBranding",
    "updateTenantSecurityPolicy",
    "addDomain",
    "updateDomain",
    "recheckDomain",
    "removeDomain",
    "createApp",
    "updateApp",
    "rotateAppSecret",
    "removeApp",
    "createTenantUser",
    "updateTenantUser",
    "removeTenantUser",
    "suspendTenantUser",
    "resumeTenantUser",
    "restoreTenantUser",
    "signOutTenantUser",
    "resetTenantUserPassword",
    "resetTenantUserMfa",
    "importTenantUsers",
    "fetchTenantUserImportPasswords",
    "createSubscription",
    "updateSubscription",
];

/// Ids of the operations in the rows.
#[cfg(test)]
pub(in super::super) fn listed_operations() -> impl Iterator<Item = &'static str> {
    ROWS.iter().flat_map(|(ids, _)| ids.iter().copied())
}
