//! The stable names of refusals, and what follows from each.

use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($name:ident: $wire:tt, $status:ident, $title:literal;)*) => {
        /// What is wrong with a request, as a stable name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum ProblemCode {$(
            #[doc = $title]
            #[serde(rename = $wire)]
            $name,
        )*}

        impl ProblemCode {
            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// The status it is answered with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What it means.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    InvalidRequest: "invalid_request", BAD_REQUEST, "The request cannot be understood";
    InvalidIdempotencyKey: "invalid_idempotency_key", BAD_REQUEST, "The Idempotency-Key cannot be used";
    InvalidCursor: "invalid_cursor", BAD_REQUEST, "The cursor does not belong to this list";
    TokenMissing: "token_missing", UNAUTHORIZED, "There is no bearer token";
    TokenInvalid: "token_invalid", UNAUTHORIZED, "The token is not valid";
    TokenExpired: "token_expired", UNAUTHORIZED, "The token has expired";
    TokenNotYetValid: "token_not_yet_valid", UNAUTHORIZED, "The token is not valid yet";
    TokenWrongIssuer: "token_wrong_issuer", UNAUTHORIZED, "The token is of another issuer";
    TokenWrongAudience: "token_wrong_audience", UNAUTHORIZED, "The token is for another audience";
    Forbidden: "forbidden", FORBIDDEN, "The caller may not do this";
    UserUnknown: "user_unknown", FORBIDDEN, "The caller has not been seen before";
    NotFound: "not_found", NOT_FOUND, "There is no such thing";
    MethodNotAllowed: "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    BodyTimeout: "body_timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    SlugTaken: "slug_taken", CONFLICT, "The slug is taken";
    DomainTaken: "domain_taken", CONFLICT, "A domain stands in another tenant";
    DomainExists: "domain_exists", CONFLICT, "The tenant has this domain already";
    DomainRemoving: "domain_removing", CONFLICT, "The domain is being removed";
    DomainIsPrimary: "domain_is_primary", CONFLICT, "The domain is the tenant's primary one";
    TooManyDomains: "too_many_domains", CONFLICT, "The tenant has as many domains as it can have";
    TenantTerminating: "tenant_terminating", CONFLICT, "The tenant is to be removed";
    TenantTerminated: "tenant_terminated", CONFLICT, "The tenant was removed";
    NotTerminating: "not_terminating", CONFLICT, "The tenant is not to be removed";
    PurgeStarted: "purge_started", CONFLICT, "The tenant's removal has begun";
    LastOwner: "last_owner", CONFLICT, "A tenant keeps its last owner";
    PartnerTerminated: "partner_terminated", CONFLICT, "The partner was terminated";
    TeamFull: "team_full", CONFLICT, "The team has as many members as it can have";
    LinkNotReady: "link_not_ready", CONFLICT, "The invitation has not been carried out yet";
    LinkNotNeeded: "link_not_needed", CONFLICT, "The invitation needs no link";
    LinkAlreadyShown: "link_already_shown", GONE, "The link was shown before";
    OwnAdminFlag: "own_admin_flag", CONFLICT, "Operators cannot take the flag from themselves";
    OwnUser: "own_user", CONFLICT, "Operators cannot delete themselves";
    UserExists: "user_exists", CONFLICT, "Somebody with this id at the sign-on service is known already";
    SubscriptionExists: "subscription_exists", CONFLICT, "The tenant has a subscription in force";
    SubscriptionCancelled: "subscription_cancelled", CONFLICT, "The subscription is over";
    PriceExists: "price_exists", CONFLICT, "The plan has a price for this cycle in this currency";
    JobFinal: "job_final", CONFLICT, "The job is over";
    JobRunning: "job_running", CONFLICT, "The job is running";
    SecretsGone: "secrets_gone", CONFLICT, "The job's secrets were deleted";
    CountDiffers: "count_differs", CONFLICT, "Another number of jobs matches than expected";
    TooManyJobs: "too_many_jobs", CONFLICT, "More jobs match than one operation takes";
    PurgeScheduled: "purge_scheduled", CONFLICT, "The job removes a tenant at its time";
    FlagExists: "flag_exists", CONFLICT, "There is a flag with this key";
    FlagBuiltIn: "flag_built_in", CONFLICT, "The service itself asks for this flag";
    TooManyFlags: "too_many_flags", CONFLICT, "There are as many flags as there can be";
    IdempotencyInProgress: "idempotency_in_progress", CONFLICT, "A request with this Idempotency-Key is under way";
    PreconditionFailed: "precondition_failed", PRECONDITION_FAILED, "Somebody changed it in between";
    PayloadTooLarge: "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    UnsupportedMediaType: "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is not JSON";
    ValidationFailed: "validation_failed", UNPROCESSABLE_ENTITY, "Some values cannot be taken";
    TenantNeeded: "tenant_needed", UNPROCESSABLE_ENTITY, "It is not clear which tenant is meant";
    SearchTooLong: "search_too_long", UNPROCESSABLE_ENTITY, "The search takes too long";
    IdempotencyKeyReused: "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request";
    RecheckTooSoon: "recheck_too_soon", TOO_MANY_REQUESTS, "A look at the domain was asked for just now";
    TeamRefreshTooSoon: "team_refresh_too_soon", TOO_MANY_REQUESTS, "The team was looked at just now";
    TooManyRequests: "too_many_requests", TOO_MANY_REQUESTS, "There were too many requests";
    TooManyStreams: "too_many_streams", TOO_MANY_REQUESTS, "Too many streams of events";
    InternalError: "internal_error", INTERNAL_SERVER_ERROR, "Something went wrong on our side";
    ServiceUnavailable: "service_unavailable", SERVICE_UNAVAILABLE, "The database cannot be reached";
    Starting: "starting", SERVICE_UNAVAILABLE, "The service is starting";
    SealingNotConfigured: "sealing_not_configured", SERVICE_UNAVAILABLE, "Secrets cannot be kept here";
    IdentityUnavailable: "identity_unavailable", SERVICE_UNAVAILABLE, "The sign-on service cannot be reached";
    Timeout: "timeout", SERVICE_UNAVAILABLE, "The request took too long";
}

impl ProblemCode {
    /// What a caller is told unless there is more to say.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::TokenMissing => "Send an access token as \"Authorization: Bearer …\".",
            Self::UserUnknown => "Call GET /users/me first.",
            Self::Forbidden => "Your role does not allow this.",
            Self::SlugTaken => {
                "A slug is never used twice, also not after what had it was removed."
            }
            Self::DomainTaken => "A domain stands in at most one tenant.",
            Self::DomainExists => "A tenant claims a domain once. Look at it, or remove it first.",
            Self::DomainRemoving => "Wait until it is gone, or until it could not be removed.",
            Self::DomainIsPrimary => "Make another domain the primary one first.",
            Self::TooManyDomains => "A tenant has at most 100 domains. Remove one first.",
            Self::RecheckTooSoon => "A look can be asked for every ten seconds.",
            Self::TenantTerminating => {
                "The tenant is to be removed. Restore it before you change it."
            }
            Self::TenantTerminated => "The tenant was removed and cannot come back.",
            Self::NotTerminating => "Only a tenant that is to be removed can be restored.",
            Self::PurgeStarted => "The time to restore the tenant is over.",
            Self::LastOwner => "Make somebody else an owner first.",
            Self::PartnerTerminated => "A partner that has left takes nobody on.",
            Self::TeamFull => "A team has at most 200 members. Remove one first.",
            Self::LinkNotReady => "Wait until its job is over. One that failed makes no link.",
            Self::LinkNotNeeded => {
                "Their account is not this team's to hand over: they sign in with it as they always do."
            }
            Self::LinkAlreadyShown => {
                "A link is shown once. Invite them again for a new one, which replaces it."
            }
            Self::TeamRefreshTooSoon => "A look can be asked for once a minute.",
            Self::SealingNotConfigured => "An operator has to set SEALING_KEYS first.",
            Self::OwnAdminFlag | Self::OwnUser => "Another operator has to do this.",
            Self::UserExists => "Change the user that there is.",
            Self::SubscriptionExists => "Change the one there is, or cancel it first.",
            Self::SubscriptionCancelled => "Make a new one.",
            Self::PriceExists => "Change the one there is.",
            Self::JobFinal => "A job that is over cannot be cancelled.",
            Self::JobRunning => "Wait until the job is over, or cancel it.",
            Self::SecretsGone => "The job needs secrets that were deleted when it ended.",
            Self::CountDiffers => "Nothing was done. Look again with dryRun.",
            Self::TooManyJobs => "Nothing was done. Narrow the filter.",
            Self::PurgeScheduled => "To stop it, restore the tenant.",
            Self::FlagExists => "Change that one, or choose another key.",
            Self::FlagBuiltIn => "It cannot be deleted. Its kill switch turns it off.",
            Self::TooManyFlags => "There are at most 500. Delete one that nothing asks for.",
            Self::SearchTooLong => "Narrow it by since and before.",
            Self::TenantNeeded => "You do not belong to exactly one tenant: name it in tenantSlug.",
            Self::IdempotencyInProgress => "Try again in a moment to read its answer.",
            Self::IdempotencyKeyReused => "Use a new key for each request.",
            Self::InvalidIdempotencyKey => {
                "The key must be 1 to 255 visible ASCII characters, and be sent once."
            }
            Self::InvalidCursor => "Start again without a cursor, or with the same filters.",
            Self::PreconditionFailed => {
                "Read it again, and repeat your change if it still applies."
            }
            Self::PayloadTooLarge => "A body has at most 256 KiB.",
            Self::UnsupportedMediaType => "Send the body as application/json.",
            Self::ValidationFailed => "See the errors.",
            Self::TooManyRequests => "Wait for as long as Retry-After says.",
            Self::TooManyStreams => "Close one of your streams, or come back later.",
            Self::InternalError => "Our team can find out with the request's id.",
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

    /// Whether the same request may succeed later, with nothing else done.
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
                | Self::ServiceUnavailable
                | Self::Starting
                | Self::IdentityUnavailable
                | Self::Timeout
        )
    }

    /// After how many seconds trying again makes sense.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::IdempotencyInProgress | Self::TooManyRequests => Some(1),
            Self::ServiceUnavailable
            | Self::Starting
            | Self::IdentityUnavailable
            | Self::Timeout => Some(5),
            Self::TooManyStreams => Some(10),
            _ => None,
        }
    }

    /// The challenge of a 401 (RFC 6750, section 3): without an error where there was no token.
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
