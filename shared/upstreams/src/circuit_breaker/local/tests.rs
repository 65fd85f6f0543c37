use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BUDGET: RateBudget = RateBudget {
    per_second: 1.0,
    burst: 3,
};
const TIMES: CircuitTimes = CircuitTimes {
    failures: 5,
    first_probe: Duration::from_secs(15),
    last_probe: Duration::from_mins(2),
};
const NOW: Duration = Duration::from_hours(1);

fn failed(local: &mut LocalBreaker, now: Duration, probing: bool) -> Transition {
    local.record(now, TIMES, probing, CallResult::Failed)
}

fn open() -> LocalBreaker {
    let mut local = LocalBreaker::default();
    for _ in 0..5 {
        failed(&mut local, NOW, false);
    }
    local
}

#[test]
fn after_a_burst_each_step_reserves_a_slot_of_its_own() {
    let mut local = LocalBreaker::default();

    let admissions: Vec<BreakerDecision> = (0..5)
        .map(|_| local.admit(NOW, BUDGET, false, Priority::Security))
        .collect();
    let at_its_slot = local.admit(NOW + SECOND, BUDGET, true, Priority::Security);
    let after_a_pause: Vec<BreakerDecision> = (0..4)
        .map(|_| local.admit(NOW + 60 * SECOND, BUDGET, false, Priority::Security))
        .collect();

    assert_eq!(admissions[..3], [BreakerDecision::Allow; 3]);
    assert_eq!(
        admissions[3..],
        [
            BreakerDecision::Reserved(SECOND),
            BreakerDecision::Reserved(2 * SECOND)
        ]
    );
    assert_eq!(at_its_slot, BreakerDecision::Allow);
    assert_eq!(after_a_pause[..3], [BreakerDecision::Allow; 3]);
    assert_eq!(after_a_pause[3], BreakerDecision::Reserved(SECOND));
}

#[test]
fn steps_wait_for_the_floor_and_then_follow_one_by_one() {
    let mut local = LocalBreaker::default();
    let wait = CallResult::SlowDown(10 * SECOND);

    let effect = local.record(NOW, TIMES, false, wait);
    let admissions: Vec<BreakerDecision> = (0..3)
        .map(|_| local.admit(NOW, BUDGET, true, Priority::Security))
        .collect();

    assert_eq!(effect, Transition::None);
    let slots = [10, 11, 12].map(|slot| BreakerDecision::Reserved(slot * SECOND));
    assert_eq!(admissions, slots);
    assert_eq!(
        local.admit(NOW + 10 * SECOND, BUDGET, true, Priority::Security),
        BreakerDecision::Allow
    );
    assert_eq!(local.snapshot(NOW, BUDGET).retry_after, Some(10 * SECOND));
}

#[test]
fn slots_are_reserved_for_the_next_five_seconds_only() {
    let mut local = LocalBreaker::default();

    let admissions: Vec<BreakerDecision> = (0..1_000)
        .map(|_| local.admit(NOW, BUDGET, false, Priority::Security))
        .collect();
    let later = local.admit(NOW + 2 * SECOND, BUDGET, false, Priority::Security);
    let behind = local.admit(NOW + 2 * SECOND, BUDGET, false, Priority::Security);
    let third = local.admit(NOW + 2 * SECOND, BUDGET, false, Priority::Security);

    assert_eq!(admissions[7], BreakerDecision::Reserved(5 * SECOND));
    assert!(
        admissions[8..]
            .iter()
            .all(|admissions| *admissions == BreakerDecision::Saturated(5 * SECOND))
    );
    assert_eq!((later, behind), {
        let slot = |seconds| BreakerDecision::Reserved(seconds * SECOND);
        (slot(4), slot(5))
    });
    assert_eq!(third, BreakerDecision::Saturated(5 * SECOND));
}

#[test]
fn an_urgent_step_finds_a_slot_in_a_budget_that_less_urgent_steps_have_used_up() {
    let mut local = LocalBreaker::default();
    let mut use_up = |priority| {
        let admissions = (0..1_000).map(|_| local.admit(NOW, BUDGET, false, priority));
        admissions
            .take_while(|admission| !matches!(admission, BreakerDecision::Saturated(_)))
            .last()
    };

    let last = [Priority::Bulk, Priority::Interactive, Priority::Security].map(&mut use_up);
    let again = Priority::ALL.map(&mut use_up);

    let slot = |seconds| Some(BreakerDecision::Reserved(seconds * SECOND));
    assert_eq!(last, [slot(2), slot(4), slot(5)]);
    assert_eq!(again, [None; 3]);
}

#[test]
fn queued_steps_are_given_the_slots_of_their_priority_and_no_more_than_they_need() {
    let mut local = LocalBreaker::default();
    for _ in 0..3 {
        local.admit(NOW, BUDGET, false, Priority::Bulk);
    }

    let two = local.reserve(NOW, BUDGET, Priority::Bulk, 5);
    let none = local.reserve(NOW, BUDGET, Priority::Bulk, 5);
    let more = local.reserve(NOW, BUDGET, Priority::Interactive, 1);

    assert_eq!(two, [SECOND, 2 * SECOND]);
    assert!(none.is_empty());
    assert_eq!(more, [3 * SECOND]);
}

#[test]
fn a_new_step_joins_the_queue_of_its_lane_or_of_a_more_urgent_one() {
    let mut local = LocalBreaker::default();
    local.mark_queue(NOW, Some(Priority::Interactive));
    let mut admit = |now| Priority::ALL.map(|lane| local.admit(now, BUDGET, false, lane));

    let marked = admit(NOW);
    let reserved = local.reserve(NOW, BUDGET, Priority::Interactive, 1);
    let at_its_slot = local.admit(NOW, BUDGET, true, Priority::Interactive);
    local.mark_queue(NOW, None);
    let unmarked = local.admit(NOW, BUDGET, false, Priority::Bulk);
    local.mark_queue(NOW, Some(Priority::Interactive));
    let later = local.admit(NOW + QUEUE_MARK_TTL, BUDGET, false, Priority::Interactive);

    let queued = |seconds| BreakerDecision::Saturated(seconds * SECOND);
    assert_eq!(marked, [BreakerDecision::Allow, queued(4), queued(2)]);
    assert_eq!(reserved, [Duration::ZERO]);
    assert_eq!(at_its_slot, BreakerDecision::Allow);
    assert_eq!(unmarked, BreakerDecision::Allow);
    assert_eq!(later, BreakerDecision::Allow, "the leader is gone");
}

#[test]
fn an_open_circuit_reserves_nothing_and_asks_for_one_step_once_its_probe_is_due() {
    let mut local = open();

    let before = local.reserve(NOW, BUDGET, Priority::Security, 5);
    let due = local.reserve(NOW + 15 * SECOND, BUDGET, Priority::Security, 5);

    assert_eq!((before, due), (Vec::new(), vec![Duration::ZERO]));
    let probe = local.admit(NOW + 15 * SECOND, BUDGET, false, Priority::Bulk);
    assert_eq!(probe, BreakerDecision::Probe);
}

#[test]
fn slots_after_a_distant_floor_can_be_reserved() {
    let mut local = LocalBreaker::default();
    local.record(NOW, TIMES, false, CallResult::SlowDown(60 * SECOND));

    let admissions: Vec<BreakerDecision> = (0..8)
        .map(|_| local.admit(NOW, BUDGET, false, Priority::Security))
        .collect();

    assert_eq!(admissions[5], BreakerDecision::Reserved(65 * SECOND));
    assert_eq!(
        admissions[6..],
        [BreakerDecision::Saturated(65 * SECOND); 2]
    );
}

#[test]
fn an_infinite_floor_does_not_overflow() {
    let mut local = LocalBreaker::default();

    local.record(NOW, TIMES, false, CallResult::SlowDown(Duration::MAX));
    let admissions = local.admit(NOW, BUDGET, false, Priority::Security);

    assert_eq!(
        admissions,
        BreakerDecision::Reserved(Duration::MAX.saturating_sub(NOW + 2 * SECOND))
    );
}

#[test]
fn five_consecutive_failures_open_the_circuit() {
    let mut local = LocalBreaker::default();

    for _ in 0..4 {
        assert_eq!(failed(&mut local, NOW, false), Transition::None);
    }
    local.record(NOW, TIMES, false, CallResult::Answered);
    for _ in 0..4 {
        assert_eq!(failed(&mut local, NOW, false), Transition::None);
    }

    assert_eq!(failed(&mut local, NOW, false), Transition::Opened);
    assert_eq!(
        local.admit(NOW, BUDGET, false, Priority::Security),
        BreakerDecision::Open(15 * SECOND)
    );
}

#[test]
fn a_timed_out_attempt_opens_the_circuit_at_once() {
    let mut local = LocalBreaker::default();

    assert_eq!(
        local.record(NOW, TIMES, false, CallResult::TimedOut),
        Transition::Opened
    );
}

#[test]
fn one_step_at_a_time_probes_at_intervals_that_double_up_to_two_minutes() {
    let mut local = open();
    let mut now = NOW;
    let mut waits = Vec::new();

    for _ in 0..5 {
        let BreakerDecision::Open(wait) = local.admit(now, BUDGET, true, Priority::Security) else {
            panic!("the circuit is open");
        };
        waits.push(wait.as_secs());
        now += wait;
        assert_eq!(
            local.admit(now, BUDGET, false, Priority::Security),
            BreakerDecision::Probe
        );
        assert!(matches!(
            local.admit(now, BUDGET, false, Priority::Security),
            BreakerDecision::Open(_)
        ));
        assert_eq!(failed(&mut local, now, true), Transition::None);
    }

    assert_eq!(waits, [15, 30, 60, 120, 120]);
}

#[test]
fn only_the_half_open_probe_closes_the_circuit() {
    let mut local = open();

    let late = local.record(NOW, TIMES, false, CallResult::Answered);
    let still = local.admit(NOW, BUDGET, false, Priority::Security);
    local.force_half_open(NOW);
    let probe = local.admit(NOW, BUDGET, false, Priority::Security);
    let closed = local.record(NOW, TIMES, true, CallResult::Answered);

    assert_eq!((late, closed), (Transition::None, Transition::Closed));
    assert_eq!(
        (still, probe),
        (BreakerDecision::Open(15 * SECOND), BreakerDecision::Probe)
    );
    assert_eq!(
        local.admit(NOW, BUDGET, false, Priority::Security),
        BreakerDecision::Allow
    );
    assert_eq!(local.snapshot(NOW, BUDGET).failures, 0);
}

#[test]
fn a_probe_that_receives_a_retry_after_closes_the_circuit() {
    let mut local = open();

    let effect = local.record(NOW, TIMES, true, CallResult::SlowDown(SECOND));

    assert_eq!(effect, Transition::Closed);
    assert_eq!(
        local.admit(NOW, BUDGET, false, Priority::Security),
        BreakerDecision::Reserved(SECOND)
    );
}
