//! Accepted tokens: issuers, their keys and audiences, and the administrators' groups.

use anyhow::{anyhow, bail, ensure};
use dezky_shared::platform::{config::list, http_url::HttpUrl};

/// Groups of the platform administrators, unless configured.
const DEFAULT_ADMIN_GROUPS: [&str; 2] = ["dezky-platform-admins", "authentik Admins"];

/// Accepted tokens, and the meaning of their groups.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Trusted issuers.
    pub issuers: Vec<IssuerConfig>,
    /// Groups that grant operator access. They never stand for a tenant.
    pub admin_groups: Vec<String>,
}

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The `iss` claim of its tokens.
    pub name: String,
    /// URL of its keys. `None` uses its discovery document.
    pub jwks_url: Option<String>,
    /// Audiences that it may issue tokens for. `aud` must contain one of them; others in it count for nothing.
    pub audiences: Vec<String>,
}

impl AuthConfig {
    /// Reads `AUTHENTIK_ISSUERS`, `AUTHENTIK_JWKS_URLS`, `AUTHENTIK_AUDIENCE` and `AUTHENTIK_ADMIN_GROUPS`.
    pub fn from_env() -> anyhow::Result<Self> {
        let issuers = list("AUTHENTIK_ISSUERS")?;
        let jwks_urls = list("AUTHENTIK_JWKS_URLS")?;
        ensure!(!issuers.is_empty(), "AUTHENTIK_ISSUERS must be set");
        for issuer in &issuers {
            check_issuer(issuer)
                .map_err(|error| anyhow!("AUTHENTIK_ISSUERS is not valid: {error}"))?;
        }
        for url in &jwks_urls {
            url.parse::<HttpUrl>()
                .map_err(|error| anyhow!("AUTHENTIK_JWKS_URLS is not valid: {error}"))?;
        }
        let audiences = list("AUTHENTIK_AUDIENCE")?;
        Ok(Self {
            issuers: issuer_configs(issuers, jwks_urls, &audiences)?,
            admin_groups: or_default(list("AUTHENTIK_ADMIN_GROUPS")?, DEFAULT_ADMIN_GROUPS),
        })
    }
}

/// Checks the spelling of an issuer, which is compared with tokens byte for byte. Authentik's issuers end with a slash.
fn check_issuer(issuer: &str) -> Result<(), &'static str> {
    issuer.parse::<HttpUrl>()?;
    if !issuer.ends_with('/') {
        return Err(
            "expected a URL that ends with a slash, such as https://auth.example.com/application/o/dezky-portal/",
        );
    }
    Ok(())
}

fn or_default(names: Vec<String>, default: [&str; 2]) -> Vec<String> {
    if names.is_empty() {
        default.map(str::to_owned).to_vec()
    } else {
        names
    }
}

/// Joins the lists, which have one entry per issuer.
fn issuer_configs(
    issuers: Vec<String>,
    jwks_urls: Vec<String>,
    audiences: &[String],
) -> anyhow::Result<Vec<IssuerConfig>> {
    if !jwks_urls.is_empty() && jwks_urls.len() != issuers.len() {
        bail!(
            "AUTHENTIK_JWKS_URLS must be empty or have as many entries as AUTHENTIK_ISSUERS, in the same order"
        );
    }
    for (position, issuer) in issuers.iter().enumerate() {
        ensure!(
            !issuers[..position].contains(issuer),
            "AUTHENTIK_ISSUERS is not valid: {issuer} is listed twice"
        );
    }
    let audiences = audiences_by_issuer(&issuers, audiences)?;
    let mut jwks_urls = jwks_urls.into_iter();
    Ok(issuers
        .into_iter()
        .zip(audiences)
        .map(|(name, audiences)| IssuerConfig {
            name,
            jwks_url: jwks_urls.next(),
            audiences,
        })
        .collect())
}

/// The audiences of each issuer: those of the entry at its place, or its application's name if there are no entries.
///
/// An audience at the place of another application than the one it is named after is an error, since a swapped list
/// would let portals issue operator tokens.
fn audiences_by_issuer(issuers: &[String], entries: &[String]) -> anyhow::Result<Vec<Vec<String>>> {
    if entries.is_empty() {
        let audiences = issuers.iter().map(|issuer| application(issuer));
        return Ok(audiences
            .map(|audience| vec![audience.to_owned()])
            .collect());
    }
    ensure!(
        entries.len() == issuers.len(),
        "AUTHENTIK_AUDIENCE must have as many entries as AUTHENTIK_ISSUERS, in the same order; separate several audiences of one issuer by spaces"
    );
    let audiences: Vec<Vec<String>> = entries.iter().map(|entry| split(entry)).collect();
    for (issuer, own) in issuers.iter().zip(&audiences) {
        let misplaced = own.iter().find(|audience| {
            application(issuer) != audience.as_str()
                && issuers
                    .iter()
                    .any(|other| application(other) == audience.as_str())
        });
        if let Some(audience) = misplaced {
            bail!(
                "AUTHENTIK_AUDIENCE must be in the order of AUTHENTIK_ISSUERS: {audience} is at the place of {issuer}"
            );
        }
    }
    Ok(audiences)
}

/// The audiences of one entry.
fn split(entry: &str) -> Vec<String> {
    entry.split_whitespace().map(str::to_owned).collect()
}

/// The application's slug, the last segment of its issuer's URL.
fn application(issuer: &str) -> &str {
    let path = issuer.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_issuer_is_spelt_as_in_its_tokens() {
        let portal = "https://auth.example.com/application/o/dezky-portal/";

        assert_eq!(check_issuer(portal), Ok(()));
        for issuer in [
            portal.trim_end_matches('/'),
            "https://user@auth.example.com/application/o/dezky-portal/",
            "https://auth.example.com/application/o/dezky-portal/?a=b/",
        ] {
            assert!(check_issuer(issuer).is_err(), "{issuer}");
        }
    }

    #[test]
    fn jwks_urls_are_empty_or_as_many_as_issuers() {
        let (names, audiences) = (strings(&["a", "b"]), strings(&["x", "y"]));
        let configs = |urls: &[&str]| issuer_configs(names.clone(), strings(urls), &audiences);

        let without = configs(&[]).unwrap();
        let with = configs(&["u", "v"]).unwrap();

        assert!(without.iter().all(|issuer| issuer.jwks_url.is_none()));
        assert_eq!(with[1].jwks_url.as_deref(), Some("v"));
        assert!(configs(&["u"]).is_err());
    }

    #[test]
    fn each_issuer_has_the_audiences_at_its_place() {
        let of = |issuers: &[&str], entries: &[&str]| {
            let audiences = audiences_by_issuer(&strings(issuers), &strings(entries));
            audiences.map_err(|error| error.to_string())
        };
        let (portal, operator) = ("https://a.dk/o/portal/", "https://a.dk/o/operator/");

        let both = of(&[portal, operator], &["portal mobile", "operator"]);
        let only = of(&[portal], &["portal mobile"]);
        let default = of(&[portal, operator], &[]);
        let portal_only = of(&[portal], &[]);
        let surplus = of(&[portal], &["portal", "operator"]);
        let swapped = of(&[operator, portal], &["portal", "operator"]);
        let missing = of(&[portal, operator], &["portal"]);

        assert_eq!(both.unwrap(), [vec!["portal", "mobile"], vec!["operator"]]);
        assert_eq!(only.unwrap(), [vec!["portal", "mobile"]]);
        assert_eq!(default.unwrap(), [["portal"], ["operator"]]);
        assert_eq!(portal_only.unwrap(), [["portal"]]);
        assert!(surplus.unwrap_err().contains("as many entries"));
        assert!(swapped.unwrap_err().contains("in the order"));
        assert!(missing.unwrap_err().contains("as many entries"));
    }
}
