//! State of the Authentik simulator.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Apps, Setup};

/// The whole state.
#[derive(Debug)]
pub struct State {
    /// The valid token, if any.
    pub(super) token: Option<String>,
    pub(super) ignores_filters: bool,
    pub(super) has_recovery_flow: bool,
    /// Valid recovery links, by user.
    pub(super) recovery_links: BTreeMap<i64, RecoveryLink>,
    /// Set-up of the server.
    pub setup: Setup,
    last_number: i64,
    /// Groups by id.
    pub groups: BTreeMap<Uuid, Group>,
    /// Users by primary key.
    pub users: BTreeMap<i64, User>,
    /// Sessions by id.
    pub sessions: BTreeMap<Uuid, Session>,
    /// Refresh tokens by primary key.
    pub refresh_tokens: BTreeMap<i64, OAuthToken>,
    /// Access tokens by primary key.
    pub access_tokens: BTreeMap<i64, OAuthToken>,
    /// API tokens and app passwords by identifier.
    pub api_tokens: BTreeMap<String, ApiToken>,
    /// `OAuth2` providers, applications and policy bindings.
    pub apps: Apps,
    /// MFA devices by primary key.
    pub devices: BTreeMap<i64, Device>,
}

impl State {
    pub(super) fn new(token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ignores_filters: false,
            has_recovery_flow: false,
            setup: Setup::default(),
            recovery_links: BTreeMap::new(),
            last_number: 1000,
            groups: BTreeMap::new(),
            users: BTreeMap::new(),
            sessions: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
            access_tokens: BTreeMap::new(),
            api_tokens: BTreeMap::new(),
            apps: Apps::default(),
            devices: BTreeMap::new(),
        }
    }

    /// A primary key that was never used before.
    pub(super) fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    /// Whether the token's account has a permission. Some lists are empty without it.
    pub(super) fn may(&self, permission: &str) -> bool {
        self.setup.permissions.contains(permission)
    }

    /// Deletes the user's sessions and OAuth tokens. API tokens and app passwords stay.
    pub(super) fn sign_out(&mut self, user: i64) {
        self.sessions.retain(|_, session| session.user != user);
        self.refresh_tokens.retain(|_, token| token.user != user);
        self.access_tokens.retain(|_, token| token.user != user);
        self.apps.sign_out(user);
    }
}

/// A group. Memberships are stored with the users.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Id in URLs.
    pub id: Uuid,
    /// Unique, case-sensitive.
    pub name: String,
    /// Whether members are administrators.
    pub is_superuser: bool,
    /// Custom attributes.
    pub attributes: Map<String, Value>,
}

impl Group {
    /// A group without administrator rights.
    pub fn new(name: &str, attributes: Map<String, Value>) -> Self {
        Self {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            is_superuser: false,
            attributes,
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct User {
    /// Primary key in URLs.
    pub pk: i64,
    /// `sub` claim of the user's tokens.
    pub uuid: Uuid,
    /// Unique, case-sensitive.
    pub username: String,
    /// Display name.
    pub name: String,
    /// E-mail address, not unique.
    pub email: String,
    /// Whether the user can sign in.
    pub is_active: bool,
    /// `internal`, `external` or `service_account`.
    pub r#type: String,
    /// Folder of the user.
    pub path: String,
    /// Direct memberships.
    pub groups: BTreeSet<Uuid>,
    /// Custom attributes.
    pub attributes: Map<String, Value>,
    /// Creation time, RFC 3339.
    pub date_joined: String,
    /// Last sign-in, RFC 3339.
    #[serde(skip)]
    pub last_login: Option<String>,
    /// Password, if one is set.
    #[serde(skip)]
    pub password: Option<String>,
}

impl User {
    /// An active internal user whose username is the e-mail address.
    pub fn new(pk: i64, username: &str) -> Self {
        Self {
            pk,
            uuid: Uuid::new_v4(),
            username: username.to_owned(),
            name: username.to_owned(),
            email: username.to_owned(),
            is_active: true,
            r#type: "internal".to_owned(),
            path: "users".to_owned(),
            groups: BTreeSet::new(),
            attributes: Map::new(),
            date_joined: now(),
            last_login: None,
            password: None,
        }
    }
}

/// The current time in RFC 3339.
pub(super) fn now() -> String {
    dezky_shared::platform::clock::now()
        .try_to_rfc3339_string()
        .expect("the current time has an RFC 3339 form")
}

/// A browser session of a user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Session {
    /// Primary key of the user.
    pub user: i64,
}

/// An OAuth token of a user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OAuthToken {
    /// Primary key of the user.
    pub user: i64,
    /// Session that the token ends with.
    pub session: Option<Uuid>,
    /// Primary key of the provider that issued the token.
    #[serde(skip)]
    pub provider: i64,
}

/// A token for the API, or for signing in without a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiToken {
    /// Primary key of the user.
    pub user: i64,
    /// `api` or `app_password`.
    pub intent: &'static str,
}

/// A link for setting a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryLink {
    /// Random part of the link.
    pub key: Uuid,
    /// Requested validity, such as `hours=24`.
    pub valid_for: Option<String>,
}

/// An MFA device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Primary key of the user.
    pub user: i64,
    /// Class name: `TOTPDevice`, `WebAuthnDevice`, `StaticDevice`, ...
    pub r#type: String,
    /// Whether the enrolment is confirmed.
    pub confirmed: bool,
    /// Time of the enrolment, RFC 3339.
    #[serde(skip)]
    pub created: String,
}
