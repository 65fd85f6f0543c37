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
    TokenMissing: "token_missing", UNAUTHORIZED, "Missing bearer token";
    TokenInvalid: "token_invalid", UNAUTHORIZED, "Invalid token";
    TokenExpired: "token_expired", UNAUTHORIZED, "The token has expired";
    TokenNotYetValid: "token_not_yet_valid", UNAUTHORIZED, "The token is not valid yet";
    TokenWrongIssuer: "token_wrong_issuer", UNAUTHORIZED, "Unknown token issuer";
    TokenWrongAudience: "token_wrong_audience", UNAUTHORIZED, "Wrong token audience";
    TokenWrongSubject: "token_wrong_subject", UNAUTHORIZED, "The subject of the token is not a user UUID";
    Forbidden: "forbidden", FORBIDDEN, "You do not have permission";
    UserUnknown: "user_unknown", FORBIDDEN, "Unknown user";
    NotFound: "not_found", NOT_FOUND, "Not found";
    MethodNotAllowed: "method_not_allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    BodyTimeout: "body_timeout", REQUEST_TIMEOUT, "Timeout while reading the body";
    SlugTaken: "slug_taken", CONFLICT, "The slug is already in use";
    DomainTaken: "domain_taken", CONFLICT, "The domain belongs to another tenant";
    DomainExists: "domain_exists", CONFLICT, "The tenant already has this domain";
    DomainRemoving: "domain_removing", CONFLICT, "The domain is being removed";
    DomainIsPrimary: "domain_is_primary", CONFLICT, "The domain is the primary domain";
    TooManyDomains: "too_many_domains", CONFLICT, "Domain limit reached";
    TenantTerminating: "tenant_terminating", CONFLICT, "The tenant is being terminated";
    TenantTerminated: "tenant_terminated", CONFLICT, "The tenant is terminated";
    NotTerminating: "not_terminating", CONFLICT, "The tenant is not being terminated";
    PurgeStarted: "purge_started", CONFLICT, "The purge of the tenant has started";
    LastOwner: "last_owner", CONFLICT, "The tenant needs at least one owner";
    PartnerTerminated: "partner_terminated", CONFLICT, "The partner is terminated";
    TeamFull: "team_full", CONFLICT, "Team size limit reached";
    WorksElsewhere: "works_elsewhere", CONFLICT, "You are in a team already";
    LinkNotReady: "link_not_ready", CONFLICT, "The invitation link is not ready";
    LinkNotNeeded: "link_not_needed", CONFLICT, "The invitation needs no link";
    LinkAlreadyShown: "link_already_shown", GONE, "The invitation link was already shown";
    OwnAdminFlag: "own_admin_flag", CONFLICT, "You cannot revoke your own operator access";
    OwnUser: "own_user", CONFLICT, "You cannot delete your own user";
    UserExists: "user_exists", CONFLICT, "The user already exists";
    SubscriptionExists: "subscription_exists", CONFLICT, "The tenant already has a subscription";
    SubscriptionCancelled: "subscription_cancelled", CONFLICT, "The subscription is cancelled";
    PriceExists: "price_exists", CONFLICT, "The price already exists";
    JobFinal: "job_final", CONFLICT, "The job is finished";
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
    SearchTooLong: "search_too_long", UNPROCESSABLE_ENTITY, "The search took too long";
    IdempotencyKeyReused: "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request";
    RecheckTooSoon: "recheck_too_soon", TOO_MANY_REQUESTS, "The domain was rechecked recently";
    TeamRefreshTooSoon: "team_refresh_too_soon", TOO_MANY_REQUESTS, "The team was refreshed recently";
    TooManyRequests: "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    TooManyStreams: "too_many_streams", TOO_MANY_REQUESTS, "Too many event streams";
    TooManyConnections: "too_many_connections", SERVICE_UNAVAILABLE, "Too many connections";
    InternalError: "internal_error", INTERNAL_SERVER_ERROR, "Internal error";
    ServiceUnavailable: "service_unavailable", SERVICE_UNAVAILABLE, "The database is unavailable";
    Starting: "starting", SERVICE_UNAVAILABLE, "The service is starting";
    SealingNotConfigured: "sealing_not_configured", SERVICE_UNAVAILABLE, "Encryption keys are not configured";
    IdentityUnavailable: "identity_unavailable", SERVICE_UNAVAILABLE, "The identity provider is unavailable";
    Timeout: "timeout", SERVICE_UNAVAILABLE, "The request took too long";
}

impl ProblemCode {
    /// Default detail: what to do about the error.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::TokenMissing => "Send an access token as \"Authorization: Bearer …\".",
            Self::TokenWrongSubject => {
                "Set the subject mode of the application's provider in Authentik to \"Based on the User's UUID\", and sign in again."
            }
            Self::UserUnknown => "Call GET /users/me first.",
            Self::Forbidden => "Your role does not allow this action.",
            Self::SlugTaken => "Slugs are never reused, even after deletion.",
            Self::DomainTaken => "A domain can belong to one tenant only.",
            Self::DomainExists => "Use the existing domain, or remove it first.",
            Self::DomainRemoving => "Wait until the removal has finished or failed.",
            Self::DomainIsPrimary => "Make another domain primary first.",
            Self::TooManyDomains => "A tenant has at most 100 domains. Remove one first.",
            Self::RecheckTooSoon => "You can recheck a domain once every 10 seconds.",
            Self::TenantTerminating => "Restore the tenant before you change it.",
            Self::TenantTerminated => "A terminated tenant cannot be changed or restored.",
            Self::NotTerminating => "Only a tenant that is being terminated can be restored.",
            Self::PurgeStarted => "The tenant can no longer be restored.",
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
            Self::SealingNotConfigured => {
                "SEALING_KEYS must be set in the configuration of the service."
            }
            Self::OwnAdminFlag | Self::OwnUser => "Ask another operator to do this.",
            Self::UserExists => "A user with this subject exists. Update it instead.",
            Self::SubscriptionExists => "Update the existing subscription, or cancel it first.",
            Self::SubscriptionCancelled => "Create a new subscription.",
            Self::PriceExists => {
                "A plan has one price per billing cycle and currency. Update it instead."
            }
            Self::JobFinal => "A finished job cannot be cancelled.",
            Self::JobRunning => "Wait until the job has finished, or cancel it.",
            Self::SecretsGone => "The job needs secrets that were deleted when it finished.",
            Self::CountDiffers => "No job was changed. Repeat the request with dryRun.",
            Self::TooManyJobs => "No job was changed. Narrow the filter.",
            Self::PurgeScheduled => "Restore the tenant to stop the purge.",
            Self::FlagExists => "Update the existing flag, or choose another key.",
            Self::FlagBuiltIn => {
                "A built-in flag cannot be deleted. Use its kill switch to turn it off."
            }
            Self::TooManyFlags => "There can be at most 500 flags. Delete an unused one first.",
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
            Self::PayloadTooLarge => "The body must be at most 256 KiB.",
            Self::UnsupportedMediaType => "Send the body as application/json.",
            Self::ValidationFailed => "See errors for each field.",
            Self::TooManyRequests => "Wait for the number of seconds in Retry-After.",
            Self::TooManyStreams => "Close a stream, or try again later.",
            Self::TooManyConnections => "Close a connection, or try again later.",
            Self::InternalError => "Contact support with the request id.",
            Self::InvalidRequest
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenWrongIssuer
            | Self::TokenWrongAudience
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::BodyTimeout
            | Self::Starting
            | Self::ServiceUnavailable
            | Self::IdentityUnavailable
            | Self::Timeout => self.title(),
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
                | Self::TooManyRequests
                | Self::TooManyStreams
                | Self::TooManyConnections
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
            Self::TooManyStreams | Self::TooManyConnections => Some(10),
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
