//! Sign-ins in place of a browser.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{All, Refusal, unprocessable};
use crate::{authentik::User, relying_party::RelyingParty, simulators::Simulators};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordLogin {
    username: String,
    password: String,
}

/// The user with this password, who has a session from now on.
fn authenticate(simulators: &Simulators, login: &PasswordLogin) -> Result<User, Refusal> {
    let authentik = &simulators.authentik;
    let user = authentik.sign_in(&login.username, &login.password);
    user.map_err(|_| {
        let text = "the username or the password is wrong, or the account is not active";
        Refusal(StatusCode::UNAUTHORIZED, text.to_owned())
    })
}

/// Signs in with a password, in place of the login page.
pub(super) async fn sign_in(
    State(simulators): All,
    Json(login): Json<PasswordLogin>,
) -> Result<Json<Value>, Refusal> {
    let user = authenticate(&simulators, &login)?;
    let claims = simulators.authentik.claims_of(&user);
    let token = simulators.issuer.token(&claims).map_err(unprocessable)?;
    simulators.ocis.sign_in_with(&token, &user.username);
    Ok(Json(json!({ "token": token })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AppLogin {
    username: String,
    password: String,
    issuer: String,
    client_id: String,
    client_secret: Option<String>,
    redirect_uri: String,
}

/// Signs in to an app, in place of its relying party and the login page.
pub(super) async fn sign_in_to_app(
    State(simulators): All,
    Json(app): Json<AppLogin>,
) -> Result<Json<Value>, Refusal> {
    let (username, password) = (app.username, app.password);
    let user = authenticate(&simulators, &PasswordLogin { username, password })?;
    let session = simulators.authentik.add_session(user.pk);
    let client = RelyingParty {
        issuer: app.issuer,
        client_id: app.client_id,
        client_secret: app.client_secret,
        redirect_uri: app.redirect_uri,
    };
    let signed_in = client.sign_in(Some(session)).await.map_err(unprocessable)?;
    let signed_in =
        signed_in.map_err(|reason| Refusal(StatusCode::FORBIDDEN, format!("{reason:?}")))?;
    Ok(Json(json!({ "claims": signed_in.claims })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrolment {
    username: String,
}

/// Enrols a second factor, in place of the user settings.
pub(super) async fn enrol(
    State(simulators): All,
    Json(Enrolment { username }): Json<Enrolment>,
) -> Result<StatusCode, Refusal> {
    let authentik = &simulators.authentik;
    let user = authentik.user_named(&username).ok_or_else(|| {
        let text = format!("unknown user {username}");
        Refusal(StatusCode::NOT_FOUND, text)
    })?;
    authentik.add_device(user.pk, "TOTPDevice", true);
    Ok(StatusCode::NO_CONTENT)
}
