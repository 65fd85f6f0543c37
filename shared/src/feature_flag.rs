//! Feature flags: behaviour enabled for some tenants only.
//!
//! A flag is a list of rules; the first rule that matches a tenant decides, otherwise the flag's default applies.
//! Evaluation does no I/O: a [`FlagSet`] answers from memory.

use std::{cell::OnceCell, collections::BTreeMap};

use bson::DateTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    billing::Plan,
    id::{PartnerId, TenantId},
    tenant::Tenant,
};

/// Flag reserved for the service itself: it selects the way invoices are created.
pub const NEW_BILLING_ENGINE: &str = "new_billing_engine";
/// Maximum number of rules of a flag.
pub const MAX_RULES: usize = 100;
/// Maximum number of flags.
pub const MAX_FLAGS: u64 = 500;

/// Feature flag, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flag {
    /// Key used in code.
    #[serde(rename = "_id")]
    pub key: String,
    /// Description.
    pub description: String,
    /// Value if no rule matches.
    pub default: bool,
    /// Rules; the first match decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Kill switch: off for all tenants, regardless of the rules.
    #[serde(default)]
    pub kill_switch: bool,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

/// Targeting rule. All given conditions must hold; an empty list is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Tenant is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    /// Managing partner is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partners: Vec<PartnerId>,
    /// Purchased plan is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<Plan>,
    /// Tenant is within this percentage of all tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<u8>,
    /// Start of validity, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime>,
    /// End of validity, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime>,
    /// Value if the rule matches.
    pub value: bool,
}

/// Evaluation context: the tenant for which a flag is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationContext {
    /// Tenant id.
    pub tenant: TenantId,
    /// Managing partner.
    pub partner: Option<PartnerId>,
    /// Purchased plan.
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
    /// Evaluates the flag for `context` at `now`.
    pub fn is_on(&self, context: EvaluationContext, now: DateTime) -> bool {
        if self.kill_switch {
            return false;
        }
        // Computed at most once, however many rules have a percentage.
        let bucket = OnceCell::new();
        let bucket = || *bucket.get_or_init(|| bucket_of(&self.key, context.tenant));
        let decides = self
            .rules
            .iter()
            .find(|rule| rule.matches(context, now, bucket));
        decides.map_or(self.default, |rule| rule.value)
    }
}

impl Rule {
    fn matches(&self, context: EvaluationContext, now: DateTime, bucket: impl Fn() -> u16) -> bool {
        let of_partner = || {
            context
                .partner
                .is_some_and(|id| self.partners.contains(&id))
        };
        self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until)
            && (self.plans.is_empty() || self.plans.contains(&context.plan))
            && (self.partners.is_empty() || of_partner())
            && (self.tenants.is_empty() || self.tenants.binary_search(&context.tenant).is_ok())
            && self
                .percentage
                .is_none_or(|percentage| bucket() < u16::from(percentage) * 100)
    }
}

/// Rollout bucket of a tenant, from 0 to 9,999, independent for each flag: the first eight bytes of the SHA-256 of
/// `key:tenantId` as a number, modulo 10,000. A tenant within a percentage stays within it when the percentage is
/// raised.
fn bucket_of(key: &str, tenant: TenantId) -> u16 {
    let digest = Sha256::digest(format!("{key}:{tenant}"));
    let first = digest[..8].try_into().expect("a digest has 32 bytes");
    let bucket = u64::from_be_bytes(first) % 10_000;
    u16::try_from(bucket).expect("it is below 10,000")
}

/// Snapshot of all flags.
#[derive(Debug)]
pub struct FlagSet {
    flags: BTreeMap<String, Flag>,
}

impl FlagSet {
    /// A set of these flags.
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

    /// Evaluates a flag; an undefined flag is off.
    pub fn is_on(&self, key: &str, context: EvaluationContext, now: DateTime) -> bool {
        let flag = self.flags.get(key);
        flag.is_some_and(|flag| flag.is_on(context, now))
    }

    /// Whether the flag may be on for some tenant: false if its default and all of its rules are off.
    pub fn may_be_on(&self, key: &str) -> bool {
        let flag = self.flags.get(key);
        flag.is_some_and(|flag| {
            let is_on = flag.default || flag.rules.iter().any(|rule| rule.value);
            is_on && !flag.kill_switch
        })
    }

    /// Evaluates all flags, by key.
    pub fn evaluate(&self, context: EvaluationContext, now: DateTime) -> BTreeMap<&str, bool> {
        let flags = self.flags.iter();
        flags
            .map(|(key, flag)| (key.as_str(), flag.is_on(context, now)))
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

    fn context() -> EvaluationContext {
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
    fn a_rule_matches_if_all_its_conditions_hold() {
        let context = context();
        let partner = context.partner.unwrap();
        let (before, after) = (
            clock::earlier(NOW, Duration::from_secs(1)),
            clock::later(NOW, Duration::from_secs(1)),
        );
        let matching = [
            Rule {
                tenants: vec![context.tenant],
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
            assert!(flag(vec![rule.clone()]).is_on(context, NOW), "{rule:?}");
        }
        for rule in others {
            assert!(!flag(vec![rule.clone()]).is_on(context, NOW), "{rule:?}");
        }
    }

    #[test]
    fn a_tenant_without_a_partner_matches_no_partner_rule() {
        let context = EvaluationContext {
            partner: None,
            ..context()
        };
        let rule = Rule {
            partners: vec![PartnerId::new()],
            ..on()
        };

        assert!(!flag(vec![rule]).is_on(context, NOW));
    }

    #[test]
    fn the_first_matching_rule_decides_unless_the_kill_switch_is_on() {
        let context = context();
        let off = Rule {
            tenants: vec![context.tenant],
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

        assert!(!flag(vec![off.clone(), all.clone()]).is_on(context, NOW));
        assert!(flag(vec![all, off]).is_on(context, NOW));
        assert!(!killed.is_on(context, NOW));
        assert!(by_default.is_on(context, NOW));
    }

    #[test]
    fn an_undefined_flag_is_off() {
        let tenant = context();
        let rules = vec![Rule {
            // Deliberately unsorted.
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
    fn the_bucket_of_a_tenant_is_stable() {
        let tenant = "01990000-0000-7000-8000-000000000000".parse().unwrap();

        let buckets = ["beta_search", NEW_BILLING_ENGINE].map(|key| bucket_of(key, tenant));

        assert_eq!(buckets, [2_856, 2_137]);
    }

    proptest! {
        #[test]
        fn raising_a_percentage_keeps_included_tenants(bytes: [u8; 16], less in 0_u8..=100, more in 0_u8..=100) {
            let (less, more) = (less.min(more), less.max(more));
            let context = EvaluationContext { tenant: TenantId::from_bytes(bytes), ..context() };

            let was_on = share(less).is_on(context, NOW);

            prop_assert!(!was_on || share(more).is_on(context, NOW));
        }

        #[test]
        fn a_percentage_includes_that_share_of_tenants_independently_for_each_flag(percentage in 0_u8..=100) {
            let other = Flag { key: "other".to_owned(), ..share(percentage) };
            let tenants: Vec<EvaluationContext> = (0..2_000).map(|_| context()).collect();

            let on = |flag: &Flag| tenants.iter().filter(|tenant| flag.is_on(**tenant, NOW)).count();
            let both = tenants.iter().filter(|tenant| share(percentage).is_on(**tenant, NOW) && other.is_on(**tenant, NOW)).count();

            // Six standard deviations of 2,000 trials.
            let expected = usize::from(percentage) * 20;
            prop_assert!(on(&share(percentage)).abs_diff(expected) <= 135);
            prop_assert!(on(&other).abs_diff(expected) <= 135);
            prop_assert!(both.abs_diff(usize::from(percentage) * expected / 100) <= 135);
        }
    }
}
