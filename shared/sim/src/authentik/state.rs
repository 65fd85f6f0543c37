//! What the simulated Authentik holds.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Everything there is.
#[derive(Debug)]
pub struct State {
    /// The token that is accepted, if any.
    pub(super) token: Option<String>,
    pub(super) ignores_filters: bool,
    pub(super) has_recovery_flow: bool,
    /// The recovery link that is valid for a user.
    pub(super) recovery_links: BTreeMap<i64, RecoveryLink>,
    last_number: i64,
    /// The groups, by id.
    pub groups: BTreeMap<Uuid, Group>,
    /// The users, by number.
    pub users: BTreeMap<i64, User>,
    /// The sessions, by id.
    pub sessions: BTreeMap<Uuid, Session>,
    /// The refresh tokens, by number.
    pub refresh_tokens: BTreeMap<i64, OAuthToken>,
    /// The access tokens, by number.
    pub access_tokens: BTreeMap<i64, OAuthToken>,
    /// The MFA devices, by number.
    pub devices: BTreeMap<i64, Device>,
}

impl State {
    pub(super) fn new(token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ignores_filters: false,
            has_recovery_flow: false,
            recovery_links: BTreeMap::new(),
            last_number: 1000,
            groups: BTreeMap::new(),
            users: BTreeMap::new(),
            sessions: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
            access_tokens: BTreeMap::new(),
            devices: BTreeMap::new(),
        }
    }

    /// A number that nothing has had before.
    pub(super) fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    /// Ends whatever the user is signed in with.
    pub(super) fn sign_out(&mut self, user: i64) {
        self.sessions.retain(|_, session| session.user != user);
        self.refresh_tokens.retain(|_, token| token.user != user);
        self.access_tokens.retain(|_, token| token.user != user);
    }
}

/// A group. Who is in it is written down with the users.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Addresses it.
    pub id: Uuid,
    /// Unique, case included.
    pub name: String,
    /// Whether its members are administrators.
    pub is_superuser: bool,
    /// Anything.
    pub attributes: Map<String, Value>,
}

impl Group {
    /// A group of ordinary people.
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
    /// Addresses them.
    pub pk: i64,
    /// The `sub` of their tokens.
    pub uuid: Uuid,
    /// Unique, case included.
    pub username: String,
    /// What they are called.
    pub name: String,
    /// Not unique.
    pub email: String,
    /// Whether they can sign in.
    pub is_active: bool,
    /// `internal`, `external` or `service_account`.
    pub r#type: String,
    /// A folder to keep users in.
    pub path: String,
    /// The groups they are direct members of.
    pub groups: BTreeSet<Uuid>,
    /// Anything.
    pub attributes: Map<String, Value>,
    /// RFC 3339.
    pub date_joined: String,
    /// When they last signed in: RFC 3339.
    #[serde(skip)]
    pub last_login: Option<String>,
}

impl User {
    /// An active internal user whose username is their e-mail address.
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
        }
    }
}

/// The present, in RFC 3339.
pub(super) fn now() -> String {
    dezky_shared::platform::clock::now()
        .try_to_rfc3339_string()
        .expect("the present can be written down")
}

/// Somebody's session in a browser.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Session {
    /// Whose it is.
    pub user: i64,
}

/// A token handed out to an application.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OAuthToken {
    /// Whose it is.
    pub user: i64,
    /// The session it ends with.
    pub session: Option<Uuid>,
}

/// A link to choose a new password with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryLink {
    /// What of it nobody can guess.
    pub key: Uuid,
    /// For how long it was asked to be valid, such as `hours=24`.
    pub valid_for: Option<String>,
}

/// Something to confirm a sign-in with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Whose it is.
    pub user: i64,
    /// Its class: `TOTPDevice`, `WebAuthnDevice`, `StaticDevice`, ...
    pub r#type: String,
    /// Whether its owner has shown that they have it.
    pub confirmed: bool,
}
