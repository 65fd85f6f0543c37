//! Setup checks of the applications that sign people in: their OAuth providers decide what a token says, and who can verify
//! it.

use serde::Deserialize;

use super::APPLY;
use crate::clients::{
    ClientError,
    authentik::{APP_PROFILE, Authentik, apps::ScopeMapping},
    setup::SetupCheck,
};

/// Scopes that the portals request.
const SCOPES: [&str; 4] = ["openid", "email", "profile", "offline_access"];

impl Authentik {
    /// Checks the application with this slug and its provider.
    pub(super) async fn check_application(&self, slug: &str) -> Vec<SetupCheck> {
        match self.provider_of(slug).await {
            Ok(Some(provider)) => {
                let mut checks = provider.checks(slug);
                checks.push(self.check_scopes(slug, &provider).await);
                checks
            }
            Ok(None) => vec![SetupCheck::failed(
                &format!("application {slug}"),
                format!(
                    "it or its OAuth2 provider does not exist, or our account may not see it; {APPLY}"
                ),
            )],
            Err(error) => {
                const REMEDY: &str = "grant `authentik_core.view_application` and `authentik_providers_oauth2.view_oauth2provider`";
                vec![SetupCheck::of_error(
                    &format!("application {slug}"),
                    &error,
                    REMEDY,
                )]
            }
        }
    }

    async fn check_scopes(&self, slug: &str, provider: &Provider) -> SetupCheck {
        let name = format!("scope mappings of {slug}");
        match self.list_scope_mappings(&[]).await {
            Ok(mappings) => provider.check_scopes(&name, &mappings),
            Err(error) => {
                const REMEDY: &str = "grant `authentik_providers_oauth2.view_scopemapping`";
                SetupCheck::of_error(&name, &error, REMEDY)
            }
        }
    }

    async fn provider_of(&self, slug: &str) -> Result<Option<Provider>, ClientError> {
        let path = format!("/core/applications/{slug}/");
        let application: Option<Application> = self.get("get_application", &path, &[]).await?;
        let Some(provider) = application.and_then(|application| application.provider) else {
            return Ok(None);
        };
        let path = format!("/providers/oauth2/{provider}/");
        self.get("get_provider", &path, &[]).await
    }
}

#[derive(Deserialize)]
struct Application {
    provider: Option<i64>,
}

/// OAuth provider of an application. Its secret is not read.
#[derive(Deserialize)]
struct Provider {
    #[serde(default)]
    sub_mode: String,
    #[serde(default)]
    issuer_mode: String,
    signing_key: Option<String>,
    /// Missing before 2026.5, where every grant is allowed.
    grant_types: Option<Vec<String>>,
    /// Ids of its scope mappings.
    #[serde(default)]
    property_mappings: Vec<String>,
}

impl Provider {
    fn checks(&self, slug: &str) -> Vec<SetupCheck> {
        let check = |premise: &str, found: &str, problem: Option<String>| {
            let name = format!("{premise} of {slug}");
            match problem {
                None => SetupCheck::ok(&name, found),
                Some(problem) => SetupCheck::failed(&name, format!("{problem}; {APPLY}")),
            }
        };
        let subject = (self.sub_mode != "user_uuid").then(|| {
            format!(
                "it is {}, so that members are not recognised; set it to the user's UUID (user_uuid)",
                self.sub_mode
            )
        });
        let issuer = (self.issuer_mode != "per_provider").then(|| {
            format!(
                "it is {}, so that tokens of other applications are accepted; set it to per_provider",
                self.issuer_mode
            )
        });
        let key = self.signing_key.is_none().then(|| {
            "there is none, so that no token can be verified; choose an RSA or EC key pair"
                .to_owned()
        });
        let grants = self.grant_types.as_ref().and_then(|grants| {
            let needed = ["authorization_code", "refresh_token"];
            let missing = needed
                .iter()
                .find(|needed| !grants.iter().any(|grant| grant == *needed))?;
            Some(format!("{missing} is not allowed; allow it"))
        });
        vec![
            check("subject mode", &self.sub_mode, subject),
            check("issuer mode", &self.issuer_mode, issuer),
            check("signing key", "present", key),
            check("grant types", "sufficient", grants),
        ]
    }

    /// Whether its mappings among `known` cover the portals' scopes, and one tells all groups of a person.
    fn check_scopes(&self, name: &str, known: &[ScopeMapping]) -> SetupCheck {
        let is_attached = |mapping: &&ScopeMapping| self.property_mappings.contains(&mapping.pk);
        let attached: Vec<&ScopeMapping> = known.iter().filter(is_attached).collect();
        let has = |scope: &str| attached.iter().any(|mapping| mapping.scope_name == scope);
        let missing: Vec<&str> = SCOPES.into_iter().filter(|scope| !has(scope)).collect();
        let tells_groups = attached.iter().any(|mapping| {
            mapping.managed.as_deref() != Some(APP_PROFILE) && mapping.expression.contains("groups")
        });
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return SetupCheck::failed(name, format!("none for {missing}; {APPLY}"));
        }
        if !tells_groups {
            let problem = "no mapping returns all groups of a user, so operators have no rights";
            return SetupCheck::failed(name, format!("{problem}; {APPLY}"));
        }
        SetupCheck::ok(name, SCOPES.join(", "))
    }
}
