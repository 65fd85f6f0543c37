//! App: an OIDC relying party of a tenant, such as a wiki, whose users sign in with their workspace account.
//!
//! Callers write the desired state (and increment `generation`); jobs write `authentik`, `status` and `conditions`. The
//! client secret is stored nowhere: the api generates it, shows it once, and hands it to the job encrypted.

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    id::{AppId, TenantId},
    tenant::{Condition, ConditionStatus, reason},
};

/// Maximum number of apps of a tenant.
pub const APPS_PER_TENANT: usize = 100;
/// Maximum number of redirect URIs of an app.
pub const REDIRECT_URIS_PER_APP: usize = 20;

/// OAuth client type (RFC 6749, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientType {
    /// Keeps a client secret: a server.
    #[default]
    Confidential,
    /// Cannot keep a secret: a native app or a single-page app. Relies on PKCE.
    Public,
}

impl ClientType {
    /// Name in documents, on the wire and at the identity provider.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confidential => "confidential",
            Self::Public => "public",
        }
    }
}

/// OAuth grant that an app may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// Sign-in with an authorization code.
    AuthorizationCode,
    /// Renewal of tokens without a new sign-in.
    RefreshToken,
}

impl GrantType {
    /// Name in documents, on the wire and at the identity provider.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// OIDC scope that an app may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AppScope)]
pub enum Scope {
    /// Sign-in itself; every app has it.
    #[serde(rename = "openid")]
    OpenId,
    /// The e-mail address.
    Email,
    /// Name and groups.
    Profile,
    /// Refresh tokens.
    OfflineAccess,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [
        Self::OpenId,
        Self::Email,
        Self::Profile,
        Self::OfflineAccess,
    ];

    /// Name in documents, on the wire and at the identity provider.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenId => "openid",
            Self::Email => "email",
            Self::Profile => "profile",
            Self::OfflineAccess => "offline_access",
        }
    }
}

/// Status of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppStatus {
    /// Its desired state is not applied yet.
    Pending,
    /// Members can sign in.
    Active,
    /// Provisioned, and closed to sign-ins, because the tenant is suspended.
    Suspended,
    /// The identity provider rejected it, and a retry cannot succeed. A change of the app is tried again.
    Failed,
    /// Being removed.
    Removing,
}

impl AppStatus {
    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Removing => "removing",
        }
    }
}

/// Condition types of an app.
pub mod condition {
    /// The identity provider has the desired state.
    pub const READY: &str = "Ready";
    /// Only members of the tenant can sign in.
    pub const RESTRICTED: &str = "Restricted";
    /// The client secret was replaced outside of a request, so it is unknown. Present only until a new one is requested.
    pub const SECRET_ROTATED: &str = "SecretRotated";
}

/// Reason of [`condition::RESTRICTED`] while it does not hold: every user of the identity provider can sign in.
pub const BINDING_MISSING: &str = "BindingMissing";
/// Reason of [`condition::RESTRICTED`] while it holds.
pub const BINDING_PRESENT: &str = "BindingPresent";
/// Reason of [`condition::SECRET_ROTATED`].
pub const RECREATED: &str = "Recreated";

/// Ids of an app's objects at the identity provider, as last seen. Facts for people and for the next look-up: an app is
/// found again without them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppRefs {
    /// Number of the OAuth provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_pk: Option<i64>,
    /// UUID of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_pk: Option<String>,
    /// UUID of the binding to the tenant's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_pk: Option<String>,
}

/// App, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: AppId,
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Display name.
    pub name: String,
    /// Name in the issuer's URL, unique in the tenant. Immutable, because the issuer would change with it.
    pub slug: String,
    /// Exact redirect URIs, never empty.
    pub redirect_uris: Vec<String>,
    /// Page that opens the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_url: Option<String>,
    /// Logo of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
    /// Client type; immutable.
    pub client_type: ClientType,
    /// Allowed grants.
    pub grant_types: Vec<GrantType>,
    /// Allowed scopes.
    pub scopes: Vec<Scope>,
    /// Validity of access tokens in minutes.
    pub access_token_minutes: i32,
    /// OAuth client id: a UUID that the api generates.
    pub client_id: String,
    /// Number of client secrets issued so far. A job applies the secret it carries only if it is the latest; 0 for a
    /// public client.
    #[serde(default)]
    pub secret_version: i64,
    /// Objects at the identity provider.
    #[serde(default)]
    pub authentik: AppRefs,
    /// Current status.
    pub status: AppStatus,
    /// Conditions: the status in detail.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Incremented by every write of a caller.
    pub generation: i64,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl App {
    /// Slug of the app's application at the identity provider, whose slugs are shared by all tenants. No slug of ours
    /// contains an underscore, so two apps never have the same one.
    pub fn application_slug(&self, tenant_slug: &str) -> String {
        format!("{tenant_slug}_{}", self.slug)
    }

    /// The condition of this type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|it| it.kind == kind)
    }

    /// Replaces the condition of the same type. The transition time is kept if the status is unchanged.
    pub fn set_condition(&mut self, condition: Condition) {
        condition.set_in(&mut self.conditions);
    }

    /// Removes the condition of this type.
    pub fn clear_condition(&mut self, kind: &str) {
        self.conditions.retain(|it| it.kind != kind);
    }

    /// A new condition of this app, observed at its current generation.
    pub fn new_condition(
        &self,
        kind: &str,
        status: ConditionStatus,
        reason: &str,
        message: &str,
        now: DateTime,
    ) -> Condition {
        Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: self.generation,
            last_transition_at: now,
            next_attempt_at: None,
            class: None,
        }
    }

    /// Whether every user of the identity provider could sign in when a job last looked.
    pub fn is_open(&self) -> bool {
        self.condition(condition::RESTRICTED)
            .is_some_and(|it| it.status == ConditionStatus::False)
    }

    /// Marks a new desired state, which a job is about to apply.
    pub fn set_pending(&mut self, now: DateTime) {
        self.status = AppStatus::Pending;
        let unknown = ConditionStatus::Unknown;
        let message = "Waiting to be provisioned.";
        let pending = self.new_condition(condition::READY, unknown, reason::PENDING, message, now);
        self.set_condition(pending);
    }
}
