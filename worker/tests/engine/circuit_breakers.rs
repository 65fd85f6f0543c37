//! Circuit breakers shared by workers through Redis. The local fallback has unit tests for the same rules.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{platform::redis::RedisConfig, queue::priority::Priority, upstream::Upstream};
use dezky_upstreams::circuit_breaker::{
    BreakerDecision, CallResult, CircuitBreakers, CircuitTimes, RESERVATION_HORIZON, RateBudget,
    Transition,
};

use crate::harness::{Harness, until};

const BUDGET: RateBudget = RateBudget {
    per_second: 0.5,
    burst: 3,
};
const TIMES: CircuitTimes = CircuitTimes {
    failures: 5,
    first_probe: Duration::from_mins(10),
    last_probe: Duration::from_mins(15),
};
const STALWART: Upstream = Upstream::Stalwart;

async fn fail(breakers: &CircuitBreakers, times: usize) -> Vec<Transition> {
    let mut effects = Vec::new();
    for _ in 0..times {
        effects.push(
            breakers
                .record(STALWART, TIMES, false, CallResult::Failed)
                .await,
        );
    }
    effects
}

#[tokio::test]
async fn workers_share_a_rate_budget_and_each_step_has_its_own_reservation() {
    let harness = Harness::new().await;
    let one = CircuitBreakers::new(&harness.redis).unwrap();
    let other = CircuitBreakers::new(&harness.redis).unwrap();

    let mut admissions = Vec::new();
    for breakers in [&one, &other, &one, &other, &one] {
        admissions.push(
            breakers
                .admit(STALWART, BUDGET, false, Priority::Security)
                .await,
        );
    }
    let at_its_reservation = other
        .admit(STALWART, BUDGET, true, Priority::Security)
        .await;
    let of_another_upstream = other
        .admit(Upstream::Ocis, BUDGET, false, Priority::Security)
        .await;

    assert_eq!(admissions[..3], [BreakerDecision::Allow; 3]);
    for (admission, turn) in admissions[3..].iter().zip([2, 4]) {
        let BreakerDecision::Reserved(wait) = admission else {
            panic!("{admissions:?}");
        };
        let turn = Duration::from_secs(turn);
        assert!(*wait <= turn && *wait + Duration::from_secs(2) > turn);
    }
    assert_eq!(
        (at_its_reservation, of_another_upstream),
        (BreakerDecision::Allow, BreakerDecision::Allow)
    );
}

#[tokio::test]
async fn a_retry_after_applies_to_all_workers_including_reserved_steps() {
    let harness = Harness::new().await;
    let one = CircuitBreakers::new(&harness.redis).unwrap();
    let other = CircuitBreakers::new(&harness.redis).unwrap();

    let slow_down = CallResult::SlowDown(Duration::from_mins(10));
    one.record(STALWART, TIMES, false, slow_down).await;
    let first = other
        .admit(STALWART, BUDGET, true, Priority::Security)
        .await;
    let second = one.admit(STALWART, BUDGET, false, Priority::Security).await;

    let (BreakerDecision::Reserved(first), BreakerDecision::Reserved(second)) = (first, second)
    else {
        panic!("{first:?} {second:?}");
    };
    assert!(first > Duration::from_mins(9));
    assert!(
        second > first + Duration::from_secs(1),
        "no burst after the delay"
    );
    let snapshot = one.snapshot(STALWART, BUDGET).await;
    assert!(snapshot.retry_after.unwrap() > Duration::from_mins(9));
}

#[tokio::test]
async fn reservations_are_limited_to_the_reservation_horizon() {
    let harness = Harness::new().await;
    let breakers = CircuitBreakers::new(&harness.redis).unwrap();

    let mut last = BreakerDecision::Allow;
    for _ in 0..30 {
        last = breakers
            .admit(STALWART, BUDGET, false, Priority::Security)
            .await;
    }
    let snapshot = breakers.snapshot(STALWART, BUDGET).await;

    assert_eq!(last, BreakerDecision::Saturated(RESERVATION_HORIZON));
    assert!(snapshot.turn_in.unwrap() < RESERVATION_HORIZON + Duration::from_secs(2));
}

#[tokio::test]
async fn five_consecutive_failures_open_a_breaker_and_a_successful_probe_closes_it() {
    let harness = Harness::new().await;
    let one = CircuitBreakers::new(&harness.redis).unwrap();
    let other = CircuitBreakers::new(&harness.redis).unwrap();

    let mut effects = fail(&one, 4).await;
    one.record(STALWART, TIMES, false, CallResult::Answered)
        .await;
    effects.extend(fail(&other, 5).await);
    let held = other
        .admit(STALWART, BUDGET, false, Priority::Security)
        .await;
    let late = other
        .record(STALWART, TIMES, false, CallResult::Answered)
        .await;
    other.force_half_open(STALWART).await;
    let probe = one.admit(STALWART, BUDGET, false, Priority::Security).await;
    let next = other
        .admit(STALWART, BUDGET, false, Priority::Security)
        .await;
    one.record(STALWART, TIMES, true, CallResult::Failed).await;
    let doubled = one.snapshot(STALWART, BUDGET).await.probe_in.unwrap();
    one.force_half_open(STALWART).await;
    one.admit(STALWART, BUDGET, false, Priority::Security).await;
    let closed = one
        .record(STALWART, TIMES, true, CallResult::Answered)
        .await;

    assert_eq!(effects[..8], [Transition::None; 8]);
    assert_eq!(effects[8], Transition::Opened);
    assert!(matches!(held, BreakerDecision::Open(wait) if wait > Duration::from_mins(9)));
    assert_eq!((late, probe), (Transition::None, BreakerDecision::Probe));
    assert!(
        matches!(next, BreakerDecision::Open(_)),
        "one probe at a time"
    );
    assert!(doubled > Duration::from_mins(14), "{doubled:?}");
    assert_eq!(closed, Transition::Closed);
    assert_eq!(
        other
            .admit(STALWART, BUDGET, false, Priority::Security)
            .await,
        BreakerDecision::Allow
    );
    assert_eq!(other.snapshot(STALWART, BUDGET).await.open_for, None);
}

#[tokio::test]
async fn a_resumed_upstream_is_probed_immediately_and_once() {
    let harness = Harness::new().await;
    let breakers = CircuitBreakers::new(&harness.redis).unwrap();
    let (resumed, again) = (DateTime::from_millis(1), DateTime::from_millis(2));
    let minute = CallResult::SlowDown(Duration::from_mins(1));
    breakers.record(STALWART, TIMES, false, minute).await;
    fail(&breakers, 5).await;

    let held = breakers
        .admit(STALWART, BUDGET, false, Priority::Security)
        .await;
    breakers.resume(STALWART, resumed).await;
    let snapshot = breakers.snapshot(STALWART, BUDGET).await;
    let probe = breakers
        .admit(STALWART, BUDGET, false, Priority::Security)
        .await;
    breakers.resume(STALWART, resumed).await;
    let resumed_twice = breakers
        .admit(STALWART, BUDGET, false, Priority::Security)
        .await;
    breakers.resume(STALWART, again).await;
    let probe_again = breakers
        .admit(STALWART, BUDGET, false, Priority::Security)
        .await;

    assert!(matches!(held, BreakerDecision::Open(_)));
    assert_eq!(snapshot.retry_after, None);
    assert_eq!(probe, BreakerDecision::Probe);
    assert!(matches!(resumed_twice, BreakerDecision::Open(_)));
    assert_eq!(probe_again, BreakerDecision::Probe);
}

#[tokio::test]
async fn without_redis_each_worker_uses_a_local_breaker() {
    let nowhere = RedisConfig {
        url: "redis://127.0.0.1:1/".to_owned(),
        prefix: "nowhere".to_owned(),
    };
    let one = CircuitBreakers::new(&nowhere).unwrap();
    let other = CircuitBreakers::new(&nowhere).unwrap();

    let effects = fail(&one, 5).await;

    assert_eq!(effects[4], Transition::Opened);
    until(
        async || one.admit(STALWART, BUDGET, false, Priority::Security).await,
        |admission| matches!(admission, BreakerDecision::Open(_)),
    )
    .await;
    assert_eq!(
        other
            .admit(STALWART, BUDGET, false, Priority::Security)
            .await,
        BreakerDecision::Allow
    );
}
