//! The authorization endpoint, and its picker of people.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::{Html, IntoResponse as _, Response},
};
use clap::ValueEnum as _;
use dezky_shared::platform::clock;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::Url;

use super::{
    super::{APPLICATIONS, IssuerState},
    CODE_SECONDS, Code, Grant, Person, SESSION_COOKIE, random,
    request::{Fields, cookie, redirect, redirect_target},
};
use crate::callers::Caller;

/// Parameter that the picker adds: the name of a caller, or `other` for a person of the form.
const CHOICE: &str = "sign_in_as";

/// A valid request.
struct Authorization {
    application: String,
    redirect_uri: String,
    target: Url,
    challenge: String,
}

pub(super) async fn authorize(
    State(state): State<Arc<IssuerState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let fields = Fields::parse(query.as_deref().unwrap_or_default());
    let client = fields.get("client_id");
    let Some(application) = client.filter(|client| APPLICATIONS.contains(client)) else {
        return page(StatusCode::BAD_REQUEST, "Unknown client_id.");
    };
    let redirect_uri = fields.get("redirect_uri").unwrap_or_default();
    let Some(target) = redirect_target(redirect_uri) else {
        return page(
            StatusCode::BAD_REQUEST,
            "redirect_uri must be https, or http on localhost.",
        );
    };
    let issuer = state.url(application);
    let challenge = match checked(&fields) {
        Ok(challenge) => challenge.to_owned(),
        Err((error, description)) => {
            return refuse(target, &fields, &issuer, error, description);
        }
    };
    let authorization = Authorization {
        application: application.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        target,
        challenge,
    };
    if let Some(person) = chosen(&fields) {
        let session = random();
        let now = clock::now().timestamp_millis() / 1000;
        let mut sign_ins = state.sign_ins.state();
        sign_ins
            .sessions
            .insert(session.clone(), (person.clone(), now));
        drop(sign_ins);
        let mut response = admit(&state, authorization, &fields, (person, now), &session);
        let value = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax");
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
        return response;
    }
    let prompt = fields.get("prompt").unwrap_or_default();
    let session = cookie(&headers, SESSION_COOKIE).unwrap_or_default();
    let signed_in = state.sign_ins.state().sessions.get(session).cloned();
    match signed_in {
        Some(person) if !matches!(prompt, "login" | "select_account") => {
            admit(&state, authorization, &fields, person, session)
        }
        _ if prompt == "none" => {
            let description = "No user is signed in.";
            refuse(
                authorization.target,
                &fields,
                &issuer,
                "login_required",
                description,
            )
        }
        _ => picker(application, &fields),
    }
}

/// The PKCE challenge of a request that can be granted.
fn checked(fields: &Fields) -> Result<&str, (&'static str, &'static str)> {
    if fields.get("response_type") != Some("code") {
        return Err(("unsupported_response_type", "response_type must be code."));
    }
    let scope = fields.get("scope").unwrap_or_default();
    if !scope.split(' ').any(|scope| scope == "openid") {
        return Err(("invalid_scope", "scope must contain openid."));
    }
    let challenge = fields.get("code_challenge");
    let is_hashed = fields.get("code_challenge_method") == Some("S256");
    challenge
        .filter(|_| is_hashed)
        .ok_or(("invalid_request", "PKCE with S256 is required."))
}

/// Redirects with a code.
fn admit(
    state: &IssuerState,
    authorization: Authorization,
    fields: &Fields,
    (person, auth_time): (Person, i64),
    session: &str,
) -> Response {
    let value = random();
    let now = clock::now().timestamp_millis() / 1000;
    let issuer = state.url(&authorization.application);
    let code = Code {
        grant: Grant {
            application: authorization.application,
            person,
            scope: fields.text("scope").unwrap_or_default(),
            nonce: fields.text("nonce"),
            session: session.to_owned(),
            auth_time,
        },
        redirect_uri: authorization.redirect_uri,
        challenge: authorization.challenge,
        expires_at: now + CODE_SECONDS,
    };
    let mut sign_ins = state.sign_ins.state();
    sign_ins.codes.retain(|_, code| code.expires_at > now);
    sign_ins.codes.insert(value.clone(), code);
    drop(sign_ins);
    let mut with = vec![("code", value.as_str()), ("iss", issuer.as_str())];
    with.extend(fields.get("state").map(|state| ("state", state)));
    redirect(authorization.target, &with)
}

fn refuse(target: Url, fields: &Fields, issuer: &str, error: &str, description: &str) -> Response {
    let mut with = vec![
        ("error", error),
        ("error_description", description),
        ("iss", issuer),
    ];
    with.extend(fields.get("state").map(|state| ("state", state)));
    redirect(target, &with)
}

/// The person that was picked.
fn chosen(fields: &Fields) -> Option<Person> {
    let choice = fields.get(CHOICE)?;
    if choice == "other" {
        let groups = fields.get("groups");
        let groups = groups.map(|groups| groups.split(',').map(|group| group.trim().to_owned()));
        return Some(Person {
            subject: fields.text("subject")?,
            email: fields.text("email"),
            name: fields.text("name"),
            groups: groups.map(Iterator::collect),
        });
    }
    let spec = Caller::from_str(choice, false).ok()?.token();
    Some(Person {
        subject: spec.subject,
        email: spec.email,
        name: spec.name,
        groups: spec.groups,
    })
}

/// The page to pick a person on. It works without scripts: each choice is the same request with one parameter more.
fn picker(application: &str, fields: &Fields) -> Response {
    let kept = fields.pairs().filter(|(name, _)| *name != "prompt");
    let kept = kept.map(|(name, value)| {
        let (name, value) = (escaped(name), escaped(value));
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
    });
    let kept = kept.collect::<Vec<_>>().concat();
    let choices = Caller::ALL.map(|caller| {
        let (name, description) = (caller.name(), caller.description());
        format!("<li><button name=\"{CHOICE}\" value=\"{name}\">{name}</button> {description}</li>")
    });
    let choices = choices.concat();
    let application = escaped(application);
    page(
        StatusCode::OK,
        &format!(
            "<h1>Sign in to {application}</h1>\
             <form>{kept}<ul>{choices}</ul></form>\
             <h2>Another person</h2>\
             <form>{kept}<input type=\"hidden\" name=\"{CHOICE}\" value=\"other\">\
             <p><label>Subject (UUID) <input name=\"subject\" required></label></p>\
             <p><label>E-mail address <input name=\"email\" type=\"email\"></label></p>\
             <p><label>Name <input name=\"name\"></label></p>\
             <p><label>Groups, separated by commas <input name=\"groups\"></label></p>\
             <p><button>Sign in</button></p></form>"
        ),
    )
}

/// A page with this content.
pub(super) fn page(status: StatusCode, content: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Simulated sign-in</title>\
         <body>{content}</body></html>"
    );
    (status, Html(html)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
