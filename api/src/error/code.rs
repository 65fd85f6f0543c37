//! Problem codes: stable names of errors, with status, title, detail and retry advice.

use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($name:ident: $wire:tt, $status:ident, $title:literal;)*) => {
        /// Stable name of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum ProblemCode {$(
            #[doc = $title]
            #[serde(rename = $wire)]
            $name,
        )*}

        impl ProblemCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Wire name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// Status code of the response.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// Short description, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    InvalidRequest: "invalid_request", BAD_REQUEST, "Malformed request";
    InvalidIdempotencyKey: "invalid_idempotency_key", BAD_REQUEST, "Invalid Idempotency-Key";
    InvalidCursor: "invalid_cursor", BAD_REQUEST, "Invalid cursor";
    InvalidSignature: "invalid_signature", BAD_REQUEST, "Invalid signature";
    ModeMismatch: "mode_mismatch", BAD_REQUEST, "The event is of the other mode";
    TokenMissing: "token_missing", UNAUTHORIZED, "Missing bearer token";
    TokenInvalid: "token_invalid", UNAUTHORIZED, "Invalid token";
    TokenExpired: "token_expired", UNAUTHORIZED, "The token has expired";
    TokenNotYetValid: "token_not_yet_valid", UNAUTHORIZED, "The token is not valid yet";
    TokenWrongIssuer: "token_wrong_issuer", UNAUTHORIZED, "Unknown token issuer";
    TokenWrongAudience: "token_wrong_audience", UNAUTHORIZED, "Wrong token audience";
    TokenWrongSubject: "token_wrong_subject", UNAUTHORIZED, "The subject of the token is not a user UUID";
    Forbidden: "forbidden", FORBIDDEN, "You do not have permission";
    NotFound: "not_found", NOT_FOUND, "Not found";
    MethodNotAllowed: "method_not_allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    BodyTimeout: "body_timeout", REQUEST_TIMEOUT, "Timeout while reading the body";
    SlugTaken: "slug_taken", CONFLICT, "The slug is already in use";
    DomainTaken: "domain_taken", CONFLICT, "The domain belongs to another tenant";
    DomainExists: "domain_exists", CONFLICT, "The tenant already has this domain";
    DomainRemoving: "domain_removing", CONFLICT, "The domain is being removed";
    DomainIsPrimary: "domain_is_primary", CONFLICT, "The domain is the primary domain";
    TooManyDomains: "too_many_domains", CONFLICT, "Domain limit reached";
    AppExists: "app_exists", CONFLICT, "The tenant already has an app with this slug";
    AppRemoving: "app_removing", CONFLICT, "The app is being removed";
    TooManyApps: "too_many_apps", CONFLICT, "App limit reached";
    PublicClient: "public_client", CONFLICT, "A public client has no secret";
    TenantTerminating: "tenant_terminating", CONFLICT, "The tenant is being terminated";
    TenantTerminated: "tenant_terminated", CONFLICT, "The tenant is terminated";
    NotTerminating: "not_terminating", CONFLICT, "The tenant is not being terminated";
    PurgeStarted: "purge_started", CONFLICT, "The purge has started";
    HasTenant: "has_tenant", CONFLICT, "You already have a tenant";
    LastOwner: "last_owner", CONFLICT, "The tenant needs at least one owner";
    NoMailDomain: "no_mail_domain", CONFLICT, "The tenant owns no primary mail domain";
    AddressTaken: "address_taken", CONFLICT, "The address is already in use";
    LoginInForeignDomain: "login_in_foreign_domain", CONFLICT, "The domain of the login belongs to another tenant";
    DomainInUse: "domain_in_use", CONFLICT, "The domain has mailboxes";
    TooManyMembers: "too_many_members", CONFLICT, "Member limit reached";
    NoSeats: "no_seats", CONFLICT, "Every seat of the plan is taken";
    NoAppsLeft: "no_apps_left", CONFLICT, "The tenant has all apps of its plan";
    NoDomainsLeft: "no_domains_left", CONFLICT, "The tenant has all domains of its plan";
    OwnAccount: "own_account", CONFLICT, "You cannot do this to your own account";
    NotManaged: "not_managed", CONFLICT, "The accounts of this person are not managed here";
    ManagedMember: "managed_member", CONFLICT, "The user is a managed member of a tenant";
    MemberRemoving: "member_removing", CONFLICT, "The member is being removed";
    MemberSuspended: "member_suspended", CONFLICT, "The member is suspended or being removed";
    NotRemoving: "not_removing", CONFLICT, "The member is not being removed";
    NoMailbox: "no_mailbox", CONFLICT, "The member has no mailbox";
    PasswordNotOurs: "password_not_ours", CONFLICT, "The password belongs to the person";
    ImportRunning: "import_running", CONFLICT, "The import is running";
    PasswordsGone: "passwords_gone", GONE, "There are no passwords to fetch";
    PartnerTerminated: "partner_terminated", CONFLICT, "The partner is terminated";
    TeamFull: "team_full", CONFLICT, "Team size limit reached";
    WorksElsewhere: "works_elsewhere", CONFLICT, "You are in a team already";
    LinkNotReady: "link_not_ready", CONFLICT, "The invitation link is not ready";
    LinkNotNeeded: "link_not_needed", CONFLICT, "The invitation needs no link";
    LinkAlreadyShown: "link_already_shown", GONE, "The invitation link was already shown";
    OwnAdminFlag: "own_admin_flag", CONFLICT, "You cannot revoke your own operator access";
    OwnUser: "own_user", CONFLICT, "You cannot delete your own user";
    SharedAccount: "shared_account", CONFLICT, "The account also gives access elsewhere";
    UserExists: "user_exists", CONFLICT, "The user already exists";
    SubscriptionExists: "subscription_exists", CONFLICT, "The tenant already has a subscription";
    SubscriptionCancelled: "subscription_cancelled", CONFLICT, "The subscription is cancelled";
    ManagedByBilling: "managed_by_billing", CONFLICT, "The invoice run manages this field";
    CurrencyFixed: "currency_fixed", CONFLICT, "The currency of the subscription is fixed";
    NoSubscription: "no_subscription", CONFLICT, "The tenant has no live subscription";
    BillingOff: "billing_off", CONFLICT, "The tenant is not invoiced here";
    PeriodsDiffer: "periods_differ", CONFLICT, "The number of due periods differs from periods";
    InvoiceNotOpen: "invoice_not_open", CONFLICT, "The invoice is not open";
    InvoiceNotPaid: "invoice_not_paid", CONFLICT, "The invoice is not paid";
    NoDocument: "no_document", NOT_FOUND, "The invoice has no document";
    BilledByStripe: "billed_by_stripe", CONFLICT, "The payment provider issued the invoice";
    PayoutExists: "payout_exists", CONFLICT, "The payout exists already";
    NothingToPay: "nothing_to_pay", CONFLICT, "The partner is owed nothing";
    PayoutNotPending: "payout_not_pending", CONFLICT, "The payout is not pending";
    EventMismatch: "event_mismatch", CONFLICT, "The event is known with other content";
    EventIgnored: "event_ignored", CONFLICT, "Nothing depends on the event";
    SavedReportExists: "saved_report_exists", CONFLICT, "A saved report has this name";
    TooManySavedReports: "too_many_saved_reports", CONFLICT, "Limit of saved reports reached";
    PriceExists: "price_exists", CONFLICT, "The price already exists";
    JobFinal: "job_final", CONFLICT, "The job is finished";
    NotDiscarded: "not_discarded", CONFLICT, "The job is not discarded";
    JobRunning: "job_running", CONFLICT, "The job is running";
    SecretsGone: "secrets_gone", CONFLICT, "The secrets of the job were deleted";
    CountDiffers: "count_differs", CONFLICT, "The number of matching jobs differs from expectedCount";
    TooManyJobs: "too_many_jobs", CONFLICT, "Too many matching jobs";
    PurgeScheduled: "purge_scheduled", CONFLICT, "The job is a scheduled purge";
    FlagExists: "flag_exists", CONFLICT, "The flag already exists";
    FlagBuiltIn: "flag_built_in", CONFLICT, "The flag is built in";
    TooManyFlags: "too_many_flags", CONFLICT, "Flag limit reached";
    IdempotencyInProgress: "idempotency_in_progress", CONFLICT, "A request with this Idempotency-Key is in progress";
    PreconditionFailed: "precondition_failed", PRECONDITION_FAILED, "The resource was changed by another request";
    PayloadTooLarge: "payload_too_large", PAYLOAD_TOO_LARGE, "Request body too large";
    UnsupportedMediaType: "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type";
    ValidationFailed: "validation_failed", UNPROCESSABLE_ENTITY, "Some fields are invalid";
    TenantNeeded: "tenant_needed", UNPROCESSABLE_ENTITY, "The tenant is ambiguous";
    ConfirmationRequired: "confirmation_required", UNPROCESSABLE_ENTITY, "Confirmation required";
    ReportTooLong: "report_too_long", UNPROCESSABLE_ENTITY, "The report covers too many months";
    SearchTooLong: "search_too_long", UNPROCESSABLE_ENTITY, "The search took too long";
    IdempotencyKeyReused: "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request";
    RecheckTooSoon: "recheck_too_soon", TOO_MANY_REQUESTS, "The domain was rechecked recently";
    TeamRefreshTooSoon: "team_refresh_too_soon", TOO_MANY_REQUESTS, "The team was refreshed recently";
    TooManyRequests: "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    TooManySetupIntents: "too_many_setup_intents", TOO_MANY_REQUESTS, "Too many cards were entered";
    TooManyStreams: "too_many_streams", TOO_MANY_REQUESTS, "Too many event streams";
    TooManyConnections: "too_many_connections", SERVICE_UNAVAILABLE, "Too many connections";
    TooManyResponses: "too_many_responses", SERVICE_UNAVAILABLE, "Too many unread responses";
    InternalError: "internal_error", INTERNAL_SERVER_ERROR, "Internal error";
    ServiceUnavailable: "service_unavailable", SERVICE_UNAVAILABLE, "The database is unavailable";
    Starting: "starting", SERVICE_UNAVAILABLE, "The service is starting";
    EncryptionNotConfigured: "sealing_not_configured", SERVICE_UNAVAILABLE, "Encryption keys are not configured";
    BillingDisabled: "billing_disabled", SERVICE_UNAVAILABLE, "No payment provider is configured";
    WebhookNotConfigured: "webhook_not_configured", SERVICE_UNAVAILABLE, "Webhooks are not configured";
    IdentityUnavailable: "identity_unavailable", SERVICE_UNAVAILABLE, "The identity provider is unavailable";
    Timeout: "timeout", SERVICE_UNAVAILABLE, "The request took too long";
}

impl ProblemCode {
    /// Default detail: what to do about the error.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::TokenMissing => "Send an access token as \"Authorization: Bearer …\".",
            Self::TokenExpired => "Refresh the token, or sign in again.",
            Self::TokenInvalid => "Sign in again to get a new token.",
            Self::TokenWrongIssuer | Self::TokenWrongAudience => {
                "Send a token that was issued for an application of this API."
            }
            Self::TokenWrongSubject => {
                "Set the subject mode of the application's provider in Authentik to \"Based on the User's UUID\", and sign in again."
            }
            Self::InvalidSignature => {
                "Sign the body as it is sent, with a secret of STRIPE_WEBHOOK_SECRETS, at most 5 minutes ago."
            }
            Self::ModeMismatch => {
                "Send events of the mode that STRIPE_PUBLISHABLE_KEY is of: test or live."
            }
            Self::EventMismatch => {
                "An event's id is used once. Send an event with other content under its own id."
            }
            Self::EventIgnored => "Only events of objects that are stored here can be replayed.",
            Self::TooManySetupIntents => {
                "A card can be entered ten times an hour for a tenant. Try again later."
            }
            Self::BillingDisabled => "Invoices are paid by bank transfer here.",
            Self::WebhookNotConfigured => {
                "Set STRIPE_WEBHOOK_SECRETS. Stripe repeats the delivery for three days."
            }
            Self::Forbidden => "Your role does not allow this action.",
            Self::SlugTaken => "Slugs are never reused, even after deletion.",
            Self::DomainTaken => {
                "A domain belongs to one tenant only. It has to be removed there first."
            }
            Self::DomainExists => "Use the existing domain, or remove it first.",
            Self::DomainRemoving => "Wait until the removal has finished or failed.",
            Self::DomainIsPrimary => "Make another domain primary first.",
            Self::TooManyDomains => "A tenant has at most 100 domains. Remove one first.",
            Self::AppExists => "Choose another slug, or remove the existing app first.",
            Self::AppRemoving => "Wait until the removal has finished.",
            Self::TooManyApps => "A tenant has at most 100 apps. Remove one first.",
            Self::PublicClient => {
                "Create a confidential app if it is a server that can keep a secret."
            }
            Self::RecheckTooSoon => "You can recheck a domain once every 10 seconds.",
            Self::TenantTerminating => "Restore the tenant before you change it.",
            Self::TenantTerminated => "A terminated tenant cannot be changed or restored.",
            Self::HasTenant => "Ask us to create another one.",
            Self::NotTerminating => "Only a tenant that is being terminated can be restored.",
            Self::PurgeStarted => "A restore is no longer possible.",
            Self::NoMailDomain => {
                "Add a domain, prove that you own it, or create the member without a mailbox."
            }
            Self::AddressTaken => {
                "Choose another address, or remove it from the member that has it."
            }
            Self::LoginInForeignDomain => {
                "Ask the person to sign in once with the account that the owner of the domain created, or use another address."
            }
            Self::DomainInUse => {
                "Remove the members and aliases that have an address in this domain first."
            }
            Self::TooManyMembers => "A tenant has at most 10,000 members. Remove one first.",
            Self::MemberSuspended => "Resume or restore the member first.",
            Self::NoSeats => "Remove a member, or change the plan.",
            Self::NoAppsLeft => "Remove an app, or change the plan.",
            Self::NoDomainsLeft => "Remove a domain, or change the plan.",
            Self::OwnAccount => "Ask another admin to do this.",
            Self::NotManaged => {
                "The person is known by a group at the identity provider. Create a member with their e-mail address to manage the accounts."
            }
            Self::ManagedMember => "Change the member of the tenant instead.",
            Self::MemberRemoving => "Restore the member first.",
            Self::NotRemoving => "Only a member that is being removed can be restored.",
            Self::NoMailbox => "Only a member with a mailbox has aliases and a quota.",
            Self::PasswordNotOurs => {
                "The person had an account before, or uses it elsewhere, and changes the password themselves."
            }
            Self::ImportRunning => "Wait until the job of the import has finished.",
            Self::PasswordsGone => {
                "The passwords of an import can be fetched once, within 24 hours. Reset the password of a member who has none."
            }
            Self::LastOwner => "Make another member an owner first.",
            Self::PartnerTerminated => "A terminated partner accepts no new tenants or members.",
            Self::TeamFull => "A team has at most 200 members. Remove one first.",
            Self::LinkNotReady => {
                "Wait until the job of the invitation has finished. A failed job creates no link."
            }
            Self::WorksElsewhere => {
                "Leave the team of the other partner first. Operators cannot join a partner's team."
            }
            Self::LinkNotNeeded => "The member has an account already and signs in as before.",
            Self::LinkAlreadyShown => {
                "A link is shown once. Invite the member again to replace it with a new one."
            }
            Self::TeamRefreshTooSoon => "You can refresh a team once a minute.",
            Self::EncryptionNotConfigured => {
                "SEALING_KEYS must be set in the configuration of the service."
            }
            Self::OwnAdminFlag | Self::OwnUser => "Ask another operator to do this.",
            Self::SharedAccount => {
                "The person had the account before, or also has a role in another tenant, in a partner's team or on the platform. Ask an operator to do this."
            }
            Self::UserExists => "A user with this subject exists. Update it instead.",
            Self::SubscriptionExists => "Update the existing subscription, or cancel it first.",
            Self::SubscriptionCancelled => "Create a new subscription.",
            Self::ManagedByBilling => {
                "The dates of an invoiced subscription follow from its invoices, and its status from their payment."
            }
            Self::CurrencyFixed => "Cancel the subscription, and create a new one.",
            Self::NoSubscription => "Create a subscription first.",
            Self::BillingOff => "Turn the flag new_billing_engine on for the tenant first.",
            Self::PeriodsDiffer => "Repeat the request with dryRun to see the due periods.",
            Self::InvoiceNotOpen => {
                "Only an open invoice is paid or voided. Correct a paid one with an adjustment."
            }
            Self::InvoiceNotPaid => "Void an open invoice instead of correcting it.",
            Self::NoDocument => "Only invoices of the payment provider have a PDF.",
            Self::BilledByStripe => {
                "The payment provider issues these invoices. Void, refund or credit one in its dashboard: the change appears here within seconds."
            }
            Self::PayoutExists => {
                "A partner has one payout per currency and month. The next one settles the remaining balance."
            }
            Self::NothingToPay => {
                "Nothing was owed at the end of the month. A negative balance is carried over to the next month."
            }
            Self::PayoutNotPending => "Only a pending payout can be paid or cancelled.",
            Self::SavedReportExists => "Choose another name, or delete the existing one first.",
            Self::TooManySavedReports => "You can save at most 50 reports. Delete one first.",
            Self::PriceExists => {
                "A plan has one price per billing cycle and currency. Update it instead."
            }
            Self::JobFinal => "A finished job cannot be cancelled.",
            Self::NotDiscarded => "Only a discarded job can be dismissed.",
            Self::JobRunning => "Wait until the job has finished, or cancel it.",
            Self::SecretsGone => {
                "The secrets of a job are deleted when it finishes. Repeat the request that created it."
            }
            Self::CountDiffers => "No job was changed. Repeat the request with dryRun.",
            Self::TooManyJobs => "No job was changed. Narrow the filter.",
            Self::PurgeScheduled => "Restore the tenant or member to stop the purge.",
            Self::FlagExists => "Update the existing flag, or choose another key.",
            Self::FlagBuiltIn => {
                "A built-in flag cannot be deleted. Use its kill switch to turn it off."
            }
            Self::TooManyFlags => "There can be at most 500 flags. Delete an unused one first.",
            Self::ConfirmationRequired => "Repeat the slug: ?confirm=<slug>.",
            Self::ReportTooLong => "A report covers at most 36 months. Set from and to.",
            Self::SearchTooLong => {
                "Narrow the search: a shorter period (`since`, `before`), a tenant, a kind, an error code or a smaller page."
            }
            Self::TenantNeeded => "You do not belong to exactly one tenant. Set tenantSlug.",
            Self::IdempotencyInProgress => "Retry in a moment to get its response.",
            Self::IdempotencyKeyReused => "Use a new key for each request.",
            Self::InvalidIdempotencyKey => "Send one key of 1–255 visible ASCII characters.",
            Self::InvalidCursor => {
                "Start again without a cursor, and keep the filters while paging."
            }
            Self::PreconditionFailed => {
                "Read the resource again, and repeat your change if it still applies."
            }
            Self::PayloadTooLarge => "Send a smaller body.",
            Self::UnsupportedMediaType => "Send the body as application/json.",
            Self::ValidationFailed => "See errors for each field.",
            Self::TooManyRequests => "Wait for the number of seconds in Retry-After.",
            Self::TooManyStreams => "Close a stream, or try again later.",
            Self::TooManyConnections => "Close a connection, or try again later.",
            Self::TooManyResponses => "Read your responses, or try again later.",
            Self::InternalError => "Contact support with the request id.",
            Self::BodyTimeout => "Send the whole body within 10 seconds.",
            Self::Starting => "Try again in a few seconds.",
            Self::ServiceUnavailable | Self::Timeout => {
                "Try again later. Repeat a write with the same Idempotency-Key: it may have been carried out."
            }
            Self::IdentityUnavailable => {
                "The token cannot be verified at present. Try again later."
            }
            Self::InvalidRequest
            | Self::TokenNotYetValid
            | Self::NotFound
            | Self::MethodNotAllowed => self.title(),
        }
    }

    /// Whether a retry of the unchanged request may succeed.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::BodyTimeout
                | Self::IdempotencyInProgress
                | Self::JobRunning
                | Self::RecheckTooSoon
                | Self::TeamRefreshTooSoon
                | Self::LinkNotReady
                | Self::ImportRunning
                | Self::TooManyRequests
                | Self::TooManySetupIntents
                | Self::TooManyStreams
                | Self::TooManyConnections
                | Self::TooManyResponses
                | Self::ServiceUnavailable
                | Self::Starting
                | Self::IdentityUnavailable
                | Self::Timeout
        )
    }

    /// Default `Retry-After`, in seconds.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::IdempotencyInProgress | Self::TooManyRequests => Some(1),
            Self::ServiceUnavailable
            | Self::Starting
            | Self::IdentityUnavailable
            | Self::Timeout => Some(5),
            Self::TooManySetupIntents => Some(360),
            Self::TooManyStreams | Self::TooManyConnections | Self::TooManyResponses => Some(10),
            _ => None,
        }
    }

    /// `WWW-Authenticate` challenge of a 401 (RFC 6750, section 3). Without an error if the request has no token.
    pub fn challenge(self) -> HeaderValue {
        if self == Self::TokenMissing {
            return HeaderValue::from_static("Bearer");
        }
        let challenge = format!(
            "Bearer error=\"invalid_token\", error_description=\"{}\"",
            self.title()
        );
        HeaderValue::from_str(&challenge).expect("titles are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_of_a_retryable_error_or_of_a_rejected_token_says_what_to_do() {
        for &code in ProblemCode::ALL {
            let is_token =
                code.status() == StatusCode::UNAUTHORIZED && code != ProblemCode::TokenNotYetValid;
            if is_token || code.is_retryable() {
                assert_ne!(code.detail(), code.title());
            }
        }
    }
}
