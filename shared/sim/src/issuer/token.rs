//! Tokens with arbitrary claims, signed correctly or forged.

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

/// Default validity in seconds.
const TWELVE_HOURS: i64 = 12 * 60 * 60;

/// Claims and signature of a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenSpec {
    /// Application whose issuer issues the token.
    pub application: String,
    /// `sub`.
    pub subject: String,
    /// `aud`. Default: the application.
    pub audience: Option<Audience>,
    /// `groups`. Default: no claim.
    pub groups: Option<Vec<String>>,
    /// `email`. Default: no claim.
    pub email: Option<String>,
    /// `name`. Default: no claim.
    pub name: Option<String>,
    /// `iat`, in seconds since 1970. Default: now.
    pub issued_at: Option<i64>,
    /// Seconds from `iat` to `exp`; negative for a token that was never valid.
    pub expires_in: i64,
    /// `nbf`, in seconds since 1970. Default: no claim.
    pub not_before: Option<i64>,
    /// Signing algorithm.
    pub algorithm: SigningAlgorithm,
    /// Forged signature. Default: a valid one.
    pub forgery: Option<Forgery>,
    /// Further claims. They replace those above; null removes a claim.
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

/// `aud` in both of its forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A string.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// Signing algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSA, Authentik's default.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// The RS256 key with an algorithm that the api does not accept.
    #[serde(rename = "RS512")]
    Rs512,
}

/// Kind of forged signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Forgery {
    /// No signature: `alg` is `none`.
    AlgNone,
    /// HS256 with the published public key as the secret.
    HmacWithPublicKey,
    /// Signed by an unpublished key under the id of a published one.
    WrongKey,
    /// Signed by a published key under an unknown key id.
    UnknownKeyId,
    /// Signed by a published key without a key id.
    NoKeyId,
    /// Signed correctly, with a header extension that the recipient must understand (`crit`).
    CriticalExtension,
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
        Some(Forgery::CriticalExtension) => {
            header.crit = Some(vec!["b64".to_owned()]);
            header.extras.insert("b64", true);
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
