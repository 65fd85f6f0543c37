//! Kinds of caller, with fixed identities for development and tests.

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use dezky_shared::platform::tls::TrustRoots;
use serde::{Deserialize, Serialize};

use crate::issuer::{OPERATOR, PORTAL, TokenSpec};

/// Tenant that `cargo dev up` provisions. Some of the callers belong to it.
pub const DEMO_TENANT: &str = "demo";

/// Tenant of `cargo dev up` whose provisioning failed.
pub const FAILING_TENANT: &str = "northwind";

/// Partner that manages the demo tenant under `cargo dev up`.
pub const DEMO_PARTNER: &str = "demo-partner";

/// Authentik group of the platform administrators.
const ADMINISTRATORS: &str = "dezky-platform-admins";

/// Kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// Signed in, without a membership.
    Stranger,
    /// Member of the demo tenant, by the `groups` claim.
    Member,
    /// Owner of the demo tenant.
    Owner,
    /// Signed in to the operators' application without the administrator group.
    OperatorWithoutFlag,
    /// Administrator in the operators' application: full access.
    Operator,
    /// Staff of a partner, once added to one; a stranger until then.
    Partner,
}

impl Caller {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Stranger,
        Self::Member,
        Self::Owner,
        Self::OperatorWithoutFlag,
        Self::Operator,
        Self::Partner,
    ];

    /// Name for `cargo dev token`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Member => "member",
            Self::Owner => "owner",
            Self::OperatorWithoutFlag => "operator-without-flag",
            Self::Operator => "operator",
            Self::Partner => "partner",
        }
    }

    /// Short description.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Stranger => "signed in, without a membership",
            Self::Member => "member of the demo tenant",
            Self::Owner => "owner of the demo tenant",
            Self::OperatorWithoutFlag => "in the operators' application without the admin flag",
            Self::Operator => "operator with full access",
            Self::Partner => "owner of the partner that manages the demo tenant",
        }
    }

    /// Fixed user id in Authentik.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Stranger => "00000000-0000-4000-8000-000000000001",
            Self::Member => "00000000-0000-4000-8000-000000000002",
            Self::Owner => "00000000-0000-4000-8000-000000000003",
            Self::OperatorWithoutFlag => "00000000-0000-4000-8000-000000000004",
            Self::Operator => "00000000-0000-4000-8000-000000000005",
            Self::Partner => "00000000-0000-4000-8000-000000000006",
        }
    }

    /// E-mail address, also the username in Authentik.
    pub fn email(self) -> String {
        format!("{}@demo.test", self.name())
    }

    /// Token of the caller.
    pub fn token(self) -> TokenSpec {
        let (application, groups) = match self {
            Self::Stranger | Self::Owner | Self::Partner => (PORTAL, None),
            Self::Member => (PORTAL, Some(DEMO_TENANT)),
            Self::OperatorWithoutFlag => (OPERATOR, None),
            Self::Operator => (OPERATOR, Some(ADMINISTRATORS)),
        };
        TokenSpec {
            application: application.to_owned(),
            subject: self.subject().to_owned(),
            groups: groups.map(|group| vec![group.to_owned()]),
            email: Some(self.email()),
            name: Some(format!("Demo {}", self.name().replace('-', " "))),
            ..TokenSpec::default()
        }
    }
}

/// Address of the operators' console of the API at `api`. Opened in a browser, it leads to the page of the simulated issuer,
/// where one click on a caller signs in.
pub fn console_address(api: &str) -> String {
    format!("{api}/console")
}

#[derive(Debug, Deserialize)]
struct Signed {
    token: String,
}

/// Requests a token for `caller` from the control API of the simulators at `control`.
pub async fn mint(control: &str, caller: Caller, hours: u32) -> anyhow::Result<String> {
    let spec = TokenSpec {
        expires_in: i64::from(hours) * 60 * 60,
        ..caller.token()
    };
    let client = TrustRoots::default().client_builder().build()?;
    let response = client.post(format!("{control}/tokens")).json(&spec).send();
    let response = response.await.context("no response from the issuer")?;
    let status = response.status();
    ensure!(
        status.is_success(),
        "the issuer rejected the request: {status}"
    );
    let signed: Signed = response.json().await?;
    Ok(signed.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_caller_is_found_by_name() {
        for caller in Caller::ALL {
            assert_eq!(Caller::from_str(caller.name(), false), Ok(caller));
        }
        assert_eq!(Caller::ALL.len(), Caller::value_variants().len());
    }
}
