//! Tokens with any claims, signed as they should be or as an attacker would.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dezky_shared::platform::clock;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    PORTAL,
    keys::{KeySet, SigningKey},
};

/// How long a token is valid unless the specification says otherwise, in seconds.
const TWELVE_HOURS: i64 = 12 * 60 * 60;

/// What a token says, and how it is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenSpec {
    /// The application whose issuer issues it.
    pub application: String,
    /// `sub`: who it is about.
    pub subject: String,
    /// `aud`: whom it is for; the application when missing.
    pub audience: Option<Audience>,
    /// `groups`; no such claim when missing.
    pub groups: Option<Vec<String>>,
    /// `email`; no such claim when missing.
    pub email: Option<String>,
    /// `name`; no such claim when missing.
    pub name: Option<String>,
    /// `iat`, in seconds since 1970; now when missing.
    pub issued_at: Option<i64>,
    /// How many seconds from `iat` to `exp`; negative for a token that was never valid.
    pub expires_in: i64,
    /// `nbf`, in seconds since 1970; no such claim when missing.
    pub not_before: Option<i64>,
    /// What it is signed with.
    pub algorithm: SigningAlgorithm,
    /// What is wrong with its signature, if anything.
    pub forgery: Option<Forgery>,
    /// Further claims. One of those above is replaced, and removed by null.
    pub claims: Map<String, Value>,
}

impl Default for TokenSpec {
    fn default() -> Self {
        Self {
            application: PORTAL.to_owned(),
            subject: Uuid::now_v7().to_string(),
            audience: None,
            groups: None,
            email: None,
            name: None,
            issued_at: None,
            expires_in: TWELVE_HOURS,
            not_before: None,
            algorithm: SigningAlgorithm::Rs256,
            forgery: None,
            claims: Map::new(),
        }
    }
}

/// `aud`, in both of its forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A string.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// What a token is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSA, as Authentik signs unless told otherwise.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// The same key as RS256, and an algorithm that Dezky does not accept.
    #[serde(rename = "RS512")]
    Rs512,
}

/// What can be wrong with a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Forgery {
    /// No signature at all: `alg` is `none`.
    AlgNone,
    /// HS256, with the published public key as the secret.
    HmacWithPublicKey,
    /// Signed by a key that nobody published, under the id of the real one.
    WrongKey,
    /// Signed by the real key under an id that nobody published.
    UnknownKeyId,
    /// Signed by the real key without saying which.
    NoKeyId,
}

pub(super) fn sign(spec: &TokenSpec, issuer: &str, keys: &KeySet) -> anyhow::Result<String> {
    let claims = claims(spec, issuer);
    let key = keys.current(spec.algorithm)?;
    let mut header = Header::new(spec.algorithm.header());
    header.kid = key.id();
    let signing_key = match spec.forgery {
        None => key.encoding_key()?,
        Some(Forgery::UnknownKeyId) => {
            header.kid = Some(Uuid::now_v7().to_string());
            key.encoding_key()?
        }
        Some(Forgery::NoKeyId) => {
            header.kid = None;
            key.encoding_key()?
        }
        Some(Forgery::WrongKey) => SigningKey::generate(spec.algorithm)?.encoding_key()?,
        Some(Forgery::HmacWithPublicKey) => {
            header.alg = Algorithm::HS256;
            EncodingKey::from_secret(key.public_pem.as_bytes())
        }
        Some(Forgery::AlgNone) => {
            let header = json!({ "alg": "none", "typ": "JWT", "kid": header.kid });
            return Ok(format!("{}.{}.", part(&header), part(&claims)));
        }
    };
    Ok(jsonwebtoken::encode(&header, &claims, &signing_key)?)
}

fn claims(spec: &TokenSpec, issuer: &str) -> Value {
    let now = clock::now().timestamp_millis() / 1000;
    let issued_at = spec.issued_at.unwrap_or(now);
    let own_audience = || Audience::One(spec.application.clone());
    let mut claims = json!({
        "iss": issuer,
        "sub": spec.subject,
        "aud": spec.audience.clone().unwrap_or_else(own_audience),
        "azp": spec.application,
        "iat": issued_at,
        "exp": issued_at + spec.expires_in,
        "nbf": spec.not_before,
        "groups": spec.groups,
        "email": spec.email,
        "name": spec.name,
    });
    if let Some(claims) = claims.as_object_mut() {
        claims.extend(spec.claims.clone());
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}
