//! Whether a token is what it claims to be (RFC 9068, RFC 8725).
//!
//! Each application in Authentik is an issuer of its own with its own keys: a token is verified with the keys of
//! the issuer it names and with no other. What its bearer may do is not here; that is read from MongoDB.

mod issuer;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bson::DateTime;
use dezky_shared::platform::{clock, tls::TrustRoots};
use jsonwebtoken::{Algorithm, Validation, dangerous, errors::ErrorKind};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use self::issuer::Issuer;
use crate::{
    config::AuthConfig,
    error::{ApiError, ProblemCode},
};

/// The audience that operators' tokens hold.
pub const OPERATOR_AUDIENCE: &str = "dezky-operator";
/// How far the clocks of others may be off, in seconds.
const LEEWAY: u64 = 30;
/// The longest `sub` that is somebody.
const SUBJECT_LIMIT: usize = 255;

/// What a valid token says about its bearer.
#[derive(Debug, Clone, Deserialize)]
pub struct Claims {
    /// Who it is.
    pub sub: String,
    /// For whom the token was made.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Until when it is valid, in seconds since 1970.
    pub exp: f64,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub iat: Option<f64>,
    /// The groups its bearer is in; missing says nothing about them.
    #[serde(default, deserialize_with = "lenient")]
    pub groups: Option<BTreeSet<String>>,
    /// The address, for people.
    #[serde(default, deserialize_with = "lenient")]
    pub email: Option<String>,
    /// The name, for people.
    #[serde(default, deserialize_with = "lenient")]
    pub name: Option<String>,
}

impl Claims {
    /// When the token is valid no more, with the same leeway as when it was verified.
    pub fn expires_at(&self) -> DateTime {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a time beyond all clocks is the last one"
        )]
        let exp = (self.exp * 1_000.0) as i64;
        clock::later(DateTime::from_millis(exp), Duration::from_secs(LEEWAY))
    }
}

/// Verifies tokens.
#[derive(Debug)]
pub struct TokenVerifier {
    issuers: Vec<Arc<Issuer>>,
    audiences: Vec<String>,
}

impl TokenVerifier {
    /// Accepts the tokens of these issuers. Their keys are asked for when first needed.
    pub fn new(config: &AuthConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        let issuers = config
            .issuers
            .iter()
            .map(|issuer| Issuer::new(issuer, trust_roots).map(Arc::new));
        Ok(Self {
            issuers: issuers.collect::<anyhow::Result<_>>()?,
            audiences: config.audiences.clone(),
        })
    }

    /// What `token` says, provided it is valid.
    pub async fn verify(&self, token: &str) -> Result<Claims, ApiError> {
        #[derive(Deserialize)]
        struct Named {
            iss: String,
        }
        let invalid = |detail: &str| ApiError::new(ProblemCode::TokenInvalid).with_detail(detail);

        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| invalid("The token is not a JWT signed in a way that is accepted."))?;
        if !matches!(
            header.alg,
            Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA
        ) {
            return Err(invalid(
                "The token is not signed with RS256, ES256 or EdDSA.",
            ));
        }
        // Believed only so far as to choose the keys, which then have to confirm it.
        let named: Named = dangerous::insecure_decode_claims(token)
            .map_err(|_| invalid("The token has no issuer."))?;
        let issuer = self
            .issuers
            .iter()
            .find(|issuer| issuer.name == named.iss)
            .ok_or(ProblemCode::TokenWrongIssuer)?;
        let kid = header
            .kid
            .ok_or_else(|| invalid("The token does not say which key signed it."))?;
        let key = issuer.key(&kid, header.alg).await?.ok_or_else(|| {
            invalid("The token was signed with a key that its issuer does not publish.")
        })?;

        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&issuer.name]);
        validation.set_audience(&self.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => ProblemCode::TokenExpired.into(),
                ErrorKind::ImmatureSignature => ProblemCode::TokenNotYetValid.into(),
                ErrorKind::InvalidIssuer => ProblemCode::TokenWrongIssuer.into(),
                ErrorKind::InvalidAudience => ProblemCode::TokenWrongAudience.into(),
                ErrorKind::MissingRequiredClaim(claim) => {
                    invalid(&format!("The token has no {claim}."))
                }
                ErrorKind::InvalidSignature => invalid("The token's signature is wrong."),
                _ => invalid("The token cannot be read."),
            })?
            .claims;
        if claims.sub.is_empty() || claims.sub.len() > SUBJECT_LIMIT {
            return Err(invalid("The token's subject is nobody."));
        }
        Ok(claims)
    }
}

/// A claim of another type than expected is as good as none: most routes do without it.
fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let claim = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(claim).ok())
}

/// `aud` is a string or a list (RFC 7519, section 4.1.3).
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    })
}
