//! Evaluation of all feature flags for a tenant, as a portal requests it with every page.

use std::time::{Duration, Instant};

use bson::DateTime;
use dezky_shared::{
    billing::Plan,
    feature_flag::{EvaluationContext, Flag, FlagSet, MAX_RULES, Rule},
    id::{PartnerId, TenantId},
    platform::clock,
};
use dezky_sim::bench_output::{percentile, report};

const FLAGS: usize = 200;
const ROUNDS: usize = 1_000;

/// Worst case: no rule matches, so that every rule is evaluated.
pub(crate) fn measure() {
    let now = clock::now();
    let flags = FlagSet::new((0..FLAGS).map(|n| flag(n, now)).collect());
    let context = EvaluationContext {
        tenant: TenantId::new(),
        partner: Some(PartnerId::new()),
        plan: Plan::Business,
    };
    let mut spans: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            let on = flags.evaluate(context, now);
            let took = began.elapsed();
            assert!(on.len() == FLAGS && on.values().all(|on| !on));
            took
        })
        .collect();
    report(
        "evaluate 200 flags with 100 rules each, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );
}

fn flag(n: usize, now: DateTime) -> Flag {
    Flag {
        key: format!("flag_{n}"),
        description: "One of many.".to_owned(),
        default: false,
        rules: (0..MAX_RULES).map(rule).collect(),
        kill_switch: false,
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

/// The kinds of rules in turn, none of which matches.
fn rule(n: usize) -> Rule {
    let rule = Rule {
        value: true,
        ..Rule::default()
    };
    match n % 4 {
        0 => Rule {
            tenants: (0..100).map(|_| TenantId::new()).collect(),
            ..rule
        },
        1 => Rule {
            partners: (0..10).map(|_| PartnerId::new()).collect(),
            ..rule
        },
        2 => Rule {
            plans: vec![Plan::Enterprise],
            percentage: Some(50),
            ..rule
        },
        _ => Rule {
            percentage: Some(0),
            ..rule
        },
    }
}
