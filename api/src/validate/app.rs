//! Rules for apps: redirect URIs, scopes and the validity of tokens.

use dezky_shared::app::{ClientType, REDIRECT_URIS_PER_APP, Scope};
use reqwest::Url;

use super::{Validator, Violation, distinct_list, empty, too_long, word};
use crate::error::FieldError;

/// Maximum length of a redirect URI, in characters.
const MAX_LENGTH: usize = 2048;
/// Maximum validity of access tokens in minutes: until they end, they are valid even for a person who was suspended.
const MAX_MINUTES: i32 = 60;
/// Default validity of access tokens in minutes.
pub const DEFAULT_MINUTES: i32 = 5;
/// Scopes of an app that names none.
pub const DEFAULT_SCOPES: [Scope; 3] = [Scope::OpenId, Scope::Email, Scope::Profile];

/// A client type.
pub fn client_type(text: &str) -> Result<ClientType, Violation> {
    word(text, "invalid_client_type", "confidential or public")
}

/// Scopes without duplicates, in a fixed order; `openid` is always one of them.
pub fn scopes(validator: &mut Validator, texts: &[String]) -> Option<Vec<Scope>> {
    let expected = "openid, email, profile or offline_access";
    let parse = |text: &str| {
        word::<Scope>(text, "invalid_scope", expected).map(|scope| scope.name().to_owned())
    };
    let names = distinct_list(validator, "/scopes", texts, Scope::ALL.len(), parse)?;
    let is_named =
        |scope: &Scope| *scope == Scope::OpenId || names.iter().any(|it| it == scope.name());
    Some(Scope::ALL.into_iter().filter(is_named).collect())
}

/// The validity of access tokens in minutes.
pub fn access_token_minutes(minutes: i32) -> Result<i32, Violation> {
    if (1..=MAX_MINUTES).contains(&minutes) {
        Ok(minutes)
    } else {
        let message = format!("Must be between 1 and {MAX_MINUTES}.");
        Err(("out_of_range", message))
    }
}

/// The redirect URIs of an app, stored as they are written: the identity provider compares them byte for byte.
pub fn redirect_uris(validator: &mut Validator, texts: &[String]) -> Option<Vec<String>> {
    if texts.is_empty() {
        // Without any, the identity provider would adopt the first visitor's.
        validator.check::<()>("/redirectUris", Err(empty()));
        return None;
    }
    let max = REDIRECT_URIS_PER_APP;
    distinct_list(validator, "/redirectUris", texts, max, redirect_uri)
}

/// A redirect URI: `https`, `http` on a loopback address, or a private-use scheme (RFC 8252).
fn redirect_uri(text: &str) -> Result<String, Violation> {
    let invalid = |message: &str| Err(("invalid_redirect_uri", message.to_owned()));
    if text.chars().count() > MAX_LENGTH {
        return Err(too_long(MAX_LENGTH));
    }
    if text.contains('*') {
        return invalid("Must not contain a wildcard: list each URI.");
    }
    if text.contains('#') {
        return invalid("Must not have a fragment.");
    }
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let Ok(url) = Url::parse(text) else {
        return invalid("Must be an absolute URI.");
    };
    if !is_plain || !url.username().is_empty() || url.password().is_some() {
        return invalid(
            "Must be an absolute URI of visible ASCII characters, without credentials.",
        );
    }
    let is_allowed = match url.scheme() {
        "https" => has_authority(text, "https://"),
        "http" => has_authority(text, "http://") && is_loopback(&url),
        _ => is_private_use(text),
    };
    if is_allowed {
        Ok(text.to_owned())
    } else {
        invalid("Must be an https URL, or an http URL on a loopback address.")
    }
}

/// The errors of private-use schemes, which any other app on a device could claim: only a public client, which relies on
/// PKCE, may use them.
pub fn scheme_errors(uris: &[String], client_type: ClientType) -> Vec<FieldError> {
    if client_type == ClientType::Public {
        return Vec::new();
    }
    let custom = uris
        .iter()
        .enumerate()
        .filter(|(_, uri)| is_private_use(uri));
    let message = "Only a public client may use a private-use scheme.";
    custom
        .map(|(index, _)| {
            let pointer = format!("/redirectUris/{index}");
            FieldError::at(pointer, "invalid_redirect_uri", message)
        })
        .collect()
}

/// The page that opens an app: an address that may be internal, since only a browser of the tenant opens it.
pub fn launch_url(text: &str) -> Result<String, Violation> {
    let url = redirect_uri(text)?;
    if is_private_use(&url) {
        let message = "Must be an https URL, or an http URL on a loopback address.";
        return Err(("invalid_url", message.to_owned()));
    }
    Ok(url)
}

/// Whether the URL is written with this prefix and a host: the parser accepts other spellings.
fn has_authority(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', ':']))
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Whether the scheme is in reverse domain notation, as `com.example.app:/callback` (RFC 8252, section 7.1).
fn is_private_use(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_label = |label: &str| {
        label.starts_with(|first: char| first.is_ascii_lowercase())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    scheme.contains('.') && scheme.split('.').all(is_label) && !rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_exact_and_leads_to_the_app_alone() {
        for good in [
            "https://wiki.example.com/callback",
            "https://wiki.example.com:8443/callback?tenant=1",
            "https://wiki.lan/cb",
            "http://localhost:3000/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:8080/cb",
            "com.example.app:/callback",
        ] {
            assert_eq!(redirect_uri(good).unwrap(), good);
        }
        for bad in [
            "",
            "/callback",
            "wiki.example.com/cb",
            "http://wiki.example.com/cb",
            "http://localhost.example.com/cb",
            "http://127.0.0.1.nip.io/cb",
            "https://",
            "https:///cb",
            "https:wiki.example.com/cb",
            "HTTPS://wiki.example.com/cb",
            "https://wiki.example.com/cb#token",
            "https://*.example.com/cb",
            "https://ada:secret@wiki.example.com/cb",
            "https://wiki.example.com\\@evil.example/cb",
            "https://wiki.example.com/a b",
            "https://wiki.example.com/\u{202e}cb",
            "https://wiki.example.com/cb\n",
            "javascript:alert(1)",
            "data:text/html,x",
            "myapp:/callback",
            "com..example:/callback",
        ] {
            assert_eq!(
                redirect_uri(bad).unwrap_err().0,
                "invalid_redirect_uri",
                "{bad:?}"
            );
        }
        let long = format!("https://example.com/{}", "x".repeat(MAX_LENGTH));
        assert_eq!(redirect_uri(&long).unwrap_err().0, "too_long");
    }

    #[test]
    fn only_a_public_client_may_use_a_private_use_scheme() {
        let uris = ["https://a.test/cb", "com.example.app:/cb"].map(str::to_owned);

        assert!(scheme_errors(&uris, ClientType::Public).is_empty());
        let errors = scheme_errors(&uris, ClientType::Confidential);
        assert_eq!(errors[0].pointer.as_deref(), Some("/redirectUris/1"));
        assert!(launch_url("com.example.app:/open").is_err());
    }

    #[test]
    fn scopes_always_include_openid() {
        let mut validator = Validator::default();
        let texts = ["profile", "offline_access"].map(str::to_owned);

        let parsed = scopes(&mut validator, &texts).unwrap();

        assert_eq!(
            parsed,
            [Scope::OpenId, Scope::Profile, Scope::OfflineAccess]
        );
        assert!(scopes(&mut validator, &["groups".to_owned()]).is_none());
    }
}
