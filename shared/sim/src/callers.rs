//! One caller of each kind, known by name in development and in tests.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::issuer::{OPERATOR, PORTAL, TokenSpec};

/// The tenant that `cargo dev up` provisions, and to which some of the callers belong.
pub const DEMO_TENANT: &str = "demo";

/// The partner that looks after it under `cargo dev up`.
pub const DEMO_PARTNER: &str = "demo-partner";

/// The group whose members Dezky takes for platform administrators.
const ADMINISTRATORS: &str = "dezky-platform-admins";

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// Signed in, and a member of nothing.
    Stranger,
    /// A member of the demo tenant, by the `groups` claim.
    Member,
    /// The owner of the demo tenant.
    Owner,
    /// Signed in to the operators' application without being an administrator.
    OperatorWithoutFlag,
    /// An administrator in the operators' application: may do everything.
    Operator,
    /// Staff of a partner, once somebody made them that; a stranger until then.
    Partner,
}

impl Caller {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Stranger,
        Self::Member,
        Self::Owner,
        Self::OperatorWithoutFlag,
        Self::Operator,
        Self::Partner,
    ];

    /// The name by which `cargo dev token` knows it.
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

    /// Who it is, in a few words.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Stranger => "signed in, belongs to nothing",
            Self::Member => "a member of the demo tenant",
            Self::Owner => "the owner of the demo tenant",
            Self::OperatorWithoutFlag => "in the operators' application without the admin flag",
            Self::Operator => "an operator, who may do everything",
            Self::Partner => "an owner of the partner that looks after the demo tenant",
        }
    }

    /// Its id in Authentik, the same each time.
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

    /// Its e-mail address, which is its username in Authentik too.
    pub fn email(self) -> String {
        format!("{}@demo.test", self.name())
    }

    /// The token that it signs in with.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_caller_is_found_by_its_name() {
        for caller in Caller::ALL {
            assert_eq!(Caller::from_str(caller.name(), false), Ok(caller));
        }
        assert_eq!(Caller::ALL.len(), Caller::value_variants().len());
    }
}
