//! Setup checks of Authentik: version, rights of our account, and recovery flow; those of the applications are a module of
//! their own.

mod application;

use std::collections::BTreeSet;

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;

use super::Authentik;
use crate::clients::{
    ClientError, Operation,
    setup::{SetupCheck, check_clock},
};

/// Oldest supported release, and the first patch of each series without CVE-2026-94609, through which a permission to
/// change groups or users was enough to become an administrator. Later series are safe from their start.
const SAFE_RELEASES: [[u32; 3]; 3] = [[2026, 2, 7], [2026, 5, 7], [2026, 8, 2]];

/// Permissions that jobs need, without those that only the setup checks need. The names are Django's: application label
/// and code name. `.ops/authentik/blueprint.yaml` grants them.
const NEEDED: [&str; 46] = [
    "authentik_core.view_group",
    "authentik_core.add_group",
    "authentik_core.change_group",
    "authentik_core.delete_group",
    "authentik_core.add_user_to_group",
    "authentik_core.remove_user_from_group",
    "authentik_core.view_user",
    "authentik_core.add_user",
    "authentik_core.change_user",
    "authentik_core.delete_user",
    "authentik_core.reset_user_password",
    "authentik_core.view_authenticatedsession",
    "authentik_core.delete_authenticatedsession",
    "authentik_core.view_token",
    "authentik_core.delete_token",
    "authentik_core.view_application",
    "authentik_core.add_application",
    "authentik_core.change_application",
    "authentik_core.delete_application",
    "authentik_providers_oauth2.view_oauth2provider",
    "authentik_providers_oauth2.add_oauth2provider",
    "authentik_providers_oauth2.change_oauth2provider",
    "authentik_providers_oauth2.delete_oauth2provider",
    "authentik_providers_oauth2.view_scopemapping",
    "authentik_policies.view_policybinding",
    "authentik_policies.add_policybinding",
    "authentik_policies.change_policybinding",
    "authentik_policies.delete_policybinding",
    "authentik_flows.view_flow",
    "authentik_crypto.view_certificatekeypair",
    "authentik_providers_oauth2.view_accesstoken",
    "authentik_providers_oauth2.delete_accesstoken",
    "authentik_providers_oauth2.view_refreshtoken",
    "authentik_providers_oauth2.delete_refreshtoken",
    "authentik_stages_authenticator_duo.view_duodevice",
    "authentik_stages_authenticator_duo.delete_duodevice",
    "authentik_stages_authenticator_email.view_emaildevice",
    "authentik_stages_authenticator_email.delete_emaildevice",
    "authentik_stages_authenticator_sms.view_smsdevice",
    "authentik_stages_authenticator_sms.delete_smsdevice",
    "authentik_stages_authenticator_static.view_staticdevice",
    "authentik_stages_authenticator_static.delete_staticdevice",
    "authentik_stages_authenticator_totp.view_totpdevice",
    "authentik_stages_authenticator_totp.delete_totpdevice",
    "authentik_stages_authenticator_webauthn.view_webauthndevice",
    "authentik_stages_authenticator_webauthn.delete_webauthndevice",
];

/// A role that cannot exist: a filter that finds it anyway is ignored.
const NO_ROLE: &str = "00000000-0000-4000-8000-000000000000";

const APPLY: &str = "apply .ops/authentik/blueprint.yaml";

impl Authentik {
    /// Permissions that our account needs, as `application_label.code_name`.
    pub fn needed_permissions() -> impl Iterator<Item = &'static str> {
        NEEDED.into_iter()
    }

    /// Checks the premises. `applications` are the slugs of those that sign people in to the portals.
    pub async fn check_setup(&self, applications: &[String]) -> Vec<SetupCheck> {
        let request = self.http.request(Method::GET, "/core/users/me/");
        let operation = Operation::read("check_credentials");
        let me = match self.send(operation, request).await {
            Ok(response) => self
                .expect(&response, StatusCode::OK)
                .and_then(|()| Ok((response.json::<Session>()?.user, check_clock(&response)))),
            Err(error) => Err(error),
        };
        let (me, clock) = match me {
            Ok(me) => me,
            Err(error) => {
                const REMEDY: &str = "put the key of the service account's token with intent `api` into AUTHENTIK_API_TOKEN";
                return vec![SetupCheck::credentials(&error, REMEDY)];
            }
        };
        let mut checks = vec![
            SetupCheck::ok("credentials", format!("signed in as {}", me.username)),
            clock,
            self.check_version().await,
            self.check_permissions(&me).await,
            self.check_recovery_flow().await,
            self.check_device_filter().await,
        ];
        checks.extend(self.check_app_references().await);
        for application in applications {
            checks.extend(self.check_application(application).await);
        }
        checks
    }

    async fn check_version(&self) -> SetupCheck {
        const NAME: &str = "version";
        let version = match self
            .get::<Version>("get_version", "/admin/version/", &[])
            .await
        {
            Ok(Some(Version { version_current })) => version_current,
            Ok(None) => return SetupCheck::unknown(NAME, "Authentik does not tell it"),
            Err(error) => {
                const REMEDY: &str = "grant `authentik_rbac.view_system_info`";
                return SetupCheck::of_error(NAME, &error, REMEDY);
            }
        };
        match parse_version(&version) {
            None => SetupCheck::unknown(NAME, format!("{version} is no release")),
            Some(release) if is_safe(release) => SetupCheck::ok(NAME, version),
            Some(_) => SetupCheck::failed(
                NAME,
                format!(
                    "{version} lets a service account become an administrator (CVE-2026-94609); update to 2026.8.2 or later, or to 2026.2.7 or 2026.5.7"
                ),
            ),
        }
    }

    /// Without a permission to view, Authentik answers an empty list, so that its absence shows nowhere else.
    async fn check_permissions(&self, me: &Me) -> SetupCheck {
        const NAME: &str = "permissions";
        if me.is_superuser {
            return SetupCheck::ok(
                NAME,
                "all: the account is a superuser, and needs fewer (.ops/authentik/blueprint.yaml)",
            );
        }
        let granted = match self.granted(me).await {
            Ok(Some(granted)) => granted,
            Ok(None) => return SetupCheck::unknown(NAME, "Authentik cannot list those of a role"),
            Err(error) => return SetupCheck::of_error(NAME, &error, "check again later"),
        };
        let missing: Vec<&str> = NEEDED
            .into_iter()
            .filter(|permission| !granted.contains(*permission))
            .collect();
        if missing.is_empty() {
            return SetupCheck::ok(NAME, format!("{} of {}", NEEDED.len(), NEEDED.len()));
        }
        SetupCheck::failed(
            NAME,
            format!(
                "{} are missing: {}; {APPLY}",
                missing.len(),
                missing.join(", ")
            ),
        )
    }

    /// Whether our account certainly has all of these permissions.
    pub(super) async fn has_permissions(&self, needed: &[&str]) -> Result<bool, ClientError> {
        let found: Option<Session> = self
            .get("check_credentials", "/core/users/me/", &[])
            .await?;
        let Some(Session { user: me }) = found else {
            return Ok(false);
        };
        if me.is_superuser {
            return Ok(true);
        }
        let granted = self.granted(&me).await?.unwrap_or_default();
        Ok(needed
            .iter()
            .all(|permission| granted.contains(*permission)))
    }

    /// Permissions of our roles; `None` if Authentik ignores the filter by role.
    async fn granted(&self, me: &Me) -> Result<Option<BTreeSet<String>>, ClientError> {
        if !self.permissions_of(NO_ROLE).await?.is_empty() {
            return Ok(None);
        }
        let mut roles: BTreeSet<String> = me.roles.iter().map(|role| role.pk.clone()).collect();
        for group in &me.groups {
            let path = format!("/core/groups/{}/", group.pk);
            let found: Option<GroupRoles> = self
                .get("get_group", &path, &[("include_users", "false")])
                .await?;
            roles.extend(found.into_iter().flat_map(|group| group.roles));
        }
        let mut granted = BTreeSet::new();
        for role in roles {
            granted.extend(self.permissions_of(&role).await?);
        }
        Ok(Some(granted))
    }

    async fn permissions_of(&self, role: &str) -> Result<Vec<String>, ClientError> {
        let found: Vec<Permission> = self
            .list("list_permissions", "/rbac/permissions/", &[("role", role)])
            .await?;
        let name =
            |permission: Permission| format!("{}.{}", permission.app_label, permission.codename);
        Ok(found.into_iter().map(name).collect())
    }

    async fn check_recovery_flow(&self) -> SetupCheck {
        const NAME: &str = "recovery flow";
        match self
            .get::<Brand>("get_brand", "/core/brands/current/", &[])
            .await
        {
            Ok(Some(Brand {
                flow_recovery: Some(flow),
            })) => SetupCheck::ok(NAME, flow),
            Ok(_) => SetupCheck::failed(
                NAME,
                format!(
                    "the brand has none, so that invitations have no link; set one, or {APPLY}"
                ),
            ),
            Err(error) => SetupCheck::of_error(NAME, &error, "check again later"),
        }
    }
}

/// Year, month and patch of a release such as `2026.8.3`.
fn parse_version(version: &str) -> Option<[u32; 3]> {
    let release = version.split(['-', '+']).next()?;
    let mut numbers = release.split('.').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some([next()?, next()?, next().unwrap_or(0)])
}

fn is_safe(release: [u32; 3]) -> bool {
    let [year, month, _] = release;
    let latest = SAFE_RELEASES[SAFE_RELEASES.len() - 1];
    release >= latest
        || SAFE_RELEASES
            .iter()
            .any(|safe| safe[..2] == [year, month] && release >= *safe)
}

#[derive(Deserialize)]
struct Session {
    user: Me,
}

/// Our account.
#[derive(Deserialize)]
struct Me {
    username: String,
    #[serde(default)]
    is_superuser: bool,
    #[serde(default)]
    roles: Vec<Named>,
    #[serde(default)]
    groups: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    pk: String,
}

#[derive(Deserialize)]
struct GroupRoles {
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Deserialize)]
struct Version {
    version_current: String,
}

#[derive(Deserialize)]
struct Permission {
    codename: String,
    app_label: String,
}

#[derive(Deserialize)]
struct Brand {
    #[serde(default)]
    flow_recovery: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_the_hole_are_distinguished_from_those_without() {
        let safe = |version: &str| parse_version(version).map(is_safe);

        for version in [
            "2026.2.7",
            "2026.5.8",
            "2026.8.2",
            "2026.8.3",
            "2026.11.0",
            "2027.2",
        ] {
            assert_eq!(safe(version), Some(true), "{version}");
        }
        for version in [
            "2025.12.5",
            "2026.2.6",
            "2026.5.6",
            "2026.8.1",
            "2026.8.0-rc1",
        ] {
            assert_eq!(safe(version), Some(false), "{version}");
        }
        assert_eq!(safe("main"), None);
    }
}
