//! Access token verification (RFC 9068, RFC 8725).
//!
//! Each application in Authentik is an issuer with its own keys. A token is verified with the keys of the issuer in its
//! `iss` claim only, and counts for the audiences of that issuer only. Permissions are not taken from the token; they are read from MongoDB.

mod issuer;
mod signing_keys;
mod subject;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bson::DateTime;
use dezky_shared::platform::{clock, tls::TrustRoots};
use jsonwebtoken::{Algorithm, Validation, dangerous, errors::ErrorKind};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use self::issuer::Issuer;
pub(crate) use self::issuer::{http_client, read_document};
pub use self::subject::SubjectCheck;
use crate::{
    config::AuthConfig,
    error::{ApiError, ProblemCode},
};

/// Audience of operator tokens.
pub const OPERATOR_AUDIENCE: &str = "dezky-operator";
/// Tolerated clock skew, in seconds.
const LEEWAY: u64 = 30;
/// Maximum length of `sub`.
const SUBJECT_LIMIT: usize = 255;

/// Claims of a valid token.
#[derive(Debug, Clone, Deserialize)]
pub struct Claims {
    /// Subject.
    pub sub: String,
    /// Audiences, without those that the issuer may not issue tokens for.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Expiry, in seconds since 1970.
    pub exp: f64,
    /// Time of issue, in seconds since 1970.
    #[serde(default)]
    pub iat: Option<f64>,
    /// Groups of the user. `None` if the claim is missing, which is different from no groups.
    #[serde(default, deserialize_with = "lenient")]
    pub groups: Option<BTreeSet<String>>,
    /// E-mail address.
    #[serde(default, deserialize_with = "lenient")]
    pub email: Option<String>,
    /// Display name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: Option<String>,
}

/// Claims of a session of the console, as an extension of a request that the process itself makes. A client cannot set
/// extensions: headers and bodies never become one.
#[derive(Debug, Clone)]
pub(crate) struct SessionClaims(pub(crate) Claims);

impl Claims {
    /// Expiry of the token, with the leeway of its verification.
    pub fn expires_at(&self) -> DateTime {
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
        let exp = (self.exp * 1_000.0) as i64;
        clock::later(DateTime::from_millis(exp), Duration::from_secs(LEEWAY))
    }
}

/// Verifier of access tokens.
#[derive(Debug)]
pub struct TokenVerifier {
    issuers: Vec<Arc<Issuer>>,
}

impl TokenVerifier {
    /// A verifier for the configured issuers. Keys are fetched on first use.
    pub fn new(config: &AuthConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        let issuers = config
            .issuers
            .iter()
            .map(|issuer| Issuer::new(issuer, trust_roots).map(Arc::new));
        Ok(Self {
            issuers: issuers.collect::<anyhow::Result<_>>()?,
        })
    }

    /// The last check of each issuer's subjects, by the issuer's name.
    pub fn subject_checks(&self) -> impl Iterator<Item = (&str, SubjectCheck)> {
        self.issuers
            .iter()
            .map(|issuer| (issuer.name.as_str(), issuer.subjects.last()))
    }

    /// Verifies `token` and returns its claims.
    pub async fn verify(&self, token: &str) -> Result<Claims, ApiError> {
        #[derive(Deserialize)]
        struct Unverified {
            iss: String,
        }
        let invalid = |detail: &str| ApiError::new(ProblemCode::TokenInvalid).with_detail(detail);

        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| invalid("The token is not a JWT with a supported signature algorithm."))?;
        if !matches!(
            header.alg,
            Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA
        ) {
            return Err(invalid(
                "The token must be signed with RS256, ES256 or EdDSA.",
            ));
        }
        if header.crit.is_some() {
            let detail = "The token requires a header extension (crit) that is not supported.";
            return Err(invalid(detail));
        }
        // Unverified: used only to select the keys, with which the claim is then verified.
        let unverified: Unverified = dangerous::insecure_decode_claims(token)
            .map_err(|_| invalid("The token has no issuer."))?;
        let issuer = self
            .issuers
            .iter()
            .find(|issuer| issuer.name == unverified.iss)
            .ok_or(ProblemCode::TokenWrongIssuer)?;
        let kid = header
            .kid
            .ok_or_else(|| invalid("The token has no key id (kid)."))?;
        let key = issuer.key(&kid, header.alg).await?.ok_or_else(|| {
            invalid("The token is signed with a key that its issuer does not publish.")
        })?;

        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&issuer.name]);
        validation.set_audience(&issuer.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let mut claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => ProblemCode::TokenExpired.into(),
                ErrorKind::ImmatureSignature => ProblemCode::TokenNotYetValid.into(),
                ErrorKind::InvalidIssuer => ProblemCode::TokenWrongIssuer.into(),
                ErrorKind::InvalidAudience => ProblemCode::TokenWrongAudience.into(),
                ErrorKind::MissingRequiredClaim(claim) => {
                    invalid(&format!("The token has no {claim}."))
                }
                ErrorKind::InvalidSignature => invalid("The signature of the token is invalid."),
                _ => invalid("The token is malformed."),
            })?
            .claims;
        if claims.sub.is_empty() || claims.sub.len() > SUBJECT_LIMIT {
            return Err(invalid("The subject of the token must be 1–255 bytes."));
        }
        if claims.iat.is_some_and(is_in_the_future) {
            let detail = "The token was issued in the future. Check the clock of its issuer.";
            return Err(ApiError::new(ProblemCode::TokenNotYetValid).with_detail(detail));
        }
        if !issuer.subjects.check(&issuer.name, &claims.sub) {
            return Err(ProblemCode::TokenWrongSubject.into());
        }
        claims
            .aud
            .retain(|audience| issuer.audiences.contains(audience));
        Ok(claims)
    }
}

/// Whether a time in seconds since 1970 is in the future, by more than the leeway. A claim counts if its token is newer
/// than what was set here, so that a token of the future would restore what was revoked.
fn is_in_the_future(seconds: f64) -> bool {
    let latest = clock::later(clock::now(), Duration::from_secs(LEEWAY));
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact for times before the year 280000"
    )]
    let latest = latest.timestamp_millis() as f64 / 1_000.0;
    seconds > latest
}

/// Reads a claim of an unexpected type as a missing one, since most routes do not need it.
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
