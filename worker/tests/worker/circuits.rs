//! The rules that workers share in Redis. The same rules are tabled where a process keeps its own.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{platform::redis::RedisConfig, upstream::Upstream};
use dezky_upstreams::circuit_breaker::{
    Admission, CallResult, CircuitBreakers, CircuitTimes, RESERVATION_HORIZON, RateBudget,
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

async fn fail(circuits: &CircuitBreakers, times: usize) -> Vec<Transition> {
    let mut effects = Vec::new();
    for _ in 0..times {
        effects.push(
            circuits
                .record(STALWART, TIMES, false, CallResult::Failed)
                .await,
        );
    }
    effects
}

#[tokio::test]
async fn workers_share_a_budget_and_each_step_has_a_turn_of_its_own() {
    let harness = Harness::new().await;
    let one = CircuitBreakers::new(&harness.redis).unwrap();
    let other = CircuitBreakers::new(&harness.redis).unwrap();

    let mut asked = Vec::new();
    for circuits in [&one, &other, &one, &other, &one] {
        asked.push(circuits.admit(STALWART, BUDGET, false).await);
    }
    let at_its_turn = other.admit(STALWART, BUDGET, true).await;
    let of_another = other.admit(Upstream::Ocis, BUDGET, false).await;

    assert_eq!(asked[..3], [Admission::Allow; 3]);
    for (admission, turn) in asked[3..].iter().zip([2, 4]) {
        let Admission::Reserved(wait) = admission else {
            panic!("{asked:?}");
        };
        let turn = Duration::from_secs(turn);
        assert!(*wait <= turn && *wait + Duration::from_secs(2) > turn);
    }
    assert_eq!(
        (at_its_turn, of_another),
        (Admission::Allow, Admission::Allow)
    );
}

#[tokio::test]
async fn a_floor_is_one_for_all_also_for_those_whose_turn_it_was() {
    let harness = Harness::new().await;
    let one = CircuitBreakers::new(&harness.redis).unwrap();
    let other = CircuitBreakers::new(&harness.redis).unwrap();

    let slow_down = CallResult::SlowDown(Duration::from_mins(10));
    one.record(STALWART, TIMES, false, slow_down).await;
    let first = other.admit(STALWART, BUDGET, true).await;
    let second = one.admit(STALWART, BUDGET, false).await;

    let (Admission::Reserved(first), Admission::Reserved(second)) = (first, second) else {
        panic!("{first:?} {second:?}");
    };
    assert!(first > Duration::from_mins(9));
    assert!(second > first + Duration::from_secs(1), "no burst after it");
    let standing = one.snapshot(STALWART, BUDGET).await;
    assert!(standing.retry_after.unwrap() > Duration::from_mins(9));
}

#[tokio::test]
async fn turns_are_given_for_a_few_seconds_only_and_then_for_nobody() {
    let harness = Harness::new().await;
    let circuits = CircuitBreakers::new(&harness.redis).unwrap();

    let mut last = Admission::Allow;
    for _ in 0..30 {
        last = circuits.admit(STALWART, BUDGET, false).await;
    }
    let standing = circuits.snapshot(STALWART, BUDGET).await;

    assert_eq!(last, Admission::Saturated(RESERVATION_HORIZON));
    assert!(standing.turn_in.unwrap() < RESERVATION_HORIZON + Duration::from_secs(2));
}

#[tokio::test]
async fn five_failures_in_a_row_open_it_and_the_step_that_tries_closes_it() {
    let harness = Harness::new().await;
    let one = CircuitBreakers::new(&harness.redis).unwrap();
    let other = CircuitBreakers::new(&harness.redis).unwrap();

    let mut effects = fail(&one, 4).await;
    one.record(STALWART, TIMES, false, CallResult::Answered)
        .await;
    effects.extend(fail(&other, 5).await);
    let held = other.admit(STALWART, BUDGET, false).await;
    let late = other
        .record(STALWART, TIMES, false, CallResult::Answered)
        .await;
    other.force_half_open(STALWART).await;
    let probe = one.admit(STALWART, BUDGET, false).await;
    let next = other.admit(STALWART, BUDGET, false).await;
    one.record(STALWART, TIMES, true, CallResult::Failed).await;
    let doubled = one.snapshot(STALWART, BUDGET).await.probe_in.unwrap();
    one.force_half_open(STALWART).await;
    one.admit(STALWART, BUDGET, false).await;
    let closed = one
        .record(STALWART, TIMES, true, CallResult::Answered)
        .await;

    assert_eq!(effects[..8], [Transition::None; 8]);
    assert_eq!(effects[8], Transition::Opened);
    assert!(matches!(held, Admission::Open(wait) if wait > Duration::from_mins(9)));
    assert_eq!((late, probe), (Transition::None, Admission::Probe));
    assert!(matches!(next, Admission::Open(_)), "one at a time");
    assert!(doubled > Duration::from_mins(14), "{doubled:?}");
    assert_eq!(closed, Transition::Closed);
    assert_eq!(other.admit(STALWART, BUDGET, false).await, Admission::Allow);
    assert_eq!(other.snapshot(STALWART, BUDGET).await.open_for, None);
}

#[tokio::test]
async fn what_is_resumed_is_asked_again_at_once_and_once() {
    let harness = Harness::new().await;
    let circuits = CircuitBreakers::new(&harness.redis).unwrap();
    let (resumed, again) = (DateTime::from_millis(1), DateTime::from_millis(2));
    let minute = CallResult::SlowDown(Duration::from_mins(1));
    circuits.record(STALWART, TIMES, false, minute).await;
    fail(&circuits, 5).await;

    let held = circuits.admit(STALWART, BUDGET, false).await;
    circuits.resume(STALWART, resumed).await;
    let standing = circuits.snapshot(STALWART, BUDGET).await;
    let probe = circuits.admit(STALWART, BUDGET, false).await;
    circuits.resume(STALWART, resumed).await;
    let told_twice = circuits.admit(STALWART, BUDGET, false).await;
    circuits.resume(STALWART, again).await;
    let asked_twice = circuits.admit(STALWART, BUDGET, false).await;

    assert!(matches!(held, Admission::Open(_)));
    assert_eq!(standing.retry_after, None);
    assert_eq!(probe, Admission::Probe);
    assert!(matches!(told_twice, Admission::Open(_)));
    assert_eq!(asked_twice, Admission::Probe);
}

#[tokio::test]
async fn without_redis_each_keeps_its_own() {
    let nowhere = RedisConfig {
        url: "redis://127.0.0.1:1/".to_owned(),
        prefix: "nowhere".to_owned(),
    };
    let one = CircuitBreakers::new(&nowhere).unwrap();
    let other = CircuitBreakers::new(&nowhere).unwrap();

    let effects = fail(&one, 5).await;

    assert_eq!(effects[4], Transition::Opened);
    until(
        async || one.admit(STALWART, BUDGET, false).await,
        |admission| matches!(admission, Admission::Open(_)),
    )
    .await;
    assert_eq!(other.admit(STALWART, BUDGET, false).await, Admission::Allow);
}
