//! Property test: the Redis scripts and the local fallback make the same decisions for the same operations and clock.

use proptest::{collection::vec, prelude::*};
use redis::AsyncCommands as _;

use super::{local::LocalBreaker, *};

/// Reads the clock from a key of its own, which the test sets.
const MANUAL_CLOCK: &str = r"
local now = tonumber(redis.call('GET', KEYS[1] .. ':now'))
";
/// Some time of today's magnitude, since Lua counts in floating point.
const START: Duration = Duration::from_micros(1_795_339_800_123_457);

#[derive(Debug, Clone)]
enum Operation {
    Advance(Duration),
    Admit {
        has_reservation: bool,
        priority: Priority,
    },
    Reserve {
        priority: Priority,
        count: usize,
    },
    MarkQueue(Option<Priority>),
    Record {
        probing: bool,
        result: CallResult,
    },
    ForceHalfOpen,
    Resume(DateTime),
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Decision(BreakerDecision),
    Reserved(Vec<Duration>),
    Transition(Transition),
    Done,
}

fn duration(seconds: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    (seconds.start * 1_000_000..seconds.end * 1_000_000).prop_map(Duration::from_micros)
}

fn operation() -> impl Strategy<Value = Operation> {
    let result = prop_oneof![
        4 => Just(CallResult::Answered),
        4 => Just(CallResult::Failed),
        1 => Just(CallResult::TimedOut),
        1 => duration(0..30).prop_map(CallResult::SlowDown),
    ];
    let record = (any::<bool>(), result);
    prop_oneof![
        3 => duration(0..2).prop_map(Operation::Advance),
        1 => duration(0..120).prop_map(Operation::Advance),
        6 => (any::<bool>(), priority())
            .prop_map(|(has_reservation, priority)| Operation::Admit { has_reservation, priority }),
        2 => (priority(), 0..9_usize)
            .prop_map(|(priority, count)| Operation::Reserve { priority, count }),
        1 => proptest::option::of(priority()).prop_map(Operation::MarkQueue),
        6 => record.prop_map(|(probing, result)| Operation::Record { probing, result }),
        1 => Just(Operation::ForceHalfOpen),
        1 => (0..3_i64).prop_map(|at| Operation::Resume(DateTime::from_millis(at))),
    ]
}

fn priority() -> impl Strategy<Value = Priority> {
    (0..3_i32).prop_map(Priority::from)
}

fn budget() -> impl Strategy<Value = RateBudget> {
    (0.2..500.0_f64, 0..20_u32).prop_map(|(per_second, burst)| RateBudget { per_second, burst })
}

fn times() -> impl Strategy<Value = CircuitTimes> {
    (1..6_u32, duration(1..30), duration(1..120)).prop_map(|(failures, first_probe, last_probe)| {
        CircuitTimes {
            failures,
            first_probe,
            last_probe,
        }
    })
}

fn apply_locally(
    local: &mut LocalBreaker,
    operation: &Operation,
    now: Duration,
    budget: RateBudget,
    times: CircuitTimes,
) -> Outcome {
    match *operation {
        Operation::Advance(_) => Outcome::Done,
        Operation::Admit {
            has_reservation,
            priority,
        } => Outcome::Decision(local.admit(now, budget, has_reservation, priority)),
        Operation::Reserve { priority, count } => {
            Outcome::Reserved(local.reserve(now, budget, priority, count))
        }
        Operation::MarkQueue(lane) => {
            local.mark_queue(now, lane);
            Outcome::Done
        }
        Operation::Record { probing, result } => {
            Outcome::Transition(local.record(now, times, probing, result))
        }
        Operation::ForceHalfOpen => {
            local.force_half_open(now);
            Outcome::Done
        }
        Operation::Resume(requested_at) => {
            local.resume(now, requested_at);
            Outcome::Done
        }
    }
}

async fn apply_in_redis(
    scripts: &Scripts,
    connection: &mut ConnectionManager,
    key: &str,
    operation: &Operation,
    budget: RateBudget,
    times: CircuitTimes,
) -> Result<Outcome, RedisError> {
    Ok(match *operation {
        Operation::Advance(_) => Outcome::Done,
        Operation::Admit {
            has_reservation,
            priority,
        } => {
            let admitted = scripts.admit(connection, key, budget, has_reservation, priority);
            Outcome::Decision(admitted.await?)
        }
        Operation::Reserve { priority, count } => {
            let reserved = scripts.reserve(connection, key, budget, priority, count);
            Outcome::Reserved(reserved.await?)
        }
        Operation::MarkQueue(lane) => {
            scripts.mark_queue(connection, key, lane).await?;
            Outcome::Done
        }
        Operation::Record { probing, result } => {
            let recorded = scripts.record(connection, key, times, probing, result);
            Outcome::Transition(recorded.await?)
        }
        Operation::ForceHalfOpen => {
            scripts.force_half_open(connection, key).await?;
            Outcome::Done
        }
        Operation::Resume(requested_at) => {
            scripts.resume(connection, key, requested_at).await?;
            Outcome::Done
        }
    })
}

/// Runs the operations against both implementations, and compares each outcome and the state after it.
async fn compare(
    config: &RedisConfig,
    budget: RateBudget,
    times: CircuitTimes,
    operations: &[Operation],
) -> Result<(), TestCaseError> {
    let scripts = Scripts::with_clock(MANUAL_CLOCK);
    let mut connection = shared_connection(config.client().unwrap()).unwrap();
    let key = format!("{}:{}", config.prefix, uuid::Uuid::now_v7());
    let clock = format!("{key}:now");
    let mut local = LocalBreaker::default();
    let mut now = START;

    for operation in operations {
        if let Operation::Advance(by) = operation {
            now += *by;
        }
        let _: () = connection.set(&clock, script::micros(now)).await.unwrap();

        let expected = apply_locally(&mut local, operation, now, budget, times);
        let outcome = apply_in_redis(&scripts, &mut connection, &key, operation, budget, times);
        prop_assert_eq!(outcome.await.unwrap(), expected, "{:?}", operation);

        let snapshot = scripts.snapshot(&mut connection, &key, budget).await;
        prop_assert_eq!(
            snapshot.unwrap(),
            local.snapshot(now, budget),
            "{:?}",
            operation
        );
    }
    Ok(())
}

#[test]
fn the_scripts_and_the_local_fallback_agree() {
    let stores = dezky_sim::isolated_stores::FreshStores::new().unwrap();
    let config = RedisConfig {
        url: stores.redis_url.clone(),
        prefix: stores.redis_prefix.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();

    proptest!(ProptestConfig::with_cases(64), |(
        budget in budget(),
        times in times(),
        operations in vec(operation(), 1..60),
    )| {
        runtime.block_on(compare(&config, budget, times, &operations))?;
    });
}
