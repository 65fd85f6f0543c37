//! Passwords of users: set through the API, checked by the sign-in.

use axum::extract::{Path, State as Shared};
use http::StatusCode;
use serde_json::Value;

use super::{
    AuthentikSim, OAuthToken, Session, Sim, User,
    sessions::PORTAL,
    state, users,
    wire::{Body, Refusal},
};
use crate::issuer::TokenSpec;

/// Reason why a sign-in is refused. The real login page shows the same text for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInRefused {
    /// No user has this username.
    UnknownUser,
    /// The password is wrong, or none is set.
    WrongPassword,
    /// The user is not active.
    Inactive,
}

/// `POST /core/users/{pk}/set_password/`: any text is accepted, since policies apply to flows only. The refusal has an
/// empty body. Sessions are kept.
pub(super) async fn set(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<String>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let mut state = sim.state();
    let pk = users::find(&state, &pk)?.pk;
    let password = body.members().get("password").and_then(Value::as_str);
    let Some(password) = password.filter(|password| !password.is_empty()) else {
        return Ok(StatusCode::BAD_REQUEST);
    };
    let user = state.users.get_mut(&pk).expect("the user was found above");
    // The same password again changes nothing that a client could see.
    if user.password.as_deref() != Some(password) {
        user.password = Some(password.to_owned());
        sim.effects.record("set_password", &user.username);
    }
    Ok(StatusCode::NO_CONTENT)
}

impl AuthentikSim {
    /// Signs in with a password, as on the login page: an active user gets a session, an access token and a refresh
    /// token. The username is compared exactly.
    pub fn sign_in(&self, username: &str, password: &str) -> Result<User, SignInRefused> {
        let mut state = self.state();
        let mut users = state.users.values_mut();
        let user = users.find(|user| user.username == username);
        let user = user.ok_or(SignInRefused::UnknownUser)?;
        if user.password.as_deref() != Some(password) {
            return Err(SignInRefused::WrongPassword);
        }
        if !user.is_active {
            return Err(SignInRefused::Inactive);
        }
        user.last_login = Some(state::now());
        let user = user.clone();
        let session = uuid::Uuid::now_v7();
        state.sessions.insert(session, Session { user: user.pk });
        let token = |session| OAuthToken {
            user: user.pk,
            session,
            provider: PORTAL,
        };
        let (access, refresh) = (state.next_number(), state.next_number());
        state.access_tokens.insert(access, token(Some(session)));
        state.refresh_tokens.insert(refresh, token(None));
        Ok(user)
    }

    /// The claims of the portal's token for this user: the names of the direct groups among them.
    pub fn claims_of(&self, user: &User) -> TokenSpec {
        let state = self.state();
        let groups = user.groups.iter().filter_map(|id| state.groups.get(id));
        TokenSpec {
            subject: user.uuid.to_string(),
            email: Some(user.email.clone()),
            name: Some(user.name.clone()),
            groups: Some(groups.map(|group| group.name.clone()).collect()),
            ..TokenSpec::default()
        }
    }
}
