//! Feature flags: what the service does for some tenants and not for others.
//!
//! A flag is a list of rules, of which the first that matches a tenant decides; where none does, the flag's default.
//! Nothing here asks anybody: a [`FlagSet`] answers from memory.

use std::{cell::OnceCell, collections::BTreeMap};

use bson::DateTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    billing::Plan,
    id::{PartnerId, TenantId},
    tenant::Tenant,
};

/// The flag that the service asks for itself, when it makes invoices.
pub const NEW_BILLING_ENGINE: &str = "new_billing_engine";
/// The most rules of a flag.
pub const MAX_RULES: usize = 100;
/// The most flags.
pub const MAX_FLAGS: u64 = 500;

/// A flag, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flag {
    /// Its name in code.
    #[serde(rename = "_id")]
    pub key: String,
    /// What it is for.
    pub description: String,
    /// What it is where no rule matches.
    pub default: bool,
    /// The first that matches decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Whether it is off for everybody, whatever the rules say.
    #[serde(default)]
    pub kill_switch: bool,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was defined.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}

/// What a flag is for some. Every condition that is given must hold; an empty list is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// One of these tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    /// A tenant of one of these partners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partners: Vec<PartnerId>,
    /// A tenant that has bought one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<Plan>,
    /// One of this share of all tenants, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<u8>,
    /// Not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime>,
    /// Before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime>,
    /// What the flag is then.
    pub value: bool,
}

/// For whom a flag is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationContext {
    /// The tenant.
    pub tenant: TenantId,
    /// The partner that looks after it.
    pub partner: Option<PartnerId>,
    /// What it has bought.
    pub plan: Plan,
}

impl From<&Tenant> for EvaluationContext {
    fn from(tenant: &Tenant) -> Self {
        Self {
            tenant: tenant.id,
            partner: tenant.partner_id,
            plan: tenant.plan,
        }
    }
}

impl Flag {
    /// Whether it is on for `subject` at `now`.
    pub fn is_on(&self, subject: EvaluationContext, now: DateTime) -> bool {
        if self.kill_switch {
            return false;
        }
        // Of many rules with a percentage, only the first has to find it out.
        let place = OnceCell::new();
        let place = || *place.get_or_init(|| bucket_of(&self.key, subject.tenant));
        let decides = self
            .rules
            .iter()
            .find(|rule| rule.matches(subject, now, place));
        decides.map_or(self.default, |rule| rule.value)
    }
}

impl Rule {
    fn matches(&self, subject: EvaluationContext, now: DateTime, place: impl Fn() -> u16) -> bool {
        let of_partner = || {
            subject
                .partner
                .is_some_and(|id| self.partners.contains(&id))
        };
        self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until)
            && (self.plans.is_empty() || self.plans.contains(&subject.plan))
            && (self.partners.is_empty() || of_partner())
            && (self.tenants.is_empty() || self.tenants.binary_search(&subject.tenant).is_ok())
            && self
                .percentage
                .is_none_or(|percentage| place() < u16::from(percentage) * 100)
    }
}

/// A tenant's place among all, from 0 to 9,999, which is another one for each flag: the first eight bytes of the
/// SHA-256 of `key:tenantId` as a number, modulo 10,000. A tenant that a percentage lets in stays in when it is raised.
fn bucket_of(key: &str, tenant: TenantId) -> u16 {
    let digest = Sha256::digest(format!("{key}:{tenant}"));
    let first = digest[..8].try_into().expect("a digest has 32 bytes");
    let place = u64::from_be_bytes(first) % 10_000;
    u16::try_from(place).expect("it is below 10,000")
}

/// All flags, as they were at one moment.
#[derive(Debug)]
pub struct FlagSet {
    flags: BTreeMap<String, Flag>,
}

impl FlagSet {
    /// These flags.
    pub fn new(flags: Vec<Flag>) -> Self {
        let by_key = |mut flag: Flag| {
            for rule in &mut flag.rules {
                rule.tenants.sort_unstable();
            }
            (flag.key.clone(), flag)
        };
        Self {
            flags: flags.into_iter().map(by_key).collect(),
        }
    }

    /// Whether a flag is on; one that nobody defined is not.
    pub fn is_on(&self, key: &str, subject: EvaluationContext, now: DateTime) -> bool {
        let flag = self.flags.get(key);
        flag.is_some_and(|flag| flag.is_on(subject, now))
    }

    /// Whether each flag is on, by key.
    pub fn evaluate(&self, subject: EvaluationContext, now: DateTime) -> BTreeMap<&str, bool> {
        let flags = self.flags.iter();
        flags
            .map(|(key, flag)| (key.as_str(), flag.is_on(subject, now)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::platform::clock;

    const NOW: DateTime = DateTime::from_millis(1_795_339_800_000);

    fn subject() -> EvaluationContext {
        EvaluationContext {
            tenant: TenantId::new(),
            partner: Some(PartnerId::new()),
            plan: Plan::Business,
        }
    }

    fn flag(rules: Vec<Rule>) -> Flag {
        Flag {
            key: "beta_search".to_owned(),
            description: "A new search".to_owned(),
            default: false,
            rules,
            kill_switch: false,
            revision: 1,
            created_at: NOW,
            updated_at: NOW,
        }
    }

    fn on() -> Rule {
        Rule {
            value: true,
            ..Rule::default()
        }
    }

    fn share(percentage: u8) -> Flag {
        flag(vec![Rule {
            percentage: Some(percentage),
            ..on()
        }])
    }

    #[test]
    fn a_rule_matches_whom_all_its_conditions_name() {
        let subject = subject();
        let partner = subject.partner.unwrap();
        let (before, after) = (
            clock::earlier(NOW, Duration::from_secs(1)),
            clock::later(NOW, Duration::from_secs(1)),
        );
        let matching = [
            Rule {
                tenants: vec![subject.tenant],
                ..on()
            },
            Rule {
                partners: vec![PartnerId::new(), partner],
                plans: vec![Plan::Business, Plan::Starter],
                ..on()
            },
            Rule {
                percentage: Some(100),
                from: Some(NOW),
                until: Some(after),
                ..on()
            },
        ];
        let others = [
            Rule {
                tenants: vec![TenantId::new()],
                ..on()
            },
            Rule {
                partners: vec![partner],
                plans: vec![Plan::Enterprise],
                ..on()
            },
            Rule {
                percentage: Some(0),
                ..on()
            },
            Rule {
                from: Some(after),
                ..on()
            },
            Rule {
                from: Some(before),
                until: Some(NOW),
                ..on()
            },
        ];

        for rule in matching {
            assert!(flag(vec![rule.clone()]).is_on(subject, NOW), "{rule:?}");
        }
        for rule in others {
            assert!(!flag(vec![rule.clone()]).is_on(subject, NOW), "{rule:?}");
        }
    }

    #[test]
    fn who_has_no_partner_is_of_none() {
        let subject = EvaluationContext {
            partner: None,
            ..subject()
        };
        let rule = Rule {
            partners: vec![PartnerId::new()],
            ..on()
        };

        assert!(!flag(vec![rule]).is_on(subject, NOW));
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_the_kill_switch_before_all() {
        let subject = subject();
        let off = Rule {
            tenants: vec![subject.tenant],
            ..Rule::default()
        };
        let all = Rule {
            percentage: Some(100),
            ..on()
        };
        let killed = Flag {
            kill_switch: true,
            default: true,
            ..flag(vec![all.clone()])
        };
        let by_default = Flag {
            default: true,
            ..flag(vec![])
        };

        assert!(!flag(vec![off.clone(), all.clone()]).is_on(subject, NOW));
        assert!(flag(vec![all, off]).is_on(subject, NOW));
        assert!(!killed.is_on(subject, NOW));
        assert!(by_default.is_on(subject, NOW));
    }

    #[test]
    fn a_flag_that_nobody_defined_is_off() {
        let tenant = subject();
        let rules = vec![Rule {
            // In no order.
            tenants: vec![tenant.tenant, TenantId::from_bytes([0; 16])],
            ..on()
        }];

        let flags = FlagSet::new(vec![flag(rules)]);

        assert!(flags.is_on("beta_search", tenant, NOW));
        assert!(!flags.is_on("beta_serach", tenant, NOW));
        let all = flags.evaluate(tenant, NOW);
        assert_eq!(all, BTreeMap::from([("beta_search", true)]));
    }

    #[test]
    fn the_place_of_a_tenant_is_for_ever() {
        let tenant = "01990000-0000-7000-8000-000000000000".parse().unwrap();

        let places = ["beta_search", NEW_BILLING_ENGINE].map(|key| bucket_of(key, tenant));

        assert_eq!(places, [2_856, 2_137]);
    }

    proptest! {
        #[test]
        fn raising_a_percentage_takes_a_flag_from_nobody(bytes: [u8; 16], less in 0_u8..=100, more in 0_u8..=100) {
            let (less, more) = (less.min(more), less.max(more));
            let subject = EvaluationContext { tenant: TenantId::from_bytes(bytes), ..subject() };

            let was_on = share(less).is_on(subject, NOW);

            prop_assert!(!was_on || share(more).is_on(subject, NOW));
        }

        #[test]
        fn a_percentage_is_about_this_share_of_tenants_and_not_the_same_for_each_flag(percentage in 0_u8..=100) {
            let other = Flag { key: "other".to_owned(), ..share(percentage) };
            let tenants: Vec<EvaluationContext> = (0..2_000).map(|_| subject()).collect();

            let on = |flag: &Flag| tenants.iter().filter(|tenant| flag.is_on(**tenant, NOW)).count();
            let both = tenants.iter().filter(|tenant| share(percentage).is_on(**tenant, NOW) && other.is_on(**tenant, NOW)).count();

            // Six standard deviations of 2,000 throws.
            let expected = usize::from(percentage) * 20;
            prop_assert!(on(&share(percentage)).abs_diff(expected) <= 135);
            prop_assert!(on(&other).abs_diff(expected) <= 135);
            prop_assert!(both.abs_diff(usize::from(percentage) * expected / 100) <= 135);
        }
    }
}
